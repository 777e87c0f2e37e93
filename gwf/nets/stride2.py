r"""4x4 convolutions of stride 2 for images of one channel, several times faster on a CPU.

The library's kernels for a single channel are slow where this project needs them most: backwards with respect to the
image (the map's loss, the R1 penalty) and forwards to an image. A 4x4 window of stride 2 and padding 1 looks at 3x3
blocks of 2x2 pixels, so with those blocks as channels (`pixel_unshuffle`) it is a 3x3 convolution of stride 1 from or
to 4 channels, for which the kernels are fast. The classes hold the parameters of `torch.nn.Conv2d` and
`torch.nn.ConvTranspose2d` and compute the same function to rounding (gain: `benchmarks/updates.py`).
"""

import torch
from torch import nn
from torch.nn import functional as F


def _blocks(weight):
    """(a, b, 4, 4) -> (a, b, 3, 2, 3, 2): tap p of the 4x4 window is pixel r of block i, with p + 1 = 2 i + r."""
    a, b = weight.shape[:2]
    return F.pad(weight, (1, 1, 1, 1)).view(a, b, 3, 2, 3, 2)


class DownFromOne(nn.Conv2d):
    """Convolution (batch, 1, 2h, 2w) -> (batch, c, h, w), 4x4, stride 2, padding 1."""

    def __init__(self, c_out):
        super().__init__(1, c_out, 4, stride=2, padding=1)

    def forward(self, x):
        # (o, c, i, r, j, s) -> (o, (c, r, s), i, j), the channel order of pixel_unshuffle
        weight = _blocks(self.weight).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        blocks = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(blocks, weight, self.bias, padding=1)


class UpToOne(nn.ConvTranspose2d):
    """Transposed convolution (batch, c, h, w) -> (batch, 1, 2h, 2w), 4x4, stride 2, padding 1."""

    def __init__(self, c_in):
        super().__init__(c_in, 1, 4, stride=2, padding=1)

    def forward(self, x):
        # a transposed convolution reads its blocks in reverse: (c, o, i, r, j, s) -> ((o, r, s), c, -i, -j)
        weight = _blocks(self.weight).permute(1, 3, 5, 0, 2, 4).flatten(0, 2).flip(2, 3)
        return F.pixel_shuffle(F.conv2d(x, weight, padding=1), 2) + self.bias
