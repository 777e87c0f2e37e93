r"""CKGAN's form of an MMD: a critic v from data back to latents, and a kernel between z and v(x).

    critic:  minimise  E k(z, v(T(z))) - E k(z, v(y)) + weight * penalty       z and y independent
    map:     minimise  -E k(z, v(T(z))) + E |T(z) - T_k(z)|^2 / (2 tau)

The first line compares the law of (z, T(z)) with mu_0 x nu: it sees dependence as well as a difference of mu and nu. Source:
gwf ("ckMMD", after Zhang et al. 2025), from its description.
"""

from gwf.fields import kernels
from gwf.seeding import generator
from gwf.steps import jko
from gwf.steps.penalties import interpolated
from gwf.training import base, implicit, proximal


class Losses:
    """The two lines above, for x = (T(z), z) and the critic v."""

    def __init__(self, v, prox, weight):
        self.v, self.prox, self.weight = v, prox, weight

    def critic_loss(self, x, y, generator=None, step=0):
        x, z = x[0].detach(), x[1]
        u, price = interpolated(self.v, x, y, generator)
        return kernels.paired(z, self.v(x)) - kernels.paired(z, u) + self.weight * price

    def map_loss(self, x, z, y):
        return -kernels.paired(z, self.v(x[0])), self.prox.proximal(x[0], z)


class CKJKO(implicit.JKO):
    """The JKO step of CKGAN's functional."""

    Settings = proximal.ProximalSettings

    def __init__(self, functional, task, settings, seed, device):
        base.Trainer.__init__(self, functional, task, settings, seed, device)
        self.quick = self.fast(self.T)
        self.prox = jko.JKO(self.quick, settings.tau, settings.per_dimension)
        self.losses = Losses(self.fast(self.critic), self.prox, settings.penalty)
        self.opt_h = self.adam(self.critic, settings.lr_critic)

    @staticmethod
    def takes(functional):
        """MMD, in this form."""
        return functional == "mmd"

    def networks(self, functional):
        """The map, and a critic with as many outputs as z has coordinates."""
        T, critic = self.task.networks()
        z = self.task.latent(1, generator(self.task.seed, "a latent", self.device))
        return T, proximal.with_outputs(critic, z.shape[1])

    def push(self, z):
        return self.quick(z), z


class CKGAN(CKJKO):
    """tau = infinity: no proximal term."""

    title = "no JKO"
    Settings = proximal.DescentSettings
