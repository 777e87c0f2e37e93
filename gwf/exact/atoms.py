r"""JKO steps between laws of finitely many atoms: the step is an unbalanced optimal transport problem.

With source weights a (n,), target weights b (m,) and a cost C (n, m), the step is the convex problem

.. math:: \min_{\pi \ge 0} \; \langle C, \pi \rangle + D_{f_1}(\pi \mathbf 1 | a) + D_{f_2}(\pi^T \mathbf 1 | b),

with the source held fixed (f_1 the indicator of {1}, written "hard") and C = |x - y|^2 / (2 tau). Its second marginal is
mu_{k+1} (gwf, equation 7; sjko, equations 12 to 15). Relaxing the source too gives the problem of uotm; holding both
fixed, balanced optimal transport. The dual, in one potential v on the target ("semi-dual"), is

.. math:: \sup_v \; -\sum_i a_i f_1^*(-v^c_i) - \sum_j b_j f_2^*(-v_j), \qquad v^c_i = \min_j C_{ij} - v_j

where the first sum is the mean of v^c when the source is hard.

*Mass off the data.* The plan above ends on the atoms of nu. Where f grows more than linearly (KL, chi2) nothing else has a
finite price, but in general D_f(mu | nu) = int f(dmu/dnu) dnu + r mu_s for the part mu_s of mu that nu does not charge, with
the recession slope r = f'(inf), the end of dom f*: log 2 for twice JS, 1 for Hellinger. Such mass does best to stay where it
is, so a step has one more variable for each source atom, the mass p_i that stays, at the price r, and the dual caps v^c:

.. math:: \min_{\pi, p \ge 0, \; \pi \mathbf 1 + p = a} \; \langle C, \pi \rangle + r \sum_i p_i
          + D_f(\pi^T \mathbf 1 | b), \qquad v^c_i = \min(r, \min_j C_{ij} - v_j).

The solver, a primal-dual interior-point method, need not be trusted: every answer carries the values of its plan and of its
potential, whose difference bounds the error of both. Sources by key: gwf, sjko, uotm as above; the recession term and the
Newton system (docstring of `solve`) derived here.
"""

from dataclasses import dataclass, replace

import numpy as np
import ot

from gwf import divergences
from gwf.errors import UsageError, in_range, real, whole


@dataclass(frozen=True)
class Step:
    """Solution of one problem: plan (n, m), potentials `v` (m,) and `u` (n,) = v^c, values, `primal` >= optimum >= `dual`.

    `gap` is their difference before a common constant is added: it may be far below their rounding. `kept` (n,) is the mass
    that stays at the source's atoms, off the data; 0 where its price is infinite.
    """

    plan: np.ndarray
    kept: np.ndarray
    u: np.ndarray
    v: np.ndarray
    primal: float
    dual: float
    gap: float

    @property
    def mu(self):
        """Second marginal of the plan, the law mu_{k+1} on the target's atoms; the rest of its mass is in `kept`."""
        return self.plan.sum(0)


def cost(x, y, tau):
    r"""C_ij = |x_i - y_j|^2 / (2 tau) for x (n,) or (n, d), y (m,) or (m, d), of one d (else `UsageError`), tau > 0."""
    in_range(tau, 0, np.inf, "tau", open_low=True)
    x, y = (np.atleast_1d(real(p, name)) for p, name in ((x, "x"), (y, "y")))
    if not (x.size and y.size and x[0].size == y[0].size):
        raise UsageError(f"x and y must be atoms (n, d) and (m, d) of one d, got shapes {x.shape} and {y.shape}")
    x, y = (p.reshape(len(p), -1) for p in (x, y))
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1) / (2 * tau)


def _weights(p, name, mass=None):
    p = real(p, name)
    if p.ndim != 1 or not (p > 0).all():
        raise UsageError(f"{name} must be a vector of positive weights; drop atoms without mass")
    if mass is not None and not abs(p.sum() - mass) <= 1e-6:
        raise UsageError(f"{name} has mass {p.sum():.7g}: it must be {mass:g}, to 1e-6")
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


