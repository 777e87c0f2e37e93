"""Adaptation by transport: readers of the published files, closed-form maps, plans, the study, and what the report shows."""

import bz2
import gzip
import importlib.util
import struct
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from gwf.data import readers
from gwf.errors import UsageError
from gwf.evidence import adaptation as evidence
from gwf.studies import adaptation as study
from gwf.uses import adaptation as ad

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def some():
    """Six 28x28 images and four 16x16 ones with labels, bytes at random."""
    draw = np.random.default_rng(0)
    return {
        n: (draw.integers(0, 256, (m, n, n), dtype=np.uint8), draw.integers(0, 10, m, dtype=np.uint8))
        for n, m in ((28, 6), (16, 4))
    }


# Readers.


def test_mnist_files_come_back(tmp_path, some, monkeypatch, capsys):
    images, labels = some[28]
    for name, array in zip(IDX, (images, labels, images[:2], labels[:2]), strict=True):
        write_idx(tmp_path / name, array)
    with pytest.raises(UsageError, match="train-images.*its sha256 is"):
        readers.mnist(tmp_path)
    monkeypatch.setattr(readers, "DIGESTS", {})
    found = readers.mnist(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels[:2]).all()
    assert capsys.readouterr().err.count("sha256") == 4
    assert readers.domain("mnist", tmp_path).train.shape == (6, 16, 16)


def test_usps_libsvm_files_come_back(tmp_path, some, monkeypatch):
    images, labels = some[16]
    lines = [
        f"{label + 1} " + " ".join(f"{k}:{u / 127.5 - 1:.6f}" for k, u in enumerate(image.ravel(), 1))
        for image, label in zip(images, labels, strict=True)
    ]
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    monkeypatch.setattr(readers, "DIGESTS", {})
    found = readers.usps(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels).all()


@pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is an extra")
def test_usps_hdf5_file_comes_back(tmp_path, some):
    import h5py

    images, labels = some[16]
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/data"], file[f"{part}/target"] = (
                (images / 255).reshape(-1, 256).astype("f4"),
                labels.astype("i8"),
            )
    found = readers.usps(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels).all()


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "usps.h5").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"\[hdf5\]"):
        readers.usps(tmp_path)


@pytest.mark.parametrize("name, file", [("usps", "usps.h5"), ("mnist", "train-images-idx3-ubyte.gz")])
def test_a_missing_file_is_named_with_its_place(tmp_path, name, file):
    with pytest.raises(UsageError, match=f"{file} is missing: put it at .*{tmp_path.name}"):
        readers.domain(name, tmp_path)
    with pytest.raises(UsageError, match="did you mean 'usps'"):
        readers.domain("upsp")


@pytest.mark.parametrize(
    "raw, message", [(b"\1\0\x08\1", "not an idx"), (b"\0\0\x08\1\0\0\0\3ab", "2 values, its header says 3")]
)
def test_a_file_of_another_kind_is_refused(tmp_path, raw, message):
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(UsageError, match=message):
        readers.idx(tmp_path / "x.gz")
    (tmp_path / "x.bz2").write_bytes(bz2.compress(b"1 1:0.5\n2 300:1"))
    with pytest.raises(UsageError, match="line 2.*index 300"):
        readers.libsvm(tmp_path / "x.bz2")


# Transports.


@pytest.fixture(scope="module")
def cloud():
    """x (300, 4) with a mean and unequal scales, and an SPD matrix."""
    draw = np.random.default_rng(1)
    A = draw.standard_normal((4, 4))
    return draw.standard_normal((300, 4)) * [1, 2, 0.5, 1] + 3, A @ A.T + 0.5 * np.eye(4)


