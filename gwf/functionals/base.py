r"""What a functional is: a value, a conjugate, and two losses. It knows nothing about networks or data.

For a convex f with f(1) = 0, the f-divergence and its variational form are

    D_f(mu || nu) = int f(dmu/dnu) dnu = sup_h { E_mu h(x) - E_nu f*(h(y)) },      f*(s) = sup_t { s t - f(t) },

with the supremum attained at h* = f'(dmu/dnu) [1]_ [2]_. A critic network has an unconstrained output u; the
functional's `h` maps it into dom f*, so that no critic can leave the domain where the bound holds.

Throughout, `u_mu` is the network's output on generated samples x = T(z), of law mu, and `u_nu` its output on data
y, of law nu, each of shape (batch,) or (batch, 1). The potential of the Kantorovich literature, and the network
of the papers' released code, is v = -h.

.. [1] X. Nguyen, M. Wainwright, M. Jordan. Estimating divergence functionals and the likelihood ratio by convex
   risk minimization. IEEE Trans. Inf. Theory 56 (2010).
.. [2] S. Nowozin, B. Cseke, R. Tomioka. f-GAN: training generative neural samplers using variational divergence
   minimization. NeurIPS 2016.
"""

import math

import torch


def log_mean_exp(u):
    """log of the mean of exp(u) over all entries of u; a scalar, computed without overflow."""
    return torch.logsumexp(u.flatten(), 0) - math.log(u.numel())


class Functional:
    """F(mu) = D(mu || nu) by its variational bound `sup over critics of bound(u_mu, u_nu)`.

    Attributes
    ----------
    title : str
        Name for people, used in figures and tables.
    penalty : {"r1", "lipschitz"}
        Which critic penalty belongs to it: "r1" for smoothness, "lipschitz" where the critic class is 1-Lipschitz.
    map_needs_data : bool
        True where `map_loss` uses the critic's output on the data, `u_nu`.
    """

    title = ""
    penalty = "r1"
    map_needs_data = False

    def value(self, p, q, weights):
        """D(p || q) of two densities tabulated on a grid with quadrature `weights`; all of shape (n,). Scalar."""
        raise NotImplementedError

    def h(self, u):
        """Critic value in the domain of the conjugate from an unconstrained network output `u`."""
        return u

    def conjugate(self, s):
        """f*(s), for s in dom f*."""
        raise NotImplementedError

    def bound(self, u_mu, u_nu):
        """Lower bound E_mu h - E_nu f*(h) of the value, from samples; equality at `optimal_output`."""
        return self.h(u_mu).mean() - self.conjugate(self.h(u_nu)).mean()

    def critic_loss(self, u_mu, u_nu):
        """What the critic minimises: minus the bound."""
        return -self.bound(u_mu, u_nu)

    def map_loss(self, u_mu, u_nu=None):
        """What the map minimises: the part of the bound that depends on mu. The 'saturating' loss.

        At the optimal critic its gradient is the gradient of the value (envelope theorem).
        """
        return self.h(u_mu).mean()

    def map_loss_nonsaturating(self, u_mu, u_nu=None):
        """A loss with the same fixed point and a gradient that does not vanish far from the data, if one is in use.

        Equal to `map_loss` unless a functional says otherwise.
        """
        return self.map_loss(u_mu, u_nu)

    def map_loss_of_second(self, u, u_first=None):
        """The part of the bound that depends on its second law, -E f*(h): the map's loss in D(nu || mu)."""
        return -self.conjugate(self.h(u)).mean()

    @property
    def swapped(self):
        """The functional mu -> D(nu || mu), with the same networks and losses in exchanged roles."""
        return Swapped(self)

    def __repr__(self):
        return f"<{type(self).__name__}: {self.title}>"


class FDivergence(Functional):
    """An f-divergence. A subclass gives f, f', f*, and, where dom f* is not the real line, `h` and its inverse.

    All functions act elementwise on tensors of any shape; t > 0 is the density ratio dmu/dnu.
    """

    def f(self, t):
        """The convex generator, f(1) = 0."""
        raise NotImplementedError

    def df(self, t):
        """f'(t), the optimal critic value where the density ratio is t."""
        raise NotImplementedError

    def value(self, p, q, weights):
        """sum_i w_i q_i f(p_i / q_i), a quadrature of int f(dmu/dnu) dnu; p, q > 0."""
        return (weights * q * self.f(p / q)).sum()

    def optimal_output(self, log_ratio):
        """Network output u* with h(u*) = f'(dmu/dnu), from log(dmu/dnu)."""
        return self.df(log_ratio.exp())


class Swapped(Functional):
    """F(mu) = D(nu || mu) = sup_h { E_nu h(y) - E_mu f*(h(x)) }: the base functional with mu and nu exchanged."""

    def __init__(self, base):
        self.base = base
        self.title = f"{base.title}, D(nu || mu)"
        self.penalty = base.penalty

    def value(self, p, q, weights):
        """D(q || p) of the base functional."""
        return self.base.value(q, p, weights)

    def h(self, u):
        """The base functional's critic value."""
        return self.base.h(u)

    def conjugate(self, s):
        """The base functional's conjugate."""
        return self.base.conjugate(s)

    def optimal_output(self, log_ratio):
        """Optimal output of the base functional at the inverse ratio dnu/dmu."""
        return self.base.optimal_output(-log_ratio)

    def bound(self, u_mu, u_nu):
        """E_nu h - E_mu f*(h)."""
        return self.base.bound(u_nu, u_mu)

    def map_loss(self, u_mu, u_nu=None):
        """The part of the bound that depends on mu (for some functionals that needs the data batch `u_nu` too)."""
        return self.base.map_loss_of_second(u_mu, u_nu)

    @property
    def swapped(self):
        """Exchanging twice gives the base functional back."""
        return self.base