def primal_value(plan, C, a, b, source="hard", target="kl", stay=np.inf):
    """<C, plan> + D_{f_1}(plan 1 | a) + D_{f_2}(plan^T 1 | b), and `stay` for what a hard source does not send.

    A hard marginal is taken on trust; with the default nothing may stay, and the plan has to send all.
    """
    away = 0.0 if np.isinf(stay).all() else float((stay * np.maximum(a - plan.sum(1), 0.0)).sum())
    return (
        away
        + float((C * plan).sum())
        + _penalty(_entropy(source), plan.sum(1), a)
        + _penalty(_entropy(target), plan.sum(0), b)
    )


def semidual_value(v, C, a, b, source="hard", target="kl", stay=np.inf):
    """Value of the semi-dual at any potential v (m,): a lower bound of the problem, equal at the optimum."""
    return _conjugate(_entropy(source), np.minimum((C - v).min(1), stay), a) + _conjugate(_entropy(target), v, b)


def recession(divergence):
    """Price r = Psi'(inf), in (0, inf], of a unit of mass where nu has none; "hard" has no price (inf)."""
    entropy = _entropy(divergence)
    return np.inf if entropy is None else entropy.top


@np.errstate(all="ignore")  # an iterate that overflows has no small gap
def solve(C, a, b, source="hard", target="kl", tolerance=1e-9, iterations=200, stay=np.inf):
    r"""The solution of this module's problem, a `Step`, with a certified gap.

    The conditions of optimality are, with s = C - u - v >= 0 and f* the conjugate of each marginal's penalty,

    .. math:: \textstyle\sum_j \pi_{ij} = a_i (f_1^*)'(-u_i), \quad \sum_i \pi_{ij} = b_j (f_2^*)'(-v_j), \quad
              \pi_{ij} s_{ij} = 0

    and (f_1^*)' = 1 for a hard source. The last is relaxed to pi s = kappa and Newton steps are taken while kappa falls.
    Eliminating pi leaves the symmetric system, W = pi / s, q = kappa / s,

    .. math:: \begin{pmatrix} \operatorname{diag}(W 1 + a f_1^{*\prime\prime}) & W \\ W^T &
              \operatorname{diag}(W^T 1 + b f_2^{*\prime\prime}) \end{pmatrix} \binom{du}{dv} =
              \binom{a f_1^{*\prime} - q 1}{b f_2^{*\prime} - q^T 1},

    positive definite, reduced to (m, m): a step costs O(n m^2). Mass p that may stay is one more column, of cost `stay` and
    without a potential. With both marginals hard, POT's network simplex is used. The least cost of each row, which a hard
    source pays in any case, is taken out first, so that the gap is judged by what is left to decide. `RuntimeError` if it is
    not reached, as may happen where a ratio ends at the cap of "softplus".

    Parameters
    ----------
    C, a, b : array_like (n, m), (n,), (m,)
        Finite costs; positive weights of source and target (else `UsageError`), of any mass, of one mass if both are hard.
    source, target : {"hard"} or the name of a divergence with `curvature`
        The target may be "hard" only when the source is.
    tolerance, iterations : float, int
        Largest allowed gap, relative to 1 + |value|, the value without the constant; most Newton steps.
    stay : float or array_like (n,)
        Price of a unit of mass that a hard source keeps; inf, the default, keeps the plan on the atoms, as is right on a
        finite space. A step between laws in R^d has `recession(target)`: see `jko_step`.
    """
    C, a, b = real(C, "C"), _weights(a, "a"), _weights(b, "b")
    if C.shape != (a.size, b.size):
        raise UsageError(f"C must be of shape {(a.size, b.size)} as the weights ask; it has shape {C.shape}")
    whole(iterations, 1, 1_000_000, "iterations"), in_range(tolerance, 0, 1, "tolerance")
    f_1, f_2 = _entropy(source), _entropy(target)
    for given, f in (("source", f_1), ("target", f_2)):
        if f is not None and not hasattr(f, "curvature"):
            valid = ", ".join(name for name, D in divergences.DIVERGENCES.items() if hasattr(D, "curvature"))
            raise UsageError(f"{given} = {f.title!r} has no `curvature`, which the solver needs. Valid: hard, {valid}")
    if f_2 is None:
        if f_1 is not None:
            raise UsageError("a hard target needs a hard source; exchange the two laws for the other case")
        return _balanced(C, a, b)
    if f_1 is None and a.sum() > (1 - 1e-6) * f_2.most * b.sum():
        raise UsageError(f"{f_2.title} takes less than {f_2.most:g} times the mass {b.sum():g} of b; a has {a.sum():g}")
    stay = np.broadcast_to(np.asarray(stay, dtype=np.float64), a.shape)
    may = np.isfinite(stay)
    if may.any() and f_1 is not None:
        raise UsageError("stay is a price for a hard source: a relaxed one need not send its mass")
    paid = np.minimum(C.min(1), stay) if f_1 is None else np.zeros(a.size)
    C, stay = C - paid[:, None], stay - paid
    v = np.zeros(b.size)
    # A start inside: s >= a typical cost, and every row of pi with the mass of its source.
    u = C.min(1) - np.clip(np.median(C - C.min(1, keepdims=True)), 1e-3, np.inf if f_1 is None else 1.0)
    u = np.minimum(u, stay - 0.1)
    if f_1 is not None and np.isfinite(f_1.top):
        u = np.maximum(u, -0.9 * f_1.top)
    p = np.where(may, a / 2, 0.0)
    pi = np.outer(a - p, b / b.sum())
    # Kept as variables of their own: as differences they would round to 0 where costs are large.
    s, t = C - u[:, None] - v, np.where(may, stay - u, 1.0)
    best = None
    for _ in range(iterations):
        now = _certify(pi, p, v, C, a, b, f_1, f_2, stay)
        best = now if best is None or now.gap <= best.gap else best
        if best.gap <= tolerance * (1 + abs(best.primal)) < np.inf:
            lift = float(a @ paid)
            return replace(best, u=best.u + paid, primal=best.primal + lift, dual=best.dual + lift)
        # Not before the marginals have caught up, whose error is in the gap too.
        kappa = 0.1 * max((pi * s).sum() + p @ t, now.gap if np.isfinite(now.gap) else 0.0) / (C.size + may.sum())
        W, q = pi / s, kappa / s
        row, row_slope = (a, 0.0) if f_1 is None else (a * f_1.slope(-u), a * f_1.curvature(-u))
        col, col_slope = b * f_2.slope(-v), b * f_2.curvature(-v)
        top, bottom = row - q.sum(1) - may * kappa / t, col - q.sum(0)
        diagonal = W.sum(1) + p / t + row_slope
        scaled = W / diagonal[:, None]
        schur = np.diag(W.sum(0) + col_slope) - W.T @ scaled
        try:
            dv = np.linalg.solve(schur, bottom - scaled.T @ top)
        except np.linalg.LinAlgError:
            break
        du = (top - W @ dv) / diagonal
        ds = -(du[:, None] + dv)
        dt = np.where(may, -du, 0.0)
        dpi, dp = q - pi - W * ds, may * (kappa / t - p - p / t * dt)
        room = min(_room(pi, dpi), _room(s, ds), _room(f_2.top + v, dv) if np.isfinite(f_2.top) else np.inf)
        room = min(room, _room(p, dp), _room(t, dt))
        if f_1 is not None:
            room = min(room, _room(f_1.top + u, du) if np.isfinite(f_1.top) else np.inf)
        length = min(1.0, 0.98 * room, f_2.stride / max(np.abs(dv).max(), 1e-300))
        pi, p, s, t = pi + length * dpi, p + length * dp, s + length * ds, t + length * dt
        u, v = u + length * du, v + length * dv
    raise RuntimeError(f"no solution: gap {best.gap:.2g} after at most {iterations} Newton steps")


