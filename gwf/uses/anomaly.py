r"""Outliers under relaxed transport: scores for anomalies, and a particle flow that leaves outliers alone.

Entropic transport with a relaxed target (`gwf.fields.entropic`) from a reference sample x_i to points y_j gives

    P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg),     kept mass of y_j:  m sum_i P_ij = exp(-g_j / relaxation),

the share of its due that y_j receives: about 1 for what the reference explains, about 0 for a point that costs more than
the relaxation is willing to pay. Three scores come of it, all larger for stranger points:

- `kept_mass`: minus the kept mass of y_j, all of `X` served at once (it depends on the other rows of X);
- `potential`: the potential of the reference's own plan, continued to any point,
      g(y) = -reg log sum_i a_i exp((f_i - c(x_i, y)) / reg),     f = the self-transport potential of the reference;
- `path`: the length of the path that -grad g takes y along until it rests in the reference.

Beside them stand the usual detectors, so that no score is read alone. Sources: proposal; L. Chizat et al. 2018 for the
relaxed problem. Chapter `proposal`.
"""

import math
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from gwf.errors import UsageError, in_range, nearest
from gwf.fields import entropic
from gwf.progress import follow
from gwf.uses.tables import table_for, table_of

SCORES = ("kept_mass", "potential", "path")


def single(X):
    """float32: scores need no more, and Sinkhorn updates take half the time."""
    return torch.as_tensor(X, dtype=torch.float32)


class TransportDetector(OutlierMixin, BaseEstimator):
    """Anomaly scores by entropic transport from a reference.

    Parameters
    ----------
    score : {"kept_mass", "potential", "path"}
    reg : float
        Temperature as a multiple of the mean of |x_i - x_j|^2 / 2 over the reference.
    relaxation : float
        Weight of the KL penalty in the same unit, (0, inf]; for "kept_mass". Infinite: all masses are 1 and nothing is told.
    iterations : int
        Sinkhorn updates.
    steps, eps : int, float
        Euler steps of "path".
    contamination : float
        Share of the reference taken for anomalous by `predict`, in [0, .5].

    Attributes
    ----------
    offset_ : float
        `predict` says -1 below it.
    """

    def __init__(
        self, score="kept_mass", reg=0.05, relaxation=0.1, iterations=50, steps=20, eps=0.3, contamination=0.1
    ):
        self.score, self.reg, self.relaxation, self.iterations = score, reg, relaxation, iterations
        self.steps, self.eps, self.contamination = steps, eps, contamination

    def fit(self, X, y=None):
        """Keep the reference X (n, d), complete. Returns self."""
        nearest(self.score, SCORES, "score")
        in_range(self.reg, 0, math.inf, "reg", open_low=True)
        in_range(self.relaxation, 0, math.inf, "relaxation", open_low=True)
        in_range(self.contamination, 0, 0.5, "contamination")
        self.reference_ = table_of(X, missing=False)
        self.n_features_in_ = self.reference_.shape[1]
        x = single(self.reference_)
        C = entropic.half_squared(x, x)
        self.unit_ = float(C.mean())
        if self.unit_ == 0:
            raise UsageError("all rows of the reference are equal: there is no scale for the temperature")
        # The source's and the target's potential of a self plan agree up to a constant; their mean is symmetric.
        f, g = entropic.potentials(C, self.reg * self.unit_, self.iterations)
        self.potential_ = (f + g) / 2
        self.offset_ = float(np.quantile(self._scores(self.reference_), self.contamination))
        return self

    def score_samples(self, X):
        """(n,), larger for more usual rows, as scikit-learn's detectors have it."""
        return self._scores(table_for(self, X, "reference", missing=False))

    def _scores(self, X):
        scores = {"kept_mass": self._kept, "potential": self._negative_potential, "path": self._path}
        return scores[self.score](single(X)).double().numpy()

    def decision_function(self, X):
        """`score_samples` minus `offset_`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """1 for usual rows, -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _kept(self, y):
        """log of the kept mass of all rows, -g / relaxation: in the order of the mass itself, without its underflow."""
        if math.isinf(self.relaxation):
            return torch.zeros(len(y))
        C = entropic.half_squared(single(self.reference_), y)
        relaxation = self.relaxation * self.unit_
        _, g = entropic.potentials(C, self.reg * self.unit_, self.iterations, relaxation)
        return -g / relaxation

    def _continued(self, y):
        """g (n,) and the barycentre (n, d) of the weights exp((f_i - c) / reg): grad g(y) = y - barycentre."""
        x, reg = single(self.reference_), self.reg * self.unit_
        C = entropic.half_squared(y, x)
        g = reg * (math.log(len(x)) - torch.logsumexp((self.potential_ - C) / reg, 1))
        return g, entropic.barycentre(C, self.potential_, x, reg)

    def _negative_potential(self, y):
        """-g(y)."""
        return -self._continued(y)[0]

    def _path(self, y):
        """Minus the length of the path."""
        length, progress = torch.zeros(len(y), dtype=y.dtype), follow("path length", patience=5)
        for step in range(self.steps):
            move = self.eps * (self._continued(y)[1] - y)
            length += move.norm(dim=1)
            y = y + move
            progress(step + 1, self.steps)
        return -length


