"""Point clouds in the plane: what the explicit flows are tried on, drawn in one call each.

    sample(n, stream) -> float32 (n, 2), on the device of the stream

| name | source mu_0 | data nu |
| --- | --- | --- |
| `ring` | N(0, .05^2 I) | eight Gaussians on the unit circle, std .1 |
| `four_gaussians` | four Gaussians at radius 2, std .1 | the same at radius 1 |
| `swiss_roll` | N(0, .05^2 I) | a spiral of one and a half turns inside the unit disc, noise .03 |
| `checkerboard` | N(0, .05^2 I) | uniform on the eight dark squares of a 4 x 4 board on [-1, 1]^2 |
| `minor_modes` | N(0, .05^2 I) | six major modes (15 % each) on the unit circle and two far minor ones (5 % each), std .1 |

Sources: w2fe (settings of the plane; roll and board in our own normalisation), proposal (minor modes).
"""

import functools
import math
from dataclasses import dataclass

import torch

from gwf.data.embedded import EIGHT_CENTRES, EIGHT_STD
from gwf.errors import nearest

FOUR_CENTRES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
FOUR_STARTS = 2 * FOUR_CENTRES
_ANGLES = torch.arange(6) * (math.pi / 3)
MINOR_CENTRES = torch.cat([torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1), torch.tensor([[2.5, 2.5], [-2.5, -2.5]])])
MINOR_WEIGHTS = torch.tensor([0.15] * 6 + [0.05] * 2)


def normal(n, stream, std=0.05):
    """N(0, std^2 I), (n, 2)."""
    return std * torch.randn(n, 2, generator=stream, device=stream.device)


@functools.cache
def _on(device, constant):
    """A constant of this module on a device, copied once."""
    return constant.to(device)


def mixture(n, stream, centres, std, weights=None):
    """Mixture of N(c_k, std^2 I) over the rows c_k of `centres`, equal weights unless given; (n, 2)."""
    weights = centres.new_ones(len(centres)) if weights is None else weights
    mode = torch.multinomial(weights, n, replacement=True, generator=stream)
    return centres[mode] + normal(n, stream, std)


def on_modes(centres, std, weights=None):
    """The sampler (n, stream) of `mixture` for constant centres, wherever the stream is."""

    def sample(n, stream):
        own = None if weights is None else _on(stream.device, weights)
        return mixture(n, stream, _on(stream.device, centres), std, own)

    return sample


def ring(n, stream):
    """Eight Gaussians on the unit circle, std .1, n / 8 points of each (as w2fe draws them) and the rest at random."""
    device = stream.device
    whole = torch.arange(8, device=device).repeat_interleave(n // 8)
    mode = torch.cat([whole, torch.randint(8, (n % 8,), generator=stream, device=device)])
    x = _on(device, EIGHT_CENTRES)[mode] + normal(n, stream, EIGHT_STD)
    return x[torch.randperm(n, generator=stream, device=device)]


def swiss_roll(n, stream):
    """Points t (cos 3 pi t, sin 3 pi t) with t = sqrt(uniform on [.1, 1]), plus N(0, .03^2 I)."""
    t = (0.1 + 0.9 * torch.rand(n, generator=stream, device=stream.device)).sqrt()
    spiral = t[:, None] * torch.stack([(3 * math.pi * t).cos(), (3 * math.pi * t).sin()], 1)
    return spiral + normal(n, stream, 0.03)


def checkerboard(n, stream):
    """Uniform on the squares of side 1/2 in [-1, 1]^2 whose column and row add up to an even number."""
    column = torch.randint(4, (n,), generator=stream, device=stream.device)
    row = 2 * torch.randint(2, (n,), generator=stream, device=stream.device) + column % 2
    return (torch.stack([column, row], 1) + torch.rand(n, 2, generator=stream, device=stream.device)) / 2 - 1


@dataclass(frozen=True)
class Toy:
    """A pair of laws: `source` and `data`, callables (n, stream) -> (n, 2); `centres`, `std`, `weights` of its modes if any."""

    source: callable
    data: callable
    centres: torch.Tensor = None
    std: float = None
    weights: torch.Tensor = None


TOYS = {
    "ring": Toy(normal, ring, EIGHT_CENTRES, EIGHT_STD),
    "four_gaussians": Toy(on_modes(FOUR_STARTS, 0.1), on_modes(FOUR_CENTRES, 0.1), FOUR_CENTRES, 0.1),
    "swiss_roll": Toy(normal, swiss_roll),
    "checkerboard": Toy(normal, checkerboard),
    "minor_modes": Toy(normal, on_modes(MINOR_CENTRES, 0.1, MINOR_WEIGHTS), MINOR_CENTRES, 0.1, MINOR_WEIGHTS),
}


def get(name):
    """The `Toy` called `name`; `UsageError` with the nearest valid name."""
    return TOYS[nearest(name, TOYS, "toy")]