def _room(value, change):
    """Largest step along `change` that keeps `value` >= 0."""
    down = change < 0
    return np.inf if not down.any() else float((value[down] / -change[down]).min())


def _certify(pi, p, v, C, a, b, f_1, f_2, stay):
    """The `Step` of (pi, p, v), with its pair of values; the rows are made exact if the source is hard."""
    scale = a / (pi.sum(1) + p) if f_1 is None else np.ones_like(a)
    plan, kept = pi * scale[:, None], p * scale
    ratio, even = plan.sum(0) / b, plan.sum() / b.sum()
    if f_2.most < ratio.max() and even < f_2.most:
        # Rounding lifts a ratio over its cap: mix in just enough of the product plan, whose ratios are all `even`.
        share = 1.000001 * (ratio.max() - f_2.most) / (ratio.max() - even)
        plan = (1 - share) * plan + share * np.outer(plan.sum(1), b / b.sum())
    u = np.minimum((C - v).min(1), stay)
    dual = -np.inf
    if (-v < f_2.top).all() and (f_1 is None or (-u < f_1.top).all()):
        dual = semidual_value(v, C, a, b, f_1, f_2, stay)
    primal = primal_value(plan, C, a, b, f_1, f_2, stay)
    return Step(plan, kept, u, v, primal, dual, primal - dual)


