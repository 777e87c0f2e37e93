"""Gradient penalties on the critic: functions (critic, x, y, generator) -> (u(y), value) of generated x and data y."""

import torch


def _gradient_norm2(u, x):
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def _slope_between(critic, x, y, generator):
    """|grad u| at x_a = a y + (1 - a) x with a uniform, (n,)."""
    a = torch.rand(len(y), *[1] * (y.dim() - 1), generator=generator, device=y.device, dtype=y.dtype)
    between = torch.lerp(x, y, a).requires_grad_(True)
    return _gradient_norm2(critic(between), between).clamp_min(1e-12).sqrt()


def r1(critic, x, y, generator=None):
    """(u(y), E_nu |grad u(y)|^2): smoothness at the data; no factor 1/2, as in the released codes of gwf and sjko.

    Source: L. Mescheder, A. Geiger, S. Nowozin. Which training methods for GANs do actually converge? ICML 2018.
    """
    y = y.detach().requires_grad_(True)
    u = critic(y)
    return u, _gradient_norm2(u, y).mean()


def lipschitz(critic, x, y, generator=None):
    """(u(y), E (|grad u(x_a)| - 1)_+^2) between x and y: one-sided, as a 1-Lipschitz bound is.

    Source: H. Petzka, A. Fischer, D. Lukovnikov. On the regularization of Wasserstein GANs. ICLR 2018.
    """
    norm = _slope_between(critic, x, y, generator)
    return critic(y), (norm - 1).clamp_min(0).square().mean()


def two_sided(critic, x, y, generator=None):
    """(u(y), E (|grad u(x_a)| - 1)^2) between x and y: the penalty of WGAN-GP, I. Gulrajani et al., NeurIPS 2017."""
    norm = _slope_between(critic, x, y, generator)
    return critic(y), (norm - 1).square().mean()


def interpolated(critic, x, y, generator=None):
    """(u(y), E |grad u(x_a)|^2) between x and y; of several outputs their sum is taken, as in gwf's code, whose default it is."""
    norm = _slope_between(critic, x, y, generator)
    return critic(y), norm.square().mean()


PENALTIES = {"r1": r1, "lipschitz": lipschitz, "two_sided": two_sided, "interpolated": interpolated}


def penalty(name):
    return PENALTIES[name]
