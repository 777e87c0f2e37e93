"""Fields of `gwf.fields` without a frozen target: plain descent of F, and the implicit step of F, critic-free or learned.

The gradient of F(T# mu_0) in the map's weights is -E (dT)^T V(T(z)), that of |T(z) - [T(z) + V]|^2 / 2 with the bracket frozen.
So one update on each target descends F, and with the proximal term beside it the JKO step of F: where V is in closed form
nothing is adversarial (gwf's algorithm 1, for MMD), where its features are learned it is algorithm 2.
"""

import math
from dataclasses import dataclass

from torch import nn

from gwf import divergences, fields
from gwf.steps import jko
from gwf.training import implicit, settings
from gwf.training.explicit import Euler


@dataclass(frozen=True)
class DescentSettings(settings.Settings):
    """Settings of `Descent`; an Euler step of size 1 on each target has the gradient of F."""

    penalty: float = 10.0  # weight of the penalties of W2's dual, or of the kernels' interpolated one, as in gwf
    phase: int = 250  # updates of the map per JKO step; without the proximal term they are only counted

    eps, persistency, tau, per_dimension = 1.0, 1, math.inf, False


@dataclass(frozen=True)
class ProximalSettings(DescentSettings):
    tau: float = 0.5  # the step, in (0, inf]
    per_dimension: bool = False  # as in `JKO`


class Descent(Euler):
    """minimise F(T# mu_0) + E |T(z) - T_k(z)|^2 / (2 tau), for tau = infinity: W2-GAN for W2, an MMD-GAN for a learned kernel."""

    title = "no JKO"
    Settings = DescentSettings
    phase = implicit.JKO.phase

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        if hasattr(self.field, "outputs"):
            self.field.critic_steps = 1  # gwf's features and map take turns; w2fe's potentials have five updates a turn
        self.prox = jko.JKO(self.push, settings.tau, settings.per_dimension)

    @staticmethod
    def takes(functional):
        """Velocity fields; W1's is its critic's, which `gan` and `jko` descend."""
        return functional in fields.FIELDS and not divergences.has_critic(functional)

    def networks(self, functional):
        """Map and potentials, of which a learned kernel's has several outputs."""
        T, critics = super().networks(functional)
        size = getattr(fields.FIELDS[functional], "outputs", 1)
        return T, nn.ModuleList(with_outputs(critic, size) for critic in critics)

    def update(self):
        """One turn of the potentials, if any, and one of the map; see `Trainer.update`."""
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
        return super().parts() | ({"T_k": self.prox.T_k} if self.prox.active else {})


class Proximal(Descent):
    """The implicit step: the proximal term is there."""

    title = "JKO"
    Settings = ProximalSettings


def with_outputs(net, outputs):
    """`net`, with its last linear layer drawn anew unless it has so many outputs."""
    name = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)][-1]
    last = net.get_submodule(name)
    if last.out_features != outputs:
        net.set_submodule(name, nn.Linear(last.in_features, outputs).to(last.weight.device))
    return net
