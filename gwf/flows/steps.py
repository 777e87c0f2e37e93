"""One JKO step of an f-divergence, exact, with the certificate that it is."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from gwf.bounds import xlogy
from gwf.errors import UsageError
from gwf.exact import atoms, grids
from gwf.exact.shannon import gauss_legendre
from gwf.flows.clouds import array, like, pair


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
        `gwf.exact.grids.Bins`: a density, of which no grid is taken. O(n m^2), on a line O(m) per Newton step.
    y : array_like or Tensor (m, d)
        Atoms of nu; for a law x an increasing grid (m,).
    tau : float
        Step in (0, inf), in squared units of x per nat.
    divergence : str
        "kl", "reverse_kl", "js", "chi2", "hellinger", or another name of `gwf.divergences` with `curvature`; "hard" with a
        hard source is balanced transport. For a law x "kl" alone.
    source : str
        "hard", or the divergence f_1 that relaxes the source.
    a, b : array_like (n,), (m,), optional
        Positive weights, of sum 1 unless a side is relaxed; equal by default.
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
    if hasattr(x, "cdf"):
        return _on_the_line(x, y, tau, divergence, source, b, tolerance)
    p, q = (array(t) for t in pair(x, y))
    a, b = (np.full(len(t), 1 / len(t)) if w is None else w for t, w in ((p, a), (q, b)))
    stay = atoms.recession(divergence) if source == "hard" else math.inf
    found = atoms.solve(atoms.cost(p, q, tau), a, b, source, divergence, tolerance, stay=stay)
    give = lambda t: like(torch.as_tensor(t), y)
    values = (found.primal, found.dual, found.gap)
    return JKOStep(y, give(found.mu), give(found.v), *values, give(found.plan), give(found.kept))


def _on_the_line(law, y, tau, divergence, source, b, tolerance):
    r"""The semi-discrete step: its gap is sum_j b_j [Psi(t_j) + Psi*(-v_j) + v_j t_j] >= 0, t_j the ratio in cell j.

    For the transport cost and the integral of the potential's transform share int |x - y_j|^2 / (2 tau) over the cells.
    """
    if (divergence, source) != ("kl", "hard"):
        raise UsageError(f"divergence = {divergence!r}, source = {source!r}: a law on the line has 'kl' and 'hard'")
    grid = np.asarray(y.detach().cpu() if torch.is_tensor(y) else y, dtype=np.float64)
    b = np.full(len(grid), 1 / len(grid)) if b is None else np.asarray(b, dtype=np.float64)
    cells = grids.semidiscrete_step(law, grid, b, tau, tolerance)
    weights, v = grids.cell_masses(cells.v, law, grid, tau), cells.v
    penalty = float((xlogy(weights, weights / b) - weights + b).sum())
    transport = _transport(law, cells.cuts, grid, tau)
    dual = transport - float(v @ weights) - float(b @ np.expm1(-v))
    give = lambda t: like(torch.as_tensor(t), y)
    values = {"primal": transport + penalty, "dual": dual, "gap": transport + penalty - dual}
    return JKOStep(y, give(weights), give(v), **values, cuts=give(cells.cuts))


def _transport(law, cuts, y, tau):
    """int |x - T(x)|^2 / (2 tau) dlaw, T(x) = y_j in cell j, by Gauss-Legendre between cuts and ends (or bins' corners)."""
    bins = isinstance(law, grids.Bins)
    corners = [law.y - law.half, law.y + law.half] if bins else [[law.ppf(1e-15)], [law.isf(1e-15)]]
    ends = np.unique(np.clip(np.concatenate([*corners, cuts]), np.min(corners), np.max(corners)))
    x, weights = gauss_legendre(ends, 64)
    return float(((x - y[np.searchsorted(cuts, x)]) ** 2 * law.pdf(x) * weights).sum() / (2 * tau))
