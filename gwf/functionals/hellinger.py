"""Squared Hellinger distance."""

from gwf.functionals.base import FDivergence


class SquaredHellinger(FDivergence):
    r"""H^2(mu, nu) = int (sqrt(dmu/dnu) - 1)^2 dnu, from 0 to 2; = sup_{h < 1} { E_mu h - E_nu h / (1 - h) }.

    f(t) = (sqrt t - 1)^2, f*(s) = s / (1 - s) for s < 1, h* = 1 - sqrt(dnu/dmu). The output u is mapped to
    h = 1 - exp(-u), so u* = log(dmu/dnu) / 2 and f*(h(u)) = exp(u) - 1.
    Source: Nowozin et al. 2016, table 1.
    """

    title = "Hellinger"

    def f(self, t):
        """(sqrt t - 1)^2."""
        return (t.sqrt() - 1) ** 2

    def df(self, t):
        """1 - 1 / sqrt t < 1."""
        return 1 - t.rsqrt()

    def h(self, u):
        """1 - exp(-u) < 1."""
        return -(-u).expm1()

    def conjugate(self, s):
        """s / (1 - s), for s < 1."""
        return s / (1 - s)

    def optimal_output(self, log_ratio):
        """log(dmu/dnu) / 2."""
        return log_ratio / 2

    def bound(self, u_mu, u_nu):
        """E_mu h - E_nu f*(h), with f*(h(u)) = exp(u) - 1 written out."""
        return self.h(u_mu).mean() - u_nu.expm1().mean()

    def map_loss_of_second(self, u, u_first=None):
        """-E f*(h) = 1 - E exp(u)."""
        return -u.expm1().mean()


functional = SquaredHellinger()
