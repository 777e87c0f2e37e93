r"""Forms of the drifting field that others discuss, each with one thing changed, and the average over a Gaussian kernel.

`gwf.fields.drifting` has the field as written down, with a Gaussian kernel, and the released one. Here are: any radial kernel
and any normaliser (`radial`), one batch whose points do not meet themselves (`masked`), the released field without its
normalisation or its mask (`released`). All take x (n, d), y (m, d) and return velocities (n, d). Sources: arXiv 2602.04770 (the
field), 2604.06333 (the companion), 2605.11755 (the mask), at second hand. Chapter `explicit`, section 4.
"""

import math

import numpy as np
import torch

from gwf.fields import entropic
from gwf.fields.drifting import DriftingReleased


def radial(k, below=None):
    r"""The drift (x, y, other) -> V with a radial kernel k, its sums divided by those of `below`, by default k itself,

    .. math:: V(x) = \frac{\int (y - x) k(|x - y|) d\nu(y)}{(below * \nu)(x)} - \text{the same of } \mu

    which is grad log (below * nu) / (below * mu) where below is the companion of k, below' = -r k. k, below: r (n, m) -> (n, m).
    """

    def shift(x, y):
        r = (torch.square(x[:, None] - y).sum(2) + 1e-24).sqrt()  # with a slope at 0, for points that meet themselves
        return (k(r)[:, :, None] * (y - x[:, None])).sum(1) / (below or k)(r).sum(1, keepdim=True)

    return lambda x, y, other: shift(x, y) - shift(x, other)


def masked(x, y, other=None, iterations=15, reg=0.1):
    """The velocity of `gwf.fields.sinkhorn.SingleBatch`, no point meeting itself; at 0 iterations that of drifting."""
    across, within = entropic.half_squared(x, y), entropic.half_squared(x, x).fill_diagonal_(1e6)
    g, own = (entropic.potentials(C, reg, iterations)[1] if iterations else 0.0 for C in (across, within))
    return entropic.barycentre(across, g, y, reg) - entropic.barycentre(within, own, x, reg)


def released(x, y, other=None, unit=True, mask=True):
    """The velocity of `DriftingReleased`; its forces of unit size only if `unit`, its points kept from themselves if `mask`."""
    n, table, V = len(x), torch.cat([x, y]), torch.zeros_like(x)
    D, own = torch.cdist(x, table), torch.eye(n, n + len(y), dtype=torch.bool) & mask
    for t in DriftingReleased.temperatures:
        logits = (D / (-t * D.sum() / (D.numel() - n))).masked_fill(own, -torch.inf)
        A = (logits.softmax(1) * logits.softmax(0)).sqrt()
        p, q = A[:, n:].sum(1, keepdim=True), A[:, :n].sum(1, keepdim=True)
        force = q * (A[:, n:] @ y) - p * (A[:, :n] @ x)
        V += force / force.square().mean().sqrt() if unit else force
    return V


def blurred(f, x, reg, order=18):
    """The average E f(x + reg^(1/2) xi), xi ~ N(0, I_2), at x (n, 2) in float64, by `order`^2 Gauss-Hermite nodes; f: (m, 2) -> (m, ...)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    xi = torch.tensor(np.stack(np.meshgrid(nodes, nodes), 2).reshape(-1, 2))
    shares = torch.tensor(np.outer(weights, weights).ravel() / (2 * np.pi))
    at = (x[:, None] + math.sqrt(reg) * xi).flatten(0, 1)
    return torch.einsum("nq...,q->n...", f(at).unflatten(0, (len(x), -1)), shares)
