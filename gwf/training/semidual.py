"""S-JKO and its relatives: the saddle problems of `gwf.steps.semidual`, on rows, in the one alternating loop."""

from dataclasses import dataclass
from functools import partial

import torch

from gwf import divergences
from gwf.nets.transport import Transport
from gwf.steps import semidual as sd
from gwf.training import base, implicit
from gwf.training.source import Shaped


@dataclass(frozen=True)
class SJKOSettings(implicit.JKOSettings):
    independent: bool = False  # the anchor sees a latent of its own, as in sjko's algorithm
    noise: float = (
        0.0  # standard deviation of noise on the data in the first phase, 1/(k+1) of it in phase k; 1/32 as released
    )


@dataclass(frozen=True)
class OneStepSettings(SJKOSettings):
    phase: int = 10**8


class Losses:
    """A saddle problem as the loop asks for it: x are the images, their costs and their shares."""

    def __init__(self, saddle):
        self.saddle = saddle

    def critic_loss(self, x, y, generator=None, step=0):
        return self.saddle.potential_loss(*sd.likeliest(*x), y)

    def map_loss(self, x, z, y):
        """(-E v(T), E c)."""
        cost = x[1].mean()
        return self.saddle.map_loss(*x) - cost, cost


class SJKO(implicit.JKO):
    """S-JKO: the source, image-shaped noise, is held fixed in each step; the first anchor is T_0(x, z) = x."""

    title = "S-JKO"
    Settings = SJKOSettings
    #: f-divergences whose conjugate is finite, and sjko's JSD, which is non-saturating.
    functionals = ("kl", "kl_dv", "chi2", "js_ns")

    def __init__(self, functional, task, settings, seed, device):
        base.Trainer.__init__(self, functional, Shaped(task), settings, seed, device)
        fresh = lambda z, stream: task.latent(len(z), stream)
        latents = fresh if settings.independent else sd.matched
        self.quick, self.prox = self.fast(self.T), sd.Anchor(settings.tau, settings.per_dimension, latents)
        self.prox.advance = partial(self.prox.advance, self.T)  # the loop says when, not what
        self.losses = Losses(self.saddle(functional, self.fast(self.critic)))
        self.opt_h = self.adam(self.critic, settings.lr_critic)

    @classmethod
    def takes(cls, functional):
        return functional in cls.functionals

    def networks(self, functional):
        """A map of (x, z) into the data's range, and a potential."""
        T = Transport(self.task.shape, self.task.size - self.task.d, bounded=True)
        return T.to(self.device), self.task.critic()

    def saddle(self, functional, v):
        """Source hard; for W2 the data too, Psi* = s."""
        if functional == "js_ns":
            return sd.NonSaturatingStep(v, self.prox, self.settings.penalty)
        target = divergences.entropy("linear" if functional == "w2" else functional)
        return sd.SemiDualStep(target, v, self.prox, self.settings.penalty)

    def draw_data(self):
        """y, with the noise of this phase."""
        y, sigma = super().draw_data(), self.settings.noise / (self.step // self.settings.phase + 1)
        return y + sigma * torch.randn(y.shape, generator=self.streams["data"], device=y.device) if sigma else y

    def push(self, rows):
        """T(x, z) as the one image of each row, its cost, its share."""
        y, d = self.quick(rows)[:, None], self.task.d
        return y, self.prox(y, rows[:, :d], rows[:, d:], self.streams["latent"]), y.new_ones(y.shape[:2])

    def parts(self):
        """See `Trainer.parts`; T_0 has no weights."""
        later = {} if self.prox.T_k is sd.first else {"T_k": self.prox.T_k}
        return base.Trainer.parts(self) | {"opt_h": self.opt_h} | later

    def load_state_dict(self, state):
        if "T_k" in state["parts"]:
            self.prox.advance()
        super().load_state_dict(state)


class SourceFixed(SJKO):
    """One step alone, K = 1: source-fixed UOTM; OTM for W2, whose dual it is with the map as its c-transform."""

    title = "source-fixed UOTM"
    Settings = OneStepSettings
    functionals = (*SJKO.functionals, "w2")


class UOTM(SourceFixed):
    """The source relaxed too, a cost to each sample."""

    title = "UOTM"
    functionals = ("kl", "chi2")
    step_of = sd.RelaxedSourceStep

    def saddle(self, functional, v):
        psi = divergences.entropy(functional)
        return self.step_of(psi, psi, v, self.prox, self.settings.penalty)


class UOTMReleased(UOTM):
    """UOTM as released: the cost of every sample beside the potential of every other."""

    title = "UOTM as released"
    step_of = sd.AllPairsStep
