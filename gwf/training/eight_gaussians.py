"""Eight Gaussians on the unit circle: perceptrons, source U([-1, 1]^2)."""

import torch

from gwf.data.embedded import eight_gaussians
from gwf.nets.mlp import MLP
from gwf.seeding import generator


class Task:
    """Move mu_0 = U([-1, 1]^2) to eight Gaussians of standard deviation .1 on the unit circle (gwf's 2-D demo)."""

    #: Settings that suit the data set, of the steps that have them.
    defaults = {"batch": 256, "ema": 0.99, "n_samples": 1000, "per_dimension": False}

    def __init__(self, seed, device):
        self.device, self.seed = device, seed

    def networks(self):
        """A fresh map and critic with three hidden layers of 128; weights from torch's current default stream."""
        return [net.to(self.device) for net in (MLP(2, 2), MLP(2, 1))]

    def data(self, n, stream):
        """y ~ nu, (n, 2)."""
        return eight_gaussians(n, stream)

    def latent(self, n, stream):
        """z ~ mu_0 = U([-1, 1]^2), (n, 2)."""
        return torch.rand(n, 2, generator=stream, device=self.device) * 2 - 1

    @torch.no_grad()
    def sample(self, T, n):
        """n generated points, float32 (n, 2), always from the same latents."""
        return T(self.latent(n, generator(self.seed, "evaluation latents", self.device))).cpu().numpy()
