"""28x28 MNIST digits: convolutional networks, source N(0, I_32)."""

import numpy as np
import torch

from gwf.data.embedded import digits, to_model, to_uint8
from gwf.nets.conv import ConvCritic, ConvMap
from gwf.seeding import generator

LATENT = 32


class Task:
    """Generate digits from mu_0 = N(0, I_32). Training sees the 4000 train digits."""

    #: Settings that suit the data set, of the steps that have them.
    defaults = {"batch": 64, "ema": 0.998, "n_samples": 4000, "per_dimension": True}

    def __init__(self, seed, device):
        self.device, self.seed = device, seed
        self._train = to_model(digits().train).to(device).contiguous(memory_format=torch.channels_last)

    def networks(self):
        """A fresh map and critic; their weights come from torch's current default stream."""
        return [net.to(self.device, memory_format=torch.channels_last) for net in (ConvMap(LATENT), ConvCritic())]

    def data(self, n, stream):
        """y ~ nu: n train digits with replacement, (n, 1, 28, 28) in [-1, 1]."""
        return self._train[torch.randint(len(self._train), (n,), generator=stream, device=self.device)]

    def latent(self, n, stream):
        """z ~ mu_0 = N(0, I), (n, 32)."""
        return torch.randn(n, LATENT, generator=stream, device=self.device)

    @torch.no_grad()
    def sample(self, T, n):
        """n generated digits, rounded once to uint8, (n, 28, 28), always from the same latents."""
        z = self.latent(n, generator(self.seed, "evaluation latents", self.device))
        return np.concatenate([to_uint8(T(part)) for part in z.split(500)])
