"""References that nothing trains: where the flow of W_2^2 ends among affine maps, and among all maps."""

import math

import torch
from torch import nn

from gwf.seeding import generator
from gwf.training import base, settings
from gwf.training.source import Shaped

DRAWS = 4096  # data that a reference is made of


class Affine(nn.Module):
    """T(x) = m + C^(1/2) x with mean and covariance of the data y (n, d)."""

    def __init__(self, y):
        super().__init__()
        values, vectors = torch.linalg.eigh(torch.cov(y.T.double()))
        root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        self.m, self.root = nn.Parameter(y.mean(0)), nn.Parameter(root.to(y.dtype))

    def forward(self, x):
        return self.m + x[:, : len(self.m)] @ self.root


class Memory(nn.Module):
    """T(x) = y_j with j = ceil(n Phi(x_1)): every one of the data y (n, d) from a share 1/n of N(0, I). Learned by heart."""

    def __init__(self, y):
        super().__init__()
        self.y = nn.Parameter(y)

    def forward(self, x):
        share = (1 + torch.erf(x[:, 0] / math.sqrt(2))) / 2
        return self.y[(share * len(self.y)).long().clamp_max(len(self.y) - 1)]


class Gaussian(base.Trainer):
    """The Gaussian with the mean and covariance of the data, in their own space: where affine maps end."""

    title = "Gaussian"
    Settings = settings.Settings
    map_of = Affine
    phase = staticmethod(lambda: 1)  # there are no time steps

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, Shaped(task), settings, seed, device)

    @staticmethod
    def takes(functional):
        return functional == "w2"

    def networks(self, functional):
        y = self.task.data(DRAWS, generator(self.task.seed, "reference", self.device))
        return self.map_of(y), nn.ModuleList()

    def update(self):
        self.step += 1
        return [torch.zeros((), device=self.device)] * 3


class Real(Gaussian):
    """The data themselves: the floor, as a method scores it."""

    title = "real data"
    map_of = Memory
