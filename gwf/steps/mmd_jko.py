r"""JKO steps for the squared MMD: no adversary with a fixed kernel, a saddle with a learned one.

For a kernel k the squared maximum mean discrepancy is MMD_k^2(mu, nu) = |m_mu - m_nu|^2 in the Hilbert space of k,
m_mu = int k(z, .) dmu(z) the mean embedding. With a *fixed* kernel it can be computed from samples, so that the step

    mu_{k+1} = argmin_mu  (1/2) MMD_k^2(mu, nu) + W_2^2(mu, mu_k) / (2 tau)

is a plain minimisation (gwf, section 4, algorithm 1); its Wasserstein gradient is the gradient of the witness
f = m_mu - m_nu. With a kernel k_phi(x, y) = k(phi(x), phi(y)) whose features are *learned* the step is a
maximum over phi of a minimum over maps (gwf, equation 18, algorithm 2). Chapter: `unifying`.
"""

import torch

from gwf.errors import UsageError, in_range
from gwf.steps.parametric import ParametricFlow


def gaussian_kernel(x, y, bandwidth):
    """exp(-|x_i - y_j|^2 / (2 bandwidth^2)), (n, m), for x (n, d), y (m, d) and bandwidth > 0."""
    return (-(x[:, None] - y[None]).square().sum(-1) / (2 * bandwidth**2)).exp()


def half_mmd2(x, y, bandwidth):
    """(1/2) MMD^2 of the empirical laws of x (n, d) and y (m, d), Gaussian kernel, diagonals kept; scalar >= 0."""
    of_y = gaussian_kernel(y, y, bandwidth).mean()
    return (gaussian_kernel(x, x, bandwidth).mean() + of_y) / 2 - gaussian_kernel(x, y, bandwidth).mean()


def mmd2(x, y, bandwidth):
    r"""Unbiased MMD^2 of two samples (diagonals left out), Gaussian kernel; scalar, 0 in the mean where mu = nu.

    As a yardstick: `bandwidth` stays fixed over all that is compared, unlike the kernel a training may have learned.
    """
    n, m = len(x), len(y)
    within_x = (gaussian_kernel(x, x, bandwidth).sum() - n) / (n * (n - 1))
    within_y = (gaussian_kernel(y, y, bandwidth).sum() - m) / (m * (m - 1))
    return within_x + within_y - 2 * gaussian_kernel(x, y, bandwidth).mean()


def witness(at, x, y, bandwidth):
    """f(at) = mean_i k(x_i, at) - mean_j k(y_j, at), the first variation of (1/2) MMD^2 in mu; shape (len(at),)."""
    return gaussian_kernel(at, x, bandwidth).mean(1) - gaussian_kernel(at, y, bandwidth).mean(1)


class MMDParticles:
    r"""n particles that descend (1/2) MMD^2 to the points y, fixed Gaussian kernel.

    Particles are a parametric map, T_theta(i) = x_i with metric G = I / n: the step is
    `gwf.steps.parametric.ParametricFlow.jko_step`, and its first-order condition reads

        (x_i' - x_i) / tau = -grad f(x_i'),        f the witness at the *new* particles: an implicit Euler step.

    Parameters
    ----------
    y : torch.Tensor, (m, d), float64
        Points of nu.
    bandwidth : float
        Of the kernel, > 0.
    """

    def __init__(self, y, bandwidth):
        if y.dim() != 2:
            raise UsageError(f"y must have shape (m, d), got {tuple(y.shape)}")
        self.y, self.bandwidth = y, in_range(bandwidth, 0, 1e6, "bandwidth", open_low=True)

    def value(self, x):
        """(1/2) MMD^2 of the particles x (n, d)."""
        return half_mmd2(x, self.y, self.bandwidth)

    def jko_step(self, x, tau):
        """The particles (n, d) after one JKO step of size tau from x (n, d); n d up to a few hundred."""
        # Positions stand for parameters; their number alone says which particle a latent is.
        flow = ParametricFlow(lambda theta, i: theta.view_as(x), lambda theta: self.value(theta.view_as(x)), x)
        return flow.jko_step(x.flatten(), tau).view_as(x)

    def residual(self, x_new, x, tau):
        """(x' - x) / tau + grad f(x') at every particle, (n, d): zero for an exact step."""
        at = x_new.clone().requires_grad_(True)
        (velocity,) = torch.autograd.grad(witness(at, x_new, self.y, self.bandwidth).sum(), at)
        return (x_new - x) / tau + velocity


class PointSaddle:
    r"""The smallest adaptive-kernel step: source delta_1, target delta_0, k_phi(a, b) = phi^2 a b, phi in [0, 1].

        max_phi min_t  (1/2) (1 - t)^2 + phi^2 t^2          (gwf, equation 18, on one point)

    With phi = 0 the adversary is blind and nothing moves, t = 1; the saddle is phi = 1, t = 1/3, value 1/3.
    """

    saddle = (1.0, 1 / 3)

    def value(self, phi, t):
        """(1/2) (1 - t)^2 + phi^2 t^2: proximal cost plus MMD^2."""
        return (1 - t) ** 2 / 2 + phi**2 * t**2

    def best_map(self, phi):
        """argmin_t value = 1 / (1 + 2 phi^2)."""
        return 1 / (1 + 2 * phi**2)

    def alternate(self, phi, t, rate=0.2, steps=200):
        """Algorithm 2 of gwf: ascent in phi (kept in [0, 1]) and descent in t; the path, list of (phi, t)."""
        path = [(phi, t)]
        for _ in range(steps):
            phi = min(max(phi + rate * 2 * phi * t**2, 0.0), 1.0)
            t = t - rate * (t - 1 + 2 * phi**2 * t)
            path.append((phi, t))
        return path
