r"""f-divergences written in the density ratio itself: the two functions A and B of the variational flow.

The bound of `gwf.functionals.base` is over critics h. A network may instead be the ratio r = dmu/dR of the moving law
to a reference law R, with h = f'(r); the bound then reads

    D_f(mu || R) = sup_r { E_mu A(r(X)) - E_R B(r(Z)) },    A(r) = f'(r),    B(r) = f*(f'(r)) = r f'(r) - f(r),

attained at r = dmu/dR. Every row below is this one rule, some after a change of the variable that keeps the network's
domain simple. Source: vwgf, Proposition 3.1, equations 7 and 8 and Table 1 (KL, generalised entropy, JS); the other
rows are derived here. Chapter: notebooks/chapters/05_vwgf.ipynb.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as fn

from gwf.errors import UsageError, nearest


@dataclass(frozen=True)
class Dual:
    """One row of the table: an f-divergence and its two losses. All functions act elementwise on tensors.

    Attributes
    ----------
    name, title : str
    f : callable
        The convex generator, of the ratio t = dmu/dR > 0; the divergence is E_R f(dmu/dR).
    A, B : callable
        The two parts of the bound, of the row's own variable w.
    optimum : callable
        t -> w, the variable at which the bound is attained where the ratio is t.
    variable : callable
        Unconstrained network output u -> w in its domain.
    """

    name: str
    title: str
    f: Callable
    A: Callable
    B: Callable
    optimum: Callable
    variable: Callable = torch.exp

    def bound(self, w_mu, w_reference):
        """E_mu A - E_R B, the lower bound of the divergence from samples; equality at `optimum`."""
        return self.A(w_mu).mean() - self.B(w_reference).mean()

    def value(self, p, q, weights):
        """sum_i w_i q_i f(p_i / q_i): the divergence of densities p, q > 0 tabulated with quadrature `weights`."""
        return (weights * q * self.f(p / q)).sum()


def generalised_entropy(m, omega=1.0):
    r"""The row of G(mu) = int mu^m / (m - 1), for R uniform with density `omega` on a box that holds the support.

    G = omega^(m-1) E_R[r^m] / (m - 1), so the rule gives A = omega^(m-1) m/(m-1) r^(m-1) and B = omega^(m-1) r^m.
    (f(1) = 1/(m-1) is not zero: G is an entropy, not a divergence.) m > 1, omega > 0, else `UsageError`. Source:
    vwgf, Corollary 3.4.
    """
    if not (m > 1 and omega > 0):
        raise UsageError(f"m = {m!r}, omega = {omega!r} are out of range: generalised entropy needs m > 1, omega > 0")
    scale = omega ** (m - 1)
    return Dual(
        "generalised_entropy",
        f"generalised entropy, m = {m:g}",
        f=lambda t: scale * t**m / (m - 1),
        A=lambda r: scale * m / (m - 1) * r ** (m - 1),
        B=lambda r: scale * r**m,
        optimum=lambda t: t,
        variable=fn.softplus,
    )


_ROWS = [
    Dual("kl", "KL(mu | R)", f=lambda t: t * t.log(), A=lambda r: r.log() + 1, B=lambda r: r, optimum=lambda t: t),
    Dual(
        "js",
        "2 JS(mu, R)",
        f=lambda t: t * t.log() - (t + 1) * ((t + 1) / 2).log(),
        A=lambda w: (2 - w).log(),
        B=lambda w: -w.log(),
        optimum=lambda t: 2 / (1 + t),
        variable=lambda u: 2 * torch.sigmoid(u),
    ),
    Dual(
        "reverse_kl",
        "KL(R | mu)",
        f=lambda t: -t.log(),
        A=lambda r: -1 / r,
        B=lambda r: r.log() - 1,
        optimum=lambda t: t,
    ),
    Dual(
        "hellinger",
        "squared Hellinger",
        f=lambda t: (t.sqrt() - 1) ** 2,
        A=lambda s: 1 - 1 / s,
        B=lambda s: s - 1,
        optimum=torch.sqrt,
    ),
    Dual(
        "chi2",
        "Pearson chi2",
        f=lambda t: (t - 1) ** 2,
        A=lambda r: 2 * (r - 1),
        B=lambda r: r**2 - 1,
        optimum=lambda t: t,
        variable=lambda u: u,
    ),
    Dual(
        "tv",
        "total variation",
        f=lambda t: (t - 1).abs() / 2,
        A=lambda h: h,
        B=lambda h: h,
        optimum=lambda t: (t - 1).sign() / 2,
        variable=lambda u: torch.tanh(u) / 2,
    ),
    generalised_entropy(2.0),
]
_BY_NAME = {row.name: row for row in _ROWS}


def names():
    """Names of the rows, in the table's order."""
    return list(_BY_NAME)


def get(name):
    """The row called `name`; an unknown one is a `UsageError` that names the nearest."""
    return _BY_NAME[nearest(name, _BY_NAME, "dual")]


def _log_capped(u):
    # r = exp(rbar) - 1 with rbar = 20 sigmoid(3 u / 20) in (0, 20): bounded above, hence no exploding critic.
    return torch.log(torch.expm1(20 * torch.sigmoid(3 * u / 20)).clamp_min(1e-5))


LOG_RATIO = {"log": lambda u: u, "squared": lambda u: torch.log(u.square() + 1e-12), "capped": _log_capped}
"""log r from the network's output u: r = exp(u); r = u^2 (vwgf's OU); r = exp(20 sigmoid(3u/20)) - 1 (its mixtures)."""

OUTPUT_OF_ONE = {"log": 0.0, "squared": 1.0, "capped": -20 / 3 * math.log(20 / math.log(2) - 1)}
"""The output u at which r = 1, for a network to start from."""


def log_ratio(name):
    """The parametrisation called `name`, a function u -> log r; an unknown one is a `UsageError`."""
    return LOG_RATIO[nearest(name, LOG_RATIO, "ratio")]


LOG_2_PI = math.log(2 * math.pi)
