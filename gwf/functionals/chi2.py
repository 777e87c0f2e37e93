"""Pearson chi-square divergence by the plain Fenchel bound."""

from gwf.functionals.base import FDivergence


class PearsonChi2(FDivergence):
    r"""chi2(mu || nu) = int (dmu/dnu - 1)^2 dnu = sup_h { E_mu h - E_nu [h + h^2/4] }, at h* = 2 (dmu/dnu - 1).

    f(t) = (t - 1)^2, f*(s) = s + s^2/4. The true conjugate over t >= 0 is -1 for s < -2; the parabola lies above it
    there, so the bound stays a lower bound, and no optimal critic takes such values. Source: gwf, section 5.3.
    """

    title = "chi2"

    def f(self, t):
        """(t - 1)^2."""
        return (t - 1) ** 2

    def df(self, t):
        """2 (t - 1) >= -2."""
        return 2 * (t - 1)

    def conjugate(self, s):
        """s + s^2 / 4, the conjugate over all real t (equal to the one over t >= 0 for s >= -2)."""
        return s + s**2 / 4


functional = PearsonChi2()
