r"""CKGAN's form of an MMD: a critic v from data back to latents, and a kernel between z and v(x).

    critic:  minimise  E k(z, v(T(z))) - E k(z, v(y)) + weight * penalty       z and y independent
    map:     minimise  -E k(z, v(T(z))) + E |T(z) - T_k(z)|^2 / (2 tau)

The first line compares E k(z, v(x)) under the law of (z, T(z)) with that under mu_0 x nu: a witness of dependence as much as of
mu and nu. Source: gwf ("ckMMD", after arXiv 2504.05945), from its description.
"""

from dataclasses import dataclass

from gwf.fields import kernels
from gwf.seeding import generator
from gwf.steps import jko
from gwf.steps.penalties import interpolated
from gwf.training import base, implicit
from gwf.training.proximal import with_outputs


@dataclass(frozen=True)
class CKGANSettings(implicit.GANSettings):
    """Settings of `CKGAN`."""

    penalty: float = 10.0  # weight of the interpolated penalty, as in gwf


@dataclass(frozen=True)
class CKJKOSettings(implicit.JKOSettings):
    """Settings of `CKJKO`."""

    penalty: float = 10.0


class Losses:
    """The two lines above, for x = (T(z), z) and the critic v; the penalty now and then, as in `gwf.steps.jko.JKOStep`."""

    def __init__(self, v, prox, weight, every):
        self.v, self.prox, self.weight, self.every = v, prox, weight, every

    def critic_loss(self, x, y, generator=None, step=0):
        """E k(z, v(T(z))) - E k(z, v(y)) + weight * penalty."""
        x, z = x[0].detach(), x[1]
        u, price = (self.v(y), 0.0) if step % self.every else interpolated(self.v, x, y, generator)
        return (kernels.mixture(z, self.v(x)) - kernels.mixture(z, u)).mean() + self.weight * self.every * price

    def map_loss(self, x, z, y):
        """(-E k(z, v(T(z))), proximal term)."""
        return -kernels.mixture(z, self.v(x[0])).mean(), self.prox.proximal(x[0], z)


class CKJKO(implicit.JKO):
    """The JKO step of CKGAN's functional."""

    Settings = CKJKOSettings

    def __init__(self, functional, task, settings, seed, device):
        base.Trainer.__init__(self, functional, task, settings, seed, device)
        self.quick = self.fast(self.T)
        self.prox = jko.JKO(self.quick, settings.tau, settings.per_dimension)
        self.losses = Losses(self.fast(self.critic), self.prox, settings.penalty, settings.penalty_every)
        self.opt_h = self.adam(self.critic, settings.lr_critic)

    @staticmethod
    def takes(functional):
        """MMD, in this form."""
        return functional == "mmd"

    def networks(self, functional):
        """The map, and a critic with as many outputs as z has coordinates."""
        T, critic = self.task.networks()
        size = self.task.latent(1, generator(self.task.seed, "size of a latent", self.device)).shape[1]
        return T, with_outputs(critic, size)

    def push(self, z):
        """(T(z), z)."""
        return self.quick(z), z


class CKGAN(CKJKO):
    """tau = infinity: no proximal term."""

    title = "no JKO"
    Settings = CKGANSettings
