r"""JKO steps on the line to machine precision.

On the line the cells of a JKO step are intervals, which lets the source keep its density: for a source with distribution
function G and a target sum_j b_j delta_{y_j}, y sorted, the dual potential v of gwf.exact.atoms cuts the line at

.. math:: \beta_j = \frac{y_{j-1} + y_j}{2} + \tau \frac{v_{j-1} - v_j}{y_j - y_{j-1}}

(where the costs |x - y|^2/(2 tau) - v of two neighbours are equal: a Laguerre, or power, diagram), and the step for KL solves

.. math:: G(\beta_{j+1}) - G(\beta_j) = b_j e^{-v_j}

(`semidiscrete_step`): the source's mass in the cell is the mass of the new law, b times its ratio (f*)'(-v). A target with
a density is given by a fine grid of atoms. No point of the source is ever split: the error is the target's, O(spacing^2).

Sources by key: sjko (the toys), uotm (both sides relaxed), gwf (equation 7). Derived here (chapter flows).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.linalg import solveh_banded
from scipy.optimize import root
from scipy.special import logsumexp
from scipy.stats import norm

from gwf.errors import UsageError, in_range, real, whole


@dataclass(frozen=True)
class Bins:
    """The law with density mass_j / (2 half) on the disjoint bins y_j +- half_j: a source made of a step's result.

    `y` (m,) sorted, `mass` (m,) summing to 1, `half` (m,) half-widths. Has `cdf` and `pdf`, as scipy's laws do.
    """

    y: np.ndarray
    mass: np.ndarray
    half: np.ndarray

    def cdf(self, x):
        corners = np.column_stack([self.y - self.half, self.y + self.half]).ravel()
        total = np.cumsum(self.mass)
        values = np.column_stack([total - self.mass, total]).ravel()
        return np.interp(x, corners, values)

    def pdf(self, x):
        j = np.clip(np.searchsorted(self.y - self.half, x, side="right") - 1, 0, self.y.size - 1)
        return np.where(np.abs(x - self.y[j]) <= self.half[j], self.mass[j] / (2 * self.half[j]), 0.0)


@dataclass(frozen=True)
class Cells:
    """A semi-discrete step: potential v (m,), cuts (m - 1,), and `mu` (m,), the source's mass in each cell."""

    v: np.ndarray
    cuts: np.ndarray
    mu: np.ndarray


def _line(y, b):
    y, b = real(y, "y"), real(b, "b")
    if y.ndim != 1 or not y.size or y.shape != b.shape or not (np.diff(y) > 0).all() or not (b > 0).all():
        raise UsageError("the target needs increasing atoms y (m,) and positive weights b (m,)")
    if abs(b.sum() - 1) > 1e-6:
        raise UsageError(f"b has the sum {b.sum():.7g}: it must be 1, to 1e-6")
    return y, b


def cuts(v, y, tau):
    """Ends of the cells of the potential v (m,): (m - 1,), increasing exactly when no cell is empty."""
    return (y[1:] + y[:-1]) / 2 - tau * np.diff(v) / np.diff(y)


def cell_masses(v, source, y, tau):
    """Mass of `source` in each cell of the potential v, (m,)."""
    return np.diff(np.concatenate([[0.0], source.cdf(cuts(v, y, tau)), [1.0]]))


def _ascend(v, g, dv, y, tau, residual):
    """Move v along dv to where the slope g.dv of the concave dual is at most half its start in size, by bisection.

    The sources of later steps have densities with jumps, where a full Newton step can overshoot and the residual may rise.
    """
    slope, low, high = g @ dv, 0.0, np.inf
    length = min(1.0, 3 / np.abs(dv).max())
    for _ in range(60):
        trial = v + length * dv
        g_trial = residual(trial) if (np.diff(cuts(trial, y, tau)) > 0).all() else None
        along = -np.inf if g_trial is None else g_trial @ dv
        if abs(along) <= slope / 2 or (along > 0 and length >= 1):
            return trial, g_trial
        low, high = (length, high) if along > 0 else (low, length)
        length = (low + high) / 2 if np.isfinite(high) else min(2 * length, 1.0)
    trial = v + low * dv
    return trial, residual(trial)


def _from_coarse(source, y, b, tau, tolerance, iterations, start):
    """A potential to start from: of the problem with pairs of atoms in one, with cuts interpolated over their mid-points.

    Such cuts increase: no cell is empty, and a few Newton steps are left on a grid of any spacing.
    """
    y_pair, pairs = y[::2], np.add.reduceat(b, np.arange(0, y.size, 2))
    coarse = semidiscrete_step(source, y_pair, pairs, tau, tolerance, iterations, None if start is None else start[::2])
    middle, rough = ((t[1:] + t[:-1]) / 2 for t in (y, y_pair))
    change = (middle - make_interp_spline(rough, coarse.cuts, k=1)(middle)) * np.diff(y) / tau
    v = np.append(0.0, np.cumsum(change))
    return v + logsumexp(-v, b=b)


