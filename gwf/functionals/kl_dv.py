"""Kullback-Leibler divergence by the Donsker-Varadhan bound."""

from gwf.functionals.base import FDivergence, log_mean_exp


class KLDonskerVaradhan(FDivergence):
    r"""KL(mu || nu) = sup_h { E_mu h - log E_nu exp(h) }, attained at h* = log(dmu/dnu) + any constant.

    It is the classical bound with its additive constant optimised out: DV(h) = sup_c classical(h + c), so
    DV(h) - classical(h) = exp(s - 1) - s >= 0 with s = log E_nu exp(h). Source: gwf, equation 11.

    The logarithm of a batch mean is biased: E log mean exp <= log E exp (Jensen), so on batches of B data points
    the bound is over-estimated by about Var_nu(exp h) / (2 B (E_nu exp h)^2).
    """

    title = "KL-DV"

    def f(self, t):
        """t log t, as for `kl`: the divergence is the same, only its bound differs."""
        return t * t.log()

    def df(self, t):
        """1 + log t."""
        return 1 + t.log()

    def conjugate(self, s):
        """exp(s - 1), as for `kl`. The bound does not use it: it replaces E_nu f*(h) by log E_nu exp(h)."""
        return (s - 1).exp()

    def optimal_output(self, log_ratio):
        """1 + log(dmu/dnu): the representative that is optimal for the classical bound too."""
        return 1 + log_ratio

    def bound(self, u_mu, u_nu):
        """E_mu h - log E_nu exp(h)."""
        return u_mu.mean() - log_mean_exp(u_nu)

    def map_loss_of_second(self, u, u_first=None):
        """-log E exp(h), the map's loss in KL(nu || mu)."""
        return -log_mean_exp(u)


functional = KLDonskerVaradhan()
