r"""Exact mode masses of two toys of sjko and uotm under the JKO scheme for KL: 25 Gaussians and two circles.

Both papers show these toys as pictures. What a perfectly trained network would show is computed here: the masses of the
modes after k exact steps, without a network. The source is N(0, I_2) and, as in these papers, the cost is the *mean* over
the two coordinates: |x - y|^2 / (4 tau), a Euclidean step of d tau = 2 tau.

- *25 Gaussians*: the modes sit on the lattice {-6, -3, 0, 3, 6}^2 with variance .005 per coordinate. The cost adds over
  coordinates and KL against a product is superadditive, with equality for products: the step factorises. Of five modes
  on the line with masses w, mode (i, j) has w_i w_j.
- *Two circles*: radii 4 and 8, equal masses, Gaussian noise of standard deviation .2 in the plane. Everything is
  invariant under rotation and so is the unique minimiser; mass moves along rays and the problem is one of radii.

Both are solved by `gwf.exact.grids.semidiscrete_sequence`, with targets on grids of spacing .04: halving it moves no mass
by more than 4e-4 at tau = 1, and by up to 1.1e-3 elsewhere (tau = 5, k = 2). The derivations are in the chapter flows;
sources: sjko (appendix B.1), uotm.
"""

from functools import lru_cache

import numpy as np
from scipy.special import ive
from scipy.stats import norm, rayleigh

from gwf.errors import in_range, nearest, whole
from gwf.exact.grids import relaxed_step, semidiscrete_sequence, semidiscrete_step

MODES = np.array([-6.0, -3.0, 0.0, 3.0, 6.0])
VARIANCE = 0.005
RADII, CIRCLE_STD = (4.0, 8.0), 0.2
SPACING = 0.04
METHODS = ("jko", "uotm", "uotm_released", "ot")


def five_modes(spacing=SPACING, width=0.3):
    """The 1-D target as atoms: positions y (m,), weights b (m,), and the number of the mode of each atom (m,)."""
    in_range(spacing, 1e-4, 1, "spacing")
    offsets = np.arange(-round(width / spacing), round(width / spacing) + 1) * spacing
    b = norm.pdf(offsets, 0, np.sqrt(VARIANCE))
    y = (MODES[:, None] + offsets).ravel()
    return y, np.tile(b / b.sum(), MODES.size) / MODES.size, np.repeat(np.arange(MODES.size), offsets.size)


def _check(tau, steps, spacing=SPACING):
    in_range(tau, 0, 5e11, "tau", open_low=True), in_range(spacing, 1e-4, 1, "spacing")
    whole(steps, 1, 10_000, "steps")


@lru_cache(maxsize=64)
def _jko_twenty_five(tau, steps, spacing):
    y, b, mode = five_modes(spacing)
    laws = semidiscrete_sequence(norm, y, b, 2 * tau, steps)
    source = np.diff(norm.cdf(np.concatenate([[-np.inf], (MODES[1:] + MODES[:-1]) / 2, [np.inf]])))
    return np.vstack([source, [np.bincount(mode, law) for law in laws]])


def twenty_five_gaussians(tau, steps, method="jko", spacing=SPACING):
    """Weights per coordinate of the modes at -6, -3, 0, 3, 6 after k steps; the mass of mode (i, j) is w_i w_j.

    Parameters
    ----------
    tau, spacing : float
        The papers' step, of cost |x - y|^2 / (4 tau), at most 5e11; spacing of the target's grid, 1e-4 to 1.
    steps : int
        Number of JKO steps; must be 1 for the other methods, which have no second step.
    method : {"jko", "uotm", "uotm_released", "ot"}
        "jko": the exact JKO sequence for KL, whose first step is source-fixed UOTM. "uotm": both sides relaxed, law of
        the generator (`uotm_twenty_five`). "uotm_released": uotm's code, which averages the exponential of its source
        term over all pairs of a batch and thereby solves the source-fixed problem at tau / 2. "ot": both sides hard.

    Returns
    -------
    ndarray (steps + 1, 5)
        Start reading at row 1. Row 0 is the source and is in no mode: it holds the share of N(0, 1) nearest to each.
    """
    nearest(method, METHODS, "method")
    _check(tau, steps, spacing)
    if method == "jko":
        return _jko_twenty_five(float(tau), int(steps), float(spacing)).copy()
    in_range(steps, 1, 1, f"steps with method {method!r}")
    if method == "uotm_released":
        return _jko_twenty_five(float(tau) / 2, 1, float(spacing)).copy()
    row = uotm_twenty_five(tau) if method == "uotm" else np.full(MODES.size, 0.2)
    return np.vstack([_jko_twenty_five(float(tau), 1, float(spacing))[0], row])


