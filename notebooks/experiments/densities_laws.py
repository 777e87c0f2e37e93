r"""The densities of the experiment `densities`, and the invertible map whose laws are compared with them.

Each is nu of Hertrich & Gruhlke, Importance corrected neural JKO sampling, ICML 2025, arXiv 2407.20444, written from its
description: `log_density` x (n, d) -> (n,), differentiable, with log Z = 0; `sample(n, stream)` -> (n, d); `mean` (d,) and
`covariance` (d, d) in closed form.
"""

import math

import torch
from torch import nn

from gwf.errors import nearest
from gwf.nets.mlp import MLP
from gwf.seeding import generator
from gwf.steps.jko import JKO, Players

LOG_2_PI = math.log(2 * math.pi)


class Mixture:
    """Gaussians of equal weight, N(c_k, variance I) with the centres c (k, d)."""

    def __init__(self, centres, variance):
        self.centres, self.variance, self.d = centres, variance, centres.shape[1]
        self.mean = centres.mean(0)
        self.covariance = torch.cov(centres.T, correction=0) + variance * torch.eye(self.d)

    def log_density(self, x):
        squares = (x[:, None] - self.centres.to(x)).square().sum(2) / self.variance
        constant = math.log(len(self.centres)) + self.d / 2 * (LOG_2_PI + math.log(self.variance))
        return torch.logsumexp(-squares / 2, 1) - constant

    def sample(self, n, stream):
        which = torch.randint(len(self.centres), (n,), generator=stream)
        return self.centres[which] + math.sqrt(self.variance) * torch.randn(n, self.d, generator=stream)


def ring(variance):
    """Eight modes on the circle of radius 1 about (-1, 0)."""
    angle = torch.arange(8) * math.pi / 4
    return Mixture(torch.stack([angle.cos() - 1, angle.sin()], 1), variance)


class Mustache:
    r"""The law of (-X, (X^2 - 1)^2 - Y), with (X, Y) Gaussian, variances 1 and correlation .9: a shear, of determinant 1."""

    d, correlation = 2, 0.9
    # E (X^2 - 1)^2 = 2, Var (X^2 - 1)^2 = E (X^2 - 1)^4 - 4 = 56; (X^2 - 1)^2 is even, hence uncorrelated with X and Y.
    mean, covariance = torch.tensor([0.0, 2.0]), torch.tensor([[1.0, 0.9], [0.9, 57.0]])

    def log_density(self, x):
        X = -x[:, 0]
        residual = (X.square() - 1).square() - x[:, 1] - self.correlation * X
        variance = 1 - self.correlation**2
        return -(X.square() + residual.square() / variance + math.log(variance)) / 2 - LOG_2_PI

    def sample(self, n, stream):
        X, xi = torch.randn(2, n, generator=stream)
        Y = self.correlation * X + math.sqrt(1 - self.correlation**2) * xi
        return torch.stack([-X, (X.square() - 1).square() - Y], 1)


class Funnel:
    """v ~ N(0, 9), the other d - 1 coordinates N(0, e^v) given v."""

    def __init__(self, d=10):
        self.d, self.mean = d, torch.zeros(d)
        self.covariance = torch.diag(torch.tensor([9.0] + [math.exp(4.5)] * (d - 1)))

    def log_density(self, x):
        v, rest = x[:, 0], x[:, 1:].square().sum(1)
        return -(v.square() / 9 + math.log(9) + rest * (-v).exp() + (self.d - 1) * v + self.d * LOG_2_PI) / 2

    def sample(self, n, stream):
        z = torch.randn(n, self.d, generator=stream)
        return torch.cat([3 * z[:, :1], z[:, 1:] * (1.5 * z[:, :1]).exp()], 1)


def mixture(d=10, components=10):
    """Ten modes of variance .01, centres uniform in [-1, 1]^d, those of one draw for all seeds."""
    return Mixture(2 * torch.rand(components, d, generator=generator(0, f"densities centres {d}")) - 1, 0.01)


TARGETS = {"8 modes": lambda: ring(0.01), "8 peaky": lambda: ring(0.005), "mustache": Mustache, "funnel": Funnel}
TARGETS["mixture"] = mixture


def target(name):
    """The density called `name`."""
    return TARGETS[nearest(name, TARGETS, "density")]()


class Couplings(nn.Module):
    r"""T = T_L o ... o T_1 of affine couplings: half of the coordinates, x m with m in {0, 1}^d, scales and shifts the rest,

        T_l(x) = m x + (1 - m) (x e^{s(m x)} + t(m x)),      log det grad T_l = sum_j (1 - m_j) s_j,

    |s| < 2. The halves are drawn from `stream`, each followed by its complement; T starts at the identity. Source: L. Dinh,
    J. Sohl-Dickstein, S. Bengio. Density estimation using Real NVP. ICLR 2017.
    """

    def __init__(self, d, width, layers, stream):
        super().__init__()
        halves = [torch.randperm(d, generator=stream) < d // 2 for _ in range((layers + 1) // 2)]
        self.register_buffer("masks", torch.stack([m for half in halves for m in (half, ~half)])[:layers].float())
        self.nets = nn.ModuleList(MLP(d, 2 * d, width, 2) for _ in range(layers))
        for net in self.nets:
            nn.init.zeros_(net[-1].weight)
            nn.init.zeros_(net[-1].bias)

    def with_log_det(self, x):
        """T(x) (n, d) and log det grad T(x) (n,)."""
        log_det = 0
        for m, net in zip(self.masks, self.nets, strict=True):
            s, t = net(x * m).chunk(2, 1)
            s = 2 * torch.tanh(s / 2) * (1 - m)
            x, log_det = x * s.exp() + t * (1 - m), log_det + s.sum(1)
        return x, log_det

    def forward(self, x):
        return self.with_log_det(x)[0]


class WholeStep(Players):
    """The JKO step of KL(. | nu) on whole maps with a log det: as `gwf.steps.icnn.ICNNStep`, but T acts on mu_0.

    min_T E|T(z) - T_k(z)|^2 / (2 tau) - E[log nu(T(z)) + log det grad T(z)],  z ~ mu_0; tau = inf is reverse KL alone.
    """

    def __init__(self, T, log_nu, tau, lr):
        super().__init__(T, None, lr, betas=(0.9, 0.99))
        self.log_nu, self.prox = log_nu, JKO(T, tau)

    def push(self, z):
        return self.T.with_log_det(z)

    def map_loss(self, x, z, y=None):
        x, log_det = x
        return self.prox.proximal(x, z) - (self.log_nu(x) + log_det).mean()
