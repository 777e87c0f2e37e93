"""One JKO step of an f-divergence, exact, with the certificate that it is."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from gwf.bounds import xlogy
from gwf.errors import UsageError
from gwf.exact import atoms, grids
from gwf.exact.shannon import gauss_legendre
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
        Atoms of mu; or an object with `cdf`, `pdf`, `ppf`, `isf`, such as `scipy.stats.norm(0, 1)` or
        `gwf.exact.grids.Bins`: a density with a second moment, kept as it is. O(n m^2), on a line O(m), a Newton step.
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
    UsageError
        For arguments out of range.
    RuntimeError
        If the gap is not reached.

    References
    ----------
    .. [1] J. Choi, M. Choi, B. Kim. Scalable Wasserstein gradient flow for generative modeling through unbalanced optimal
       transport. ICML 2024 (sjko, equations 12 to 15).

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
    for name, w, t in (("a", a, p), ("b", b, q)):
        if np.shape(w) != (len(t),):
            raise UsageError(f"{name} has the shape {np.shape(w)}: it must have a weight for each of {len(t)} points")
    stay = atoms.recession(divergence) if source == "hard" else math.inf
    found = atoms.solve(atoms.cost(p, q, tau), a, b, source, divergence, tolerance, stay=stay)
    give = lambda t: like(torch.as_tensor(t), y)
    values = (found.primal, found.dual, found.gap)
    return JKOStep(y, give(found.mu), give(found.v), *values, give(found.plan), give(found.kept))


def _on_the_line(law, y, tau, divergence, source, a, b, tolerance):
    r"""The semi-discrete step: its gap is sum_j b_j [Psi(t_j) + Psi*(-v_j) + v_j t_j] >= 0, t_j the ratio in cell j.

    The transport cost and the dual share int |x - y_j|^2 / (2 tau) over the cells, whose error the gap has twice.
    """
    if (divergence, source) != ("kl", "hard") or a is not None:
        raise UsageError(f"divergence = {divergence!r}, source = {source!r}: a law takes 'kl', 'hard' and no a")
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
    r"""int |x - y_j|^2 dlaw over the cells, and its error, as integrals over quantiles u in (0, 1/2) from either end,

    int |Q(u) - y_j|^2 du by 16 Gauss-Legendre nodes on panels that shrink to the end by a factor of 4, and are halved until
    that changes nothing. Within a bin Q is linear. The last panels' shares of a moment that exists fall geometrically.
    """
    if isinstance(law, grids.Bins):
        ends = np.unique(np.concatenate([law.y - law.half, law.y + law.half, cuts]))
        x, weights = gauss_legendre(ends, 3)
        return float(((x - y[np.searchsorted(cuts, x)]) ** 2 * law.pdf(x) * weights).sum()), 0.0
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = error = 0.0
    for quantile, level in ((law.ppf, law.cdf(cuts)), (law.isf, 1 - law.cdf(cuts))):
        edges = np.unique([*(0.5 * 4.0 ** -np.arange(200.0)), *level[(level > 0) & (level < 0.5)]])

        def panels(a, b, quantile=quantile):
            x = np.asarray(quantile((a + b)[:, None] / 2 + (b - a)[:, None] / 2 * nodes))
            return (x - y[np.searchsorted(cuts, x)]) ** 2 @ weights * (b - a) / 2

        a, b = edges[:-1], edges[1:]
        value = panels(a, b)
        some = np.isfinite(value) | (b > 1e-15)  # where rounding lets a quantile overflow, the law is extrapolated
        a, b, value = a[some], b[some], value[some]
        ratio = value[0] / value[1] if value[1] > 0 else 0.0
        if not (np.isfinite(value).all() and ratio < 0.99):
            raise UsageError(f"x = {law!r} has no finite second moment, or tails too heavy to tell")
        total += value[0] * ratio / (1 - ratio)
        error += value[0] * ratio / (1 - ratio)
        for _ in range(50):
            middle = (a + b) / 2
            left, right = panels(a, middle), panels(middle, b)
            off = np.abs(left + right - value)
            again = off > 1e-13 * (total + value.sum())
            total, error = total + (left + right)[~again].sum(), error + off[~again].sum()
            a, b = np.r_[a[again], middle[again]], np.r_[middle[again], b[again]]
            value = np.r_[left[again], right[again]]
            if not len(a):
                break
        total, error = total + value.sum(), error + value.sum()
    return float(total), float(error)
