"""Two functionals in the table of `gwf.divergences` that are other readings of classical ones."""

from gwf.bounds import FDivergence, Functional, exp, sqrt, where


class NeymanChi2(FDivergence):
    r"""chi2(nu || mu) = int (dnu/dmu - 1)^2 dmu = sup_u { 2 E_nu u - E_mu u^2 } - 1, attained at u* = dnu/dmu.

    f(t) = (1 - t)^2 / t, f*(s) = 2 - 2 sqrt(1 - s) for s < 1. The output u is mapped to h = 1 - u^2, where f*(h) = 2 - 2 |u|;
    2 - 2 u lies above it for u < 0, so the bound stays one. With u = 1 + v/2 it is Pearson's with mu and nu exchanged,
    E_nu v - E_mu [v + v^2/4], what gwf's code calls chi2, symmetric. Data first: mode covering.
    """

    title, top = "reverse chi2", 1.0
    f = staticmethod(lambda t: (1 - t) ** 2 / t)
    df = staticmethod(lambda t: 1 - t**-2)
    conjugate = staticmethod(lambda s: 2 - 2 * sqrt(1 - s))
    slope = staticmethod(lambda s: 1 / sqrt(1 - s))
    curvature = staticmethod(lambda s: 0.5 / sqrt(1 - s) ** 3)
    h = staticmethod(lambda u: 1 - u**2)
    conjugate_of_h = staticmethod(lambda u: 2 - 2 * u)
    optimal_output = staticmethod(lambda log_ratio: exp(-log_ratio))


class PenalisedIPM(Functional):
    r"""W1's bound E_mu h - E_nu h with R1, weight * E_nu |grad h|^2, in place of its constraint: the row "W1" of gwf may be it.

    No longer W1: the supremum is the squared norm of mu - nu dual to E_nu |grad h|^2,

        sup_h { E_mu h - E_nu h - weight E_nu |grad h|^2 } = |mu - nu|^2 / (4 weight),

    near nu that of W_2^2 / (4 weight), and infinite where mu leaves the support of nu. On the line h' = (Q - P) / (2 weight q)
    for distribution functions P, Q. Derived here; the norm is that of Y. Mroueh et al. Sobolev GAN. ICLR 2018.
    """

    title = "W1, R1"
    conjugate = staticmethod(lambda s: s)

    def value(self, p, q, weights):
        """int (P - Q)^2 / q dx on the line, the squared norm; `weights`: an increasing grid's spacings."""
        mass = weights * (p - q)
        left, right = mass.cumsum(0) - mass / 2, mass.flip(0).cumsum(0).flip(0) - mass / 2
        # P - Q from the nearer end: from the other one, rounding would be divided by a tail of q.
        gap = where(left.abs() < right.abs(), left.abs(), right.abs())
        return (weights * gap**2 / q).sum()
