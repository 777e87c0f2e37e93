"""Jensen-Shannon critic with the non-saturating map loss: the GAN as it is trained, and the released codes' "JS".

The formulas of `js` stand here again so that a run depends on one functional's file; the tests hold them equal.
"""

import math

from torch.nn.functional import softplus

from gwf.functionals.base import FDivergence


class JensenShannonNonSaturating(FDivergence):
    r"""Critic of 2 JS(mu, nu), see `js`; map loss E_mu softplus(u) in place of E_mu h.

    At the optimal critic its gradient is that of KL(mu || nu) - 2 JS(mu, nu), not of JS [1]_: with the JKO step it is
    no JKO scheme for Jensen-Shannon. It does not vanish where the critic separates mu from nu, which the true loss
    does. gwf ("Shannon") and sjko (JSD) train with it; `js` is the functional itself, so that both can be compared.

    .. [1] M. Arjovsky, L. Bottou. Towards principled methods for training generative adversarial networks. ICLR 2017.
    """

    title = "JS non-saturating"

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
        """E_mu h - E_nu f*(h), with f*(h(u)) = softplus(u) - log 2 written out."""
        return self.h(u_mu).mean() - (softplus(u_nu) - math.log(2)).mean()

    def map_loss(self, u_mu, u_nu=None):
        """E_mu softplus(u)."""
        return softplus(u_mu).mean()

    def map_loss_of_second(self, u, u_first=None):
        """-E f*(h) = log 2 - E softplus(u)."""
        return (math.log(2) - softplus(u)).mean()


functional = JensenShannonNonSaturating()
