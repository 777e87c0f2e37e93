"""The forward Euler step on frozen targets: W2-FE, W1-FE, the Sinkhorn flow and their relatives."""

from dataclasses import dataclass

import torch
from torch import nn

from gwf import divergences, fields
from gwf.fields.learned import CriticField
from gwf.training import base, settings

CRITIC_STEPS = 5
"""Updates of a field's potentials per Euler step, as in w2fe."""


@dataclass(frozen=True)
class EulerSettings(settings.Settings):
    penalty: float = 10.0  # weight of the penalties of W2's dual, or of R1
    eps: float = 1.0  # Euler step; 1 goes all the way of a W2 field
    persistency: int = 5  # updates of the map on one frozen target


class Euler(base.Trainer):
    """The forward Euler step on frozen targets (`gwf.steps.euler`), one regression step at a time.

    every `persistency` updates:   improve the field on fresh batches;
                                   z fresh,   zeta <- T(z) + eps V(T(z)), frozen
    map:                           minimise |T(z) - zeta|^2, on the same z and zeta until the next ones
    """

    title = "Euler"
    Settings = EulerSettings
    kept = (*base.Trainer.kept, "frozen", "critic_loss")

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        self.push = self.fast(self.T)
        self.field = field_of(functional, [self.fast(net) for net in self.critic], settings)
        self.frozen = None
        self.critic_loss = torch.zeros((), device=device)

    @staticmethod
    def takes(functional):
        """Any functional: it has a field, or a critic."""
        return True

    def networks(self, functional):
        """Map, and as many potentials as the field has."""
        T, critic = self.task.networks()
        count = potentials(functional)
        critics = [critic, *(self.task.networks()[1] for _ in range(count - 1))]
        return T, nn.ModuleList(critics[:count])

    def phase(self):
        return (self.step - 1) // self.settings.persistency + 1

    def freeze(self):
        """Improve the field, then freeze latents and pushed samples. Returns T(z), whose graph the next update uses."""
        for _ in range(self.field.critic_steps):
            y, z = self.draw_data(), self.draw_latent()
            with torch.no_grad():
                x = self.push(z)
            loss = self.field.loss(x, y, self.streams["penalty"])
            self.descend(self.field.optimiser, loss)
            self.critic_loss = loss.detach()
        other = None
        if self.field.needs_other:
            with torch.no_grad():
                other = self.push(self.draw_latent())
        y, z = self.draw_data(), self.draw_latent()
        x = self.push(z)
        at = x.detach()
        self.frozen = z, at + self.settings.eps * self.field(at, y, other, self.streams["penalty"])
        return x

    def update(self):
        """One regression step, on a new target every `persistency` updates; see `Trainer.update`."""
        fresh = self.step % self.settings.persistency == 0
        x = self.freeze() if fresh else self.push(self.frozen[0])
        loss = (x - self.frozen[1]).square().sum() / len(x)
        self.descend(self.opt_T, loss)
        self.average.update()
        self.step += 1
        return self.critic_loss, loss.detach(), loss.new_zeros(())

    def parts(self):
        return super().parts() | {"field": self.field}


def potentials(functional):
    """How many networks the field learns: 2 for W2's dual, 1 for a critic, 0 where the velocity is in closed form."""
    return len(fields.FIELDS.get(functional, CriticField).potentials)


def field_of(functional, networks, settings):
    """The velocity field with its networks; the penalty's weight is `lipschitz` for W1, else `penalty`."""
    if not networks:
        return fields.get(functional)
    lipschitz = divergences.has_critic(functional) and divergences.get(functional).penalty == "lipschitz"
    weight = settings.lipschitz if lipschitz else settings.penalty
    adam = {"lr": settings.lr_critic, "critic_steps": CRITIC_STEPS, "betas": (0.5, 0.9)}
    if functional in fields.FIELDS:
        return fields.FIELDS[functional](*networks, weight, **adam)
    return CriticField(functional, *networks, weight, **adam)
