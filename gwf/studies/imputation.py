r"""How well do flows fill in missing cells, against what statistics has long had? Wine, iris, breast cancer; three kinds of masks.

Tables are standardised by all their cells. Masks, with a share p of missing cells:

    MCAR    each cell with probability p, whatever it holds;
    MAR     30 % of the columns are always observed; in the others a cell is missing with probability sigmoid(w . x + b),
            x its row in the observed columns, b such that p of these cells are missing;
    MNAR    each cell with probability sigmoid(2 x + b), x the cell itself: large values hide.

"MCAR, seed 42" on wine at p = .5 is the mask of muzellec's notebook, numpy.random.seed(42); rand(n, d) < .5, the same for
every seed of the study, which then moves the imputers alone. MAE and RMSE on the missing cells. Breast cancer's columns
are nearly collinear, which is what regression of each column on the others is made for. Sources: muzellec; proposal.
"""

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import scale

from gwf.errors import in_range, nearest
from gwf.seeding import derive, rng
from gwf.uses.imputation import impute

DATA = {"wine": datasets.load_wine, "iris": datasets.load_iris, "breast cancer": datasets.load_breast_cancer}
MASKS = ("MCAR, seed 42", "MCAR", "MAR", "MNAR")

#: Method -> settings of `gwf.impute`; the published ones of muzellec (MLP and linear round-robin aside) second.
OURS = {
    "Sinkhorn": {"method": "sinkhorn"},
    "Sinkhorn, published settings": {"method": "sinkhorn", "reg": 0.05, "iterations": 20, "steps": 1000},
    "minibatch OT flow": {"method": "flow", "field": "minibatch_ot", "eps": 0.1},
    "MMD flow": {"method": "flow", "field": "mmd", "eps": 1.0},
    "sliced flow": {"method": "flow", "field": "sliced", "eps": 0.2},
}
USUAL = ("mean", "5-NN", "iterative ridge")


def mask(kind, X, p, draw):
    """Missing cells (n, d), bool, of a complete standardised table; every column keeps at least two observed cells."""
    nearest(kind, MASKS, "mask")
    in_range(p, 0.01, 0.9, "p")
    n, d = X.shape
    if kind == "MCAR, seed 42":
        # The published mask comes from numpy's old global stream.
        return np.random.RandomState(42).rand(n, d) < p
    if kind == "MCAR":
        chance = np.full((n, d), p)
    elif kind == "MNAR":
        chance = np.stack([_logistic(2 * X[:, j], p) for j in range(d)], 1)
    else:
        seen = draw.choice(d, max(1, round(0.3 * d)), replace=False)
        chance = np.zeros((n, d))
        for j in np.setdiff1d(np.arange(d), seen):
            slope = X[:, seen] @ draw.normal(size=len(seen))
            chance[:, j] = _logistic(2 * slope / slope.std(), p)
    hidden = draw.random((n, d)) < chance
    hidden[:2] &= ~(hidden.sum(0) > n - 2)
    return hidden


def _logistic(slope, p):
    """sigmoid(slope + b) with mean p."""
    return expit(slope + brentq(lambda b: expit(slope + b).mean() - p, -50, 50))


def fill(method, X, seed):
    """X, NaN where missing, filled in by a method of `OURS` or `USUAL`."""
    usual = {
        "mean": SimpleImputer,
        "5-NN": lambda: KNNImputer(n_neighbors=5),
        "iterative ridge": lambda: IterativeImputer(random_state=0, max_iter=50),
    }
    nearest(method, [*OURS, *usual], "method of imputation")
    if method in usual:
        return usual[method]().fit_transform(X)
    # The tables are standardised by their owner.
    return impute(X, **OURS[method], standardise=False, random_state=derive(seed, method) % 2**31)


def run(seed, progress, *, data, masks, p, methods):
    """One seed: a mask of each kind, filled in by each method.

    Parameters
    ----------
    data : {"wine", "iris", "breast cancer"}
    masks, methods : lists
        Of `MASKS`; of `OURS` and `USUAL`.
    p : float
        Share of missing cells.

    Returns
    -------
    dict
        "table": data, mask, p, missing (measured share), method, MAE, RMSE.
    """
    X = scale(DATA[nearest(data, DATA, "data set")]().data)
    rows = []
    for kind in masks:
        hidden = mask(kind, X, p, rng(seed, f"{data} {kind} {p}"))
        holes = np.where(hidden, np.nan, X)
        for method in methods:
            error = (fill(method, holes, seed) - X)[hidden]
            rows.append((data, kind, p, hidden.mean(), method, np.abs(error).mean(), np.sqrt(np.mean(error**2))))
            progress(len(rows), len(masks) * len(methods), mask=kind, method=method)
    return {"table": pd.DataFrame(rows, columns=["data", "mask", "p", "missing", "method", "MAE", "RMSE"]).round(5)}
