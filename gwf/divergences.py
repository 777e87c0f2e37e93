r"""The divergences D(mu || nu) that the flows descend, each stated once: one class, one entry of `DIVERGENCES`.

A class gives f, its derivative df, the conjugate f* with derivatives `slope` and `curvature`, the end `top` of dom f*, and
the output layer `h` of a critic; `gwf.bounds` derives all losses from them, and the exact solvers take the same formulas.

>>> from gwf import divergences
>>> divergences.names()
['chi2', 'chi2_tight', 'hellinger', 'js', 'js_ns', 'kl', 'kl_dv', 'reverse_chi2', 'reverse_kl', 'w1', 'w1_r1']
>>> divergences.get("kl").conjugate(torch.tensor(1.0))       # f*(s) = exp(s - 1)
tensor(1.)
>>> divergences.get("kl").swapped                            # D(nu || mu) in place of D(mu || nu)
<Swapped: KL, D(nu || mu)>
"""

import math

import torch

from gwf.bounds import (
    LOG_2,
    FDivergence,
    Functional,
    Generator,
    Swapped,
    absolute,
    at_least,
    exp,
    expm1,
    log,
    log_mean_exp,
    sigmoid,
    sign,
    softplus,
    sqrt,
    where,
    xlogy,
)
from gwf.errors import UsageError, in_range, nearest
from gwf.variants import NeymanChi2, PenalisedIPM


class KL(FDivergence):
    r"""KL(mu || nu) = int log(dmu/dnu) dmu = sup_h { E_mu h - E_nu exp(h - 1) }, attained at h* = 1 + log dmu/dnu.

    f(t) = t log t, f*(s) = exp(s - 1). Generated law first: mode seeking. Source: gwf, equations 6, 11 (classical); vwgf.
    """

    title = "KL"
    f = staticmethod(lambda t: t * log(t))
    df = staticmethod(lambda t: 1 + log(t))
    conjugate = slope = curvature = staticmethod(lambda s: exp(s - 1))
    optimal_output = staticmethod(lambda log_ratio: 1 + log_ratio)
    B = staticmethod(lambda r: r)

    @property
    def of_mass(self):
        return KLOfMass()


class KLOfMass(KL):
    """KL of measures: Psi(t) = t log t - t + 1, Psi*(s) = e^s - 1, both without cancellation near their zeros."""

    stride = 5.0
    f = staticmethod(lambda t: xlogy(t, t) - t + 1)
    df = staticmethod(log)
    conjugate = staticmethod(expm1)
    slope = curvature = staticmethod(exp)
    optimal_output = staticmethod(lambda log_ratio: log_ratio)


class KLDonskerVaradhan(KL):
    r"""KL(mu || nu) = sup_h { E_mu h - log E_nu exp(h) }, attained at h* = log(dmu/dnu) + any constant.

    It is the classical bound with its constant optimised out, DV(h) = sup_c classical(h + c): with s = log E_nu exp(h),
    DV(h) - classical(h) = exp(s - 1) - s >= 0. Source: gwf, equation 11. The logarithm of a batch mean is biased: on B
    data points the bound is too large by about Var_nu(exp h) / (2 B (E_nu exp h)^2).
    """

    title = "KL-DV"
    second_term = staticmethod(log_mean_exp)

    @property
    def of_mass(self):
        return KLProfiled()


class KLProfiled(KLOfMass):
    """KL with the additive constant of v optimised out: log E_nu e^{-v}, the Donsker-Varadhan form.

    Let m = E_nu e^{-v} and V = E_mu v^c. Adding C to v gives V - C - (m e^{-C} - 1), at most V - log m, at C = log m.
    So it is pointwise at least the plain form. Derived here.
    """

    title = "KL-DV"
    of_data = staticmethod(lambda v: log_mean_exp(-v))


class ReverseKL(FDivergence):
    r"""KL(nu || mu) = int -log(dmu/dnu) dnu = sup_{h < 0} { E_mu h + 1 + E_nu log(-h) }, at h* = -dnu/dmu.

    f(t) = -log t, f*(s) = -1 - log(-s) for s < 0. The output u is mapped to h = -exp(-u), so u* = log(dmu/dnu).
    Data first: mode covering, as maximum likelihood. Source: vwgf (f-divergence table); Nowozin et al. 2016, table 1.
    """

    title, top = "reverse KL", 0.0
    f = staticmethod(lambda t: -log(t))
    df = staticmethod(lambda t: -1 / t)
    conjugate = staticmethod(lambda s: -1 - log(-s))
    slope = staticmethod(lambda s: -1 / s)
    curvature = staticmethod(lambda s: 1 / s**2)
    h = staticmethod(lambda u: -exp(-u))
    conjugate_of_h = staticmethod(lambda u: u - 1)
    optimal_output = staticmethod(lambda log_ratio: log_ratio)


