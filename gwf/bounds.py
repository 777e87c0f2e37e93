r"""What a divergence is, and the four uses of its generator. The divergences themselves are in `gwf.divergences`.

For a convex f with f(1) = 0, the f-divergence and its variational form are

    D_f(mu || nu) = int f(dmu/dnu) dnu + f'(inf) mu_s = sup_h { E_mu h(x) - E_nu f*(h(y)) },  f*(s) = sup_t { s t - f(t) },

with the supremum over h with values in dom f*, attained at h* = f'(dmu/dnu) [1]_ [2]_. mu_s is the mass of mu that nu does
not charge, and f'(inf) = lim f(t)/t its price, the end `top` of dom f*: infinite for KL and chi2 (so mu has a density, or
D_f = inf), log 2 for twice JS, 1 for Hellinger, 1/2 for total variation, 0 for reverse KL. There h* = f'(inf). From the one generator follow:

- *critic* (`critic_loss`, `map_loss`): a network has an unconstrained output u, and `h` maps it into dom f*, so that no
  critic can leave the domain where the bound holds. The potential of the Kantorovich literature is v = -h.
- *density ratio* (`A`, `B`): the network is the ratio r = dmu/dR to a reference law R, with h = f'(r):

      D_f(mu || R) = sup_r { E_mu A(r(X)) - E_R B(r(Z)) },    A(r) = f'(r),    B(r) = f*(f'(r)) = r f'(r) - f(r).

  Source: vwgf, Proposition 3.1, equations 7 and 8, Table 1. Chapter `vwgf`.
- *semi-dual* (`of_mass`, `of_data`): the price int Psi(drho/dnu) dnu of a marginal rho that is not nu, in unbalanced
  transport, where mass may vary: Psi(t) = f(t) - f'(1) (t - 1) has its minimum at Psi(1) = 0, so that v = 0 changes
  nothing, and Psi*(s) = f*(s + f'(1)) - f'(1). Sources: sjko, uotm. Chapter `sjko`.
- *exact solvers* (`gwf.exact.atoms`): f* and its first two derivatives, `slope` and `curvature`.

Formulas act elementwise, on tensors of any shape and on float64 arrays alike; t > 0 is the density ratio dmu/dnu. In
losses `u_mu` is the network's output on generated samples x = T(z), of law mu, and `u_nu` its output on data y, of law
nu, each of shape (batch,) or (batch, 1).

.. [1] X. Nguyen, M. Wainwright, M. Jordan. Estimating divergence functionals and the likelihood ratio by convex
   risk minimization. IEEE Trans. Inf. Theory 56 (2010).
.. [2] S. Nowozin, B. Cseke, R. Tomioka. f-GAN: training generative neural samplers using variational divergence
   minimization. NeurIPS 2016.
"""

import math

import numpy as np
import scipy.special
import torch
from torch.nn import functional as fn


def _either(of_tensor, of_array):
    """One elementwise function for tensors and for arrays."""
    return lambda t, *more: (of_tensor if torch.is_tensor(t) else of_array)(t, *more)


log, exp, expm1 = _either(torch.log, np.log), _either(torch.exp, np.exp), _either(torch.expm1, np.expm1)
sqrt, sign, absolute = _either(torch.sqrt, np.sqrt), _either(torch.sign, np.sign), _either(torch.abs, np.abs)
xlogy = _either(torch.special.xlogy, scipy.special.xlogy)
softplus = _either(fn.softplus, lambda s: np.logaddexp(0, s))
sigmoid = _either(torch.sigmoid, scipy.special.expit)
at_least = _either(torch.clamp_min, np.maximum)
where = _either(torch.where, np.where)
LOG_2 = math.log(2)


def log_mean_exp(u):
    """log of the mean of exp(u) over all entries of u; a scalar, computed without overflow."""
    return torch.logsumexp(u.flatten(), 0) - math.log(u.numel())


