"""Gradient penalties on the critic."""

import torch


def _gradient_norm2(u, x):
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def r1(critic, x, y, generator=None):
    """(u(y), E_nu |grad u(y)|^2): smoothness at the data; no factor 1/2, as in the released codes of gwf and sjko.

    Returns the critic's output on y as well, since it is computed on the way.
    Source: L. Mescheder, A. Geiger, S. Nowozin. Which training methods for GANs do actually converge? ICML 2018.
    """
    y = y.detach().requires_grad_(True)
    u = critic(y)
    return u, _gradient_norm2(u, y).mean()


def lipschitz(critic, x, y, generator=None):
    """(u(y), E (|grad u| - 1)_+^2) on x_a = a y + (1 - a) x with a uniform: one-sided, as a 1-Lipschitz bound is.

    Source: H. Petzka, A. Fischer, D. Lukovnikov. On the regularization of Wasserstein GANs. ICLR 2018.
    """
    a = torch.rand(len(y), *[1] * (y.dim() - 1), generator=generator, device=y.device)
    between = torch.lerp(x, y, a).requires_grad_(True)
    norm = _gradient_norm2(critic(between), between).clamp_min(1e-12).sqrt()
    return critic(y), (norm - 1).clamp_min(0).square().mean()


_PENALTIES = {"r1": r1, "lipschitz": lipschitz}


def penalty(name):
    """The penalty called `name`: a function (critic, x, y, generator) -> (u(y), value)."""
    return _PENALTIES[name]
