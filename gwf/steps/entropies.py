r"""Entropies Psi of unbalanced transport and their conjugates, Psi*(s) = sup_t { s t - Psi(t) }.

D_Psi(rho | nu) = int Psi(d rho / d nu) d nu is the price of a marginal rho that is not nu. Training needs Psi* alone: the
data enter the potential's loss by E_nu Psi*(-v(y)). Unlike the critics of `gwf.functionals`, a potential has no output layer
that would hold it in the domain of Psi*, and Psi is normalised so that its minimum is Psi(1) = 0 (v = 0 changes nothing).
Names and forms are those of the released code of sjko and uotm; pairs derived here and checked on a grid.
"""

import math

import torch
from torch.nn.functional import softplus

from gwf.errors import in_range, nearest
from gwf.functionals.base import log_mean_exp

LOG_2 = math.log(2)


class Entropy:
    """KL: Psi(t) = t log t - t + 1, Psi*(s) = e^s - 1. Other entropies override both; all act elementwise.

    `slope_at_zero` is (Psi*)'(0), the density ratio to which v = 0 belongs: 1 unless Psi is badly normalised.
    """

    slope_at_zero = 1.0

    def primal(self, t):
        """Psi(t), for t in its domain."""
        return torch.special.xlogy(t, t) - t + 1

    def conjugate(self, s):
        """Psi*(s)."""
        return s.expm1()

    def of_data(self, v):
        """E_nu Psi*(-v) over a batch v = v(y) (n,): the data's part of the potential's loss."""
        return self.conjugate(-v).mean()


class Profiled(Entropy):
    """KL with the additive constant of v optimised out: log E_nu e^{-v}, the Donsker-Varadhan form (gwf's KL-DV).

    Let m = E_nu e^{-v} and V = E_mu v^c. Adding C to v gives V - C - (m e^{-C} - 1), at most V - log m, at C = log m.
    So it is pointwise at least the plain form. Derived here.
    """

    def of_data(self, v):
        """log E_nu e^{-v}."""
        return log_mean_exp(-v)


class Chi2(Entropy):
    """Pearson: Psi(t) = (t - 1)^2, Psi*(s) = s + s^2/4 for s >= -2 and -1 below, where the best t is 0."""

    def primal(self, t):
        return (t - 1) ** 2

    def conjugate(self, s):
        s = s.clamp_min(-2.0)
        return s + s**2 / 4


class Softplus(Entropy):
    """Psi*(s) = 2 log(1 + e^s) - 2 log 2, Psi(t) = t log t + (2 - t) log(2 - t) on [0, 2]: density ratios stay below 2."""

    def primal(self, t):
        return torch.special.xlogy(t, t) + torch.special.xlogy(2 - t, 2 - t)

    def conjugate(self, s):
        return 2 * (softplus(s) - LOG_2)


class SoftplusUnshifted(Entropy):
    """Psi*(s) = log(1 + e^s), the softplus of uotm's release: slope 1/2 at 0, so v = 0 stands for half the mass."""

    slope_at_zero = 0.5

    def primal(self, t):
        return torch.special.xlogy(t, t) + torch.special.xlogy(1 - t, 1 - t)

    def conjugate(self, s):
        return softplus(s)


class Linear(Entropy):
    """Psi*(s) = s, Psi = indicator of t = 1: the marginal is exact, as in balanced optimal transport (OTM)."""

    def primal(self, t):
        return torch.where(t == 1, 0.0, math.inf)

    def conjugate(self, s):
        return s


class JensenShannon(Entropy):
    """2 JS in nats: Psi(t) = t log t - (t + 1) log((t + 1)/2), Psi*(s) = -log(2 - e^s) for s < log 2 (else infinity)."""

    def primal(self, t):
        return torch.special.xlogy(t, t) - (t + 1) * ((t + 1) / 2).log()

    def conjugate(self, s):
        gap = 2 - s.exp()
        return torch.where(gap > 0, -gap.clamp_min(torch.finfo(gap.dtype).tiny).log(), math.inf)


class Scaled(Entropy):
    """alpha Psi, with conjugate alpha Psi*(s / alpha); alpha > 0. `alpha` may be changed as training goes (UOTM-SD).

    Scaling both entropies by alpha is dividing the cost by alpha; alpha -> infinity is balanced transport.
    """

    def __init__(self, base, alpha):
        self.base, self.alpha = base, in_range(alpha, 0, math.inf, "alpha", open_low=True)
        self.slope_at_zero = base.slope_at_zero

    def primal(self, t):
        return self.alpha * self.base.primal(t)

    def conjugate(self, s):
        return self.alpha * self.base.conjugate(s / self.alpha)


ENTROPIES = {
    "kl": Entropy(),
    "kl_dv": Profiled(),
    "chi2": Chi2(),
    "softplus": Softplus(),
    "softplus_uotm": SoftplusUnshifted(),
    "linear": Linear(),
    "js": JensenShannon(),
}


def entropy(name):
    """The entropy called `name`, e.g. "kl"; `UsageError` with the nearest name if there is none."""
    return ENTROPIES[nearest(name, ENTROPIES, "entropy")]
