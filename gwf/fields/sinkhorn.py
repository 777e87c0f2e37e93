"""Sinkhorn divergence, the entropic transport cost without its bias."""

import math

from gwf.fields import entropic
from gwf.fields.base import Field


class Sinkhorn(Field):
    r"""S(mu, nu) = OT_reg(mu, nu) - OT_reg(mu, mu) / 2 - OT_reg(nu, nu) / 2 with cost |x - y|^2 / 2.

    With f_{mu,nu} the source's entropic potential, the first variation is f_{mu,nu} - f_{mu,mu}, and its gradient gives

        V(x) = B_{mu,nu}(x) - B_{mu,mu'}(x),

    B the barycentric map of the entropic plan. mu' is a second generated batch, independent of the first: with mu' = mu
    the diagonal dominates the self plan, B_{mu,mu}(x) -> x as reg -> 0, and the correction is lost. V is 0 where the
    same batch serves as data and as mu'. Source: proposal (W-Flow, NSGF); J. Feydy et al., AISTATS 2019.

    Parameters
    ----------
    reg, relative : float, bool
        Entropic temperature, > 0: in units of the cost, or a multiple of the batch's mean cost if `relative`.
    iterations : int
        Sinkhorn updates of both potentials.
    relaxation : float
        Weight of the KL penalty for the target's marginal, (0, inf], in the unit of `reg`; self terms stay balanced.
    """

    title = "Sinkhorn"
    needs_other = True

    def __init__(self, reg=0.05, iterations=40, relative=True, relaxation=math.inf):
        self.reg, self.iterations, self.relative, self.relaxation = reg, iterations, relative, relaxation

    def velocity(self, x, y, other, generator=None):
        across, within = entropic.half_squared(x, y), entropic.half_squared(x, other)
        reg, relaxation = self.reg, self.relaxation
        if self.relative:
            # Tensors of no axes, in float64 as Python's numbers are: no value is read from the device.
            unit = across.mean().clamp_min(1e-30)
            reg = (reg * unit).double()
            relaxation = relaxation if math.isinf(relaxation) else (relaxation * unit).double()
        _, g = entropic.potentials(across, reg, self.iterations, relaxation)
        _, g_self = entropic.potentials(within, reg, self.iterations)
        return entropic.barycentre(across, g, y, reg) - entropic.barycentre(within, g_self, other, reg)

    def work(self, batch, unit):
        """Two plans, each passing over its matrix 2 (iterations + 1) times."""
        entries = batch * batch / 1e6
        return 4 * (self.iterations + 1) * entries * unit["entries"]


class SingleBatch(Sinkhorn):
    """Sinkhorn velocity whose self term compares the batch with itself: V(x) = B_{mu,nu}(x) - B_{mu,mu}(x)."""

    title = "Sinkhorn, single batch"
    needs_other = False

    def velocity(self, x, y, other=None, generator=None):
        return super().velocity(x, y, x)