class JensenShannon(FDivergence):
    r"""2 JS(mu, nu) = KL(mu || m) + KL(nu || m) with m = (mu + nu) / 2, in nats; from 0 to 2 log 2: the original GAN.

    f(t) = t log t - (t + 1) log((t + 1)/2), f*(s) = -log(2 - e^s) for s < log 2, else infinity. With
    h = log 2 - softplus(-u) the bound is the GAN discriminator's: -critic_loss = 2 log 2 - E_mu softplus(-u)
    - E_nu softplus(u), and u* = log(dmu/dnu). No factor 1/2, as in gwf and sjko: their tau refers to 2 JS. Mass of mu
    that nu does not charge costs log 2 a unit, no more. Source: gwf section 5.3; sjko equations 31 to 33.
    As a ratio its variable is w = 2 / (1 + r) in (0, 2), with A = log(2 - w) and B = -log w (vwgf, Table 1).
    """

    title, top = "JS", LOG_2
    f = staticmethod(lambda t: xlogy(t, t) - (t + 1) * log((t + 1) / 2))
    df = staticmethod(lambda t: log(2 * t / (t + 1)))
    slope = staticmethod(lambda s: exp(s) / (2 - exp(s)))
    curvature = staticmethod(lambda s: 2 * exp(s) / (2 - exp(s)) ** 2)
    h = staticmethod(lambda u: LOG_2 - softplus(-u))
    conjugate_of_h = staticmethod(lambda u: softplus(u) - LOG_2)
    optimal_output = staticmethod(lambda log_ratio: log_ratio)
    A = staticmethod(lambda w: log(2 - w))
    B = staticmethod(lambda w: -log(w))
    optimum = staticmethod(lambda t: 2 / (1 + t))
    variable = staticmethod(lambda u: 2 * sigmoid(u))

    def conjugate(self, s):
        """-log(2 - e^s), infinite from s = log 2 on; 1e-30 is far below the spacing of floats near 2."""
        gap = 2 - exp(s)
        return where(gap > 0, -log(at_least(gap, 1e-30)), math.inf)

    def map_loss_nonsaturating(self, u_mu, u_nu=None):
        return softplus(u_mu).mean()


class JensenShannonNonSaturating(JensenShannon):
    r"""Critic of 2 JS(mu, nu), see `js`; map loss E_mu softplus(u) in place of E_mu h.

    At the optimal critic its gradient is that of KL(mu || nu) - 2 JS(mu, nu) (Arjovsky & Bottou, ICLR 2017): with the JKO
    step no JKO scheme for JS. It does not vanish where the critic separates mu from nu. gwf and sjko train with it.
    """

    title = "JS non-saturating"

    def map_loss(self, u_mu, u_nu=None):
        return self.map_loss_nonsaturating(u_mu)


class PearsonChi2(FDivergence):
    r"""chi2(mu || nu) = int (dmu/dnu - 1)^2 dnu = sup_h { E_mu h - E_nu [h + h^2/4] }, at h* = 2 (dmu/dnu - 1).

    f(t) = (t - 1)^2, f*(s) = s + s^2/4. The true conjugate over t >= 0 is -1 for s < -2; the parabola lies above it
    there, so the bound stays a lower bound, and no optimal critic takes such values. Source: gwf, section 5.3.
    """

    title = "chi2"
    alpha = L = 2.0
    f = staticmethod(lambda t: (t - 1) ** 2)
    df = staticmethod(lambda t: 2 * (t - 1))
    conjugate = staticmethod(lambda s: s + s**2 / 4)
    slope = staticmethod(lambda s: 1 + s / 2)
    curvature = staticmethod(lambda s: 0.5 + 0 * s)
    variable = staticmethod(lambda u: u)

    @property
    def of_mass(self):
        return Chi2OfMass()


class Chi2OfMass(PearsonChi2):
    """Pearson: Psi(t) = (t - 1)^2, Psi*(s) = s + s^2/4 for s >= -2 and -1 below, where the best t is 0.

    `slope` and `curvature` continue the parabola below -2: a better Newton step, the same minimiser (plans are >= 0).
    """

    def conjugate(self, s):
        s = at_least(s, -2.0)
        return s + s**2 / 4


