"""Maps between laws of the data's own shape, on rows: x (n, d) with a latent z (n, latent) beside it."""

import math

import torch
from torch import nn
from torch.nn.functional import silu

from gwf.nets.stride2 import DownFromOne, UpToOne
from gwf.nets.toy import ToyMap


class ConvTransport(nn.Module):
    """Images x (n, 1, 28, 28) and z (n, latent) -> images, a small U-net: down to 7 x 7, where z joins, and up again.

    Channels 1 -> w -> 2w -> w -> 1, group norm, SiLU; 110,657 parameters at width 32 and latent 1.
    """

    def __init__(self, latent, width=32):
        super().__init__()
        self.width = width
        self.down_1, self.down_2 = DownFromOne(width), nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.branch = nn.Linear(latent, 2 * width * 49) if latent else None
        self.norm_1, self.norm_2 = nn.GroupNorm(4, 2 * width), nn.GroupNorm(4, 2 * width)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.up_1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.head = nn.ModuleList([UpToOne(2 * width)])

    def forward(self, x, z=None):
        a = silu(self.down_1(x))
        b = self.down_2(a)
        if self.branch is not None:
            b = b + self.branch(z).view(-1, 7, 7, 2 * self.width).permute(0, 3, 1, 2)
        b = b + self.middle(silu(self.norm_1(b)))
        return self.head[0](torch.cat([a, silu(self.up_1(silu(self.norm_2(b))))], 1))


class Transport(nn.Module):
    """T(x, z) on rows, x (n, d) -> (n, d): a `ConvTransport` where the data are images, else sjko's network for the plane.

    Called with one argument it finds z in it, behind x; without `latent` columns z is left unread. `bounded` images are in
    [-1, 1]; the plane has no bounds.
    """

    def __init__(self, shape, latent=0, bounded=False):
        super().__init__()
        self.shape, self.d, self.end = (
            shape,
            math.prod(shape),
            torch.tanh if bounded and len(shape) > 1 else nn.Identity(),
        )
        self.net = ConvTransport(latent) if len(shape) > 1 else ToyMap(self.d, latent, blocks=2, layers=2)

    def forward(self, x, z=None):
        if z is None:
            x, z = x[:, : self.d], x[:, self.d :]
        return self.end(self.net(x.view(-1, *self.shape), z).flatten(1))


class Increment(Transport):
    """S(x) = x + N(x), started at the identity: the last layer of N at zero."""

    def __init__(self, shape):
        super().__init__(shape)
        for weight in self.net.head[-1].parameters():
            nn.init.zeros_(weight)

    def forward(self, x):
        return x[:, : self.d] + super().forward(x)


class Composition(nn.ModuleList):
    """S_K o ... o S_1, of increments; those that wait for their turn are the identity."""

    def __init__(self, shape, count):
        super().__init__(Increment(shape) for _ in range(count))

    def forward(self, x, count=None):
        for S in list(self)[:count]:
            x = S(x)
        return x


class Flat(nn.Module):
    """A critic of images on rows: x (..., d) -> (...)."""

    def __init__(self, net, shape):
        super().__init__()
        self.net, self.shape = net, shape

    def forward(self, x):
        return self.net(x.reshape(-1, *self.shape)).view(x.shape[:-1])
