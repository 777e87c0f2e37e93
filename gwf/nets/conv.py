"""Convolutional map and critic for 28x28 grey images: two stride-2 layers each, channels in multiples of `width`."""

import torch
from torch import nn
from torch.nn import functional as F

from gwf.nets.stride2 import DownFromOne, UpToOne


class ConvMap(nn.Module):
    """T: z (batch, latent) -> images (batch, 1, 28, 28) in [-1, 1].

    linear to 4w x 7 x 7, then transposed 4x4 convolutions 4w -> 2w -> 1, batch-normalised, tanh at the end
    (137k parameters at width 16, latent 32). Its frozen copy T_k normalises with the statistics of the batch it is
    given, as T does, so that the proximal term is exactly zero at T = T_k; evaluating the copy with running averages,
    as the released gwf code does, leaves a positive cost there.
    """

    def __init__(self, latent=32, width=16):
        super().__init__()
        self.latent, self.width = latent, width
        self.linear = nn.Linear(latent, 4 * width * 49)
        self.norm_1 = nn.BatchNorm2d(4 * width)
        self.up_1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.norm_2 = nn.BatchNorm2d(2 * width)
        self.up_2 = UpToOne(2 * width)

    def forward(self, z):
        x = self.linear(z).view(-1, 7, 7, 4 * self.width).permute(0, 3, 1, 2)
        x = F.relu(self.norm_1(x))
        x = F.relu(self.norm_2(self.up_1(x)))
        return torch.tanh(self.up_2(x))


class ConvCritic(nn.Module):
    """Critic: images (batch, 1, 28, 28) -> u (batch, 1): 4x4 stride-2 convolutions 1 -> w -> 2w, a hidden layer of 8w.

    No normalisation, as a penalty on the gradient at one image asks for (209k parameters at width 16).
    """

    def __init__(self, width=16):
        super().__init__()
        self.down_1 = DownFromOne(width)
        self.down_2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.hidden = nn.Linear(2 * width * 49, 8 * width)
        self.out = nn.Linear(8 * width, 1)

    def forward(self, x):
        x = F.leaky_relu(self.down_1(x), 0.2)
        x = F.leaky_relu(self.down_2(x), 0.2)
        return self.out(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))
