r"""Outliers under relaxed transport: scores for anomalies, and a particle flow that leaves outliers alone.

Entropic transport with a relaxed target (`gwf.fields.entropic`) from a reference sample x_i to points y_j gives

    P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg),     kept mass of y_j:  m sum_i P_ij = exp(-g_j / relaxation),

the share of its due that y_j receives: about 1 for what the reference explains, about 0 for a point that costs more than
the relaxation is willing to pay. The plan of the reference to itself says of any row y, one more point of no weight,

    g(y) = -s reg log mean_i exp((f_i - c(x_i, y)) / reg),      s = relaxation / (relaxation + reg), or 1 if infinite.

Three scores come of it, larger for stranger rows: `kept_mass`, minus the logarithm of the kept mass of y
(`TransportDetector.score_together`: of all rows served at once); `potential`, g of the balanced plan; `path`, the length of
the path that -grad g takes y along until it rests in the reference.

Beside them stand the usual detectors, so that no score is read alone. Sources: proposal; L. Chizat et al. 2018 for the
relaxed problem; V. Vovk et al. Algorithmic learning in a random world. 2005, for the threshold. Chapter `proposal`.
"""

import math
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from gwf.errors import UsageError, nearest, whole
from gwf.fields import entropic
from gwf.progress import follow
from gwf.validation import alike, number, offset, table_of, typical

SCORES = ("kept_mass", "potential", "path")
FAR = 1e15
"""Coordinates end here, in the unit of the reference, so that float32 holds their squares."""


