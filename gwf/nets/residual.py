"""Networks for low dimension with the Gaussian case built in: an affine map, a quadratic function, plus an MLP."""

import torch
from torch import nn

from gwf.nets.mlp import MLP


class AffineResidualMLP(nn.Module):
    """T(x) = x + L x + b + N(x), x (n, d) -> (n, d), with N an `MLP` (none if `width` is 0); starts at the identity.

    Between Gaussians every JKO step is affine, so the class contains it; N takes up the rest.
    """

    def __init__(self, d, width=32, depth=2):
        super().__init__()
        self.affine = nn.Linear(d, d)
        self.net = MLP(d, d, width, depth) if width else None
        for layer in (self.affine,) + ((self.net[-1],) if width else ()):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        y = x + self.affine(x)
        return y if self.net is None else y + self.net(x)


class QuadraticMLP(nn.Module):
    """u(x) = x^T Q x / 2 + b . x + c + N(x), x (n, d) -> (n, 1), N an `MLP` (none if `width` is 0); starts at 0.

    log of the ratio of two Gaussians is of this form with N = 0.
    """

    def __init__(self, d, width=32, depth=2):
        super().__init__()
        self.Q = nn.Parameter(torch.zeros(d, d))
        self.linear = nn.Linear(d, 1)
        self.net = MLP(d, 1, width, depth) if width else None
        for layer in (self.linear,) + ((self.net[-1],) if width else ()):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        u = self.linear(x) + ((x @ self.Q) * x).sum(1, keepdim=True) / 2
        return u if self.net is None else u + self.net(x)


class QuadraticCritic(nn.Module):
    """h(x) = x^T Q x / 2 + r . x + c + N(x) as `QuadraticMLP`, Q the weights of a layer of their own; starts at 0.

    Its layers draw other numbers from torch's stream than those of `QuadraticMLP`, so that N starts elsewhere.
    """

    def __init__(self, d, width=16, depth=2):
        super().__init__()
        self.quadratic, self.linear = nn.Linear(d * d, 1), nn.Linear(d, 1, bias=False)
        self.net = MLP(d, 1, width, depth) if width else None
        for layer in (self.quadratic, self.linear) + ((self.net[-1],) if width else ()):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x):
        h = self.quadratic((x[:, :, None] * x[:, None, :]).flatten(1) / 2) + self.linear(x)
        return h if self.net is None else h + self.net(x)
