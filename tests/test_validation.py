"""The gate of the public functions, and scikit-learn's contract of estimators."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from gwf.errors import UsageError
from gwf.seeding import rng
from gwf.uses.anomaly import SCORES, Mahalanobis, Neighbours, TransportDetector, anomaly_scores, robust_flow
from gwf.uses.imputation import FlowImputer, SinkhornImputer, impute
from gwf.validation import alike, number, offset, table_of, typical

ESTIMATORS = [
    *(TransportDetector(method, steps=3, iterations=20) for method in SCORES),
    *(kind(steps=2, batch=8) for kind in (SinkhornImputer, FlowImputer)),
    *(Mahalanobis(), Neighbours(1)),
]


@parametrize_with_checks(ESTIMATORS)
def test_estimators_keep_the_contract_of_scikit_learn(estimator, check):
    """All checks, without exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def read(X, missing=True):
    return table_of(BaseEstimator(), X, reset=True, missing=missing)


PLAIN = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    "X",
    [
        PLAIN.tolist(),
        PLAIN[::-1][::-1],
        PLAIN[:, ::-1].copy()[:, ::-1],
        np.asfortranarray(PLAIN),
        PLAIN.astype(np.float32),
        PLAIN.astype(int),
        PLAIN.astype(object),
        torch.tensor(PLAIN, requires_grad=True),
        torch.as_tensor(PLAIN).bfloat16(),
        pd.DataFrame(PLAIN, columns=["b", "a"]),
        pd.DataFrame(PLAIN[:, ::-1], columns=["a", "b"])[["b", "a"]],
        pd.DataFrame(PLAIN).astype("Int64"),
        pd.DataFrame({"b": PLAIN[:, 0], "a": pd.array([1, 3, 5], dtype="Float32")}),
        pd.DataFrame(PLAIN.astype(object)),
        np.ma.array(PLAIN, mask=np.zeros((3, 2))),
    ],
)
def test_a_table_is_read_from_whatever_holds_one(X):
    found = read(X)
    assert np.array_equal(found, PLAIN) and found.dtype == np.float64
    assert found.flags.c_contiguous and found.flags.writeable and min(found.strides) > 0
    torch.as_tensor(found)  # negative strides raise


HOLED = np.array([[0.0, np.nan], [2.0, 3.0]])


@pytest.mark.parametrize(
    "X",
    [
        [[0, None], [2, 3]],
        [[0, pd.NA], [2, 3]],
        np.ma.array([[0, 99], [2, 3]], mask=[[0, 1], [0, 0]]),
        pd.DataFrame({"b": [0.0, 2.0], "a": pd.array([pd.NA, 3], dtype="Int64")}),
        pd.DataFrame({"b": [0.0, 2.0], "a": [pd.NA, 3]}),
    ],
)
def test_every_mark_of_a_missing_cell_is_one(X):
    assert np.array_equal(read(X), HOLED, equal_nan=True)
    with pytest.raises(UsageError, match="X holds NaN in row 0, column (1|a): every cell must be finite"):
        read(X, missing=False)