def costs(x, y):
    """|x_i - y_j|^2 / 2 (n, m) from differences: one far row costs the others no digits."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() / 2


def residual(C, f, g, reg, relaxation, what):
    """Largest error of a kept mass of a plan, against exp(-g / relaxation); `ConvergenceWarning` above .05."""
    found = float((entropic.kept_mass(C, f, g, reg) - torch.exp(-g / relaxation)).abs().max())
    if not found <= 0.05:
        text = f"{what} is not converged, a kept mass is off by {found:.2g}: take more iterations"
        warnings.warn(text, ConvergenceWarning, stacklevel=3)
    return found


class TransportDetector(OutlierMixin, BaseEstimator):
    r"""Anomaly scores by entropic transport from a reference, of every row by itself.

    Parameters
    ----------
    method : {"kept_mass", "potential", "path"}
    reg : float
        Temperature as a multiple of the unit: the mean of |x_i - x_j|^2 / 2 over the reference, where a pair counts ten
        times their median at most, so that no few rows move it.
    relaxation : float
        Weight of the KL penalty in the same unit, (0, inf]; for "kept_mass". Infinite: all masses are 1 and nothing is told.
    iterations, steps, eps : int, int, float
        Sinkhorn updates; Euler steps of "path", eps in (0, 1].
    contamination : float
        Share of usual rows that `predict` takes for anomalous, in [0, .5].

    Attributes
    ----------
    offset_, residual_ : float
        `predict` says -1 below it; largest error of a mass in the reference's own plan, a `ConvergenceWarning` above .05.
    reference_, centre_, unit_, potential_
        The rows (n, d), their median (d,), the unit, f (n,).

    Notes
    -----
    A row that equals one of the reference, its own nearest source at no cost, is scored without (one copy of) it: the
    reference's scores come as those of fresh rows do. `offset_` is their quantile at position contamination (n + 1): of
    n + 1 exchangeable scores, a fresh usual one is below the k-th smallest of the others with probability k / (n + 1),
    whatever law and dimension; given the reference the share below has law Beta(k, n + 1 - k), of deviation .03 for .1 and
    a hundred rows. Not exact is that f is not solved for again without each row: the share for .1 is .08 to .12, measured.
    """

    def __init__(
        self, method="kept_mass", reg=0.05, relaxation=0.1, iterations=50, steps=20, eps=0.3, contamination=0.1
    ):
        self.method, self.reg, self.relaxation, self.iterations = method, reg, relaxation, iterations
        self.steps, self.eps, self.contamination = steps, eps, contamination

    def __sklearn_is_fitted__(self):
        return hasattr(self, "offset_")

    def fit(self, X, y=None):
        """Keep the reference X (n, d), complete, of two rows or more. Returns self."""
        nearest(self.method, SCORES, "method")
        for name, high in (("reg", 1e6), ("relaxation", math.inf), ("eps", 1)):
            number(getattr(self, name), 0, high, name, open_low=True)
        number(self.contamination, 0, 0.5, "contamination")
        whole(self.steps, 1, 10**6, "steps")
        self.reference_ = table_of(self, X, reset=True, what="reference", least=2)
        self.centre_ = np.median(self.reference_, 0)
        # 2000 rows are enough for a mean, in equal strides for tables in some order.
        some = self.reference_[:: math.ceil(len(self.reference_) / 2000)] - self.centre_
        pairs = torch.pdist(torch.as_tensor(some)).square() / 2
        self.unit_ = float(pairs.clamp(max=10 * typical(pairs)).sum()) * 2 / len(some) ** 2
        if self.unit_ == 0:
            raise UsageError("all rows of the reference are equal: there is no scale for the temperature")
        self._x = self._scaled(self.reference_)
        C, relaxation = costs(self._x, self._x), self.relaxation if self.method == "kept_mass" else math.inf
        f, g = entropic.potentials(C, self.reg, whole(self.iterations, 1, 10**6, "iterations"), relaxation)
        self.residual_ = residual(C, f, g, self.reg, relaxation, "the plan of the reference to itself")
        # A balanced plan's potentials agree up to a constant, which it leaves open; their mean is symmetric.
        self.potential_ = f if self.method == "kept_mass" else (f + g) / 2
        self.offset_ = float(np.quantile(self._scores(self.reference_), self.contamination, method="weibull"))
        return self

    def score_samples(self, X):
        """(n,), larger for more usual rows, as scikit-learn's detectors have it; of each row of X by itself."""
        return self._scores(table_of(self, X, reset=False))

    def score_together(self, X):
        """log of the kept mass (n,) where all rows of X are served at once: where most are strange it sees a ratio of
        densities that no single row shows. The mean of the masses is 1: one row alone is a `UsageError`."""
        X = table_of(self, X, reset=False)
        if len(X) == 1:
            raise UsageError("X has one row, which is served alone: score it with TransportDetector.score_samples")
        C = costs(self._x, self._scaled(X))
        _, g = entropic.potentials(C, self.reg, int(self.iterations), self.relaxation)
        return (-g / self.relaxation).double().numpy()

    def decision_function(self, X):
        """`score_samples` minus `offset_`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """1 for usual rows, -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scaled(self, X):
        """Rows as float32 about the reference's centre, in its unit: scores need no more, and take half the time."""
        return torch.as_tensor((X - self.centre_) / math.sqrt(self.unit_)).clamp(-FAR, FAR).float()

    def _scores(self, X):
        # A thousand rows at a time, for memory: they do not know of one another.
        return torch.cat([self._score(y) for y in self._scaled(X).split(1000)]).double().numpy()

    def _score(self, y):
        """Scores (m,) of the rows y (m, d); logits are log a_i exp(f_i / reg), without the row that y is, if it is one."""
        C, reg = costs(y, self._x), self.reg
        own = (C == 0) & ((C == 0).cumsum(1) == 1)
        logits = (self.potential_ / reg - (len(self._x) - own.sum(1, keepdim=True)).log()).masked_fill(own, -math.inf)
        if self.method == "path":
            return -self._path(y, logits) * math.sqrt(self.unit_)
        minus_g = reg * torch.logsumexp(logits - C / reg, 1)
        # s / relaxation = 1 / (relaxation + reg).
        return minus_g / (self.relaxation + reg) if self.method == "kept_mass" else minus_g * self.unit_

    def _path(self, y, logits):
        """Length of the path (m,): grad g(y) = y - the barycentre of the weights exp(logits - c / reg)."""
        length, progress = torch.zeros(len(y)), follow("path length", patience=5)
        for step in range(self.steps):
            move = self.eps * (entropic.barycentre(costs(y, self._x), self.reg * logits, self._x, self.reg) - y)
            length += move.norm(dim=1)
            y = y + move
            progress(step + 1, self.steps)
        return length


class Mahalanobis(BaseEstimator):
    """(x - m)^T (S + ridge I)^-1 (x - m), m and S of the reference; `score_samples` is minus its root. The ridge, > 0 in
    the squared unit of the data, is for pixels that never change."""

    def __init__(self, ridge=1e-2):
        self.ridge = ridge

    def fit(self, X, y=None):
        """Keep the moments of the reference X (n, d), complete, n >= 2. Returns self."""
        X = table_of(self, X, reset=True, what="reference", least=2)
        number(self.ridge, 0, math.inf, "ridge", open_low=True)
        self.location_ = X.mean(0)
        self.precision_ = np.linalg.inv(np.atleast_2d(np.cov(X.T)) + self.ridge * np.eye(X.shape[1]))
        return self

    def score_samples(self, X):
        z = table_of(self, X, reset=False) - self.location_
        return -np.sqrt(np.einsum("ij,jk,ik->i", z, self.precision_, z))