def _balanced(C, a, b):
    if not np.isclose(a.sum(), b.sum(), rtol=1e-12):
        raise UsageError(f"two hard marginals must have equal mass, got {a.sum()} and {b.sum()}")
    unit = C.max() or 1.0  # the simplex takes small costs for rounding
    plan, log = ot.emd(a, b * (a.sum() / b.sum()), C / unit, numItermax=10**7, log=True)
    v = unit * log["v"]
    u = (C - v).min(1)
    primal, dual = float((C * plan).sum()), float(a @ u + b @ v)
    return Step(plan, np.zeros(a.size), u, v, primal, dual, primal - dual)


def jko_step(x, a, y, b, tau, divergence="kl"):
    r"""One exact JKO step for D_f(. | nu) from mu = sum a_i delta_{x_i}, nu = sum b_j delta_{y_j}, over all laws on R^d.

    Atoms (n,) or (n, d), (m,) or (m, d); positive weights a, b of mass 1 (else `UsageError`); a divergence with `curvature`.
    In the `Step`, mu_{k+1} has the weights `mu` on y and, where the recession slope of f is finite, `kept` on x.
    """
    a, b = _weights(a, "a", mass=1), _weights(b, "b", mass=1)
    return solve(cost(x, y, tau), a, b, "hard", divergence, stay=recession(divergence))


def jko_sequence(x, a, y, b, tau, steps, divergence="kl"):
    """The weights of mu_1, ..., mu_steps on y, an array (steps, m); mass that a law still has on x is missing from its row."""
    a, b, r, C = _weights(a, "a", mass=1), _weights(b, "b", mass=1), recession(divergence), cost(x, y, tau)
    weights, both = [], np.concatenate([C, cost(y, y, tau)])
    law = np.concatenate([a, np.zeros(b.size)])
    for _ in range(whole(steps, 1, 10_000, "steps")):
        there = law > 0
        step = solve(both[there], law[there], b, "hard", divergence, stay=r)
        law = np.zeros(law.size)
        law[there] = step.kept
        law[a.size :] += step.mu
        weights.append(step.mu)
    return np.array(weights)


def value_over_maps(x, y, b, tau, divergence="kl"):
    r"""Least value of the step over *maps* when the source is one atom delta_x: maps reach Diracs only.

    .. math:: \min\Big\{ \min_j \frac{|x - y_j|^2}{2\tau} + b_j f(1/b_j) + \sum_{i \ne j} b_i f(0), \;
              r + \sum_i b_i f(0) \Big\}

    the last for staying at x, with the recession slope r. The relaxed value (`jko_step`) is smaller: a coupling may split the
    atom. The difference is the gap that gwf, Proposition 3.1, excludes by asking for absolute continuity.
    """
    entropy, b = _entropy(divergence), _weights(b, "b", mass=1)
    if entropy is None:
        raise UsageError("divergence = 'hard': a map takes one atom to one; give the name of a divergence")
    ratios = np.vstack([np.diag(1 / b), np.zeros(b.size)])
    price = np.append(cost(np.atleast_1d(x)[None] if np.ndim(x) else [x], y, tau)[0], recession(divergence))
    return float((price + entropy.f(ratios) @ b).min())
