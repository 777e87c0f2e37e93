"""Jensen-Shannon divergence: the functional of the original GAN."""

import math

from torch.nn.functional import softplus

from gwf.functionals.base import FDivergence


class JensenShannon(FDivergence):
    r"""2 JS(mu, nu) = KL(mu || m) + KL(nu || m) with m = (mu + nu) / 2, in nats; from 0 to 2 log 2.

    f(t) = t log t - (t + 1) log((t + 1)/2), f*(s) = -log(2 - e^s) for s < log 2. With h = log 2 - softplus(-u) the
    bound is the GAN discriminator's: -critic_loss = 2 log 2 - E_mu softplus(-u) - E_nu softplus(u), and
    u* = log(dmu/dnu). No factor 1/2, as in gwf and sjko: their tau refers to 2 JS.

    The non-saturating loss E_mu softplus(u), which the papers' code uses, is *not* the gradient of JS: at the
    optimal critic its gradient is that of KL(mu || nu) - 2 JS [1]_, so that with it the JKO step is not a JKO step
    of the Jensen-Shannon divergence. The saturating loss is. Source: gwf section 5.3; sjko equations 31 to 33.

    .. [1] M. Arjovsky, L. Bottou. Towards principled methods for training generative adversarial networks. ICLR 2017.
    """

    title = "JS"

    def f(self, t):
        """t log t - (t + 1) log((t + 1) / 2)."""
        return t * t.log() - (t + 1) * ((t + 1) / 2).log()

    def df(self, t):
        """log(2 t / (t + 1)) < log 2."""
        return (2 * t / (t + 1)).log()

    def h(self, u):
        """log 2 - softplus(-u) < log 2."""
        return math.log(2) - softplus(-u)

    def conjugate(self, s):
        """-log(2 - e^s), for s < log 2."""
        return -(2 - s.exp()).log()

    def optimal_output(self, log_ratio):
        """log(dmu/dnu)."""
        return log_ratio

    def bound(self, u_mu, u_nu):
        """E_mu h - E_nu f*(h), with f*(h(u)) = softplus(u) - log 2 written out: exact for large |u| as well."""
        return self.h(u_mu).mean() - (softplus(u_nu) - math.log(2)).mean()

    def map_loss_nonsaturating(self, u_mu, u_nu=None):
        """E_mu softplus(u)."""
        return softplus(u_mu).mean()

    def map_loss_of_second(self, u, u_first=None):
        """-E f*(h) = log 2 - E softplus(u)."""
        return (math.log(2) - softplus(u)).mean()


functional = JensenShannon()