class Neighbours(BaseEstimator):
    """Mean distance to the k nearest rows of the reference. `score_samples` is minus it."""

    def __init__(self, k=5):
        self.k = k

    def fit(self, X, y=None):
        """Keep the reference X (n, d), complete. Returns self."""
        X = table_of(self, X, reset=True, what="reference")
        self.tree_ = NearestNeighbors(n_neighbors=whole(self.k, 1, len(X), "k")).fit(X)
        return self

    def score_samples(self, X):
        return -self.tree_.kneighbors(table_of(self, X, reset=False))[0].mean(1)


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
        # Without novelty, which is on, a detector scores its reference alone.
        nearest(name, set(made.get_params()) - {"novelty"}, f"setting of {type(made).__name__}")
    return made.set_params(**settings)


def anomaly_scores(X, reference, method="kept_mass", **settings):
    """How strange the rows of X are to the reference: larger is stranger.

    Parameters
    ----------
    X, reference : array_like or DataFrame (n, d), (m, d)
        The reference is what counts as usual, with few anomalies. Scale its columns first: distances are Euclidean.
    method : {"kept_mass", "potential", "path", "knn", "lof", "mahalanobis", "ocsvm", "iforest"}
        "kept_mass" serves all rows of X together (`TransportDetector.score_together`), so it depends on their company and
        needs two of them; the others score each row by itself.
    **settings
        Of the detector, e.g. `relaxation=0.1`.

    Returns
    -------
    ndarray (n,)
        `UsageError` for cells that are not finite, columns that do not agree, an unknown method or setting.
    """
    reference, X = alike(reference=reference, X=X)
    try:
        made = detector(method, **settings).fit(reference)
        return -(made.score_together if method == "kept_mass" else made.score_samples)(X)
    except (TypeError, ValueError) as error:  # of scikit-learn's detectors
        raise error if isinstance(error, UsageError) else UsageError(str(error).splitlines()[0]) from None


def robust_flow(data, start, relaxation=0.5, reg=0.02, steps=30, eps=0.2, iterations=40):
    r"""Particles that flow to the data and let its outliers go.

        x <- x + eps ( B_{x,y}(x) - B_{x,x}(x) ),      B_{x,y} of the plan with a relaxed target, B_{x,x} balanced,

    both plans warm-started from the step before. With `relaxation` infinite this is the flow of the Sinkhorn divergence.

    Parameters
    ----------
    data, start : array_like, DataFrame or Tensor (m, d), (n, d)
        The particles begin at `start`.
    relaxation : float
        (0, inf], in units of |x - y|^2 / 2 as the temperature `reg`: points farther from where mass can be had are let go.
    steps, eps : int, float
        Euler steps; eps in (0, 1].
    iterations : int
        Sinkhorn updates per step. Balanced transport with outliers needs hundreds: with 40 the plans are not converged, and
        serve outliers too much; a `ConvergenceWarning` says so where a kept mass of the last plan is off by more than .05.

    Returns
    -------
    x, kept : ndarray (n, d), (m,)
        float32 where `start` is, else float64; and the kept masses of the data under the last plan, of mean 1.
        `UsageError` as in `anomaly_scores`, and for points more than 1e15 apart.
    """
    single = str(getattr(start, "dtype", "")).endswith("float32")
    data, start = alike(data=data, start=start)
    iterations, steps = whole(iterations, 1, 10**6, "iterations"), whole(steps, 1, 10**7, "steps")
    relaxation = number(relaxation, 0, math.inf, "relaxation", open_low=True)
    reg, eps = number(reg, 0, FAR, "reg", open_low=True), number(eps, 0, 1, "eps", open_low=True)
    centre = offset(data)
    if max(np.abs(data - centre).max(), np.abs(start - centre).max()) > FAR:
        raise UsageError(f"data and start spread over more than {FAR:g}: divide them by their scale")
    y, x = (torch.as_tensor(t - centre).float() for t in (data, start))
    g, g_self, progress = None, None, follow("robust flow", patience=5)
    for step in range(steps):
        across, within = costs(x, y), costs(x, x)
        _, g = entropic.potentials(across, reg, iterations, relaxation, g)
        # Warm-started self plans are symmetric: a quarter of the updates is as good.
        _, g_self = entropic.potentials(within, reg, max(iterations // 4, 1), g=g_self)
        x = x + eps * (entropic.barycentre(across, g, y, reg) - entropic.barycentre(within, g_self, x, reg))
        progress(step + 1, steps)
    C = costs(x, y)
    f, g = entropic.potentials(C, reg, iterations, relaxation, g)
    residual(C, f, g, reg, relaxation, "the last plan of the flow")
    moved = x.double().numpy() + centre
    return moved.astype(np.float32 if single else np.float64), entropic.kept_mass(C, f, g, reg).numpy()
