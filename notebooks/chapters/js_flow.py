r"""The gradient flow of the Jensen-Shannon divergence on a grid, with its particles (numpy, float64).

For F(mu) = JS(mu, nu) and densities rho of mu, p of nu, the first variation is log(2 rho / (rho + p)) / 2, hence with
r = rho / p

.. math:: V = -\tfrac12 \nabla \log\frac{\rho}{\rho + p}, \qquad
          \partial_t \rho = -\nabla\cdot(\rho V) = \tfrac12 \nabla\cdot\big( p\, \nabla \log(1 + r) \big)

since rho grad log(r / (1 + r)) = p grad r / (1 + r). The right side is discretised by finite volumes: mass is conserved,
nu is a fixed point and the discrete JS falls. With the optimal discriminator D = p / (rho + p) the same velocity is
-grad log(1 - D) / 2: the generator of the saturating GAN descends it. Near nu, r = 1 and the equation is a quarter of the
Fokker-Planck equation of nu: for nu = N(M, I) the mean converges like e^{-t/4} and JS like e^{-t/2}.

Source: w2fe's sister paper on the JSD flow; the form in r and the rates are derived here. Chapter `w2flow`.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import rel_entr

from gwf.errors import in_range


def normal_density(points, mean, covariance):
    """Density of N(mean, covariance) at points (..., d)."""
    inverse, gap = np.linalg.inv(covariance), points - np.asarray(mean)
    norm = np.sqrt(np.linalg.det(2 * np.pi * np.asarray(covariance)))
    return np.exp(-np.einsum("...i,ij,...j->...", gap, inverse, gap) / 2) / norm


@dataclass
class JensenShannonFlow:
    """The flow on the square [-half, half]^2 with `size` cells a side.

    Parameters
    ----------
    source, target : (mean (2,), covariance (2, 2))
        Gaussians mu_0 and nu, well inside the square.
    half : float
    size : int
    """

    source: tuple
    target: tuple
    half: float = 5.0
    size: int = 80
    t: float = field(default=0.0, init=False)

    def __post_init__(self):
        in_range(self.size, 8, 400, "size")
        self.h = 2 * self.half / self.size
        self.axis = -self.half + self.h * (np.arange(self.size) + 0.5)
        points = np.stack(np.meshgrid(self.axis, self.axis, indexing="ij"), -1)
        # Masses of the cells. A floor far below every mass of interest keeps the quotient finite.
        rho, p = (normal_density(points, *law) + 1e-12 for law in (self.source, self.target))
        self.rho, self.p = rho / rho.sum(), p / p.sum()
        self.faces = [np.sqrt(self.p[1:] * self.p[:-1]), np.sqrt(self.p[:, 1:] * self.p[:, :-1])]

    def advance(self, dt):
        """One explicit step of the density, 0 < dt <= h^2 / 4 (the diffusion coefficient is at most 1/2)."""
        in_range(dt, 0, self.h**2 / 4, "dt", open_low=True)
        u, change = np.log1p(self.rho / self.p), np.zeros_like(self.rho)
        for axis, p in enumerate(self.faces):
            flux = dt / (2 * self.h**2) * p * np.diff(u, axis=axis)
            low, high = [slice(None)] * 2, [slice(None)] * 2
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            change[tuple(low)] += flux
            change[tuple(high)] -= flux
        self.rho = self.rho + change
        self.t += dt

    def velocity(self, y):
        """V at particles y (n, 2): differences of -log(1 - D) / 2 on the grid, interpolated linearly."""
        r = self.rho / self.p
        slopes = np.gradient(-np.log(r / (1 + r)) / 2, self.h)
        where = ((y + self.half) / self.h - 0.5).T
        return np.stack([map_coordinates(slope, where, order=1, mode="nearest") for slope in slopes], 1)

    def divergence(self):
        """JS(mu_t, nu) in nats, between 0 and log 2."""
        mixture = (self.rho + self.p) / 2
        return float(rel_entr(self.rho, mixture).sum() + rel_entr(self.p, mixture).sum()) / 2

    def run(self, t, dt, particles=None, sign=1.0):
        """Up to time t. Returns times (k,), JS (k,) and where the particles (n, 2) have gone, moved by sign * V."""
        times, values = [self.t], [self.divergence()]
        y = None if particles is None else np.array(particles, dtype=np.float64)
        while self.t < t - dt / 2:
            if y is not None:
                y = y + sign * dt * self.velocity(y)
            self.advance(dt)
            times.append(self.t)
            values.append(self.divergence())
        return np.array(times), np.array(values), y
