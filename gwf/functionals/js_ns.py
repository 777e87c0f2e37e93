"""Jensen-Shannon critic with the non-saturating map loss: the GAN as it is trained, and the released codes' "JS"."""

from gwf.functionals.js import JensenShannon


class JensenShannonNonSaturating(JensenShannon):
    r"""Critic of 2 JS(mu, nu); map loss E_mu softplus(u) in place of E_mu h.

    At the optimal critic its gradient is that of KL(mu || nu) - 2 JS(mu, nu), not of JS [1]_: with the JKO step it is
    no JKO scheme for Jensen-Shannon. It does not vanish where the critic separates mu from nu, which the true loss
    does. gwf ("Shannon") and sjko (JSD) train with it; `js` is the functional itself, so that both can be compared.

    .. [1] M. Arjovsky, L. Bottou. Towards principled methods for training generative adversarial networks. ICLR 2017.
    """

    title = "JS non-saturating"

    def map_loss(self, u_mu, u_nu=None):
        """E_mu softplus(u)."""
        return self.map_loss_nonsaturating(u_mu, u_nu)


functional = JensenShannonNonSaturating()
