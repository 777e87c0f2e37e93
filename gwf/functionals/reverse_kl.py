"""Reverse Kullback-Leibler divergence KL(nu || mu), as an f-divergence of mu."""

from gwf.functionals.base import FDivergence


class ReverseKL(FDivergence):
    r"""KL(nu || mu) = int -log(dmu/dnu) dnu = sup_{h < 0} { E_mu h + 1 + E_nu log(-h) }, at h* = -dnu/dmu.

    f(t) = -log t, f*(s) = -1 - log(-s) for s < 0. The output u is mapped to h = -exp(-u), so u* = log(dmu/dnu).
    Data first: mode covering, the direction of maximum likelihood.
    Source: vwgf (the f-divergence table); Nowozin et al. 2016, table 1.
    """

    title = "reverse KL"

    def f(self, t):
        """-log t."""
        return -t.log()

    def df(self, t):
        """-1 / t."""
        return -1 / t

    def h(self, u):
        """-exp(-u) < 0."""
        return -(-u).exp()

    def conjugate(self, s):
        """-1 - log(-s), for s < 0."""
        return -1 - (-s).log()

    def optimal_output(self, log_ratio):
        """log(dmu/dnu)."""
        return log_ratio

    def bound(self, u_mu, u_nu):
        """E_mu h - E_nu f*(h), with f*(h(u)) = u - 1 written out: the logarithm of an exponential would overflow."""
        return self.h(u_mu).mean() - (u_nu - 1).mean()

    def map_loss_of_second(self, u, u_first=None):
        """-E f*(h) = 1 - E u."""
        return (1 - u).mean()


functional = ReverseKL()
