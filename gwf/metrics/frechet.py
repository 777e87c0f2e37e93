"""Frechet distance between Gaussian fits of two sets of features.

With a feature extractor phi, FD(x, y) compares N(mean, cov) of phi(x) with that of phi(y). The number is called FID
only when phi is Inception-v3 on 50000 samples; with the LeNet of `gwf.metrics.lenet` it is FD-LeNet. It falls as n
grows (the bias of both fits is positive), so values are comparable at equal n only.
"""

import numpy as np

from gwf.errors import UsageError
from gwf.metrics.arrays import as_samples, same_dimension


class FrechetStats:
    r"""Mean and covariance of features in batches, float64; their order and sizes change the result by rounding only.

    A batch of m rows with mean :math:`\bar b` and scatter :math:`S_b = \sum_i (b_i - \bar b)(b_i - \bar b)^\top` joins
    n earlier rows with mean :math:`\bar a` and scatter :math:`S_a` by

    .. math::
        \bar a' = \bar a + \tfrac{m}{n+m}\,\delta, \qquad
        S' = S_a + S_b + \tfrac{nm}{n+m}\,\delta\delta^\top, \qquad \delta = \bar b - \bar a,

    which never subtracts large numbers, unlike sums of :math:`x x^\top` [1]_. Of the n rows seen so far there are
    `mean` (d,) and the unbiased covariance `cov` = S / (n - 1) (d, d); `UsageError` while n < 1, n < 2.

    .. [1] T. Chan, G. Golub, R. LeVeque. Algorithms for computing the sample variance. Am. Statistician 37(3), 1983.
    """

    def __init__(self):
        self.n = 0
        self._mean = None
        self._scatter = None

    def update(self, feats):
        """Add a batch of features (m, d), m >= 1; returns `self`. After a `UsageError` the statistics are as before."""
        feats = as_samples(feats, "feats")
        mean = feats.mean(axis=0)
        centred = feats - mean
        m, scatter = len(feats), centred.T @ centred
        if self.n == 0:
            self.n, self._mean, self._scatter = m, mean, scatter
            return self
        same_dimension(self._mean.size, mean.size, ("FrechetStats", "the new batch"))
        total = self.n + m
        delta = mean - self._mean
        self._scatter = self._scatter + scatter + np.outer(delta, delta) * (self.n * m / total)
        self._mean = self._mean + delta * (m / total)
        self.n = total
        return self

    @property
    def mean(self):
        if self.n < 1:
            raise UsageError("FrechetStats has seen n = 0 rows: the mean needs at least 1")
        return self._mean

    @property
    def cov(self):
        if self.n < 2:
            raise UsageError(f"FrechetStats has seen n = {self.n} rows: the covariance needs at least 2")
        return self._scatter / (self.n - 1)


def frechet_from_moments(mean_x, cov_x, mean_y, cov_y):
    r"""Squared Frechet (Bures-Wasserstein) distance between two Gaussians, >= 0, in the squared unit of the features.

    .. math::
        \mathrm{FD} = |m_x - m_y|^2 + \operatorname{tr}\Sigma_x + \operatorname{tr}\Sigma_y
            - 2 \operatorname{tr} \bigl(\Sigma_x^{1/2} \Sigma_y \Sigma_x^{1/2}\bigr)^{1/2},

    that is :math:`W_2^2(\mathcal N(m_x, \Sigma_x), \mathcal N(m_y, \Sigma_y))` [1]_. The last trace is the sum of
    square roots of the eigenvalues of :math:`R \Sigma_y R^\top`, where R is :math:`\Sigma_x^{1/2}` in the coordinates
    of the eigenvectors of :math:`\Sigma_x`: two symmetric eigenproblems, no matrix square root, no complex numbers.

    Parameters
    ----------
    mean_x, mean_y : array_like (d,)
    cov_x, cov_y : array_like (d, d)
        Symmetric positive semi-definite, to 1e-6 of the largest eigenvalue (features may be float32). May be singular.

    References
    ----------
    .. [1] D. Dowson, B. Landau. The Frechet distance between multivariate normal distributions. J. Multivar. Anal. 12(3), 1982.
    """
    mean_x, mean_y = (np.asarray(m, dtype=np.float64) for m in (mean_x, mean_y))
    if mean_x.ndim != 1 or mean_y.ndim != 1:
        raise UsageError(f"the means have shapes {mean_x.shape} and {mean_y.shape}: both must be (d,)")
    same_dimension(mean_x.size, mean_y.size, ("mean_x", "mean_y"))
    cov_x = as_samples(cov_x, "cov_x")
    cov_y = as_samples(cov_y, "cov_y")
    d = mean_x.size
    if cov_x.shape != (d, d) or cov_y.shape != (d, d):
        raise UsageError(f"the covariances have shapes {cov_x.shape}, {cov_y.shape}: both must be ({d}, {d})")

    for C, name in ((cov_x, "cov_x"), (cov_y, "cov_y")):
        eigenvalues, slack = np.linalg.eigvalsh(C), 1e-6 * np.abs(C).max()
        if np.abs(C - C.T).max() > slack or eigenvalues[0] < -d * slack:
            raise UsageError(
                f"{name} is no covariance: it must be symmetric, its eigenvalues >= 0 ({eigenvalues[0]:.3g})"
            )
    w, V = np.linalg.eigh(cov_x)
    # Null directions add nothing to the trace in exact arithmetic, but each would add sqrt(rounding error).
    kept = w > d * np.finfo(np.float64).eps * np.abs(w).max()
    R = np.sqrt(w[kept])[:, None] * V[:, kept].T
    # eigvalsh reads one triangle only, so the product needs no symmetrising.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(R @ cov_y @ R.T), 0.0)).sum()
    difference = mean_x - mean_y
    value = difference @ difference + np.trace(cov_x) + np.trace(cov_y) - 2 * cross
    if not np.isfinite(value):
        raise UsageError(f"the Frechet distance of the given moments is {value}: all values must be finite")
    return float(max(value, 0.0))


def frechet_from_stats(x, y):
    """Frechet distance between two `FrechetStats`: `frechet_from_moments` of their means and unbiased covariances."""
    return frechet_from_moments(x.mean, x.cov, y.mean, y.cov)


def frechet_distance(x, y):
    """Frechet distance between Gaussian fits of two sets of features [1]_: `frechet_from_moments` of sample means and
    unbiased (n - 1) covariances. Where n is not above d they are singular, and the value is heavily biased.

    Parameters
    ----------
    x, y : array_like (n, d), (m, d)
        Features of the two sets, n, m >= 2.

    Returns
    -------
    float
        In the squared unit of the features, >= 0. `UsageError` if n, m < 2, d differ, or a value is not finite.

    References
    ----------
    .. [1] M. Heusel et al. GANs trained by a two time-scale update rule converge to a local Nash equilibrium. NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(gwf.frechet_distance(x, x + [3, 4]), 9)                # the squared shift of the means
    25.0
    """
    return frechet_from_stats(
        FrechetStats().update(as_samples(x, "x", at_least=2)), FrechetStats().update(as_samples(y, "y", at_least=2))
    )
