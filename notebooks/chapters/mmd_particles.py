r"""The JKO step of the squared maximum mean discrepancy to points, on particles.

Particles are a parametric map (`gwf.steps.parametric`), and MMD_k^2(mu, nu) = |m_mu - m_nu|^2 of a *fixed* kernel k,
m_mu = int k(z, .) dmu(z), can be computed from samples: its step is a plain minimisation (gwf, section 4, algorithm 1),
along the gradient of the witness f = m_mu - m_nu. With a kernel k_phi(x, y) = k(phi(x), phi(y)) whose features are
learned the step is a maximum over phi of a minimum over maps (gwf, equation 18, algorithm 2). Chapter: `unifying`.
"""

import torch

from gwf.errors import UsageError, in_range
from gwf.steps.parametric import ParametricFlow, gaussian_kernel, half_mmd2


def witness(at, x, y, bandwidth):
    """f(at) = mean_i k(x_i, at) - mean_j k(y_j, at), the first variation of (1/2) MMD^2 in mu; shape (len(at),)."""
    return gaussian_kernel(at, x, bandwidth).mean(1) - gaussian_kernel(at, y, bandwidth).mean(1)


class MMDParticles:
    r"""n particles that descend (1/2) MMD^2 to the points y, fixed Gaussian kernel.

    Particles are a parametric map, T_theta(i) = x_i with metric G = I / n: the step is
    `ParametricFlow.jko_step`, and its first-order condition reads

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
