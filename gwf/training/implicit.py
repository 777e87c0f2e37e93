"""The JKO step and its limit tau = infinity, the GAN of the functional."""

import math

from gwf import functionals
from gwf.steps.jko import JKO, JKOStep
from gwf.training import base


class Recipe(base.Recipe):
    """`gan` or `jko`."""

    def tau(self, settings):
        """The step: `settings["tau"]` for `jko`, infinity for `gan`."""
        return math.inf if self.step == "gan" else settings["tau"]

    def record(self, settings):
        """What metrics.json says of the time step."""
        return {"tau": settings["tau"] if self.step == "jko" else "inf"}

    def build(self, T, critic, settings):
        """The `JKOStep` of this recipe for a map and a critic.

        `settings` needs tau, per_dimension, penalty and penalty_every (of R1). W1 uses the weight `lipschitz` at
        every update: its bound holds for Lipschitz critics only, which a rare penalty would not keep.
        """
        functional = functionals.get(self.functional)
        prox = JKO(T, self.tau(settings), settings["per_dimension"])
        weight, every = settings["penalty"], settings["penalty_every"]
        if functional.penalty == "lipschitz":
            weight, every = settings["lipschitz"], 1
        return JKOStep(functional, critic, prox, weight, every, settings["nonsaturating"])


class Trainer(base.Trainer):
    """The JKO step and its limit, the GAN.

    One update is, with x = T(z) evaluated once and the two nets' batches y and z:

        critic:  minimise  -bound(h(x), h(y)) + weight * penalty(h)         (no gradient reaches T)
        map:     minimise  F-part of the bound at x + |x - T_k(z)|^2 / (2 tau)   (with the critic just updated)
        every `phase` updates:  T_k <- T

    The papers' released loops draw a second z for the map's step; using x = T(z) again saves a pass through T and
    changes no expectation. Critic, optimisers and averages go on from one JKO step to the next, as there.
    """

    def __init__(self, recipe, task, settings, seed, device):
        super().__init__(recipe, task, settings, seed, device)
        self.step_of = recipe.build(self.T, self.critic, settings)
        self.opt_h = self.adam(self.critic, settings["lr_critic"])

    def update(self):
        """One alternating update; see `Trainer.update`."""
        y, z = self.draw_data(), self.draw_latent()
        with self.precision():
            x = self.T(z)
            critic_loss = self.step_of.critic_loss(x, y, self.streams["penalty"], self.step)
        self.descend(self.opt_h, critic_loss)

        # The critic's weights need no gradient here, only the image it looks at.
        self.critic.requires_grad_(False)
        with self.precision():
            map_loss, proximal = self.step_of.map_loss(x, z, y)
        self.descend(self.opt_T, map_loss + proximal)
        self.critic.requires_grad_(True)

        self.average.update_parameters(self.T)
        self.step += 1
        if self.step % self.settings["phase"] == 0:
            self.step_of.prox.advance()
        return critic_loss.detach(), map_loss.detach(), proximal.detach()

    def state_dict(self):
        """Everything the rest of the run depends on."""
        prox = self.step_of.prox
        anchor = prox.T_k.state_dict() if prox.active else None
        return super().state_dict() | {"opt_h": self.opt_h.state_dict(), "T_k": anchor}

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        super().load_state_dict(state)
        self.opt_h.load_state_dict(state["opt_h"])
        if self.step_of.prox.active:
            self.step_of.prox.T_k.load_state_dict(state["T_k"])
