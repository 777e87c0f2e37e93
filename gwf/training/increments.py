"""vwgf on images and in the plane: a JKO step as an increment on the last law, and as a whole map, on the same networks."""

import torch

from gwf.nets.transport import Composition, Increment
from gwf.steps import jko
from gwf.training import implicit
from gwf.training.source import Shaped


class Whole(implicit.JKO):
    """The JKO step on a whole map from noise of the data's shape, S(x) = x + N(x), started at the identity."""

    title = "JKO, whole map"

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, Shaped(task), settings, seed, device)

    def networks(self, functional):
        """One network as the map, and the task's critic."""
        return Increment(self.task.shape).to(self.device), self.task.critic()


class Increments(Whole):
    """The JKO step on an increment, mu_{k+1} = (S_k)# mu_k: a network a step, the earlier ones frozen.

        critic:  minimise  -bound(h(S_k(x)), h(y)) + weight * penalty(h)               x ~ mu_k, k passes
        map:     minimise  F-part of the bound at S_k(x) + |S_k(x) - x|^2 / (2 tau)

    K = updates / phase steps cost O(K^2) passes, whole maps O(K). Each increment starts at the identity, the critic goes on.
    vwgf keeps particles of mu_k, or a buffer of images, to save passes, and has five updates of the critic for one of the map.
    """

    title = "JKO, increments"

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        self.prox = self.losses.prox = Stay(settings.tau, settings.per_dimension)
        self.push = lambda x: self.fast(self.T[self.index()])(x)

    def networks(self, functional):
        """As many networks as there are steps, and the task's critic."""
        count = -(-self.settings.updates // self.settings.phase)
        return Composition(self.task.shape, count).to(self.device), self.task.critic()

    def index(self):
        """k of the step that the next update belongs to."""
        return self.step // self.settings.phase

    @torch.no_grad()
    def draw_latent(self):
        """x ~ mu_k, (n, d): a latent through the increments that are done."""
        return self.T(super().draw_latent()[:, : self.task.d], self.index())


class Stay(jko.JKO):
    """The proximal term of an increment: its anchor is the point itself."""

    active = False

    def __init__(self, tau, per_dimension):
        self.tau, self.per_dimension = tau, per_dimension

    def advance(self):
        """The next increment starts where this one ends."""

    def proximal(self, x, z):
        """(1 / (2 tau)) mean_b |x_b - z_b|^2 for x = S(z)."""
        return jko.proximal(x, z, self.tau, self.per_dimension)