@lru_cache(maxsize=64)
def _uotm(tau):
    return relaxed_step(MODES, np.full(MODES.size, 1 / MODES.size), 2 * tau).mu


def uotm_twenty_five(tau):
    """Weights (5,) per coordinate of the law T_# mu_0 a both-relaxed UOTM generator samples, modes taken as atoms.

    The width of the modes changes them by 3e-4. The second marginal of the optimal plan is another law, re-weighted and of
    mass below 1; it is *not* what samples show. Factorisation holds here too: the plan of a sum of costs is the product.
    """
    _check(tau, 1)
    return _uotm(float(tau)).copy()


def atomic_twenty_five(tau):
    """The first JKO step with the five modes taken as atoms: weights (5,), agreeing to 1e-3 with the continuous one."""
    _check(tau, 1)
    return semidiscrete_step(norm, MODES, np.full(MODES.size, 0.2), 2 * tau, tolerance=1e-13).mu


def grid_of_modes(weights):
    """Masses (5, 5) of the 25 modes from the weights (5,) per coordinate."""
    return np.outer(weights, weights)


def modes_found(weights, share=0.1):
    """How many of the 25 modes hold at least `share` of their due 1/25, from weights (5,)."""
    return int((grid_of_modes(weights) >= share / MODES.size**2).sum())


def tv_to_uniform(weights):
    """Total variation (half the L1 distance) between the 25 mode masses and 1/25 each, from weights (5,)."""
    return float(np.abs(grid_of_modes(weights) - 1 / MODES.size**2).sum() / 2)


def circle_radii(spacing=SPACING, width=0.8):
    r"""The radial target: radii s (m,), weights b (m,), circle of each (0 inner, 1 outer).

    A point on the circle of radius R plus N(0, sigma^2 I) has the density of its radius

    .. math:: \frac{s}{\sigma^2} e^{-(s^2 + R^2)/(2 \sigma^2)} I_0(s R / \sigma^2).
    """
    in_range(spacing, 1e-4, 1, "spacing")
    offsets = np.arange(-round(width / spacing), round(width / spacing) + 1) * spacing
    s, b = [], []
    for R in RADII:
        radius = R + offsets
        # ive is exp(-z) I_0(z): the product of a huge and a tiny number, taken before it overflows.
        density = radius * np.exp(-((radius - R) ** 2) / (2 * CIRCLE_STD**2)) * ive(0, radius * R / CIRCLE_STD**2)
        s.append(radius)
        b.append(density / density.sum() / len(RADII))
    return np.concatenate(s), np.concatenate(b), np.repeat([0, 1], offsets.size)


@lru_cache(maxsize=64)
def _two_circles(tau, steps, spacing):
    s, b, circle = circle_radii(spacing)
    laws = semidiscrete_sequence(rayleigh, s, b, 2 * tau, steps)
    return np.concatenate([[rayleigh.sf(6.0)], laws[:, circle == 1].sum(1)])


def two_circles(tau, steps, spacing=SPACING):
    """Mass beyond radius 6, the outer circle's, after k exact JKO steps for KL: (steps + 1,), row 0 the source's.

    `tau` as in `twenty_five_gaussians`. The target has mass 1/2 there.
    """
    _check(tau, steps, spacing)
    return _two_circles(float(tau), int(steps), float(spacing)).copy()
