"""28x28 MNIST digits: convolutional networks, Frechet distance in the features of a LeNet."""

import numpy as np
import torch

from gwf import metrics
from gwf.data.embedded import digits, to_model, to_uint8
from gwf.metrics.lenet import extract, load
from gwf.nets.conv import ConvCritic, ConvMap
from gwf.seeding import generator

LATENT = 32


class Task:
    """Generate digits from mu_0 = N(0, I_32).

    Training sees the 4000 train digits; every metric compares `n_samples` generated digits, rounded once to 8 bits,
    with the 1000 held-out digits. The floor is the same metric between train digits and held-out digits.

    Parameters
    ----------
    extractor : str or Path
        Weights of the LeNet that measures (the `lenet` stage writes them).
    seed : int
        Seed of the run; sampling for metrics has streams of its own, the same at every evaluation.
    n_samples : int
        Generated digits per evaluation.
    device : torch.device
    """

    metric = "fd_lenet"

    def __init__(self, extractor, seed, n_samples, device):
        self.device, self.seed, self.n_samples = device, seed, n_samples
        self.images = digits()
        self._train = to_model(self.images.train).to(device).contiguous(memory_format=torch.channels_last)
        self.lenet, self.sha256 = load(extractor)
        self.lenet.to(device)
        self._held_out, _ = extract(self.lenet, self.images.test)

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
        """n generated digits as uint8 (n, 28, 28), always from the same latents."""
        z = self.latent(n, generator(self.seed, "evaluation latents", self.device))
        return np.concatenate([to_uint8(T(part)) for part in z.split(500)])

    def score(self, T):
        """FD-LeNet of T."""
        features, _ = extract(self.lenet, self.sample(T, self.n_samples))
        return metrics.frechet_distance(features, self._held_out)

    def measure(self, T):
        """(metrics of the table, samples). Every metric comes with its floor, train against held-out digits."""
        samples = self.sample(T, self.n_samples)
        generated = self._compare(samples)
        floor = self._compare(self.images.train)
        out = {name: generated[name] for name in generated}
        out |= {f"{name}_floor": floor[name] for name in floor}
        out |= {
            "n": len(samples),
            "n_floor": len(self.images.train),
            "n_reference": len(self.images.test),
            "reference": "1000 held-out digits",
            "extractor": "LeNet, 128 features",
            "extractor_sha256": self.sha256,
        }
        return out, samples

    def _compare(self, images):
        features, labels = extract(self.lenet, images)
        histogram = metrics.class_histogram(labels, 10)
        held_out = metrics.class_histogram(self.images.test_labels, 10)
        # the supports of precision and recall must be of equal size (Kynkaanniemi et al. 2019, section 2)
        part = features[:: max(1, len(features) // len(self._held_out))][: len(self._held_out)]
        precision, recall = metrics.precision_recall(self._held_out, part)
        return {
            "fd_lenet": metrics.frechet_distance(features, self._held_out),
            "kid": metrics.kid(features, self._held_out),
            "precision": precision,
            "recall": recall,
            "class_histogram": [float(share) for share in histogram],
            "class_tv": metrics.total_variation(histogram, held_out),
        }
