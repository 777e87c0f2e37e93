r"""Particle methods that need the gradient of log nu and no network: Langevin, its Metropolis form, and SVGD.

The law of dX = grad log nu dt + sqrt(2) dW is the Wasserstein gradient flow of KL(. | nu) (jko), so Langevin particles
are what every learned flow of KL is to be held against. With a constant matrix C = L L^T,

    X <- X + eps C grad log nu(X) + sqrt(2 eps) L xi,     xi ~ N(0, I),

is the same in the coordinates L^{-1} X: nu is kept, the speed is not. Sources: Roberts & Tweedie, Bernoulli 2 (1996);
Liu & Wang, SVGD, NeurIPS 2016.
"""

import math

import torch

from gwf.errors import UsageError


def _checked(x, step, steps, root):
    if not (step > 0 and steps >= 0):
        raise UsageError(f"step = {step!r}, steps = {steps!r} are out of range: step > 0 and steps >= 0 are needed")
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device) if root is None else root.to(x)


def with_gradient(log_nu, x):
    """(log nu(x) (n,), its gradient (n, d)), neither with a graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = log_nu(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def ula(log_nu, x, step, steps, generator, root=None, after=None):
    """Unadjusted Langevin: x (n, d) after `steps` steps of size eps = `step`; biased by O(eps), right with minibatches.

    Parameters
    ----------
    log_nu : callable
        x (n, d) -> (n,), up to a constant.
    x : Tensor (n, d)
        n independent chains.
    root : Tensor (d, d), optional
        L above; None is the identity.
    after : callable, optional
        after(i, x) behind step i.
    """
    root = _checked(x, step, steps, root)
    for i in range(steps):
        xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = x + (step * with_gradient(log_nu, x)[1] @ root + math.sqrt(2 * step) * xi) @ root.T
        if after:
            after(i, x)
    return x


def mala(log_nu, x, step, steps, generator, root=None, after=None):
    r"""Metropolis-adjusted Langevin: exact in the limit of many steps for every eps. Returns (x, share accepted, which the host counts).

    The proposal x' of `ula` is accepted with probability min(1, nu(x') q(x | x') / (nu(x) q(x' | x))), with
    log q(x' | x) = -|L^{-1}(x' - x) - eps L^T grad log nu(x)|^2 / (4 eps). log_nu may be -infinity outside of its
    support, provided its gradient is finite there, and must be deterministic (no minibatches). Arguments as in `ula`.
    """
    root = _checked(x, step, steps, root)
    value, gradient = with_gradient(log_nu, x)
    drift, accepted = gradient @ root, 0.0
    for i in range(steps):
        xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        move = step * drift + math.sqrt(2 * step) * xi
        proposed = x + move @ root.T
        new_value, new_gradient = with_gradient(log_nu, proposed)
        new_drift = new_gradient @ root
        log_ratio = new_value - value + xi.square().sum(1) / 2 - (move + step * new_drift).square().sum(1) / (4 * step)
        yes = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device).log() < log_ratio
        x = torch.where(yes[:, None], proposed, x)
        drift, value = torch.where(yes[:, None], new_drift, drift), torch.where(yes, new_value, value)
        accepted += float(yes.double().mean())
        if after:
            after(i, x)
    return x, accepted / max(steps, 1)


def svgd_direction(x, gradient):
    r"""phi(x_i) = (1/n) sum_j [ k(x_j, x_i) grad log nu(x_j) + grad_j k(x_j, x_i) ], (n, d).

    k(x, y) = exp(-|x - y|^2 / b), b = median |x_i - x_j|^2 / log(n + 1), as in Liu & Wang.
    """
    n = len(x)
    squared = torch.cdist(x, x).square()
    b = squared.flatten().median() / math.log(n + 1) + 1e-12
    k = (-squared / b).exp()
    return (k @ gradient + (2 / b) * (x * k.sum(1, keepdim=True) - k @ x)) / n


def svgd(log_nu, x, step, steps, after=None):
    """Stein variational gradient descent of particles x (n, d), with Adagrad steps (decay .9) of size `step`.

    Deterministic given x. In high dimension the repulsion of few particles is weak and their variance too small.
    """
    _checked(x, step, steps, None)
    memory = None
    for i in range(steps):
        phi = svgd_direction(x, with_gradient(log_nu, x)[1])
        memory = phi.square() if memory is None else 0.9 * memory + 0.1 * phi.square()
        x = x + step * phi / (memory.sqrt() + 1e-6)
        if after:
            after(i, x)
    return x
