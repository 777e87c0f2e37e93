r"""JKO steps between laws of finitely many atoms: the step is an unbalanced optimal transport problem.

With source weights a (n,), target weights b (m,) and a cost C (n, m), the step is the convex problem

.. math:: \min_{\pi \ge 0} \; \langle C, \pi \rangle + D_{f_1}(\pi \mathbf 1 | a) + D_{f_2}(\pi^T \mathbf 1 | b),

with the source held fixed (f_1 the indicator of {1}, written "hard") and C = |x - y|^2 / (2 tau). Its second marginal is
mu_{k+1} (gwf, equation 7; sjko, equations 12 to 15). Relaxing the source too gives the problem of uotm; holding both
fixed, balanced optimal transport. The dual, in one potential v on the target ("semi-dual"), is

.. math:: \sup_v \; -\sum_i a_i f_1^*(-v^c_i) - \sum_j b_j f_2^*(-v_j), \qquad v^c_i = \min_j C_{ij} - v_j

where the first sum is the mean of v^c when the source is hard. The solver is a primal-dual interior-point method written
here. It need not be trusted: every answer carries the primal value of its plan and the dual value of its potential, and
their difference bounds the error of both.

Sources by key: gwf, sjko, uotm as above; the Newton system is derived here (docstring of `solve`).
"""

from dataclasses import dataclass

import numpy as np
import ot

from gwf import divergences
from gwf.errors import UsageError, in_range


@dataclass(frozen=True)
class Step:
    """Solution of one problem: plan (n, m), its second marginal `mu` (m,), potentials, and two values.

    `v` (m,) is the potential on the target, `u` (n,) = v^c on the source; `primal` >= optimum >= `dual`.
    """

    plan: np.ndarray
    u: np.ndarray
    v: np.ndarray
    primal: float
    dual: float

    @property
    def mu(self):
        """Second marginal of the plan, the law mu_{k+1} on the target's atoms."""
        return self.plan.sum(0)

    @property
    def gap(self):
        """Primal minus dual value: a bound on the error of either."""
        return self.primal - self.dual


def cost(x, y, tau):
    r"""C_ij = |x_i - y_j|^2 / (2 tau) for x (n,) or (n, d), y (m,) or (m, d), tau > 0."""
    in_range(tau, 0, np.inf, "tau", open_low=True)
    x, y = (np.asarray(p, dtype=np.float64).reshape(len(p), -1) for p in (x, y))
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1) / (2 * tau)


def _weights(p, name):
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not (p > 0).all():
        raise UsageError(f"{name} must be a vector of positive weights; drop atoms without mass")
    return p


def _entropy(name):
    """The entropy of a name, None for "hard"; what is no name is taken as it is."""
    if isinstance(name, str):
        return None if name == "hard" else divergences.entropy(name)
    return name


def _penalty(entropy, marginal, weights):
    """D_f(marginal | weights); a hard marginal costs nothing (the caller makes it exact)."""
    return 0.0 if entropy is None else float(weights @ entropy.f(marginal / weights))


def _conjugate(entropy, potential, weights):
    """-sum weights f*(-potential), the dual's term for one marginal."""
    return float(weights @ potential) if entropy is None else -float(weights @ entropy.conjugate(-potential))


def primal_value(plan, C, a, b, source="hard", target="kl"):
    """<C, plan> + D_{f_1}(plan 1 | a) + D_{f_2}(plan^T 1 | b); a hard marginal is taken on trust."""
    return (
        float((C * plan).sum())
        + _penalty(_entropy(source), plan.sum(1), a)
        + _penalty(_entropy(target), plan.sum(0), b)
    )


def semidual_value(v, C, a, b, source="hard", target="kl"):
    """Value of the semi-dual at any potential v (m,): a lower bound of the problem, equal at the optimum."""
    return _conjugate(_entropy(source), (C - v).min(1), a) + _conjugate(_entropy(target), v, b)