class Functional:
    """F(mu) = D(mu || nu) by its variational bound `sup over critics of bound(u_mu, u_nu)`. Knows no networks, no data.

    `title` is its name for people. `penalty` is that of its critic: "r1" for smoothness, "lipschitz" where the critic
    class is 1-Lipschitz. `map_needs_data` says that `map_loss` uses the critic's output on the data, `u_nu`.
    """

    title = ""
    penalty = "r1"
    map_needs_data = False

    def value(self, p, q, weights):
        """D(p || q) of two densities tabulated on a grid with quadrature `weights`; all of shape (n,). Scalar."""
        raise NotImplementedError

    def conjugate(self, s):
        """f*(s), for s in dom f*."""
        raise NotImplementedError

    def h(self, u):
        """Critic value in the domain of the conjugate from an unconstrained network output `u`."""
        return u

    def conjugate_of_h(self, u):
        """f*(h(u)); a subclass writes it out where h followed by f* would overflow."""
        return self.conjugate(self.h(u))

    def second_term(self, u):
        """E f*(h), the part of the bound that depends on its second law."""
        return self.conjugate_of_h(u).mean()

    def bound(self, u_mu, u_nu):
        """Lower bound E_mu h - E_nu f*(h) of the value, from samples; equality at `optimal_output`."""
        return self.h(u_mu).mean() - self.second_term(u_nu)

    def critic_loss(self, u_mu, u_nu):
        """What the critic minimises: minus the bound."""
        return -self.bound(u_mu, u_nu)

    def map_loss(self, u_mu, u_nu=None):
        """The part of the bound with mu, what the map minimises; at the optimal critic its gradient is the value's."""
        return self.h(u_mu).mean()

    def map_loss_nonsaturating(self, u_mu, u_nu=None):
        """A loss with the same fixed point and a gradient that does not vanish far from the data, if one is in use."""
        return self.map_loss(u_mu, u_nu)

    def map_loss_of_second(self, u, u_first=None):
        """The part of the bound that depends on its second law, -E f*(h): the map's loss in D(nu || mu)."""
        return -self.second_term(u)

    @property
    def swapped(self):
        """The functional mu -> D(nu || mu), with the same networks and losses in exchanged roles."""
        return Swapped(self)

    def __repr__(self):
        return f"<{type(self).__name__}: {self.title}>"


class Swapped(Functional):
    """F(mu) = D(nu || mu) = sup_h { E_nu h(y) - E_mu f*(h(x)) }: the base functional with mu and nu exchanged."""

    def __init__(self, base):
        self.base, self.title, self.penalty = base, f"{base.title}, D(nu || mu)", base.penalty
        self.h, self.conjugate, self.conjugate_of_h = base.h, base.conjugate, base.conjugate_of_h

    def value(self, p, q, weights):
        return self.base.value(q, p, weights)

    def optimal_output(self, log_ratio):
        return self.base.optimal_output(-log_ratio)

    def bound(self, u_mu, u_nu):
        return self.base.bound(u_nu, u_mu)

    def map_loss(self, u_mu, u_nu=None):
        """The part of the bound that depends on mu (for some functionals that needs the data batch `u_nu` too)."""
        return self.base.map_loss_of_second(u_mu, u_nu)

    @property
    def swapped(self):
        return self.base


class Generator:
    """A convex f on t > 0. A subclass gives the formulas f, df = f', conjugate = f*, slope = f*', curvature = f*''.

    f* is finite for s < `top`, the slope of f at infinity; f for t <= `most`; f is `alpha`-strongly convex and
    `L`-smooth. `stride` is the longest useful Newton step in s, finite where f* grows exponentially.
    """

    title = ""
    top, most, stride = math.inf, math.inf, math.inf
    alpha, L = 0.0, math.inf

    def value(self, p, q, weights):
        """sum_i w_i q_i f(p_i / q_i), a quadrature of int f(dmu/dnu) dnu; p, q > 0."""
        return (weights * q * self.f(p / q)).sum()

    def A(self, w):
        """f'(r): what the ratio adds on mu. The variable w is r itself unless `optimum` says otherwise."""
        return self.df(w)

    def B(self, w):
        """r f'(r) - f(r): what the ratio costs on the reference law."""
        return w * self.df(w) - self.f(w)

    def optimum(self, t):
        """The variable w at which the bound is attained where the ratio is t."""
        return t

    def variable(self, u):
        """w in its domain from an unconstrained network output u: r = exp(u)."""
        return exp(u)

    @property
    def of_mass(self):
        """Psi, the same generator with f'(1) = 0: for laws whose mass may vary."""
        return self

    def of_data(self, v):
        """E_nu f*(-v) over a batch v = v(y) (n,): the data's part of a potential's loss in the semi-dual."""
        return self.conjugate(-v).mean()


class OfMass(Generator):
    """Psi(t) = f(t) - c (t - 1) with c = f'(1), and Psi*(s) = f*(s + c) - c."""

    def __init__(self, base):
        self.base, self.tilt = base, float(base.df(1.0))
        self.title, self.top, self.most, self.stride = base.title, base.top - self.tilt, base.most, base.stride

    def f(self, t):
        return self.base.f(t) - self.tilt * (t - 1)

    def df(self, t):
        return self.base.df(t) - self.tilt

    def conjugate(self, s):
        return self.base.conjugate(s + self.tilt) - self.tilt

    def slope(self, s):
        return self.base.slope(s + self.tilt)

    def curvature(self, s):
        return self.base.curvature(s + self.tilt)


class FDivergence(Generator, Functional):
    """An f-divergence for every use. Where dom f* is not the real line, it has an output layer `h` as well."""

    def optimal_output(self, log_ratio):
        """Network output u* with h(u*) = f'(dmu/dnu), from log(dmu/dnu)."""
        return self.df(log_ratio.exp())

    @property
    def of_mass(self):
        return OfMass(self)
