r"""The functional of a variational step, together with the reference law R its bound is taken against.

KL needs no samples of nu when nu's density is known up to a constant. For any reference law R

    KL(mu | nu) = KL(mu | R) + E_mu log(R / nu),

and only the first term is replaced by its bound [vwgf, section 5.2]. With R_k the Gaussian of mu_k's own mean and
covariance, the ratio dmu/dR_k stays near 1 all along the flow: its network has little to learn and the batch mean of r
over R_k a small variance. Against nu itself the first ratios are enormous, and their batch means nearly always wrong.
"""

import math

import numpy as np
import torch

from gwf.errors import UsageError, nearest

LOG_2_PI = math.log(2 * math.pi)


class GaussianReference:
    """N(m, C), drawn from and evaluated on `device`; m (d,), C (d, d) symmetric positive definite, else `UsageError`."""

    def __init__(self, m, C, device="cpu"):
        m, C = np.asarray(m, dtype=np.float64), np.asarray(C, dtype=np.float64)
        if C.shape != (m.size, m.size):
            raise UsageError(f"C must be ({m.size}, {m.size}) for a mean of {m.size} numbers, got shape {C.shape}")
        try:
            root = np.linalg.cholesky(C)
        except np.linalg.LinAlgError:
            raise UsageError("C must be positive definite: the reference needs a density") from None
        self.m, self.C, self.d = m, C, m.size
        self._m, self._root, self._inverse_root = (
            torch.tensor(a, dtype=torch.float32, device=device) for a in (m, root, np.linalg.inv(root))
        )
        self._log_normaliser = float(np.log(np.diag(root)).sum() + m.size * LOG_2_PI / 2)

    @classmethod
    def isotropic(cls, d, variance, device="cpu"):
        """N(0, variance I) in d dimensions."""
        return cls(np.zeros(d), variance * np.eye(d), device)

    @classmethod
    def fitted(cls, x):
        """The Gaussian with mean and covariance (divisor n) of particles x (n, d), where they are; by way of the host."""
        return cls(*moments(x), x.device if isinstance(x, torch.Tensor) else "cpu")

    def sample(self, n, generator):
        """(n, d) float32 draws."""
        return torch.addmm(self._m, torch.randn(n, self.d, generator=generator, device=self._m.device), self._root.T)

    def log_density(self, x):
        """log R(x), x (n, d) -> (n,), differentiable."""
        return -((x - self._m) @ self._inverse_root.T).square().sum(1) / 2 - self._log_normaliser


def moments(x):
    """Mean (d,) and covariance (d, d), divisor n, of particles x (n, d) as float64 arrays."""
    x = np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
    m = x.mean(0)
    gap = x - m
    return m, gap.T @ gap / len(x)


def moment_matched(k, x):
    """R_k, the Gaussian of the particles' own moments: the choice of vwgf."""
    return GaussianReference.fitted(x)


def always(R):
    """One and the same R in every step."""
    return lambda k, x: R


def first_then_matched(R):
    """R in the first step, moment-matched from then on: what vwgf's released code does (its first R does not fit)."""
    return lambda k, x: R if k == 0 else moment_matched(k, x)


def _log_capped(u):
    # r = exp(rbar) - 1 with rbar = 20 sigmoid(3 u / 20) in (0, 20): bounded above, hence no exploding critic.
    return torch.log(torch.expm1(20 * torch.sigmoid(3 * u / 20)).clamp_min(1e-5))


LOG_RATIO = {"log": lambda u: u, "squared": lambda u: torch.log(u.square() + 1e-12), "capped": _log_capped}
"""log r from the network's output u: r = exp(u); r = u^2 (vwgf's OU); r = exp(20 sigmoid(3u/20)) - 1 (its mixtures)."""

OUTPUT_OF_ONE = {"log": 0.0, "squared": 1.0, "capped": -20 / 3 * math.log(20 / math.log(2) - 1)}
"""The output u at which r = 1, for a network to start from."""


def log_ratio(name):
    """The parametrisation called `name`, a function u -> log r; an unknown one is a `UsageError`."""
    return LOG_RATIO[nearest(name, LOG_RATIO, "ratio")]


class KLThroughReference:
    r"""KL(. | nu) through a Gaussian reference; nu is known by log nu, x (n, d) -> (n,), up to a constant.

    .. math:: KL(T_\#\mu_k | \nu) = 1 + \sup_r E_{\mu_k}[\log r(T) + \log R_k(T) - \log\nu(T)] - E_{R_k} r

    Between Gaussians log r is quadratic at the optimum, so a quadratic log r makes the bound exact. `choose`
    (k, particles of mu_k) is the `GaussianReference` of step k, `ratio` a key of `LOG_RATIO`. Source: vwgf, sect. 5.2.
    """

    def __init__(self, log_nu, choose=moment_matched, ratio="log"):
        self.log_nu, self.choose, self.log_r = log_nu, choose, log_ratio(ratio)
        self.R = None

    def begin(self, k, x):
        self.R = self.choose(k, x)

    def sample(self, n, generator):
        return self.R.sample(n, generator)

    def bound(self, u_mu, u_reference):
        """1 + E log r - E_R r, the lower bound of KL(mu | R)."""
        return 1 + self.log_r(u_mu).mean() - self.log_r(u_reference).exp().mean()

    def energy(self, u_mu, x):
        """The part of the bound of KL(mu | nu) that moves with x ~ mu: E[log r + log R - log nu](x)."""
        return (self.log_r(u_mu).flatten() + self.R.log_density(x) - self.log_nu(x)).mean()

    def value(self, u_mu, u_reference, x):
        """Bound of KL(mu | nu) itself, up to the constant that log nu leaves out."""
        return 1 + self.energy(u_mu, x) - self.log_r(u_reference).exp().mean()


class AgainstSamples:
    """D_f(. | nu) by a divergence's ratio losses, against nu itself, of which only samples are needed.

    `divergence` is a `gwf.bounds.Generator`, and `sample` (n, generator) -> (n, d) draws of nu.
    """

    def __init__(self, divergence, sample):
        self.divergence, self.sample = divergence, sample

    def begin(self, k, x):
        """Nothing to refit: the reference is nu in every step."""

    def bound(self, u_mu, u_reference):
        return self.energy(u_mu, None) - self.divergence.B(self.divergence.variable(u_reference)).mean()

    def energy(self, u_mu, x):
        """E_mu A, the part that moves with x."""
        return self.divergence.A(self.divergence.variable(u_mu)).mean()

    def value(self, u_mu, u_reference, x):
        """The bound, which is the functional's own here."""
        return self.bound(u_mu, u_reference)


class MomentGaussian:
    """The Gaussian with the mean and covariance of the particles (vwgf, section 5: what makes the KL step work)."""

    def fit(self, x):
        """Refit to particles x (n, d), whose moments the host looks at; returns self."""
        self.mean = x.mean(0)
        covariance = torch.cov(x.T.double()).reshape(x.shape[1], x.shape[1])
        root = torch.linalg.cholesky(covariance)
        self.root, self.inverse = root.float(), torch.linalg.inv(root).float()
        self.log_scale = -root.diagonal().log().sum().item() - x.shape[1] / 2 * math.log(2 * math.pi)
        return self

    def sample(self, n, generator):
        return self.mean + torch.randn(n, len(self.mean), generator=generator, device=self.mean.device) @ self.root.T

    def log_density(self, x):
        """log R(x), (n, 1)."""
        return self.log_scale - self.coordinates(x).square().sum(1, keepdim=True) / 2

    def coordinates(self, x):
        """Whitened coordinates."""
        return (x - self.mean) @ self.inverse.T
