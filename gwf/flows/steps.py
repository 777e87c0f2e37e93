"""One JKO step of an f-divergence, exact, with the certificate that it is."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from gwf.bounds import xlogy
from gwf.errors import UsageError
from gwf.exact import atoms, grids
from gwf.flows.clouds import array, cloud, like, pair
from gwf.validation import number


class JKOStep(NamedTuple):
    """A solved step: the law sum_j weights_j delta_{y_j} + sum_i kept_i delta_{x_i}; `gap`, of `primal` >= minimum >= `dual`.

    `plan` (n, m) from the atoms x to y, and `kept` (n,), the mass that stays off the data, 0 where f'(inf) is infinite; or
    None, and then `cuts` (m - 1,), where the line is cut into the cells that go to each y_j; `potential` (m,), of the dual.
    """

    particles: Any
    weights: Any
    potential: Any
    primal: float
    dual: float
    gap: float
    plan: Any = None
    kept: Any = None
    cuts: Any = None


def jko_step(x, y, tau, divergence="kl", *, source="hard", a=None, b=None, tolerance=1e-9):
    r"""One exact JKO step of an f-divergence to a law of atoms, as unbalanced optimal transport [1]_.

    .. math:: \mu' = \operatorname{argmin}_{\mu'} \; D_f(\mu' | \nu) + \frac{1}{2\tau} W_2^2(\mu, \mu'), \qquad
              \nu = \sum_j b_j \delta_{y_j},

    which has its minimum on the atoms of nu and, at the price f'(inf) a unit, on those of mu: pi and p minimise

    .. math:: \sum_{ij} \frac{|x_i - y_j|^2}{2 \tau} \pi_{ij} + f'(\infty) \sum_i p_i + D_f(\pi^T \mathbf 1 | b), \qquad
              \pi, p \ge 0, \quad \pi \mathbf 1 + p = a,

    or D_{f_1}(pi 1 | a) takes the place of the constraint and of p. The values of the plan and of a potential of the dual
    problem enclose the minimum, so that the answer need not be trusted.

    Parameters
    ----------
    x : array_like or Tensor (n, d), or a law on the line
        Atoms of mu; or an object with `cdf`, `pdf`, `ppf` and `isf`, such as `scipy.stats.norm(0, 1)`, or
        `gwf.exact.grids.Bins`: a density with a second moment, of which no grid is taken. O(n m^2), on a line O(m) per
        Newton step.
    y : array_like or Tensor (m, d)
        Atoms of nu; for a law x an increasing grid (m,).
    tau : float
        Step in (0, inf), for a law x at most 1e12, in squared units of x per nat.
    divergence : str
        "kl", "reverse_kl", "js", "chi2", "hellinger", or another name of `gwf.divergences` with `curvature`; "hard" with a
        hard source is balanced transport. For a law x "kl" alone.
    source : str
        "hard", or the divergence f_1 that relaxes the source.
    a, b : array_like (n,), (m,), optional
        Positive weights, of sum 1 unless a side is relaxed; equal by default. A law x has no a.
    tolerance : float
        On the gap, relative to 1 + |value|; for a law x on the sum of the residuals, a probability.

    Returns
    -------
    JKOStep
        Arrays, or tensors where y is one.

    Raises
    ------
    UsageError, RuntimeError
        For arguments out of range; if the gap is not reached.

    References
    ----------
    .. [1] J. Choi et al. Scalable Wasserstein gradient flow ... through unbalanced optimal transport. ICML 2024 (sjko, 12-15).

    Examples
    --------
    Half of the mass at 0 is worth moving to 2, and a quarter of it moves:

    >>> import numpy as np, gwf
    >>> found = gwf.jko_step(np.array([[0.0]]), np.array([[0.0], [2.0]]), tau=2 / np.log(3))
    >>> found.weights.round(6), bool(0 <= found.gap < 1e-8)
    (array([0.75, 0.25]), True)
    """
    for name, given in (("divergence", divergence), ("source", source)):
        if not isinstance(given, str):
            raise UsageError(f"{name} = {given!r} must be a name, such as 'kl'")
    tau, tolerance = number(tau, 0, math.inf, "tau", open_low=True), number(tolerance, 0, 1, "tolerance")
    if hasattr(x, "cdf"):
        return _on_the_line(x, y, tau, divergence, source, a, b, tolerance)
    p, q = (array(t) for t in pair(x, y))
    a, b = (np.full(len(t), 1 / len(t)) if w is None else w for t, w in ((p, a), (q, b)))
    stay = atoms.recession(divergence) if source == "hard" else math.inf
    found = atoms.solve(atoms.cost(p, q, tau), a, b, source, divergence, tolerance, stay=stay)
    give = lambda t: like(torch.as_tensor(t), y)
    values = (found.primal, found.dual, found.gap)
    return JKOStep(y, give(found.mu), give(found.v), *values, give(found.plan), give(found.kept))


def _on_the_line(law, y, tau, divergence, source, a, b, tolerance):
    r"""The semi-discrete step: its gap is sum_j b_j [Psi(t_j) + Psi*(-v_j) + v_j t_j] >= 0, t_j the ratio in cell j.

    For the transport cost and the integral of the potential's transform share int |x - y_j|^2 / (2 tau) over the cells,
    whose error the gap has twice.
    """
    if (divergence, source) != ("kl", "hard") or a is not None:
        raise UsageError(f"divergence = {divergence!r}, source = {source!r}: a law x has 'kl', 'hard' and no a")
    if not (isinstance(law, grids.Bins) or all(hasattr(law, name) for name in ("pdf", "ppf", "isf"))):
        raise UsageError(f"x = {law!r} has no density: a law on the line has the methods cdf, pdf, ppf and isf")
    grid = _line(y, "y")
    b = np.full(len(grid), 1 / len(grid)) if b is None else _line(b, "b")
    if b.shape != grid.shape or not (b > 0).all() or abs(b.sum() - 1) > 1e-6:
        raise UsageError(f"b = {b}: a law on the line takes a positive weight for each of the {len(grid)} y, of sum 1")
    cells = grids.semidiscrete_step(law, grid, b, tau, tolerance)
    weights, v = grids.cell_masses(cells.v, law, grid, tau), cells.v
    penalty = float((xlogy(weights, weights / b) - weights + b).sum())
    transport, error = (t / (2 * tau) for t in _transport(law, cells.cuts, grid))
    dual = transport - float(v @ weights) - float(b @ np.expm1(-v))
    give = lambda t: like(torch.as_tensor(t), y)
    values = {"primal": transport + penalty, "dual": dual, "gap": transport + penalty - dual + 2 * error}
    return JKOStep(y, give(weights), give(v), **values, cuts=give(cells.cuts))


def _line(t, name):
    """`t` as a vector (m,) of finite numbers, float64."""
    column = array(cloud(t[:, None] if getattr(t, "ndim", 0) == 1 else np.array(t, ndmin=2).T, name))
    if column.shape[1] != 1:
        raise UsageError(f"{name} has the shape {column.T.shape}: on the line it is a vector (m,)")
    return column[:, 0]


def _transport(law, cuts, y):
    """int |x - y_j|^2 dlaw over the cells, and its error, by Gauss-Legendre panels between cuts, quantiles and tails.

    A panel is halved while that changes its value, or while the mass of the density in it is not that of the distribution
    function. What still hides, at an end where the density is infinite, is taken at the middle.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    if isinstance(law, grids.Bins):
        ends, tails = np.concatenate([law.y - law.half, law.y + law.half]), np.empty(0)
    else:
        levels = [0.0, 0.5, *4.0 ** -np.arange(1.0, 21)]
        ends = np.array([float(at(level)) for at in (law.ppf, law.isf) for level in levels])
        ends = ends[np.isfinite(ends)]
        tails = np.ptp(ends) * 4.0 ** np.arange(240)
    margin = 1e-9 * np.ptp(ends)  # quantiles are rounded
    low, high = ends.min() - margin, ends.max() + margin
    ends = np.unique(np.concatenate([low - tails, [low], ends, cuts, [high], high + tails]))

    def panels(a, b):
        """Values, and what they may be off by for the mass that hides."""
        half, target = (b - a) / 2, y[np.searchsorted(cuts, (a + b) / 2)]
        x = (a + half)[:, None] + half[:, None] * nodes
        mass = np.nan_to_num(law.pdf(x.ravel()), nan=0.0, posinf=0.0).reshape(x.shape) * half[:, None] * weights
        hidden = law.cdf(b) - law.cdf(a) - mass.sum(1)
        hidden = np.where((np.abs(hidden) > 1e-15) & (low <= a) & (b <= high), hidden, 0.0)  # else rounding of G
        value = (mass * (x - target[:, None]) ** 2).sum(1) + hidden * (a + half - target) ** 2
        return value, np.abs(hidden) * (b - a) * np.maximum(np.abs(a - target), np.abs(b - target))

    with np.errstate(all="ignore"):
        a, b = ends[:-1], ends[1:]
        value, _ = panels(a, b)
        # Sixteen times the last panel bounds what is beyond, where that is little.
        last = [v[v > 0][-1:].sum() for v in (value[b <= low][::-1], value[a >= high])]
        total, error = 0.0, 16 * sum(last)
        if not error <= 1e-8 * np.abs(value).sum() < math.inf:
            raise UsageError(f"x = {law!r} has no finite second moment, or tails too heavy to tell")
        for _ in range(100):
            middle, scale = (a + b) / 2, abs(total + value.sum())
            (left, off), (right, more) = panels(a, middle), panels(middle, b)
            off = np.abs(left + right - value) + off + more
            again = (off > 1e-14 * scale) & (a < middle) & (middle < b)
            total, error = total + (left + right)[~again].sum(), error + off[~again].sum()
            a, b = np.r_[a[again], middle[again]], np.r_[middle[again], b[again]]
            value = np.r_[left[again], right[again]]
    return float(total + value.sum()), float(error + value.sum())
