"""Uniform reference laws of an internal energy whose solutions have compact support (vwgf, Corollary 3.5)."""

import math

import torch

from gwf.errors import in_range


class UniformBox:
    """Uniform law on the cube |x_i| <= a, with a = margin times the largest coordinate of the particles (vwgf)."""

    def __init__(self, margin=1.5):
        self.margin = in_range(margin, 1, 10, "margin of the reference", open_low=True)

    def fit(self, x):
        """Refit to particles x (n, d), whose extent the host reads; returns self."""
        self.d, self.a, self.device = x.shape[1], self.margin * x.abs().max().item(), x.device
        return self

    def sample(self, n, generator):
        """(n, d) draws."""
        return self.a * (2 * torch.rand(n, self.d, generator=generator, device=self.device) - 1)

    def log_density(self, x):
        """log omega = -d log(2a), the constant continued outside the cube; a tensor without axes."""
        return x.new_full((), -self.d * math.log(2 * self.a))

    def coordinates(self, x):
        """x in the units of the reference, about 1 in size; what the ratio network sees."""
        return x * (self.margin / self.a)


class UniformBall(UniformBox):
    """Uniform law on the ball |x - mean| <= a, a = margin times the largest distance of a particle from the mean.

    A round law fills the cube's share of the ball only: with margin 1.5 and d = 6 a cube of 140 times the support's
    volume, so 7 of 1000 samples of R meet the support. The ball of margin 1.1 wastes less than half at d = 6.
    """

    def fit(self, x):
        """Refit to particles x (n, d), whose extent the host reads; returns self."""
        self.d, self.mean, self.device = x.shape[1], x.mean(0), x.device
        self.a = self.margin * (x - self.mean).norm(dim=1).max().item()
        return self

    def sample(self, n, generator):
        """(n, d) draws: a Gaussian direction, and a radius a V^(1/d) with V uniform."""
        direction = torch.randn(n, self.d, generator=generator, device=self.device)
        radius = torch.rand(n, 1, generator=generator, device=self.device) ** (1 / self.d)
        return self.mean + self.a * radius * direction / direction.norm(dim=1, keepdim=True)

    def log_density(self, x):
        """log of 1 / volume, the constant continued outside the ball."""
        unit_ball = self.d / 2 * math.log(math.pi) - math.lgamma(self.d / 2 + 1)
        return x.new_full((), -unit_ball - self.d * math.log(self.a))

    def coordinates(self, x):
        """(x - mean) * margin / a: the particles fill the unit ball."""
        return (x - self.mean) * (self.margin / self.a)
