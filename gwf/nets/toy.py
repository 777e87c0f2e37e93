r"""The networks of sjko's two-dimensional experiments, and smaller ones of the same form.

A block of `layers` (linear, SiLU) pairs is added to its input and scaled, a -> (a + block(a)) / sqrt 2, so that the
variance of the activations neither grows nor shrinks with depth. The map adds a branch for the auxiliary latent z:

    T(x, z) = head(trunk(x) + branch(z)),        v(y) = head(trunk(y)).

At the published sizes (width 128, three blocks of three layers, z of dimension 2) the map has 182,658 weights and
the potential 165,633. Source: sjko, released settings of the toys; written here from their description.
"""

import math

import torch
from torch import nn

from gwf.nets.mlp import MLP


class Block(nn.Module):
    """a (n, width) -> (a + block(a)) / sqrt 2, the block being `layers` times (linear, SiLU)."""

    def __init__(self, width, layers):
        super().__init__()
        self.block = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), nn.SiLU())])

    def forward(self, a):
        return (a + self.block(a)) * math.sqrt(0.5)


class Trunk(nn.Sequential):
    """x (n, d) -> (n, width): a linear layer and `blocks` residual blocks."""

    def __init__(self, d, width=128, blocks=3, layers=3):
        super().__init__(nn.Linear(d, width), *[Block(width, layers) for _ in range(blocks)])


class Head(nn.Sequential):
    """a (n, width) -> (n, d): linear, SiLU, linear."""

    def __init__(self, width, d):
        super().__init__(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, d))


class ToyMap(nn.Module):
    """T(x, z), x (n, d), z (n, latent) -> (n, d). With `latent` = 0 there is no branch for z, and z is ignored.

    The branch is linear, SiLU, linear. `T` starts somewhere, not at the identity: the anchor of the first step is the
    map (x, z) -> x itself (`gwf.steps.semidual.first`), never a copy of the untrained network.
    """

    def __init__(self, d=2, latent=2, width=128, blocks=3, layers=3):
        super().__init__()
        self.latent = latent
        self.trunk, self.head = Trunk(d, width, blocks, layers), Head(width, d)
        if latent:
            self.branch = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x, z=None):
        a = self.trunk(x)
        return self.head(a + self.branch(z) if self.latent else a)


class ToyPotential(nn.Module):
    """v(y), y (n, d) -> (n,), without a trailing axis: a column meeting a row is how the all-pairs defect arose."""

    def __init__(self, d=2, width=128, blocks=3, layers=3):
        super().__init__()
        self.trunk, self.head = Trunk(d, width, blocks, layers), Head(width, 1)

    def forward(self, y):
        return self.head(self.trunk(y)).squeeze(-1)


class AffineMap(nn.Module):
    """T(x, z) = m + s x + r z, all of shape (n, d), elementwise: the class in which the exact steps stay."""

    def __init__(self, m, s, r):
        super().__init__()
        self.m, self.s, self.r = (nn.Parameter(torch.as_tensor(a, dtype=torch.float32)) for a in (m, s, r))

    def forward(self, x, z):
        return self.m + self.s * x + self.r * z


class ExpertsMap(nn.Module):
    r"""A map that may jump: J affine experts m_j(x) = centre_j + pace (b_j + A_j x) and a gate that chooses among them.

    The optimal map onto well separated modes is discontinuous, and a continuous network pays for every jump with samples
    strung between the modes, where the potential has no data. Here the image is that of the likeliest expert; training sees
    all of them with the gate's shares p_j(x), so its inner infimum is over plans, and the gate can weigh a mode it has no
    sample in. Not in the papers; it serves as their scheme with a map class that contains the solution.

    Parameters
    ----------
    centres : Tensor (J, d)
        First images of the experts, e.g. data points far apart (`spread`).
    sharpness : float
        Factor of the gate's logits: larger is quicker to decide.
    pace : float
        Factor of the experts' displacement from their first values, so that at one learning rate for all they move in
        small steps (of the order of a mode's width) while the gate learns quickly.
    """

    def __init__(self, centres, width=64, depth=2, sharpness=3.0, pace=0.1):
        super().__init__()
        J, d = centres.shape
        self.register_buffer("centres", centres.clone())
        self.b, self.A, self.pace = nn.Parameter(torch.zeros(J, d)), nn.Parameter(torch.zeros(J, d, d)), pace
        self.gate, self.linear, self.sharpness = MLP(d, J, width, depth), nn.Linear(d, J), sharpness

    def branches(self, x, z=None):
        """Images (n, J, d) of all experts at x (n, d), and their shares (n, J)."""
        shares = ((self.gate(x) + self.linear(x)) * self.sharpness).softmax(1)
        return self.centres + self.pace * (self.b + torch.einsum("ni,jik->njk", x, self.A)), shares

    def forward(self, x, z=None):
        """x (n, d) -> (n, d), the image of the likeliest expert."""
        y, shares = self.branches(x)
        return y[torch.arange(len(x), device=x.device), shares.argmax(1)]


class ScaledPotential(nn.Module):
    """v(y) = N(y / scale), y (..., d) -> (...), N an `MLP`: a light potential for data several units wide."""

    def __init__(self, d=2, width=64, depth=2, scale=1.5):
        super().__init__()
        self.net, self.scale = MLP(d, 1, width, depth), scale

    def forward(self, y):
        return self.net(y / self.scale).squeeze(-1)


def spread(points, J):
    """J of the points (n, d), each the farthest from those before it: one in every well separated mode."""
    chosen = [0]
    for _ in range(J - 1):
        chosen.append(int(torch.cdist(points, points[chosen]).min(1).values.argmax()))
    return points[chosen]
