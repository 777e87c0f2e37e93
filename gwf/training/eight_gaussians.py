"""Eight Gaussians on the unit circle: perceptrons, exact W2 against the two-sample floor, modes."""

import torch

from gwf import metrics
from gwf.data.embedded import EIGHT_CENTRES, EIGHT_STD, eight_gaussians
from gwf.nets.mlp import MLP
from gwf.seeding import generator, rng

REPEATS = 10


class Task:
    """Move mu_0 = U([-1, 1]^2) to eight Gaussians of standard deviation .1 on the unit circle (gwf's 2-D demo).

    W2 is exact optimal transport between `n_samples` generated and `n_samples` true points; its floor is the same
    number between two samples of the true law.
    """

    metric = "w2"

    def __init__(self, extractor, seed, n_samples, device):
        self.device, self.seed, self.n_samples = device, seed, n_samples
        self._target = self.data(n_samples, generator(0, "evaluation target", device)).cpu().numpy()

    def networks(self):
        """A fresh map and critic with three hidden layers of 128; weights from torch's current default stream."""
        return [net.to(self.device) for net in (MLP(2, 2), MLP(2, 1))]

    def data(self, n, stream):
        """y ~ nu, (n, 2)."""
        return eight_gaussians(n, stream).to(self.device)

    def latent(self, n, stream):
        """z ~ mu_0 = U([-1, 1]^2), (n, 2)."""
        return torch.rand(n, 2, generator=stream, device=self.device) * 2 - 1

    @torch.no_grad()
    def sample(self, T, n):
        """n generated points, float32 (n, 2), always from the same latents."""
        return T(self.latent(n, generator(self.seed, "evaluation latents", self.device))).cpu().numpy()

    def score(self, T):
        """W2 of T."""
        return metrics.wasserstein(self.sample(T, self.n_samples), self._target, 2)

    def measure(self, T):
        """(metrics of the table, samples)."""
        samples = self.sample(T, self.n_samples)

        def true(n, numpy_stream):
            stream = generator(int(numpy_stream.integers(2**31)), "two-sample floor")
            return eight_gaussians(n, stream).numpy()

        floor, floor_sd = metrics.two_sample_floor(true, self.n_samples, 2, REPEATS, rng(0, "two-sample floor"))
        modes = metrics.mode_statistics(samples, EIGHT_CENTRES, EIGHT_STD)
        true_modes = metrics.mode_statistics(self._target, EIGHT_CENTRES, EIGHT_STD)
        out = {
            "w2": metrics.wasserstein(samples, self._target, 2),
            "w2_floor": floor,
            "w2_floor_sd": floor_sd,
            "modes": int(modes["modes"]),
            "modes_total": len(EIGHT_CENTRES),
            "share_3sd": float(modes["share_3sd"]),
            "share_3sd_floor": float(true_modes["share_3sd"]),
            "mode_tv": float(modes["mode_tv"]),
            "n": len(samples),
            "n_reference": len(self._target),
            "reference": "true law",
            "extractor": "none",
            "extractor_sha256": "",
        }
        return out, samples
