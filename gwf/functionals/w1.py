"""Wasserstein-1 distance, the integral probability metric of the 1-Lipschitz critics."""

from gwf.functionals.base import Functional


class Wasserstein1(Functional):
    r"""W_1(mu, nu) = sup_{h 1-Lipschitz} { E_mu h - E_nu h } (Kantorovich-Rubinstein).

    The critic class carries the constraint; training holds it by a gradient penalty, so the bound is a bound up to
    that penalty. Not an f-divergence: no f, and the conjugate term is h itself. Source: gwf section 4.
    """

    title = "W1"
    penalty = "lipschitz"

    def conjugate(self, s):
        """s: the bound is E_mu h - E_nu h."""
        return s

    def value(self, p, q, weights):
        """int |P - Q| dx in one dimension, with P and Q the distribution functions on a grid in increasing order.

        `weights` are the grid's spacings.
        """
        gap = (weights * (p - q)).cumsum(0)
        return (weights * gap.abs()).sum()


functional = Wasserstein1()
