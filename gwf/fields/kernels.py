r"""Squared MMD between learned features: the critic is a map phi into R^q, and the kernel k compares its outputs.

    F(mu) = sup_phi MMD_k^2(phi# mu, phi# nu) / 2,       V(x) = -grad_x { E_{x'} k(phi(x), phi(x')) - E_y k(phi(x), phi(y)) }

A map that descends V batch by batch is an MMD-GAN, one that has a proximal term beside it the JKO step of gwf's equation 18
and algorithm 2 (`gwf.training.proximal`). gwf's code descends MMD^2, which is this at twice the tau.

MMD^2 is the unbiased estimator, which leaves out pairs of a point with itself; k is gwf's mixture with equal weights, where its
code starts: there the weights are learned, upwards by the critic and downwards by the map.

Sources: gwf, section 4; C.-L. Li et al. MMD GAN. NeurIPS 2017; M. Arbel et al. On gradient regularizers for MMD GANs. NeurIPS
2018; W. Wang et al. Improving MMD-GAN training with repulsive loss function. ICLR 2019.
"""

import torch

from gwf.fields.base import Field
from gwf.fields.learned import Learned
from gwf.steps.penalties import interpolated


def mixture(a, b):
    """k(a, b) of features (..., q), broadcast: the mean of a Gaussian; five Gaussians, added up; Laplace in |.|_1; the exponential,
    Matern 3/2 and 5/2 in r = |a - b|; |a| + |b| - r."""
    r2, city = (a - b).square().sum(-1), (a - b).abs().sum(-1)
    r, norm = (r2 + 1e-12).sqrt(), lambda t: (t.square().sum(-1) + 1e-12).sqrt()
    m, p = 3**0.5 / 10 * r, 5**0.5 / 10 * r
    gaussians = [torch.exp(r2 / (-2 * s * s)) for s in (10, 1, 2, 4, 8, 16)]
    materns = (1 + m) * torch.exp(-m) + (1 + p + p.square() / 3) * torch.exp(-p)
    return (sum(gaussians) + torch.exp(city / -100) + torch.exp(r / -10) + materns + norm(a) + norm(b) - r) / 7


def among(u, kernel=mixture):
    """Mean of k(u_i, u_j) over i != j, for u (n, q)."""
    K = kernel(u[:, None], u)
    return (K.sum() - K.diagonal().sum()) / (len(u) * (len(u) - 1))


def mmd2(u, w, kernel=mixture):
    """Unbiased estimate of MMD_k^2 between the laws of u (n, q) and w (m, q); 0 in the mean where they agree."""
    return among(u, kernel) + among(w, kernel) - 2 * kernel(u[:, None], w).mean()


class LearnedMMD(Learned):
    """The field of F above. Its `features` phi maximise MMD^2 - weight * E |grad (phi_1 + ... + phi_q)|^2 between the samples.

    Parameters as in `Learned`.
    """

    title, name = "MMD, learned kernel", "mmd_learned"
    potentials, outputs = ("features",), 16  # gwf has 128 for 3072 pixels
    __call__ = Field.__call__

    def __init__(self, features, weight=10.0, lr=5e-4, critic_steps=1, betas=(0.5, 0.9)):
        super().__init__({"features": features}, lr, critic_steps, betas)
        self.features, self.weight = features, weight

    def loss(self, x, y, generator):
        """-MMD^2 + weight * penalty."""
        u_nu, price = interpolated(self.features, x, y, generator)
        return self.weight * price - self.contrast(self.features(x), u_nu)

    def contrast(self, u_mu, u_nu):
        """What the features maximise: MMD^2."""
        return mmd2(u_mu, u_nu)

    def velocity(self, x, y, other=None, generator=None):
        """V = -n grad_{x_i} MMD^2 / 2 of the batch x (n, ...): each point against the others of it, and the data."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(mmd2(self.features(x), self.features(y).detach()) / 2, x)
        return -len(x) * slope


class RepulsiveMMD(LearnedMMD):
    """Features that spread the generated points and draw the data together, E k(u, u') - E k(w, w'); the map's V is MMD's."""

    title, name = "MMD, repulsive", "mmd_repulsive"

    def contrast(self, u_mu, u_nu):
        """E_mu k - E_nu k, both over different points."""
        return among(u_mu) - among(u_nu)


class ScaledMMD(LearnedMMD):
    r"""s MMD^2 with s = 1 / (1 + 10 E_nu |D phi(y)|_F^2): large slopes do not pay, and no other penalty is needed.

    |D phi|^2 is estimated by one sign vector for each y, E_r |grad (r . phi)(y)|^2; gwf's code is exact up to 16 features.
    """

    title, name = "MMD, scaled", "mmd_scaled"

    def scale(self, y, generator):
        """(phi(y), s), differentiable in the weights."""
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            u = self.features(y)
            signs = 2 * torch.randint(2, u.shape, generator=generator, device=u.device).to(u.dtype) - 1
            (slope,) = torch.autograd.grad((signs * u).sum(), y, create_graph=True)
            return u, 1 / (1 + 10 * slope.flatten(1).square().sum(1).mean())

    def loss(self, x, y, generator):
        """-s MMD^2."""
        u_nu, s = self.scale(y, generator)
        return -s * mmd2(self.features(x), u_nu)

    def velocity(self, x, y, other=None, generator=None):
        """s times that of MMD."""
        return self.scale(y, generator)[1].detach() * super().velocity(x, y)
