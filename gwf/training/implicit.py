"""The JKO step and its limit tau = infinity, the GAN of the functional."""

import math
from dataclasses import dataclass

from gwf import divergences
from gwf.steps import jko
from gwf.training import base, settings


@dataclass(frozen=True)
class GANSettings(settings.Settings):
    phase: int = 250  # updates of the map per JKO step; without the proximal term they are only counted
    penalty_every: int = 4  # R1 is added to every so many-th critic loss, that many times as heavy
    nonsaturating: bool = False  # the functional's non-saturating map loss, where it has one

    tau = math.inf
    per_dimension = False


@dataclass(frozen=True)
class JKOSettings(GANSettings):
    tau: float = 0.5  # the step, in (0, inf]
    per_dimension: bool = (
        False  # the proximal term is a mean over coordinates, as in the papers' codes: Euclidean step d tau
    )


class JKO(base.Trainer):
    """The JKO step, one update of which is, with x = T(z) evaluated once and the two nets' batches y and z:

        critic:  minimise  -bound(h(x), h(y)) + weight * penalty(h)         (no gradient reaches T)
        map:     minimise  F-part of the bound at x + |x - T_k(z)|^2 / (2 tau)   (with the critic just updated)
        every `phase` updates:  T_k <- T

    The papers' released loops draw a second z for the map's step; using x = T(z) again saves a pass through T and
    changes no expectation. Critic, optimisers and averages go on from one JKO step to the next, as there.

    W1 uses the weight `lipschitz` at every update: a rare penalty would not keep the critic as its bound needs it.
    """

    title = "JKO"
    Settings = JKOSettings

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        functional = divergences.get(functional)
        weight, every = settings.penalty, settings.penalty_every
        if functional.penalty == "lipschitz":
            weight, every = settings.lipschitz, 1
        self.push = self.fast(self.T)
        self.prox = jko.JKO(self.push, settings.tau, settings.per_dimension)
        self.losses = jko.JKOStep(functional, self.fast(self.critic), self.prox, weight, every, settings.nonsaturating)
        self.opt_h = self.adam(self.critic, settings.lr_critic)

    @staticmethod
    def takes(functional):
        """Functionals with a variational bound."""
        return divergences.has_critic(functional)

    def phase(self):
        return (self.step - 1) // self.settings.phase + 1

    def update(self):
        """One alternating update; see `Trainer.update`."""
        y, z = self.draw_data(), self.draw_latent()
        x = self.push(z)
        critic_loss = self.losses.critic_loss(x, y, self.streams["penalty"], self.step)
        self.descend(self.opt_h, critic_loss)

        # The critic's weights need no gradient here, only the image it looks at.
        self.critic.requires_grad_(False)
        map_loss, proximal = self.losses.map_loss(x, z, y)
        self.descend(self.opt_T, map_loss + proximal)
        self.critic.requires_grad_(True)

        self.average.update()
        self.step += 1
        if self.step % self.settings.phase == 0:
            self.prox.advance()
        return critic_loss.detach(), map_loss.detach(), proximal.detach()

    def parts(self):
        return super().parts() | {"opt_h": self.opt_h} | ({"T_k": self.prox.T_k} if self.prox.active else {})


class GAN(JKO):
    """tau = infinity: no proximal term, the generative adversarial network of the functional."""

    title = "no JKO"
    Settings = GANSettings
