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


def profile(r, city):
    """k at features r apart, city in the norm |.|_1: the mean of a Gaussian; five Gaussians, added up; Laplace in city; the
    exponential, Matern 3/2 and 5/2; -r. gwf's last is |a| + |b| - r, see `size`, which is the same in an MMD."""
    r2, m, p = r.square(), 3**0.5 / 10 * r, 5**0.5 / 10 * r
    gaussians = [torch.exp(r2 / (-2 * s * s)) for s in (10, 1, 2, 4, 8, 16)]
    materns = (1 + m) * torch.exp(-m) + (1 + p + p.square() / 3) * torch.exp(-p)
    return (sum(gaussians) + torch.exp(city / -100) + torch.exp(r / -10) + materns - r) / 7


def size(a):
    """E |a| / 7, which makes the kernel positive, once for each of its arguments."""
    return a.norm(dim=1).mean() / 7


def among(u, k=profile):
    """Mean of k(u_i, u_j) over i != j, for u (n, q)."""
    return k(torch.pdist(u), torch.pdist(u, 1)).mean()


def mmd2(u, w, k=profile):
    """Unbiased estimate of MMD_k^2 between the laws of u (n, q) and w (m, q); 0 in the mean where they agree."""
    return among(u, k) + among(w, k) - 2 * k(torch.cdist(u, w), torch.cdist(u, w, 1)).mean()


def paired(a, b):
    """E k(a_i, b_i) over pairs of features (n, q)."""
    return profile((a - b).norm(dim=1), (a - b).norm(1, dim=1)).mean() + size(a) + size(b)


class LearnedMMD(Learned):
    """The field of F above. Its `features` phi maximise MMD^2 - weight * E |grad (phi_1 + ... + phi_q)|^2 between the samples."""

    title, name = "MMD, learned kernel", "mmd_learned"
    potentials, outputs = ("features",), 16  # gwf has 128 for 3072 pixels
    __call__ = Field.__call__

    def __init__(self, features, weight=10.0, lr=5e-4, critic_steps=1, betas=(0.5, 0.9)):
        super().__init__({"features": features}, lr, critic_steps, betas)
        self.features, self.weight = features, weight

    def loss(self, x, y, generator):
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
    """Features that gather the generated points and spread the data, E k(u, u') - E k(w, w'); the map's V is MMD's."""

    title, name = "MMD, repulsive", "mmd_repulsive"

    def contrast(self, u_mu, u_nu):
        """E_mu k - E_nu k, both over different points."""
        return among(u_mu) - among(u_nu) + 2 * (size(u_mu) - size(u_nu))


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
        u_nu, s = self.scale(y, generator)
        return -s * mmd2(self.features(x), u_nu)

    def velocity(self, x, y, other=None, generator=None):
        return self.scale(y, generator)[1].detach() * super().velocity(x, y)
