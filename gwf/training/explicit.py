"""The forward Euler step on frozen targets: W2-FE, W1-FE, the Sinkhorn flow and their relatives."""

import torch
from torch import nn

from gwf import fields, functionals
from gwf.fields.learned import CriticField
from gwf.fields.w2 import DualField
from gwf.training import base

CRITIC_STEPS = 5
"""Updates of a field's potentials per Euler step, as in w2fe."""


class Recipe(base.Recipe):
    """`euler`: the step is `settings["tau"]`, the persistency `settings["phase"]`."""

    @property
    def potentials(self):
        """How many networks the field learns: 2 for W2's dual, 1 for a critic, 0 where the velocity is in closed form."""
        field = fields.FIELDS.get(self.functional, CriticField)
        return len(field.potentials)

    def record(self, settings):
        """What metrics.json says of the time step."""
        return {"tau": "inf", "eps": settings["tau"], "persistency": settings["phase"]}

    def field(self, potentials, settings):
        """The velocity field, with its potentials' networks; the penalty's weight is `lipschitz` for W1, else `penalty`."""
        if not potentials:
            return fields.get(self.functional)
        functional, adam = functionals.get(self.functional), (settings["lr_critic"], CRITIC_STEPS, (0.5, 0.9))
        if functional is DualField:
            return DualField(*potentials, settings["penalty"], *adam)
        weight = settings["lipschitz" if functional.penalty == "lipschitz" else "penalty"]
        return CriticField(functional, *potentials, weight, *adam)


class Trainer(base.Trainer):
    """The forward Euler step on frozen targets (`gwf.steps.euler`), one regression step at a time.

        every `phase` updates:   improve the field on fresh batches;   z fresh,   zeta <- T(z) + tau V(T(z)), frozen
        map:                     minimise |T(z) - zeta|^2, on the same z and zeta until the next ones

    `phase` is the updates of the map per time step in either family: here, the persistency. `tau` is the size of the
    step: here, eps. The penalties' weights are those of the field's potentials.
    """

    def __init__(self, recipe, task, settings, seed, device):
        super().__init__(recipe, task, settings, seed, device)
        self.field = recipe.field(list(self.critic), settings)
        self.frozen = None
        self.critic_loss = torch.zeros((), device=device)

    def networks(self, recipe):
        """Map, and as many potentials as the field has."""
        T, critic = self.task.networks()
        critics = [critic, *(self.task.networks()[1] for _ in range(recipe.potentials - 1))]
        return T, nn.ModuleList(critics[: recipe.potentials])

    def freeze(self):
        """Improve the field, then freeze latents and pushed samples. Returns T(z), whose graph the next update uses."""
        for _ in range(self.field.critic_steps):
            y, z = self.draw_data(), self.draw_latent()
            with torch.no_grad(), self.precision():
                x = self.T(z)
            with self.precision():
                loss = self.field.loss(x.float(), y, self.streams["penalty"])
            self.descend(self.field.optimiser, loss)
            self.critic_loss = loss.detach()
        other = None
        if self.field.needs_other:
            with torch.no_grad(), self.precision():
                other = self.T(self.draw_latent()).float()
        y, z = self.draw_data(), self.draw_latent()
        with self.precision():
            x = self.T(z)
        at = x.detach().float()
        self.frozen = z, at + self.settings["tau"] * self.field(at, y, other, self.streams["penalty"])
        return x

    def update(self):
        """One regression step, on a new target every `phase` updates; see `Trainer.update`."""
        if self.step % self.settings["phase"] == 0:
            x = self.freeze()
        else:
            with self.precision():
                x = self.T(self.frozen[0])
        loss = (x.float() - self.frozen[1]).square().sum() / len(x)
        self.descend(self.opt_T, loss)
        self.average.update_parameters(self.T)
        self.step += 1
        return self.critic_loss, loss.detach(), loss.new_zeros(())

    def state_dict(self):
        """Everything the rest of the run depends on."""
        return super().state_dict() | {
            "field": self.field.state_dict(),
            "frozen": self.frozen,
            "critic_loss": self.critic_loss,
        }

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        super().load_state_dict(state)
        self.field.load_state_dict(state["field"])
        self.frozen, self.critic_loss = state["frozen"], state["critic_loss"]
