"""Fully connected networks for low dimension."""

from torch import nn


class MLP(nn.Sequential):
    """x (n, d_in) -> (n, d_out): `depth` hidden layers of `width` with SiLU, linear output."""

    def __init__(self, d_in, d_out, width=128, depth=3):
        sizes = [d_in] + [width] * depth
        layers = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b), nn.SiLU()]
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