def test_the_gaussian_map_recovers_an_optimal_affine_map_and_only_that(cloud):
    """Sample moments transform exactly, so the error is rounding (1e-9 of numbers of order 10); a matrix that is not
    symmetric is no optimal map, and is not found."""
    x, M = cloud
    assert np.abs(ad.gaussian(x, x @ M + 1)(x) - (x @ M + 1)).max() < 1e-9
    turned = x @ (M @ np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert np.abs(ad.gaussian(x, turned)(x) - turned).max() > 0.1


def test_per_pixel_map_is_exact_on_independent_scales_and_leaves_noise_alone(cloud):
    x, _ = cloud
    y = x * [2, 0.5, 1, 3] - 1
    assert np.abs(ad.per_pixel(x, y)(x) - y).max() < 1e-12
    still = x.copy()
    still[:, 0] = 0.01 * (x[:, 0] - 3)
    assert np.abs(np.std(ad.per_pixel(still, y)(still)[:, 0]) / still[:, 0].std() - 1) < 1e-12
    assert np.abs(ad.mean_shift(x, x + 2)(x) - x - 2).max() < 1e-12


def test_plans_keep_labels_where_classes_are_far_apart_and_cost_more_where_they_cross(cloud):
    x = cloud[0][:40]
    labels = np.arange(40) % 2
    far = x + 100 * labels[:, None]
    P, cost = ad.plan(far, far + 1)
    Q, held = ad.plan_within_classes(far, far + 1, labels, labels)
    assert ad.agreement(P, labels, labels) == pytest.approx(1) and held == pytest.approx(cost)
    # a shift of all points is optimal: cost |shift|^2 / 2 = 4 / 2
    assert cost == pytest.approx(2) and np.abs(ad.barycentric(P, far + 1) - far - 1).max() < 1e-9
    # the classes exchanged in the target: least cost and labels ask for opposite plans
    P, cost = ad.plan(far, far)
    Q, held = ad.plan_within_classes(far, far, labels, 1 - labels)
    assert ad.agreement(P, labels, 1 - labels) == pytest.approx(0) and ad.agreement(
        Q, labels, 1 - labels
    ) == pytest.approx(1)
    assert cost == pytest.approx(0, abs=1e-9) and held > 1000


def test_nearest_neighbour_and_permuted_labels():
    """Real digits: far above chance with their labels, at chance (.1, binomial sd .016 at n = 364; 4 of them) without."""
    S = readers.domain("optdigits")
    x, test = ad.flat(S.train), ad.flat(S.test)
    assert ad.one_nearest(x, S.train_labels, test, S.test_labels) > 0.9
    permuted = np.random.default_rng(0).permutation(S.train_labels)
    assert abs(ad.one_nearest(x, permuted, test, S.test_labels) - 0.1) < 0.064
    with pytest.raises(UsageError, match="as many"):
        ad.one_nearest(x, permuted[:-1], test, S.test_labels)


def test_sliced_distance_counts_a_shift_in_full():
    """Over directions that resolve the identity exactly, and up to 5 % over 2000 random ones in d = 4."""
    x = np.random.default_rng(0).standard_normal((200, 4))
    assert ad.sliced_w2(x, x + [3, 0, 0, 4], np.eye(4)) == pytest.approx(5)
    w = np.random.default_rng(1).standard_normal((4, 2000))
    assert ad.sliced_w2(x, x + [3, 0, 0, 4], w / np.linalg.norm(w, axis=0)) == pytest.approx(5, rel=0.05)
    assert ad.sliced_w2(x, x, np.eye(4)) == 0


def test_digit_networks_start_near_the_identity_and_the_extra_penalty_sees_positive_h():
    x = torch.randn(8, 256)
    T = ad.DigitMap()
    assert (T(x) - x).abs().max() < 0.1 and sum(
        p.numel() for p in T.parameters()
    ) == 256 * 200 + 200 * 500 + 500 * 256 + 200 + 500 + 256 + 1400
    torch.manual_seed(0)
    field = ad.DigitDualField(ad.digit_potential(), ad.digit_potential(), weight_positive=0.0)
    losses = {}
    for weight in (0.0, 10.0):
        field.positive = weight
        losses[weight] = float(field.loss(x, x + 1, torch.Generator().manual_seed(0)).detach())
    positive = float(field.potential(x).detach().clamp_min(0).square().mean())
    assert losses[10.0] - losses[0.0] == pytest.approx(10 * positive, rel=1e-3)


# The study.

SETTINGS = {
    "source": "optdigits",
    "target": "digits",
    "folder": "data/paper",
    "ridge": 0.01,
    "plan_points": 100,
    "learned": ["Sinkhorn flow", "W2-FE from affine"],
    "iterations": 2,
    "batch": 16,
    "lr": 1e-3,
    "critic_lr": 1e-4,
    "critic_steps": 1,
    "persistency": 2,
    "eps_w1": 1.0,
    "reg": 0.05,
    "evaluations": 2,
    "points": 60,
    "directions": 10,
}


def quiet(*args, **shown):
    """No progress."""


@pytest.fixture(scope="module")
def tables():
    return study.run(0, quiet, **SETTINGS)


def test_the_study_has_its_rows_and_repeats_itself(tables):
    rows = tables["table"].set_index("method")
    assert list(rows.index) == [
        "none",
        "mean shift",
        "per-pixel affine",
        "Gaussian map",
        "exact transport",
        "class by class",
        "target's own images",
        "Sinkhorn flow",
        "W2-FE from affine",
    ]
    assert (rows["n_test"] == 1000).all() and (rows["direction"] == "optdigits to digits").all()
    # the plan that keeps labels has agreement 1, costs no less than the best one, and classifies better
    assert rows.loc["class by class", "label_agreement"] == 1
    assert rows.loc["class by class", "half_squared_cost"] >= rows.loc["exact transport", "half_squared_cost"]
    assert rows.loc["class by class", "accuracy"] > rows.loc["exact transport", "accuracy"]
    assert len(tables["curve"]) == 4
    again = study.run(0, quiet, **SETTINGS)
    assert all(again[name].equals(tables[name]) for name in tables)


def test_closed_forms_match_a_direct_computation(tables):
    """No transport, by scikit-learn's classifier, on all 1000 test images."""
    neighbours = pytest.importorskip("sklearn.neighbors")
    S, D = readers.domain("optdigits"), readers.domain("digits")
    model = neighbours.KNeighborsClassifier(1).fit(ad.flat(S.train), S.train_labels)
    score = model.score(ad.flat(D.test), D.test_labels)
    assert tables["table"].set_index("method").loc["none", "accuracy"] == pytest.approx(score, abs=0.002)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"source": "mnits"}, "did you mean 'mnist'"),
        ({"learned": ["W2-EF"]}, "did you mean 'W2-FE'"),
        ({"evaluations": 3}, "evaluations"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(UsageError, match=message):
        study.run(0, quiet, **(SETTINGS | change))


# Evidence.


def test_evidence_reads_the_numbers_whichever_way_they_fall(tables):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    both = {name: pd.concat([frame.assign(seed=seed) for seed in (0, 1)]) for name, frame in tables.items()}
    cases = {"to_digits": both}
    assert len(evidence.table(cases)) == len(tables["table"])
    plt.close(evidence.figure(cases))
    better, worse = (
        {
            "a": both
            | {"table": both["table"].assign(accuracy=lambda t: t["accuracy"].where(t["kind"] != "learned", value))}
        }
        for value in (0.9, 0.1)
    )
    assert "above the per-pixel affine" in evidence.reading(
        better
    ) and "not above the per-pixel affine" in evidence.reading(worse)
