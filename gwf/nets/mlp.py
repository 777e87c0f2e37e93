"""Fully connected networks for low dimension."""

import torch
from torch import nn


class MLP(nn.Sequential):
    """x (n, d_in) -> (n, d_out): `depth` hidden layers of `width` with SiLU or another activation, linear output."""

    def __init__(self, d_in, d_out, width=128, depth=3, activation=nn.SiLU):
        sizes = [d_in] + [width] * depth
        layers = [m for a, b in zip(sizes[:-1], sizes[1:], strict=True) for m in (nn.Linear(a, b), activation())]
        super().__init__(*layers, nn.Linear(sizes[-1], d_out))


class ResidualMLP(nn.Module):
    """T(z) = z + N(z), z (n, d) -> (n, d), with N an `MLP` whose last layer starts at zero: T starts at the identity."""

    def __init__(self, d, width=128, depth=3):
        super().__init__()
        self.net = MLP(d, d, width, depth)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, z):
        return z + self.net(z)


class RatioNet(MLP):
    """Reference coordinates (n, d) -> u (n, 1): two hidden layers with ReLU.

    The ratio of a compactly supported law has a kink at the edge of the support, which a network with kinks can follow.
    """

    def __init__(self, d, width):
        super().__init__(d, 1, width, 2, nn.ReLU)


class AffineIncrement(nn.Module):
    """T(x) = x + A x + b, started at the identity.

    The released porous map, the gradient of a one-layer quadratic "ICNN", is of this form with A symmetric. It
    contains the exact step from a Barenblatt profile, a dilation, and no map that is not affine.
    """

    def __init__(self, d):
        super().__init__()
        self.A, self.b = nn.Parameter(torch.zeros(d, d)), nn.Parameter(torch.zeros(d))

    def forward(self, x):
        return x + x @ self.A.T + self.b
