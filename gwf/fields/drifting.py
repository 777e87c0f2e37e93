r"""Drifting: attraction to data minus repulsion from generated points, with normalised kernels.

    V(x) = B_nu(x) - B_{mu'}(x),      B_nu(x) = sum_j y_j k(x, y_j) / sum_j k(x, y_j)

as written down: for a Gaussian k the velocity of `Sinkhorn` before its first iteration, reg grad log (k * nu) / (k * mu), the
score difference of smoothed laws. It is 0 in the mean at mu = nu, but the steepest descent of no functional of mu (chapter
`explicit`). As released it is another field. Sources: arXiv 2602.04770; the released form from its description.
"""

import torch

from gwf.fields import entropic
from gwf.fields.base import Field


class Drifting(Field):
    """The field as written down, with the Gaussian kernel exp(-|x - y|^2 / (2 reg)).

    `reg` > 0, the square of the kernel's width, is in units of |x - y|^2 / 2, or of its batch mean if `relative`.
    """

    title = "drifting"
    needs_other = True

    def __init__(self, reg=0.05, relative=True):
        self.reg, self.relative = reg, relative

    def velocity(self, x, y, other, generator=None):
        across, within = entropic.half_squared(x, y), entropic.half_squared(x, other)
        reg = (self.reg * across.mean().clamp_min(1e-30)).double() if self.relative else self.reg
        return entropic.barycentre(across, 0, y, reg) - entropic.barycentre(within, 0, other, reg)

    def work(self, batch, unit):
        """Two kernel matrices, each passed over twice."""
        return 4 * batch * batch / 1e6 * unit["entries"]


class DriftingReleased(Field):
    r"""The field as released: own batch as negative sample, geometric means of two softmaxes, forces of unit size.

    With D the distances from x_i to the joint table [x, y], its diagonal left out, and for each temperature t in units of
    the mean distance,

        A = sqrt( softmax_rows(-D / t) softmax_columns(-D / t) ),      p_i = sum over data of A_i, q_i over generated ones,
        V_t(x_i) = q_i sum_j A_ij y_j - p_i sum_j A_ij x_j,            V = sum_t V_t / rms(V_t).

    Each force is divided by its root mean square over all coordinates: V never vanishes, not at the data either, and the loss of
    a map that regresses on it stays where it is.
    """

    title = "drifting, released"
    temperatures = (0.02, 0.05, 0.2)

    def velocity(self, x, y, other=None, generator=None):
        n, flat = len(x), x.flatten(1)
        table = torch.cat([flat, y.flatten(1)])
        D = torch.cdist(flat, table)
        unit = D.sum() / (D.numel() - n)  # the diagonal is 0 and does not count
        own = torch.eye(n, len(table), dtype=torch.bool, device=x.device)
        V = torch.zeros_like(flat)
        for t in self.temperatures:
            logits = (D / (-t * unit)).masked_fill(own, -torch.inf)
            A = (logits.softmax(1) * logits.softmax(0)).sqrt()
            p, q = A[:, n:].sum(1, keepdim=True), A[:, :n].sum(1, keepdim=True)
            force = q * (A[:, n:] @ table[n:]) - p * (A[:, :n] @ flat)
            V += force / force.square().mean().sqrt().clamp_min(1e-30)
        return V.reshape(x.shape)

    def work(self, batch, unit):
        """A matrix of distances to both batches, passed over four times at each temperature."""
        return 8 * len(self.temperatures) * batch * batch / 1e6 * unit["entries"]