class PearsonChi2Tight(PearsonChi2):
    r"""chi2(mu || nu) = sup_h (E_mu h - E_nu h)^2 / Var_nu(h), attained at h* = any affine function of dmu/dnu.

    It is the supremum of the plain bound over all a h + b, so larger and blind to scale and shift of the critic.
    Variances are biased (1/B), as the empirical law demands. Source: gwf section 5.3; the supremum is derived here.
    """

    title = "chi2 tight"
    map_needs_data = True
    #: Keeps the ratio finite for a critic that is constant on the batch; far below any variance met in training.
    floor = 1e-12

    def bound(self, u_mu, u_nu):
        return (u_mu.mean() - u_nu.mean()) ** 2 / u_nu.var(correction=0).clamp_min(self.floor)

    def map_loss(self, u_mu, u_nu=None):
        """The bound itself, through `u_mu` alone; needs the data: E_mu h alone has neither sign nor scale."""
        return self.bound(u_mu, u_nu.detach())

    def map_loss_of_second(self, u, u_first=None):
        """The ratio as a function of its second law, its variance included.

        The released code detaches the variance: for mu = N(theta, 1) that gives 2 theta for 2 theta exp(theta^2).
        """
        return self.bound(u_first.detach(), u)

    @property
    def swapped(self):
        swapped = Swapped(self)
        swapped.map_needs_data = True
        return swapped


class SquaredHellinger(FDivergence):
    r"""H^2(mu, nu) = int (sqrt(dmu/dnu) - 1)^2 dnu, from 0 to 2; = sup_{h < 1} { E_mu h - E_nu h / (1 - h) }.

    f(t) = (sqrt t - 1)^2, f*(s) = s / (1 - s) for s < 1, h* = 1 - sqrt(dnu/dmu). The output u is mapped to
    h = 1 - exp(-u), so u* = log(dmu/dnu) / 2 and f*(h(u)) = exp(u) - 1. Source: Nowozin et al. 2016, table 1.
    """

    title, top = "Hellinger", 1.0
    f = staticmethod(lambda t: (sqrt(t) - 1) ** 2)
    df = staticmethod(lambda t: 1 - 1 / sqrt(t))
    conjugate = staticmethod(lambda s: s / (1 - s))
    slope = staticmethod(lambda s: 1 / (1 - s) ** 2)
    curvature = staticmethod(lambda s: 2 / (1 - s) ** 3)
    h = staticmethod(lambda u: -expm1(-u))
    conjugate_of_h = staticmethod(expm1)
    optimal_output = staticmethod(lambda log_ratio: log_ratio / 2)


class TotalVariation(Generator):
    """int |dmu/dnu - 1| dnu / 2 + mu_s / 2 = sup over |h| <= 1/2 of E_mu h - E_nu h. Its variable is the critic itself.

    Used as a ratio alone: no finite output reaches the optimal critic.
    """

    title, top = "total variation", 0.5
    f = staticmethod(lambda t: absolute(t - 1) / 2)
    df = staticmethod(lambda t: sign(t - 1) / 2)
    A = B = conjugate = staticmethod(lambda h: h)
    optimum = staticmethod(lambda t: sign(t - 1) / 2)
    variable = staticmethod(lambda u: torch.tanh(u) / 2)


class Softplus(Generator):
    """Psi*(s) = 2 log(1 + e^s) - 2 log 2, Psi(t) = t log t + (2 - t) log(2 - t) on [0, 2]: density ratios stay below 2."""

    title, most = "softplus", 2.0
    f = staticmethod(lambda t: where(t <= 2, xlogy(t, t) + xlogy(2 - t, at_least(2 - t, 0.0)), math.inf))
    df = staticmethod(lambda t: log(t / (2 - t)))
    conjugate = staticmethod(lambda s: 2 * (softplus(s) - LOG_2))
    slope = staticmethod(lambda s: 2 * sigmoid(s))
    curvature = staticmethod(lambda s: 2 * sigmoid(s) * sigmoid(-s))


class SoftplusUnshifted(Generator):
    """Psi*(s) = log(1 + e^s), the softplus of uotm's release: slope 1/2 at 0, so v = 0 stands for half the mass."""

    title, most = "softplus, unshifted", 1.0
    f = staticmethod(lambda t: where(t <= 1, xlogy(t, t) + xlogy(1 - t, at_least(1 - t, 0.0)), math.inf))
    df = staticmethod(lambda t: log(t / (1 - t)))
    conjugate = staticmethod(softplus)
    slope = staticmethod(sigmoid)
    curvature = staticmethod(lambda s: sigmoid(s) * sigmoid(-s))


