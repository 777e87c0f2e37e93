r"""Nonlinear filtering on the line: the grid truth, and the particle filter it is held against (numpy, float64).

A hidden state diffuses in a potential and is seen through noise every `interval` units of time:

    dX = -Phi'(X) dt + sqrt(2 / beta) dW,      Y_k = X(t_k) + sigma xi_k,      xi_k ~ N(0, 1).

Between two observations the law of X given the past solves the Fokker-Planck equation; at an observation it is
multiplied by the likelihood and normalised (Bayes):

    d/dt p = (Phi' p)' + p'' / beta,           p(x) <- p(x) exp(-(y_k - x)^2 / (2 sigma^2)) / normaliser.

The first half is the Wasserstein gradient flow of int Phi p + (1 / beta) int p log p, which is why the problem is a
benchmark for JKO methods (jko-icnn). In one dimension a grid solves it to many digits:

- Chang & Cooper, J. Comput. Phys. 6 (1970): the flux that keeps the grid solution positive, of constant mass, and
  stationary exactly at exp(-beta Phi).
- Gordon, Salmond & Smith, IEE Proc. F 140 (1993): the bootstrap particle filter.

Scores of a particle law on the line against a density tabulated on a uniform grid:

    SymKL(p, q) = KL(p, q) + KL(q, p) = int (p - q) log(p / q),          W_1(p, q) = int |P(x) - Q(x)| dx.

SymKL needs a density, so particles are smoothed first, by Scott's rule as in scipy's `gaussian_kde`; the published
scores of particle filters (jko-icnn) are of this kind. The bandwidth N^(-1/5) std(x) is made for a single bump: on a
law with finer structure the score is the smoothing's before it is the particles'. W_1 needs distribution functions
alone and smooths nothing. Used by notebooks/experiments/filtering.ipynb and by the chapter of VWGF.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_banded

from gwf.errors import UsageError, in_range


def potential(x):
    """Phi(x) = sin(2 pi x) / pi + x^2 / 4, an array of the shape of x. Source: jko-icnn, nonlinear filtering."""
    return np.sin(2 * np.pi * x) / np.pi + x**2 / 4


def drift(x):
    """-Phi'(x) = -2 cos(2 pi x) - x / 2, of the shape and the dtype of x."""
    return -2 * np.cos(2 * np.pi * x) - x / 2


def bernoulli(w):
    """w / (exp(w) - 1), continued by 1 at w = 0; elementwise, for finite w."""
    w = np.asarray(w, dtype=np.float64)
    small = np.abs(w) < 1e-8
    safe = np.where(small, 1.0, w)
    return np.where(small, 1 - w / 2, safe / np.expm1(safe))


class ChangCooper:
    r"""The Fokker-Planck equation d/dt p = (Phi' p)' + p'' / beta on a uniform grid, with no flux at the ends.

    With w = beta (Phi_{i+1} - Phi_i) and B(w) = w / (e^w - 1) the flux between neighbours is

        J_{i+1/2} = (1 / (beta dx)) [ B(-w) p_{i+1} - B(w) p_i ],       d/dt p_i = (J_{i+1/2} - J_{i-1/2}) / dx.

    It vanishes where p_{i+1} / p_i = e^{-w}, that is on p = exp(-beta Phi) exactly. Time is implicit Euler: the matrix
    I - dt A is an M-matrix with unit column sums, so p stays positive and its mass constant for every dt. Space
    errors are O(dx^2), time errors O(dt).

    Parameters
    ----------
    potential : callable
        x (n,) -> Phi (n,).
    low, high, dx : float
        Grid low, low + dx, ..., high; `high - low` must be a multiple of dx to rounding, else `UsageError`.
    beta, dt : float
        Inverse temperature and time step, > 0.
    """

    def __init__(self, potential, low, high, dx, beta, dt):
        in_range(dx, 0, high - low, "dx", open_low=True)
        in_range(beta, 0, math.inf, "beta", open_low=True)
        self.dt = in_range(dt, 0, math.inf, "dt", open_low=True)
        cells = round((high - low) / dx)
        if abs(cells * dx - (high - low)) > 1e-9 * (high - low):
            raise UsageError(f"dx = {dx!r} does not divide the interval [{low}, {high}]")
        self.x, self.dx = np.linspace(low, high, cells + 1), (high - low) / cells
        w = beta * np.diff(potential(self.x))
        up, down = bernoulli(-w) / (beta * self.dx**2), bernoulli(w) / (beta * self.dx**2)
        self._bands = np.zeros((3, cells + 1))
        self._bands[0, 1:], self._bands[2, :-1] = -dt * up, -dt * down
        self._bands[1] = 1.0
        self._bands[1, :-1] += dt * down
        self._bands[1, 1:] += dt * up

    def normalise(self, p):
        """p (n, ...) divided so that sum_i p_i dx = 1 in every column. Raises `UsageError` where the mass is 0."""
        mass = p.sum(0) * self.dx
        if not (mass > 0).all():
            raise UsageError("a density on the grid has no mass: the observation is out of the grid's reach")
        return p / mass

    def flow(self, p, time):
        """The density after `time`, a multiple of dt, from p (n,) or p (n, m), m densities side by side."""
        for _ in range(multiple(time, self.dt, "time")):
            p = solve_banded((1, 1), self._bands, p, check_finite=False)
        return p