def solve(C, a, b, source="hard", target="kl", tolerance=1e-9, iterations=200):
    r"""Solve the problem of this module with a certified gap.

    The conditions of optimality are, with s = C - u - v >= 0 and f* the conjugate of each marginal's penalty,

    .. math:: \textstyle\sum_j \pi_{ij} = a_i (f_1^*)'(-u_i), \quad \sum_i \pi_{ij} = b_j (f_2^*)'(-v_j), \quad
              \pi_{ij} s_{ij} = 0

    and (f_1^*)' = 1 for a hard source. The last is relaxed to pi s = kappa and Newton steps are taken while kappa falls.
    Eliminating pi leaves the symmetric system, W = pi / s, q = kappa / s,

    .. math:: \begin{pmatrix} \operatorname{diag}(W 1 + a f_1^{*\prime\prime}) & W \\ W^T &
              \operatorname{diag}(W^T 1 + b f_2^{*\prime\prime}) \end{pmatrix} \binom{du}{dv} =
              \binom{a f_1^{*\prime} - q 1}{b f_2^{*\prime} - q^T 1},

    positive definite, reduced to (m, m): a step costs O(n m^2). With both marginals hard, POT's network simplex is used.

    Parameters
    ----------
    C : array_like (n, m)
    a, b : array_like (n,), (m,)
        Positive weights of source and target (else `UsageError`); they need not have mass 1 unless both are hard.
    source, target : {"hard"} or the name of a divergence with `curvature`
        The target may be "hard" only when the source is.
    tolerance : float
        Largest allowed gap, relative to 1 + |value|.
    iterations : int
        Most Newton steps.

    Returns
    -------
    Step

    Raises
    ------
    RuntimeError
        If the gap is not reached.
    """
    C, a, b = np.asarray(C, dtype=np.float64), _weights(a, "a"), _weights(b, "b")
    if C.shape != (a.size, b.size):
        raise UsageError(f"C has shape {C.shape}, the weights ask for {(a.size, b.size)}")
    f_1, f_2 = _entropy(source), _entropy(target)
    if f_2 is None:
        if f_1 is not None:
            raise UsageError("a hard target needs a hard source; exchange the two laws for the other case")
        return _balanced(C, a, b)
    v = np.zeros(b.size)
    # A start inside: s >= a typical cost, and every row of pi with the mass of its source.
    u = C.min(1) - np.clip(np.median(C - C.min(1, keepdims=True)), 1e-3, np.inf if f_1 is None else 1.0)
    if f_1 is not None and np.isfinite(f_1.top):
        u = np.maximum(u, -0.9 * f_1.top)
    pi = np.outer(a, b / b.sum())
    best = None
    for _ in range(iterations):
        s = C - u[:, None] - v
        best = _certify(pi, v, C, a, b, f_1, f_2, best)
        if best.gap <= tolerance * (1 + abs(best.primal)):
            return best
        kappa = 0.1 * (pi * s).sum() / C.size
        W, q = pi / s, kappa / s
        row, row_slope = (a, 0.0) if f_1 is None else (a * f_1.slope(-u), a * f_1.curvature(-u))
        col, col_slope = b * f_2.slope(-v), b * f_2.curvature(-v)
        top, bottom = row - q.sum(1), col - q.sum(0)
        diagonal = W.sum(1) + row_slope
        scaled = W / diagonal[:, None]
        schur = np.diag(W.sum(0) + col_slope) - W.T @ scaled
        dv = np.linalg.solve(schur, bottom - scaled.T @ top)
        du = (top - W @ dv) / diagonal
        ds = -(du[:, None] + dv)
        dpi = q - pi - W * ds
        room = min(_room(pi, dpi), _room(s, ds), _room(f_2.top + v, dv) if np.isfinite(f_2.top) else np.inf)
        if f_1 is not None:
            room = min(room, _room(f_1.top + u, du) if np.isfinite(f_1.top) else np.inf)
        length = min(1.0, 0.98 * room, f_2.stride / max(np.abs(dv).max(), 1e-300))
        pi, u, v = pi + length * dpi, u + length * du, v + length * dv
    raise RuntimeError(f"no solution: gap {best.gap:.2g} after {iterations} Newton steps")