class Linear(Generator):
    """Psi*(s) = s, Psi = indicator of t = 1: the marginal is exact, as in balanced optimal transport (OTM)."""

    title, most = "balanced", 1.0
    f = staticmethod(lambda t: where(t == 1, 0.0, math.inf))
    conjugate = staticmethod(lambda s: s)
    slope = staticmethod(lambda s: 1 + 0 * s)


class Power(Generator):
    r"""U(u) = u^m / (m - 1), m > 1 (else `UsageError`): the generalised entropy G(mu) = int mu^m / (m - 1).

    An internal energy: the reference measure is dx, and a law R that one can draw from enters by r = mu / R:
    G = sup_r E_mu U'(r R) - E_R [r^m R^(m-1)]. (U(1) is not 0: G is no divergence.) Source: vwgf, Corollaries 3.4, 3.5.
    """

    def __init__(self, m):
        self.m = in_range(m, 1, 10, "exponent m of the generalised entropy", open_low=True)
        self.title = f"generalised entropy, m = {m:g}"

    def f(self, t):
        return t**self.m / (self.m - 1)

    def df(self, t):
        return self.m / (self.m - 1) * t ** (self.m - 1)

    def B(self, r):
        return r**self.m

    def variable(self, u):
        """r from the network's output: any sign for m = 2, where the bound stays a bound; softplus otherwise."""
        return u if self.m == 2 else softplus(u)

    def of_mu(self, u, log_R):
        return self.df(self.variable(u) * log_R.exp())

    def of_reference(self, u, log_R):
        """p(r R) / R = r^m R^(m-1), with the pressure p(s) = s U'(s) - U(s)."""
        return self.B(self.variable(u)) * (log_R * (self.m - 1)).exp()


class Boltzmann(KL):
    """U(u) = u log u as an internal energy: the entropy int mu log mu, with the network giving log r, r = mu / R."""

    of_mu = staticmethod(lambda u, log_R: 1 + u + log_R)
    of_reference = staticmethod(lambda u, log_R: u.exp())


class Wasserstein1(Functional):
    r"""W_1(mu, nu) = sup_{h 1-Lipschitz} { E_mu h - E_nu h } (Kantorovich-Rubinstein).

    A gradient penalty holds the constraint, up to which the bound is one. No f-divergence. Source: gwf section 4.
    """

    title = "W1"
    penalty = "lipschitz"
    conjugate = staticmethod(lambda s: s)

    def value(self, p, q, weights):
        """int |P - Q| dx on the line, P and Q the distribution functions; `weights`: an increasing grid's spacings."""
        gap = (weights * (p - q)).cumsum(0)
        return (weights * gap.abs()).sum()


DIVERGENCES = {
    "kl": KL(),
    "kl_dv": KLDonskerVaradhan(),
    "reverse_kl": ReverseKL(),
    "js": JensenShannon(),
    "js_ns": JensenShannonNonSaturating(),
    "chi2": PearsonChi2(),
    "chi2_tight": PearsonChi2Tight(),
    "hellinger": SquaredHellinger(),
    "reverse_chi2": NeymanChi2(),
    "w1": Wasserstein1(),
    "w1_r1": PenalisedIPM(),
    "tv": TotalVariation(),
    "softplus": Softplus(),
    "softplus_uotm": SoftplusUnshifted(),
    "linear": Linear(),
}
"""Everything by name. A new f-divergence is a class above and a line here; training and the common tests follow."""


def names():
    """Names of the functionals, which a critic can be trained on, sorted."""
    return sorted(name for name, D in DIVERGENCES.items() if isinstance(D, Functional))


def has_critic(name):
    """Whether `name` is a functional that a critic can be trained on."""
    return isinstance(DIVERGENCES.get(name), Functional)


def get(name):
    """The divergence called `name`; `UsageError` with the nearest valid name if there is none."""
    return DIVERGENCES[nearest(name, DIVERGENCES, "divergence")]


def entropy(name):
    """Psi of the divergence called `name`, with Psi'(1) = 0: for potentials and exact steps, where mass may vary."""
    D = get(name)
    if not isinstance(D, Generator):
        raise UsageError(f"{name!r} has no generator f: it is no divergence of densities")
    return D.of_mass