def multiple(time, dt, what):
    """The whole number time / dt, >= 0; `UsageError` naming `what` if it is not whole to 1e-6."""
    steps = round(time / dt)
    if steps < 0 or abs(steps * dt - time) > 1e-6 * dt:
        raise UsageError(f"{what} = {time!r} must be a multiple, 0 or more, of dt = {dt!r}")
    return steps


@dataclass(frozen=True)
class Problem:
    """A filtering problem with the potential of this module and mu_0 = N(0, start^2).

    beta inverse temperature, sigma noise of an observation, interval between observations, their number, and the time
    `end` at which the law of X given all of them is asked for (end >= interval * observations).
    """

    beta: float
    sigma: float
    interval: float
    observations: int
    end: float
    start: float

    def __post_init__(self):
        for name in ("beta", "sigma", "interval", "start"):
            in_range(getattr(self, name), 0, math.inf, name, open_low=True)
        in_range(self.observations, 0, 10_000, "observations")
        in_range(self.end, self.interval * self.observations, math.inf, "end")

    def simulate(self, paths, dt, rng):
        """Observations (observations, paths) of `paths` independent hidden states, by Euler-Maruyama of step dt."""
        x = self.start * rng.standard_normal(paths)
        y = np.empty((self.observations, paths))
        for k in range(self.observations):
            x = diffuse(x, multiple(self.interval, dt, "interval"), dt, self.beta, rng)
            y[k] = x + self.sigma * rng.standard_normal(paths)
        return y

    def log_likelihood(self, y, x):
        """-(y - x)^2 / (2 sigma^2), the log-likelihood of y at x up to a constant; broadcasts."""
        return -((y - x) ** 2) / (2 * self.sigma**2)


def grid_filter(problem, y, grid):
    """Density at time `end` given the observations, on the nodes of a `ChangCooper` grid.

    Parameters
    ----------
    problem : Problem
    y : ndarray (observations, paths)
        One column per hidden path; all are filtered side by side.
    grid : ChangCooper

    Returns
    -------
    ndarray (n, paths), each column of mass 1.
    """
    x = grid.x[:, None]
    p = grid.normalise(np.repeat(np.exp(-((x / problem.start) ** 2) / 2), y.shape[1], axis=1))
    for y_k in y:
        p = grid.flow(p, problem.interval)
        log_l = problem.log_likelihood(y_k, x)
        p = grid.normalise(p * np.exp(log_l - log_l.max(0)))
    return grid.flow(p, problem.end - problem.interval * len(y))


def bootstrap_filter(problem, y, particles, dt, rng):
    """Particles whose empirical law approximates the density at time `end` given one path's observations.

    Between observations each particle takes Euler-Maruyama steps of size dt; at an observation the cloud is resampled
    with replacement, in proportion to the likelihood (systematic resampling).

    Parameters
    ----------
    y : ndarray (observations,)
    particles : int >= 1
    dt : float
        Must divide `interval` and the time after the last observation, else `UsageError`.

    Returns
    -------
    ndarray (particles,) float64
    """
    in_range(particles, 1, 10**8, "particles")
    x = problem.start * rng.standard_normal(particles)
    for y_k in y:
        x = diffuse(x, multiple(problem.interval, dt, "interval"), dt, problem.beta, rng)
        log_l = problem.log_likelihood(y_k, x)
        x = x[systematic(np.exp(log_l - log_l.max()), rng)]
    rest = problem.end - problem.interval * len(y)
    return diffuse(x, multiple(rest, dt, "time after the last observation"), dt, problem.beta, rng)


def systematic(weights, rng):
    """Indices (n,) drawn in proportion to weights (n,) with one uniform number: copies of i are within 1 of n w_i."""
    n = len(weights)
    total = np.cumsum(weights)
    return np.minimum(np.searchsorted(total, (np.arange(n) + rng.random()) / n * total[-1]), n - 1)


def diffuse(x, steps, dt, beta, rng, block=8192):
    """x (n,) after `steps` Euler-Maruyama steps x <- x - Phi'(x) dt + sqrt(2 dt / beta) xi.

    Blocks of particles stay in the processor's cache; single precision holds a step of 1e-3 to 1e-7 and halves the
    time, which the noise of the smallest use (100 particles) and of the largest (1e6) cannot tell from double.
    """
    out, noise = np.empty(len(x)), np.float32(math.sqrt(2 * dt / beta))
    pull, wave = np.float32(1 - dt / 2), np.float32(-2 * dt)
    for start in range(0, len(x), block):
        z = x[start : start + block].astype(np.float32)
        cosine, xi = np.empty_like(z), np.empty_like(z)
        for _ in range(steps):
            rng.standard_normal(dtype=np.float32, out=xi)
            # sin and cos of the reduced argument are several times faster: 2 pi x is taken modulo one turn first.
            np.subtract(z, np.rint(z, out=cosine), out=cosine)
            cosine *= np.float32(2 * np.pi)
            np.cos(cosine, out=cosine)
            cosine *= wave
            z *= pull
            z += cosine
            xi *= noise
            z += xi
        out[start : start + block] = z
    return out


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
