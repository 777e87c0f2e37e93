r"""Interaction energies (1/2) iint W(x - y) dmu(x) dmu(y) of particles, W even, beside an internal energy.

They are no f-divergence and need no dual: samples give them, and their Wasserstein gradient is grad W * mu.
Forward-backward splitting (vwgf, appendix C, after Salim, Korba and Luise 2020) takes it explicitly, y = x - tau
(grad W * mu_k)(x), so that the saddle problem of the step is that of the internal energy alone: `Push`. The unsplit step
keeps both parts implicit: `Interaction` is then one of the energies of `gwf.steps.internal.VariationalStep`. Both are of
first order in tau, and a minimiser of the sum is a fixed point of both. W must be convex enough: the explicit push needs
tau below 2 over its greatest curvature, the implicit step a tau below 1 over its most negative one.
"""

import torch


class Interaction:
    """(1/2) mean over pairs i != j of W(y_i - y_j), as an energy of the implicit step.

    Parameters
    ----------
    W : callable
        Displacements (..., d) -> (...).
    """

    def __init__(self, W):
        self.W = W

    def __call__(self, y):
        """y (n, d) -> scalar; without bias, since W(0) of the n diagonal pairs is left out."""
        n = len(y)
        pairs = self.W(y[:, None] - y).sum() - n * self.W(torch.zeros_like(y[:1])).sum()
        return pairs / (2 * n * (n - 1))


class Push:
    """x -> x - tau mean_j grad W(x - x_j), the explicit half of the splitting.

    With the prefactor 1/2 of the energy the gradient has none: both arguments of W(x - y) move.

    Parameters
    ----------
    W : callable
        Displacements (..., d) -> (...), differentiable.
    tau : float
    partners : int
        The mean runs over the first `partners` particles: the cache is exchangeable, so they are a sample of mu_k.
    """

    def __init__(self, W, tau, partners):
        self.W, self.tau, self.partners = W, tau, partners

    def __call__(self, x):
        """Particles (n, d) -> (n, d)."""
        force = torch.cat([self._force(part, x[: self.partners]) for part in x.split(500)])
        # W is even, so all forces together vanish; with fewer partners than particles they would drag the mean.
        return x - self.tau * (force - force.mean(0))

    def _force(self, x, others):
        z = (x[:, None] - others).requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.W(z).sum(), z)
        return gradient.mean(1)


def quadratic(z):
    """W(z) = |z|^2 / 2."""
    return z.square().sum(-1) / 2


def double_well(z):
    """W(z) = |z|^4 / 4 - |z|^2 / 2."""
    square = z.square().sum(-1)
    return square.square() / 4 - square / 2


KERNELS = {"quadratic": quadratic, "double_well": double_well}