@pytest.mark.parametrize(
    "X, message",
    [
        (np.ones(3), r"shape is \(3,\)"),
        (np.ones((2, 2, 2)), r"shape is \(2, 2, 2\)"),
        (3.0, r"shape is \(\)"),
        (np.ones((0, 2)), r"0 sample\(s\)"),
        (np.ones((2, 0)), r"0 feature\(s\)"),
        ([[1.0, 2.0], [3.0]], "cannot be read"),
        ([["a", 1.0]], "could not convert string to float"),
        (pd.DataFrame({"a": ["word", "other"]}), "could not convert string to float"),
        (np.ones((2, 2)) + 1j, "Complex data not supported"),
        (torch.ones(2, 2) + 1j, "Complex data not supported"),
        (pd.DataFrame({"a": [1j, 2.0]}), "complex"),
        (sparse.csr_matrix(np.eye(2)), "Sparse data"),
        (np.array([["2026-01-01"]], dtype="datetime64[D]"), "dates"),
        (pd.DataFrame({"a": pd.to_datetime(["2026-01-01"])}), "Timestamp"),
        ([[1.0, np.inf]], "X holds inf in row 0, column 1"),
        (pd.DataFrame({"height": [1.0, -1e200]}), r"X holds -1e\+200 in row 1, column height"),
        ([[object()]], "real number"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(X, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UsageError, match=message) as caught:
            read(X)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_every_public_function_asks_the_gate():
    bad, good = np.array([[1.0, 2.0], [3.0, 1j]]), np.arange(8.0).reshape(4, 2)
    calls = [
        lambda X: impute(X),
        lambda X: SinkhornImputer().fit(X),
        lambda X: SinkhornImputer(steps=1).fit(good).transform(X),
        lambda X: FlowImputer().fit(X),
        lambda X: TransportDetector().fit(X),
        lambda X: TransportDetector().fit(good).predict(X),
        lambda X: Mahalanobis().fit(X),
        lambda X: Neighbours(1).fit(good).score_samples(X),
        lambda X: TransportDetector().fit(good).score_together(X),
        lambda X: anomaly_scores(X, good),
        lambda X: anomaly_scores(good, X),
        lambda X: robust_flow(X, good),
        lambda X: robust_flow(good, X),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="Complex data"):
            call(bad)


def test_the_caller_keeps_its_table_and_the_estimator_its_own():
    X = rng(0, "own copy").normal(size=(20, 2))
    given, holes = X.copy(), np.where(np.arange(40).reshape(20, 2) % 7, X, np.nan)
    detector = TransportDetector().fit(given)
    before = detector.score_samples(X[:3] + 0.1)
    imputer = SinkhornImputer(steps=2, random_state=0).fit(holes)
    filled = imputer.transform([[0.3, np.nan]])
    assert np.array_equal(given, X)
    given[:], holes[:] = 0, 0
    assert np.array_equal(detector.score_samples(X[:3] + 0.1), before)
    assert np.array_equal(imputer.transform([[0.3, np.nan]]), filled)


def test_columns_are_those_of_the_fit_in_their_order():
    frame = pd.DataFrame(rng(0, "columns").normal(size=(20, 2)), columns=["b", "a"])
    for estimator in (TransportDetector().fit(frame), SinkhornImputer(steps=1).fit(frame)):
        assert estimator.feature_names_in_.tolist() == ["b", "a"] and estimator.n_features_in_ == 2
        ask = estimator.predict if hasattr(estimator, "predict") else estimator.transform
        for other in (frame[["a", "b"]], frame.rename(columns={"a": "c"})):
            with pytest.raises(UsageError, match="feature names should match"):
                ask(other)
        with pytest.raises(UsageError, match="feature names should match"):
            ask(frame[["b"]])
    with pytest.raises(UsageError, match="feature names should match"):
        anomaly_scores(frame[["a", "b"]], frame)
    with pytest.raises(UsageError, match="feature names should match"):
        alike(data=frame, start=frame[["a", "b"]])


def test_frames_come_back_as_frames_where_asked():
    frame = pd.DataFrame(rng(0, "frames").normal(size=(12, 2)), columns=["b", "a"], index=range(5, 17))
    frame.iloc[0, 1] = np.nan
    imputer = SinkhornImputer(steps=2).set_output(transform="pandas")
    filled = imputer.fit_transform(frame)
    assert filled.columns.tolist() == imputer.get_feature_names_out().tolist() == ["b", "a"]
    assert filled.index.tolist() == frame.index.tolist() and filled.notna().all(axis=None)
    assert imputer.transform(frame[:1]).notna().all(axis=None)


@pytest.mark.parametrize("estimator", [TransportDetector(), SinkhornImputer(), FlowImputer()])
def test_what_is_not_fitted_says_so(estimator):
    ask = estimator.score_samples if hasattr(estimator, "score_samples") else estimator.transform
    with pytest.raises(NotFittedError, match="not fitted"):
        ask(PLAIN)
    # Nor is it after a fit that failed.
    with pytest.raises(UsageError):
        estimator.fit(np.full((5, 2), np.nan))
    with pytest.raises(NotFittedError):
        ask(PLAIN)


def test_a_grid_search_finds_settings():
    """Labels 1 and -1, as scikit-learn's detectors have them; no detector has a `score`, so one says what is wanted."""
    draw = rng(0, "grid")
    X, y = draw.normal(size=(60, 2)), np.ones(60)
    X[::6] += 5
    y[::6] = -1
    search = GridSearchCV(TransportDetector(), {"reg": [0.05, 0.5], "method": ["potential"]}, scoring="roc_auc", cv=3)
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
    with pytest.raises(TypeError, match="scoring"):
        GridSearchCV(TransportDetector(), {"reg": [0.05, 0.1]}).fit(X)
    X[::4, 0] = np.nan
    chain = make_pipeline(SinkhornImputer(steps=2, random_state=0), LogisticRegression())
    search = GridSearchCV(chain, {"sinkhornimputer__reg": [0.05, 0.2]}, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.5


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), 1, np.int64(1)])
def test_numbers_of_every_kind(value):
    assert number(value, 0, 1, "x") == value and type(number(value, 0, 1, "x")) is float


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0], np.nan, 1.5])
def test_what_is_no_number_in_range_is_refused(value):
    with pytest.raises(UsageError, match="x = "):
        number(value, 0, 1, "x")


def test_units_that_no_few_rows_move():
    assert typical(torch.tensor([1.0, 2.0, 1e9])) == 2 and typical(torch.tensor([0.0, 0.0, 0.0, 3.0])) == 3
    assert typical(torch.zeros(3)) == 0 == typical(torch.zeros(0))
    # 1e4 deviations from zero: moved; one deviation: left as it is.
    X = rng(0, "offset").normal(size=(200, 2)) + [1e4, 1.0]
    assert offset(X)[0] == np.median(X[:, 0]) and offset(X)[1] == 0
