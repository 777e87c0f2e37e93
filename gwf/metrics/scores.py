r"""How far a law is from a known one: kernel Stein discrepancy and estimators of the symmetric KL divergence.

SymKL(p, q) = KL(p | q) + KL(q | p), the sum, in nats. It asks for a density of p, which samples do not have, and every
estimator pays for one in its own way:

- `gwf.exact.covariance.symkl_cov` of the samples' `moments`. Exact for Gaussian p up to a sampling error of mean
  d (d + 3) / (2 n), its `moment_fit_floor`; blind to everything that is not Gaussian.
- `symkl_kde`: a Gaussian kernel density. Its bias grows fast with d and dominates the error for d > 2.
- `symkl_mixture`: a Gaussian mixture fitted by EM. Blind to what the mixture cannot follow.
- `symkl_densities`: log densities that are known, as those of stored invertible maps by change of variables
  (`gwf.steps.increments.Composition.log_density`). No bias, Monte Carlo error alone.

Which one is used can decide which method looks better: notebooks/chapters/05_vwgf.ipynb. numpy, float64.
"""

import math

import numpy as np
from scipy.spatial.distance import pdist
from scipy.special import logsumexp

from gwf.errors import UsageError, nearest
from gwf.metrics.arrays import as_pair, as_samples, row_blocks, same_dimension


def ksd_scale(x):
    """beta = 1 / (2 median^2) of the pairwise distances of x (n, d): the scale of `ksd`'s kernel in vwgf."""
    return float(1 / (2 * np.median(pdist(as_samples(x, "x", at_least=2))) ** 2))


def ksd(x, score, beta):
    """Squared kernel Stein discrepancy, the formula of `gwf.flows.measures.ksd`, of samples x (n, d); U-statistic.

    `score` (n, d) holds grad log nu at x; `beta` > 0, else `UsageError`. Kernel, scale: vwgf; formula derived here.
    """
    x, score = as_pair(x, score, ("x", "score"), at_least=2)
    if not 0 < beta < math.inf:
        raise UsageError(f"beta = {beta!r} is out of range: it must be positive and finite")
    if len(x) != len(score):
        raise UsageError(f"x has {len(x)} rows and score {len(score)}: one score per sample is needed")
    n, d = x.shape
    square = (x**2).sum(1)
    distance = np.maximum(square[:, None] + square[None] - 2 * x @ x.T, 0)
    own = (score * x).sum(1)
    cross = score @ x.T
    drift = own[:, None] + own[None] - cross - cross.T
    u = np.exp(-beta * distance) * (score @ score.T + 2 * beta * (drift + d) - 4 * beta**2 * distance)
    np.fill_diagonal(u, 0)
    return float(u.sum() / (n * (n - 1)))


def moments(x):
    """Mean (d,) and covariance (d, d), divisor n - 1, of x (n, d); n > d."""
    x = as_samples(x, "x", at_least=2)
    if len(x) <= x.shape[1]:
        raise UsageError(f"x holds n = {len(x)} samples: more than d = {x.shape[1]} are needed for a covariance")
    return x.mean(0), np.atleast_2d(np.cov(x.T))


def root_of(C):
    """Cholesky root of a covariance (d, d) of samples; `UsageError` where they do not fill the space."""
    try:
        return np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        raise UsageError("x has no density: a column, or a combination of columns, is constant") from None


class KernelDensity:
    """Gaussian kernel density with covariance Cov(x) n^(-2/(d+4)) (Scott's rule), of points x (n, d)."""

    def __init__(self, x):
        m, C = moments(x)
        n, d = x.shape
        self.root = root_of(C * n ** (-2 / (d + 4)))
        self._inverse = np.linalg.inv(self.root)
        self.x = as_samples(x, "x")
        self._y = self.x @ self._inverse.T
        self._square = (self._y**2).sum(1)
        self._log_normaliser = np.log(np.diag(self.root)).sum() + d * math.log(2 * math.pi) / 2 + math.log(n)

    def log_density(self, points):
        """At points (m, d), (m,)."""
        out = []
        for rows in row_blocks(as_samples(points, "points"), 256):
            z = rows @ self._inverse.T
            exponent = z @ self._y.T
            exponent -= self._square / 2
            top = exponent.max(1)
            exponent -= top[:, None]
            out.append(np.log(np.exp(exponent, out=exponent).sum(1)) + top - (z**2).sum(1) / 2)
        return np.concatenate(out) - self._log_normaliser

    def sample(self, n, rng):
        chosen = self.x[rng.integers(len(self.x), size=n)]
        return chosen + rng.standard_normal(chosen.shape) @ self.root.T


