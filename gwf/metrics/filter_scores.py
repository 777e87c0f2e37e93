r"""Scores of a particle law on the line against a density tabulated on a uniform grid.

    SymKL(p, q) = KL(p, q) + KL(q, p) = int (p - q) log(p / q),          W_1(p, q) = int |P(x) - Q(x)| dx.

SymKL needs a density, so particles are smoothed first, by Scott's rule as in scipy's `gaussian_kde`; the published
scores of particle filters (jko-icnn) are of this kind. The bandwidth N^(-1/5) std(x) is made for a single bump: on a
law with finer structure the score is the smoothing's before it is the particles'. W_1 needs distribution functions
alone and smooths nothing.
"""

import numpy as np

from gwf.errors import UsageError


def sym_kl(p, q, dx):
    """KL(p, q) + KL(q, p) in nats of two positive densities on a grid of spacing dx, along the first axis."""
    if not ((p > 0).all() and (q > 0).all()):
        raise UsageError("sym_kl needs positive densities: where one vanishes the value is infinite")
    return ((p - q) * (np.log(p) - np.log(q))).sum(0) * dx


def scott(x):
    """Scott's bandwidth n^(-1/5) std(x), the default of `scipy.stats.gaussian_kde` in one dimension; x (n,)."""
    return len(x) ** -0.2 * np.std(x, ddof=1)


def smooth(p, bandwidth, dx):
    """Density p (n,) convolved with N(0, bandwidth^2) on its grid, at least the smallest positive float."""
    reach = int(np.ceil(8 * bandwidth / dx))
    offsets = np.arange(-reach, reach + 1) * dx
    kernel = np.exp(-((offsets / bandwidth) ** 2) / 2)
    full = np.convolve(p, kernel / kernel.sum())
    return np.maximum(full[reach : reach + len(p)], np.finfo(np.float64).tiny)


def kernel_density(x, nodes, bandwidth=None):
    """Gaussian kernel density estimate of particles x (m,) on uniform `nodes` (n,); bandwidth None is Scott's.

    Particles are first shared out linearly between the two nodes beside them, which widens the kernel's variance by at
    most dx^2 / 4: dx must be small beside the bandwidth. Particles outside the grid count for the nearest end.
    """
    bandwidth = scott(x) if bandwidth is None else bandwidth
    dx = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    place = np.clip((x - nodes[0]) / dx, 0, len(nodes) - 1 - 1e-9)
    left = place.astype(np.int64)
    share = place - left
    mass = np.bincount(left, 1 - share, len(nodes)) + np.bincount(left + 1, share, len(nodes))
    return smooth(mass / (len(x) * dx), bandwidth, dx)


def w1_to_grid(x, p, nodes):
    """W_1 between particles x (m,) and the density p (n,) on uniform `nodes`, int |F_x - F_p| dx; exact to O(dx)."""
    dx = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    edges = nodes + dx / 2
    F_x = np.searchsorted(np.sort(x), edges, side="right") / len(x)
    return float(np.abs(F_x - np.cumsum(p) * dx).sum() * dx)


def draw_from_grid(p, nodes, n, rng):
    """n independent draws (n,) from density p (nodes,): a node by its mass, then uniform within its cell."""
    dx = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    mass = np.cumsum(p)
    index = np.minimum(np.searchsorted(mass, rng.random(n) * mass[-1]), len(nodes) - 1)
    return nodes[index] + dx * (rng.random(n) - 0.5)