def semidiscrete_step(source, y, b, tau, tolerance=1e-9, iterations=500, start=None):
    r"""One exact JKO step, `Cells`, for KL(. | sum b_j delta_{y_j}) from a law with a density on the line.

    Damped Newton steps on the concave semi-dual, whose gradient is b e^{-v} - mass(cells of v) and whose Hessian is
    tridiagonal; a step is shortened until no cell is empty and the dual not overshot. Fine grids start from coarse ones.

    Parameters
    ----------
    source : object with vectorised `cdf` and `pdf`
        Such as `scipy.stats.norm` or `Bins`.
    y, b : array_like (m,)
        Increasing positions and positive weights of the target (else `UsageError`); b sums to 1.
    tau : float in (0, 1e12]
        Euclidean step: the cost is |x - y|^2 / (2 tau).
    tolerance, iterations : float, int
        On the sum of the absolute residuals, a probability, `RuntimeError` if not reached; most Newton steps.
    start : array_like (m,), optional
        Potential to start from; zero (the nearest-atom cells) by default.
    """
    in_range(tau, 0, 1e12, "tau", open_low=True), in_range(tolerance, 0, 1, "tolerance")
    y, b, iterations = *_line(y, b), whole(iterations, 1, 1_000_000, "iterations")
    if y.size == 1:
        return Cells(np.zeros(1), np.empty(0), np.ones(1))
    weight = tau / np.diff(y)
    starts = [np.zeros(y.size) if start is None else real(start, "start")]
    if y.size > 100:
        # Where tau is so small that many cells hold no mass, Newton's method may converge from the plain one alone.
        starts.insert(0, _from_coarse(source, y, b, tau, tolerance, iterations, start))

    def residual(v):
        return b * np.exp(-v) - cell_masses(v, source, y, tau)

    for v in starts:
        g = residual(v)
        for _ in range(iterations):
            if np.abs(g).sum() <= tolerance:
                return Cells(v, cuts(v, y, tau), b * np.exp(-v))
            slope = source.pdf(cuts(v, y, tau)) * weight
            left, right = np.append(0.0, slope), np.append(slope, 0.0)
            dv = solveh_banded(np.stack([-left, b * np.exp(-v) + left + right]), g)
            v, g = _ascend(v, g, dv, y, tau, residual)
    raise RuntimeError(f"no solution: residual {np.abs(g).sum():.2g}, tau = {tau}, {y.size} atoms")


def semidiscrete_sequence(source, y, b, tau, steps):
    """Exact JKO laws mu_1, ..., mu_steps for KL on a grid of atoms, (steps, m); between steps atoms become `Bins`.

    The half-width of a bin is half the distance to the nearest neighbour. The error is O(spacing^2).
    """
    y, b = _line(y, b)
    gaps = np.append(np.diff(y), np.inf)
    half = np.minimum(gaps, np.roll(gaps, 1)) / 2
    laws, v = [], None
    for _ in range(whole(steps, 1, 10_000, "steps")):
        step = semidiscrete_step(source, y, b, tau, start=v)
        # The second step's potential is close to the first's, and so on.
        mu, v = step.mu / step.mu.sum(), step.v
        laws.append(mu)
        source = Bins(y, mu, half)
    return np.array(laws)


def relaxed_masses(v, y, tau):
    r"""int over cell j of exp(-(|x - y_j|^2/(2 tau) - v_j)) phi(x) dx for the standard normal density phi, (m,).

    With c = 1 + 1/tau the integrand is Gaussian of precision c about y_j/(tau c), times exp(v_j - y_j^2/(2 tau c)).
    """
    precision = 1 + 1 / tau
    centre = y / (tau * precision)
    ends = np.concatenate([[-np.inf], cuts(v, y, tau), [np.inf]])
    root_precision = np.sqrt(precision)
    inside = norm.cdf((ends[1:] - centre) * root_precision) - norm.cdf((ends[:-1] - centre) * root_precision)
    return np.exp(v - y**2 / (2 * tau * precision)) * inside / root_precision


def relaxed_step(y, b, tau):
    r"""Unbalanced optimal transport from N(0, 1) with *both* sides relaxed by KL (uotm), to few atoms.

    Solves b_j e^{-v_j} = `relaxed_masses`. A generator trained by uotm maps all of mu_0 by the plan's map, so the law it
    samples is the source's mass in the cells, `mu` of the `Cells`, not the plan's re-weighted second marginal, b exp(-v).
    `RuntimeError` without a solution.
    """
    y, b = _line(y, b)

    def residual(v):
        # On its way the solver may empty a cell, whose "mass" is then negative: far from a solution either way.
        return np.log(b) - v - np.log(np.maximum(relaxed_masses(v, y, tau), 1e-300))

    # The source-fixed potential is close: it differs by what re-weighting the source does.
    found = root(residual, semidiscrete_step(norm, y, b, tau).v, tol=1e-13)
    if np.abs(found.fun).max() > 1e-9:
        raise RuntimeError(f"no solution of the relaxed step for tau = {tau}: {found.message}")
    return Cells(found.x, cuts(found.x, y, tau), cell_masses(found.x, norm, y, tau))