class GaussianMixture:
    """sum_j w_j N(m_j, C_j): weights (k,), means (k, d), covariances (k, d, d), positive definite."""

    def __init__(self, weights, means, covariances):
        self.weights, self.means = np.asarray(weights, dtype=np.float64), as_samples(means, "means")
        self.covariances = np.asarray(covariances, dtype=np.float64)
        self.d = self.means.shape[1]
        self._roots = np.linalg.cholesky(self.covariances)
        self._inverses = np.linalg.inv(self._roots)

    @classmethod
    def spherical(cls, means, variance=1.0):
        """Equal weights, all covariances variance * I."""
        k, d = np.shape(means)
        return cls(np.full(k, 1 / k), means, np.tile(variance * np.eye(d), (k, 1, 1)))

    def log_parts(self, x):
        """log w_j N(x; m_j, C_j), (n, k)."""
        same_dimension(x.shape[1], self.d)
        columns = []
        for w, m, root, inverse in zip(self.weights, self.means, self._roots, self._inverses, strict=True):
            square = ((x - m) @ inverse.T) ** 2
            log_root = np.log(np.diag(root)).sum() + self.d * math.log(2 * math.pi) / 2
            columns.append(math.log(max(w, 1e-300)) - square.sum(1) / 2 - log_root)
        return np.stack(columns, 1)

    def log_density(self, x):
        return logsumexp(self.log_parts(x), axis=1)

    def score(self, x):
        """grad log density, (n, d)."""
        parts = self.log_parts(x)
        share = np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        pulls = [-(x - m) @ inverse.T @ inverse for m, inverse in zip(self.means, self._inverses, strict=True)]
        return sum(share[:, [j]] * pull for j, pull in enumerate(pulls))

    def sample(self, n, rng):
        which = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[which] + np.einsum("nij,nj->ni", self._roots[which], rng.standard_normal((n, self.d)))


def fit_mixture(x, components, rng, iterations=60, ridge=1e-6):
    """`GaussianMixture` of full covariances fitted to x (n, d) by expectation-maximisation from a k-means++ start.

    `ridge` is added to the diagonals, so that no component collapses onto a point. `UsageError` for fewer different points
    than components, or a constant column.
    """
    x = as_samples(x, "x", at_least=components + 1)
    n, d = x.shape
    means = [x[rng.integers(n)]]
    gap = np.full(n, np.inf)
    for _ in range(components - 1):
        gap = np.minimum(gap, ((x - means[-1]) ** 2).sum(1))
        if not gap.sum() > 0:
            raise UsageError(f"x holds {len(means)} different points: {components} components need as many")
        means.append(x[rng.choice(n, p=gap / gap.sum())])
    spread = np.cov(x.T).reshape(d, d) / components ** (2 / d)
    root_of(spread)
    law = GaussianMixture(np.full(components, 1 / components), np.array(means), np.tile(spread, (components, 1, 1)))
    for _ in range(iterations):
        parts = law.log_parts(x)
        share = np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        mass = np.maximum(share.sum(0), 1e-10)
        means = share.T @ x / mass[:, None]
        covariances = np.stack(
            [(share[:, j, None] * (x - means[j])).T @ (x - means[j]) / mass[j] for j in range(components)]
        )
        law = GaussianMixture(mass / mass.sum(), means, covariances + ridge * np.eye(d))
    return law


def symkl_densities(log_p, log_q, x_p, x_q):
    """Monte Carlo SymKL of two laws with log densities, functions (n, d) -> (n,), and samples x_p, x_q of each.

    mean over x_p of log p - log q, plus mean over x_q of log q - log p. Unbiased, hence negative at times.
    """
    return float(np.mean(log_p(x_p) - log_q(x_p)) + np.mean(log_q(x_q) - log_p(x_q)))


def symkl_kde(x, law, n, rng, draws="particles"):
    """SymKL of the kernel density p of points x and `law` (`log_density`, `sample(n, rng)`), n points for each mean.

    The mean over p is over fresh draws of p (`draws="fresh"`, unbiased), or over the points x (`"particles"`), each on its own
    kernel: p is overrated. jko-icnn's published baselines agree with the second: .72, not .43, at d = 12 and 1000 points.
    """
    nearest(draws, ("fresh", "particles"), "draws")
    x = as_samples(x, "x")
    density = KernelDensity(x)
    own = density.sample(n, rng) if draws == "fresh" else x[:n]
    return symkl_densities(density.log_density, law.log_density, own, law.sample(n, rng))


def symkl_mixture(x, law, components, n, rng):
    """SymKL of a mixture of `components` Gaussians fitted to x and `law`, n samples of each; vwgf takes 15."""
    fitted = fit_mixture(x, components, rng)
    return symkl_densities(fitted.log_density, law.log_density, fitted.sample(n, rng), law.sample(n, rng))
