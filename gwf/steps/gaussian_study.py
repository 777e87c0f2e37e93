r"""The JKO scheme trained on Gaussians, where every step has a closed form to be held against.

The loop is that of any variational flow: per outer step, alternate critic and map updates on the saddle
problem (`gwf.steps.jko.JKOStep`), then freeze the map. What is special is the measuring: the law mu_k =
(T_k)# mu_0 of a learned map is measured by quadrature over mu_0 and a change of variables, with no sampling
noise. Derivation and figures: notebooks/chapters/01_jko_gaussian.ipynb. Closed forms: `gwf.exact.gaussian`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gwf import functionals
from gwf.errors import UsageError
from gwf.nets.mlp import MLP
from gwf.progress import Progress
from gwf.seeding import generator
from gwf.steps.jko import JKO, JKOStep


class Gaussian:
    """N(m, C) as a sampler and a quadrature rule.

    Parameters
    ----------
    m : array_like (d,)
    C : array_like (d, d)
        Symmetric positive definite.
    """

    def __init__(self, m, C):
        self.m, self.C = np.asarray(m, dtype=np.float64), np.asarray(C, dtype=np.float64)
        self.d = self.m.size
        self._m = torch.tensor(self.m, dtype=torch.float32)
        self._root = torch.tensor(np.linalg.cholesky(self.C), dtype=torch.float32)

    @classmethod
    def product(cls, m, s):
        """N(m, diag(s^2)) from means and standard deviations (scalars: d = 1)."""
        m, s = np.atleast_1d(m), np.atleast_1d(s)
        return cls(m, np.diag(np.square(s)))

    def sample(self, n, generator):
        """(n, d) float32 draws from the named stream `generator`."""
        return self._m + torch.randn(n, self.d, generator=generator) @ self._root.T

    def quadrature(self, nodes=24):
        """Gauss-Hermite points (nodes^d, d), weights (nodes^d,) of sum 1; exact up to degree 2 nodes - 1."""
        x, w = np.polynomial.hermite_e.hermegauss(nodes)
        points = np.stack(np.meshgrid(*[x] * self.d, indexing="ij"), -1).reshape(-1, self.d)
        weights = np.prod(np.stack(np.meshgrid(*[w] * self.d, indexing="ij"), -1), -1).ravel()
        return self.m + points @ np.linalg.cholesky(self.C).T, weights / weights.sum()

    def log_density(self, x):
        """log of the density at points x (n, d), float64: (n,)."""
        gap = x - self.m
        quadratic = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(self.C), gap)
        return -(quadratic + np.linalg.slogdet(2 * np.pi * self.C)[1]) / 2


class QuadraticCritic(nn.Module):
    r"""h(x) = x^T Q x / 2 + r . x + N(x), with N an MLP (none if `width` is 0); it starts at h = 0.

    Between Gaussians the optimal KL critic log dmu/dnu is quadratic, so this class contains it; N takes up
    what a learned, not quite Gaussian law adds. The additive constant is immaterial for the
    Donsker-Varadhan bound.
    """

    def __init__(self, d, width=16, depth=2):
        super().__init__()
        self.quadratic, self.linear = nn.Linear(d * d, 1), nn.Linear(d, 1, bias=False)
        self.net = MLP(d, 1, width, depth) if width else None
        for layer in (self.quadratic, self.linear) + ((self.net[-1],) if width else ()):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x):
        """x (n, d) -> (n, 1)."""
        h = self.quadratic((x[:, :, None] * x[:, None, :]).flatten(1) / 2) + self.linear(x)
        return h if self.net is None else h + self.net(x)


def affine_map(L, b):
    """T(z) = L z + b, started at L (d, d) and b (d,): the smallest class with every exact Gaussian step."""
    T = nn.Linear(len(b), len(b))
    with torch.no_grad():
        T.weight.copy_(torch.as_tensor(L))
        T.bias.copy_(torch.as_tensor(b))
    return T


@dataclass
class Sequence:
    """Laws mu_0, ..., mu_K along a learned sequence: moments, energies, and the costs between them.

    m (K+1, d), C (K+1, d, d); F (K+1,) = KL(mu_k | nu) in nats, not of a Gaussian fit but of the law itself;
    cost (K,) = E|T_{k+1}(z) - T_k(z)|^2 with matched latents, at least W_2^2(mu_{k+1}, mu_k).
    """

    m: np.ndarray
    C: np.ndarray
    F: np.ndarray
    cost: np.ndarray

    @classmethod
    def of_images(cls, x, w, F):
        """From images x (K+1, n, d) of n quadrature points, their weights w (n,), and energies F (K+1,)."""
        m = np.einsum("n,knd->kd", w, x)
        C = np.einsum("n,kni,knj->kij", w, x - m[:, None], x - m[:, None])
        return cls(m, C, F, np.einsum("n,knd->k", w, np.diff(x, axis=0) ** 2))

    @property
    def s(self):
        """Standard deviations (K+1, d)."""
        return np.sqrt(np.diagonal(self.C, axis1=1, axis2=2))

    def margins(self, tau):
        """F(mu_k) - F(mu_{k+1}) - cost_k / (2 tau), (K,): the energy inequality holds where it is >= 0."""
        return self.F[:-1] - self.F[1:] - self.cost / (2 * tau)


def kl_of_map(T, mu_0, nu):
    r"""KL(T# mu_0 | nu) of an injective map, by change of variables and quadrature over mu_0.

    .. math:: \int \big[ \log\mu_0(z) - \log|\det \nabla T(z)| - \log\nu(T(z)) \big] d\mu_0(z)

    `mu_0, nu`: `Gaussian` with d = 1 or 2. A network may fold where it sees no latents, four standard
    deviations out and more; where it does, the formula underestimates. Nodes beyond 4.5 standard deviations
    are left out (less than 1e-4 of the mass), and the value is nan if det grad T <= 0 on more than 1e-3 of
    it. Returns a float in nats, accurate to about 1e-3.
    """
    z, w = mu_0.quadrature()
    z = torch.tensor(z, dtype=torch.float32, requires_grad=True)
    x = T(z)
    rows = [torch.autograd.grad(x[:, i].sum(), z, retain_graph=True)[0] for i in range(mu_0.d)]
    det = torch.linalg.det(torch.stack(rows, 1)).double().numpy()
    x, z = x.detach().double().numpy(), z.detach().double().numpy()
    log_mu_0 = mu_0.log_density(z)
    near = log_mu_0.max() - log_mu_0 <= 4.5**2 / 2
    if w[near] @ (det[near] <= 0) > 1e-3:
        return math.nan
    integrand = log_mu_0[near] - np.log(np.abs(det[near])) - nu.log_density(x[near])
    return float(w[near] @ integrand / w[near].sum())


def learn(
    T,
    h,
    mu_0,
    nu,
    tau,
    steps,
    *,
    functional="kl_dv",
    iterations=200,
    critic_updates=2,
    batch=512,
    lr_map=5e-3,
    lr_critic=2e-2,
    seed=0,
    label=None,
):
    r"""Train `steps` JKO steps of size tau on map T and critic h, and measure the law after each.

    Per outer step, `iterations` times: `critic_updates` updates of h and one of T, both by Adam with betas
    (.5, .9) as in gwf; the learning rates fall to zero along a cosine within each outer step, which
    quenches the noise of mini-batches (gwf keeps them constant on small networks). Map, critic and Adam's
    moments carry on from step to step.

    Parameters
    ----------
    T, h : torch.nn.Module
        Map z (n, d) -> x (n, d), best started at the identity so that mu_0 is the law before the first step;
        critic x -> (n, 1). Trained in place.
    mu_0, nu : Gaussian
        Source and target.
    tau : float in (0, inf]
        `inf` trains the plain GAN of the functional.
    seed : int
        Seed of the latent and data streams (the networks' initial weights are the caller's).

    Returns
    -------
    Sequence
        Raises `UsageError` if d > 2 (the quadrature grid) or mu_0 and nu differ in d.
    """
    if mu_0.d != nu.d or mu_0.d > 2:
        raise UsageError(f"mu_0 and nu must share d = 1 or 2, got {mu_0.d} and {nu.d}")
    step = JKOStep(functionals.get(functional), h, JKO(T, tau))
    latent, data = generator(seed, "latent"), generator(seed, "data")
    adam_T = torch.optim.Adam(T.parameters(), lr_map, betas=(0.5, 0.9), fused=True)
    adam_h = torch.optim.Adam(h.parameters(), lr_critic, betas=(0.5, 0.9), fused=True)

    nodes, w = mu_0.quadrature()
    images, F = [_at(T, nodes)], [kl_of_map(T, mu_0, nu)]
    with Progress(steps * iterations, label or f"{functional}-jko gaussian tau {tau:g}") as progress:
        for k in range(steps):
            for i in range(iterations):
                fall = (1 + math.cos(math.pi * i / iterations)) / 2
                adam_T.param_groups[0]["lr"], adam_h.param_groups[0]["lr"] = fall * lr_map, fall * lr_critic
                for _ in range(critic_updates):
                    with torch.no_grad():
                        x = T(mu_0.sample(batch, latent))
                    _descend(adam_h, step.critic_loss(x, nu.sample(batch, data)))
                z = mu_0.sample(batch, latent)
                of_functional, proximal = step.map_loss(T(z), z, None)
                _descend(adam_T, of_functional + proximal)
                progress.update(k * iterations + i + 1, map_loss=of_functional.detach())
            step.prox.advance()
            images.append(_at(T, nodes))
            F.append(kl_of_map(T, mu_0, nu))
    return Sequence.of_images(np.stack(images), w, np.array(F))


def _descend(adam, loss):
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()


@torch.no_grad()
def _at(T, nodes):
    return T(torch.tensor(nodes, dtype=torch.float32)).double().numpy()
