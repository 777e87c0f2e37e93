"""Pearson chi-square divergence by the bound with scale and shift of the critic optimised out."""

from gwf.functionals.base import FDivergence


class PearsonChi2Tight(FDivergence):
    r"""chi2(mu || nu) = sup_h (E_mu h - E_nu h)^2 / Var_nu(h), attained at h* = any affine function of dmu/dnu.

    For a fixed h it is the supremum of the plain bound over all a h + b:
    sup_b gives a (E_mu h - E_nu h) - a^2 Var_nu(h) / 4, and sup_a the ratio above. So it is pointwise larger than
    the plain bound and invariant to scale and shift of the critic. Variances are biased (1/B), as the supremum over
    the empirical law demands. Source: gwf section 5.3 and released code; the supremum is derived here.
    """

    title = "chi2 tight"
    map_needs_data = True
    #: Keeps the ratio finite for a critic that is constant on the batch; far below any variance met in training.
    floor = 1e-12

    def f(self, t):
        """(t - 1)^2, as for `chi2`."""
        return (t - 1) ** 2

    def df(self, t):
        """2 (t - 1)."""
        return 2 * (t - 1)

    def conjugate(self, s):
        """s + s^2 / 4, as for `chi2`; the bound does not use it."""
        return s + s**2 / 4

    def bound(self, u_mu, u_nu):
        """(E_mu h - E_nu h)^2 / Var_nu(h)."""
        return (u_mu.mean() - u_nu.mean()) ** 2 / u_nu.var(correction=0).clamp_min(self.floor)

    def map_loss(self, u_mu, u_nu=None):
        """The bound itself, differentiated through `u_mu` alone; needs the data batch `u_nu`.

        The map must descend the full ratio: the sign and the scale of the critic are free, so E_mu h alone has
        neither.
        """
        u_nu = u_nu.detach()
        return self.bound(u_mu, u_nu)

    def map_loss_of_second(self, u, u_first=None):
        """The ratio as a function of its second law; the variance is differentiated too.

        The papers' released code detaches the variance here, which shrinks the gradient: for mu = N(theta, 1) and
        the optimal critic it gives 2 theta in place of 2 theta exp(theta^2).
        """
        return self.bound(u_first.detach(), u)


functional = PearsonChi2Tight()
