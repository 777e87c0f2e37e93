"""S-JKO and its relatives: the saddle problems of `gwf.steps.semidual`, on rows, in the one alternating loop."""

from dataclasses import dataclass

import torch

from gwf import divergences
from gwf.nets.transport import Bounded
from gwf.steps import semidual as sd
from gwf.training import base, implicit
from gwf.training.source import Shaped


@dataclass(frozen=True)
class SJKOSettings(implicit.JKOSettings):
    """Settings of `SJKO`."""

    independent: bool = False  # the anchor sees a latent of its own, as in sjko's algorithm
    noise: float = (
        0.0  # standard deviation of noise on the data in the first phase, 1/(k+1) of it in phase k; 1/32 as released
    )


@dataclass(frozen=True)
class OneStepSettings(SJKOSettings):
    """One step from mu_0: K = 1."""

    phase: int = 10**8


class Anchor(sd.Anchor):
    """The cost to T_k of one map, whose copy is taken when the loop says so."""

    active = True

    def __init__(self, T, *settings):
        super().__init__(*settings)
        self.T = T

    def advance(self):
        """T_k <- T."""
        super().advance(self.T)


class Losses:
    """A saddle problem of `gwf.steps.semidual` as the loop asks for it: x are the images, their costs and their shares."""

    def __init__(self, saddle):
        self.saddle = saddle

    def critic_loss(self, x, y, generator=None, step=0):
        """The potential's loss."""
        return self.saddle.potential_loss(*sd.likeliest(*x), y)

    def map_loss(self, x, z, y):
        """(-E v(T), E c)."""
        cost = x[1].mean()
        return self.saddle.map_loss(*x) - cost, cost


class SJKO(implicit.JKO):
    """S-JKO: the source, image-shaped noise, is held fixed in each step; the first anchor is T_0(x, z) = x.

    One evaluation of T serves both players. sjko's loop back-propagates through it twice, and halves the weight of R1.
    """

    title = "S-JKO"
    Settings = SJKOSettings

    def __init__(self, functional, task, settings, seed, device):
        base.Trainer.__init__(self, functional, Shaped(task), settings, seed, device)
        latents = self.fresh if settings.independent else sd.matched
        self.quick = self.fast(self.T)
        self.prox = Anchor(self.T, settings.tau, settings.per_dimension, latents)
        self.losses = Losses(self.saddle(functional, self.fast(self.critic)))
        self.opt_h = self.adam(self.critic, settings.lr_critic)

    @staticmethod
    def takes(functional):
        """f-divergences whose conjugate is finite, and sjko's JSD, which is non-saturating."""
        return functional in ("kl", "kl_dv", "chi2", "js_ns")

    def networks(self, functional):
        """A map of (x, z) into the data's range, and a potential."""
        T = Bounded(self.task.shape, self.task.size - self.task.d).to(self.device)
        return T, self.task.critic()

    def saddle(self, functional, v):
        """Source hard."""
        if functional == "js_ns":
            return sd.NonSaturatingStep(v, self.prox, self.settings.penalty)
        return sd.SemiDualStep(divergences.entropy(functional), v, self.prox, self.settings.penalty)

    def fresh(self, z, stream):
        """The anchor's own latent, of the law of z."""
        return self.task.task.latent(len(z), stream)

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
        """See `Trainer.load_state_dict`."""
        if "T_k" in state["parts"]:
            self.prox.advance()
        super().load_state_dict(state)


class SourceFixed(SJKO):
    """One step alone: source-fixed UOTM."""

    title = "source-fixed UOTM"
    Settings = OneStepSettings


class UOTM(SourceFixed):
    """The source relaxed too, a cost to each sample."""

    title = "UOTM"
    step_of = sd.RelaxedSourceStep

    @staticmethod
    def takes(functional):
        """Psi_1 = Psi_2 = the functional's."""
        return functional in ("kl", "chi2")

    def saddle(self, functional, v):
        """Both marginals relaxed."""
        psi = divergences.entropy(functional)
        return self.step_of(psi, psi, v, self.prox, self.settings.penalty)


class UOTMReleased(UOTM):
    """UOTM as released: the cost of every sample beside the potential of every other."""

    title = "UOTM as released"
    step_of = sd.AllPairsStep


class OTM(SourceFixed):
    """Both marginals hard: the dual of W_2^2 with the map as its c-transform."""

    title = "OTM"

    @staticmethod
    def takes(functional):
        """W2."""
        return functional == "w2"

    def saddle(self, functional, v):
        """The data hard too: Psi* = s."""
        return sd.SemiDualStep(divergences.entropy("linear"), v, self.prox, self.settings.penalty)
