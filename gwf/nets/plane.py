"""The networks of w2fe's experiments, in their sizes: a residual map with batch norm, and a ReLU potential."""

import torch
from torch import nn

from gwf.nets.mlp import MLP


class PlaneMap(nn.Module):
    """T(z) = z + N(z), z (n, d) -> (n, d): three hidden layers of `width`, each linear, batch norm, ReLU.

    Weights start from N(0, .01^2), those of the batch norm included, biases at 0: T starts near the identity. 34,434
    parameters at d = 2 and width 128. With `normalise` False the batch norm is left out and the weights start as torch
    has them, the last layer at 0; T(z) then depends on z alone.
    """

    def __init__(self, d=2, width=128, depth=3, normalise=True):
        super().__init__()
        layers, size = [], d
        for _ in range(depth):
            layers += [nn.Linear(size, width), *([nn.BatchNorm1d(width)] if normalise else []), nn.ReLU()]
            size = width
        self.net = nn.Sequential(*layers, nn.Linear(size, d))
        for layer in self.net:
            if normalise and hasattr(layer, "weight"):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)
        if not normalise:
            nn.init.zeros_(self.net[-1].weight)
            nn.init.zeros_(self.net[-1].bias)

    def forward(self, z):
        return z + self.net(z)


class PlanePotential(MLP):
    """p(x), x (n, d) -> (n, 1): three ReLU layers, weights N(0, .1^2), biases 0: 33,537 at d = 2, width 128."""

    def __init__(self, d=2, width=128, depth=3, std=0.1):
        super().__init__(d, 1, width, depth, nn.ReLU)
        with torch.no_grad():
            for layer in self:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, 0, std)
                    nn.init.zeros_(layer.bias)
