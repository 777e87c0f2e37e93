"""Fields of `gwf.fields` without a frozen target: plain descent of F, and the implicit step of F, critic-free or learned.

By the chain rule the gradient of F(T# mu_0) in the map's weights is -E (dT)^T V(T(z)), that of |T(z) - [T(z) + V]|^2 / 2 with
the bracket frozen. So one update on each target descends F, and with the proximal term beside it the JKO step of F: where V is
in closed form nothing is adversarial (gwf's algorithm 1, for MMD), where its features are learned it is algorithm 2.
"""

import math
from dataclasses import dataclass

from torch import nn

from gwf import fields
from gwf.steps import jko
from gwf.training import settings
from gwf.training.explicit import CRITIC_STEPS, Euler

FEATURES = 16
"""Outputs of a learned kernel's critic: gwf has 128 for 3072 pixels."""


@dataclass(frozen=True)
class DescentSettings(settings.Settings):
    """Settings of `Descent`; an Euler step of size 1 on each target has the gradient of F."""

    penalty: float = 10.0  # weight of the penalties of W2's dual, or of the kernels' interpolated one, as in gwf
    phase: int = 250  # updates of the map per JKO step; without the proximal term they are only counted

    eps, persistency, tau, per_dimension = 1.0, 1, math.inf, False


@dataclass(frozen=True)
class ProximalSettings(DescentSettings):
    """Settings of `Proximal`."""

    tau: float = 0.5  # the step, in (0, inf]
    per_dimension: bool = False  # as in `JKO`


class Descent(Euler):
    """minimise F(T# mu_0) + E |T(z) - T_k(z)|^2 / (2 tau), for tau = infinity: W2-GAN for W2; F by its velocity on each batch."""

    title = "no JKO"
    Settings = DescentSettings
    #: Updates of the potentials, if any, for one of the map.
    critic_steps = CRITIC_STEPS

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        if self.field.potentials:
            self.field.critic_steps = self.critic_steps
        self.prox = jko.JKO(self.push, settings.tau, settings.per_dimension)

    @staticmethod
    def takes(functional):
        """Fields that are not better served by a trainer of their own."""
        return functional in fields.FIELDS and not KernelDescent.takes(functional) and functional != "w1"

    def phase(self):
        """Number of the JKO step."""
        return (self.step - 1) // self.settings.phase + 1

    def update(self):
        """One step of the potentials, if any, and one of the map; see `Trainer.update`."""
        x = self.freeze()
        z, target = self.frozen
        self.frozen = None
        loss, proximal = (x - target).square().sum() / (2 * len(x)), self.prox.proximal(x, z)
        self.descend(self.opt_T, loss + proximal)
        self.average.update()
        self.step += 1
        if self.step % self.settings.phase == 0:
            self.prox.advance()
        return self.critic_loss, loss.detach(), proximal.detach()

    def parts(self):
        """See `Trainer.parts`."""
        return super().parts() | ({"T_k": self.prox.T_k} if self.prox.active else {})


class Proximal(Descent):
    """The implicit step: the proximal term is there."""

    title = "JKO"
    Settings = ProximalSettings


class KernelDescent(Descent):
    """The MMD-GANs: features with several outputs, one update of them for each of the map."""

    critic_steps = 1

    @staticmethod
    def takes(functional):
        """MMD with a learned kernel."""
        return functional in ("mmd_learned", "mmd_scaled", "mmd_repulsive")

    def networks(self, functional):
        """The map, and the task's critic with `FEATURES` outputs."""
        T, critic = self.task.networks()
        return T, nn.ModuleList([with_outputs(critic, FEATURES)])


class KernelProximal(KernelDescent):
    """The JKO step of an MMD with a learned kernel."""

    title = "JKO"
    Settings = ProximalSettings


def with_outputs(net, outputs):
    """`net`, its last linear layer drawn anew with so many outputs."""
    name = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)][-1]
    last = net.get_submodule(name)
    net.set_submodule(name, nn.Linear(last.in_features, outputs).to(last.weight.device))
    return net
