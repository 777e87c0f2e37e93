"""vwgf on images and in the plane: a JKO step as an increment on the last law, and as a whole map, on the same networks."""

import torch
from torch import nn

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
    """The JKO step on an increment, mu_{k+1} = (S_k)# mu_k: the map's loss at S_k(x) + |S_k(x) - x|^2 / (2 tau), x ~ mu_k.

    A network a step, the earlier ones frozen: K = updates / phase steps cost O(K^2) passes, whole maps O(K). The critic goes on
    from step to step. vwgf keeps a buffer of mu_k to save passes, and has five updates of the critic for one of the map.
    """

    title = "JKO, increments"

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, task, settings, seed, device)
        self.prox = self.losses.prox = jko.JKO(nn.Identity(), settings.tau, settings.per_dimension)  # T_k(x) = x
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