class Mahalanobis(OutlierMixin, BaseEstimator):
    """(x - m)^T (S + ridge I)^-1 (x - m), m and S of the reference. `score_samples` is minus its root.

    Parameters
    ----------
    ridge : float
        In the squared unit of the data, > 0: pixels that never change have no variance.
    """

    def __init__(self, ridge=1e-2):
        self.ridge = ridge

    def fit(self, X, y=None):
        """Keep the moments of the reference X (n, d). Returns self."""
        in_range(self.ridge, 0, math.inf, "ridge", open_low=True)
        self.location_ = X.mean(0)
        self.precision_ = np.linalg.inv(np.atleast_2d(np.cov(X.T)) + self.ridge * np.eye(X.shape[1]))
        return self

    def score_samples(self, X):
        """(n,), larger for more usual rows."""
        z = X - self.location_
        return -np.sqrt(np.einsum("ij,jk,ik->i", z, self.precision_, z))


class Neighbours(OutlierMixin, BaseEstimator):
    """Mean distance to the k nearest rows of the reference. `score_samples` is minus it."""

    def __init__(self, k=5):
        self.k = k

    def fit(self, X, y=None):
        """Keep the reference X (n, d). Returns self."""
        self.tree_ = NearestNeighbors(n_neighbors=in_range(self.k, 1, len(X), "k")).fit(X)
        return self

    def score_samples(self, X):
        """(n,), larger for more usual rows."""
        return -self.tree_.kneighbors(X)[0].mean(1)


USUAL = {
    "knn": Neighbours,
    "lof": partial(LocalOutlierFactor, novelty=True),
    "mahalanobis": Mahalanobis,
    "ocsvm": OneClassSVM,
    "iforest": IsolationForest,
}
METHODS = (*SCORES, *USUAL)


def detector(method, random_state=0, **settings):
    """An unfitted detector by name, one of `METHODS`; settings are those of its class, `random_state` the forest's."""
    made = TransportDetector(method) if method in SCORES else USUAL[nearest(method, METHODS, "method")]()
    if method == "iforest":
        made.set_params(random_state=random_state)
    for name in settings:
        nearest(name, made.get_params(), f"setting of {type(made).__name__}")
    return made.set_params(**settings)


def anomaly_scores(X, reference, method="kept_mass", **settings):
    """How strange the rows of X are to the reference: larger is stranger.

    Parameters
    ----------
    X : array_like (n, d)
    reference : array_like (m, d)
        What counts as usual; it may hold some anomalies itself. Scale its columns first: distances are Euclidean.
    method : {"kept_mass", "potential", "path", "knn", "lof", "mahalanobis", "ocsvm", "iforest"}
        "kept_mass" serves all rows of X together, so it depends on their company; the others score each row by itself.
    **settings
        Of the detector, e.g. `relaxation=0.1`.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    UsageError
        Missing or infinite cells, columns that do not agree, an unknown method or setting.
    """
    X, reference = table_of(X, missing=False), table_of(reference, "reference", missing=False)
    if X.shape[1] != reference.shape[1]:
        raise UsageError(f"X has {X.shape[1]} columns, the reference {reference.shape[1]}: they must agree")
    return -detector(method, **settings).fit(reference).score_samples(X)


def robust_flow(data, start, relaxation=0.5, reg=0.02, steps=30, eps=0.2, iterations=40):
    r"""Particles that flow to the data and let its outliers go.

        x <- x + eps ( B_{x,y}(x) - B_{x,x}(x) ),      B_{x,y} of the plan with a relaxed target, B_{x,x} balanced,

    both plans warm-started from the step before. With `relaxation` infinite this is the flow of the Sinkhorn divergence.

    Parameters
    ----------
    data : array_like or Tensor (m, d)
    start : array_like or Tensor (n, d)
        Where the particles begin.
    relaxation : float
        (0, inf], in units of |x - y|^2 / 2: points farther than about this from where mass can be had are let go.
    reg : float
        Temperature, in the same unit.
    steps, eps : int, float
    iterations : int
        Sinkhorn updates per step. Balanced transport with outliers needs hundreds: with 40 the plans are not converged, and
        serve outliers too much.

    Returns
    -------
    x : ndarray (n, d)
    kept : ndarray (m,)
        Kept mass of every data point under the last plan; its mean is 1.
    """
    y, x = (torch.as_tensor(np.asarray(t), dtype=torch.float32) for t in (data, start))
    in_range(steps, 1, 10**7, "steps")
    if x.shape[1:] != y.shape[1:]:
        raise UsageError(
            f"start has shape {tuple(x.shape)}, data {tuple(y.shape)}: they must agree but for the first axis"
        )
    g, g_self, progress = None, None, follow("robust flow", patience=5)
    for step in range(steps):
        across, within = entropic.half_squared(x, y), entropic.half_squared(x, x)
        _, g = entropic.potentials(across, reg, iterations, relaxation, g)
        # Warm-started self plans are symmetric: a quarter of the updates is as good.
        _, g_self = entropic.potentials(within, reg, max(iterations // 4, 1), g=g_self)
        x = x + eps * (entropic.barycentre(across, g, y, reg) - entropic.barycentre(within, g_self, x, reg))
        progress(step + 1, steps)
    C = entropic.half_squared(x, y)
    f, g = entropic.potentials(C, reg, iterations, relaxation, g)
    return x.numpy(), entropic.kept_mass(C, f, g, reg).numpy()
