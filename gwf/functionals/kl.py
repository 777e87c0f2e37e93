"""Kullback-Leibler divergence by the classical (Nguyen-Wainwright-Jordan) bound."""

from gwf.functionals.base import FDivergence


class KL(FDivergence):
    r"""KL(mu || nu) = int log(dmu/dnu) dmu = sup_h { E_mu h - E_nu exp(h - 1) }, attained at h* = 1 + log dmu/dnu.

    f(t) = t log t, f*(s) = exp(s - 1). Generated law first: mode seeking, not maximum likelihood.
    Source: gwf, equation 6 and the classical side of equation 11; vwgf.
    """

    title = "KL"

    def f(self, t):
        """t log t."""
        return t * t.log()

    def df(self, t):
        """1 + log t."""
        return 1 + t.log()

    def conjugate(self, s):
        """exp(s - 1), for every real s."""
        return (s - 1).exp()

    def optimal_output(self, log_ratio):
        """1 + log(dmu/dnu), without leaving log space."""
        return 1 + log_ratio


functional = KL()
