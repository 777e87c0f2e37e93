"""A source of the data's own shape, for methods that move data to data: semi-dual steps, increments, flow matching."""

import math

import torch

from gwf.nets.transport import Flat
from gwf.seeding import generator


class Shaped:
    """A task in rows: mu_0 = N(0, I) on R^d, d the data's dimension, with the task's own latent z beside it; data flattened."""

    def __init__(self, task):
        self.task, self.seed, self.device = task, task.seed, task.device
        self.shape = tuple(task.data(1, generator(task.seed, "shape of the data", task.device)).shape[1:])
        self.d, self.size = math.prod(self.shape), self.latent(1, generator(task.seed, "size", task.device)).shape[1]

    def data(self, n, stream):
        """y ~ nu, (n, d)."""
        return self.task.data(n, stream).flatten(1)

    def latent(self, n, stream):
        """(x, z), x ~ N(0, I), (n, d + latent)."""
        return self.beside(self.task.latent(n, stream), stream)

    def beside(self, z, stream):
        """x ~ N(0, I) before each z."""
        return torch.cat([torch.randn(len(z), math.prod(self.shape), generator=stream, device=z.device), z], 1)

    def critic(self):
        """The task's critic, on rows."""
        return Flat(self.task.networks()[1], self.shape)

    def sample(self, T, n):
        """n samples as the task gives them, of a map of rows, always from the same rows."""
        stream = generator(self.seed, "evaluation source", self.device)
        return self.task.sample(lambda z: T(self.beside(z, stream)).view(-1, *self.shape), n)