def _room(value, change):
    """Largest step along `change` that keeps `value` >= 0."""
    down = change < 0
    return np.inf if not down.any() else float((value[down] / -change[down]).min())


def _certify(pi, v, C, a, b, f_1, f_2, best):
    """The pair of values at (pi, v), the plan's rows made exact if the source is hard; the better of it and `best`."""
    plan = pi * (a / pi.sum(1))[:, None] if f_1 is None else pi
    ratio, even = plan.sum(0) / b, plan.sum() / b.sum()
    if f_2.most < ratio.max() and even < f_2.most:
        # Rounding lifts a ratio over its cap: mix in just enough of the product plan, whose ratios are all `even`.
        share = 1.000001 * (ratio.max() - f_2.most) / (ratio.max() - even)
        plan = (1 - share) * plan + share * np.outer(plan.sum(1), b / b.sum())
    u = (C - v).min(1)
    dual = -np.inf
    if (-v < f_2.top).all() and (f_1 is None or (-u < f_1.top).all()):
        dual = semidual_value(v, C, a, b, f_1, f_2)
    found = Step(plan, u, v, primal_value(plan, C, a, b, f_1, f_2), dual)
    return found if best is None or not found.gap > best.gap else best


def _balanced(C, a, b):
    if not np.isclose(a.sum(), b.sum(), rtol=1e-12):
        raise UsageError(f"two hard marginals must have equal mass, got {a.sum()} and {b.sum()}")
    plan, log = ot.emd(a, b * (a.sum() / b.sum()), C, numItermax=10**7, log=True)
    v = log["v"]
    u = (C - v).min(1)
    return Step(plan, u, v, float((C * plan).sum()), float(a @ u + b @ v))


def jko_step(x, a, y, b, tau, divergence="kl"):
    r"""One exact JKO step for D_f(. | nu) from mu = sum a_i delta_{x_i}, nu = sum b_j delta_{y_j}.

    Parameters
    ----------
    x, y : array_like (n,) or (n, d), (m,) or (m, d)
    a, b : array_like (n,), (m,), positive, of mass 1
    tau : float in (0, inf)
        Euclidean step: the cost is |x - y|^2 / (2 tau).
    divergence : str, a name in `gwf.divergences` with `curvature`

    Returns
    -------
    Step
        `mu` are the weights of mu_{k+1} on y: it lives where nu does, at finite divergence it can live nowhere else.
    """
    return solve(cost(x, y, tau), a, b, "hard", divergence)


def jko_sequence(x, a, y, b, tau, steps, divergence="kl"):
    """The weights of mu_1, ..., mu_steps on y, an array (steps, m); from the second step on the source lives on y too."""
    weights, C = [], cost(x, y, tau)
    between = cost(y, y, tau)
    for k in range(steps):
        kept = np.ones(len(a), bool) if k == 0 else np.asarray(a) > 0
        a = solve((C if k == 0 else between)[kept], np.asarray(a)[kept], b, "hard", divergence).mu
        weights.append(a)
    return np.array(weights)


def value_over_maps(x, y, b, tau, divergence="kl"):
    r"""Least value of the step over *maps* when the source is one atom delta_x: maps reach Diracs only.

    .. math:: \min_j \frac{|x - y_j|^2}{2\tau} + b_j f(1/b_j) + \sum_{i \ne j} b_i f(0)

    The relaxed value (`jko_step`) is smaller: a coupling may split the atom. The difference is the gap that gwf,
    Proposition 3.1, excludes by asking for absolute continuity.
    """
    entropy, b = _entropy(divergence), _weights(b, "b")
    ratios = np.diag(1 / b)
    return float((cost(np.atleast_1d(x)[None] if np.ndim(x) else [x], y, tau)[0] + entropy.f(ratios) @ b).min())
