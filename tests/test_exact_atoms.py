"""JKO steps on atoms and grids: certified gaps, other solvers, and the exact masses of two toys.

The interior-point solver is trusted nowhere: its gap bounds the error, and other methods (linear programming on tangents,
closed forms, scaling, semi-discrete Newton) must agree.
"""

import math
import re

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq, linprog, minimize_scalar
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp
from scipy.stats import norm, rayleigh

from gwf import divergences
from gwf.errors import UsageError
from gwf.exact import atoms, gaussian, grids, mixtures

few = settings(derandomize=True, deadline=None, max_examples=20)
seeds = st.integers(0, 10**6)
DIVERGENCES = ["chi2", "hellinger", "js", "kl", "softplus"]


def problem(seed, n=14, m=11, d=2):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), 1 + 1.5 * rng.standard_normal((m, d))
    return x, rng.dirichlet(np.ones(n)) + 1e-3, y, rng.dirichlet(np.ones(m)) + 1e-3, rng.uniform(0.05, 3)


def normalised(x, a, y, b, tau):
    return x, a / a.sum(), y, b / b.sum(), tau


# The discrete duality.


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("source", ["hard", "kl", "chi2"])
def test_gap_is_below_1e_6_on_grids(name, source):
    """gwf claim C1: on 1-D grids the primal (a plan) and the concave dual (a potential) have one value."""
    x, y = np.linspace(-4, 4, 81), np.linspace(-3, 5, 61)
    a, b = norm.pdf(x), norm.pdf(y, 1, 0.7) + 1e-6
    C = atoms.cost(x, y, 0.4)
    step = atoms.solve(C, a / a.sum(), b / b.sum(), source, name)
    assert 0 <= step.gap + 1e-15 and step.gap < 1e-6
    again = atoms.primal_value(step.plan, C, a / a.sum(), b / b.sum(), source, name)
    assert step.primal == pytest.approx(again, abs=1e-12)
    assert step.dual == pytest.approx(
        atoms.semidual_value(step.v, C, a / a.sum(), b / b.sum(), source, name), abs=1e-12
    )
    if source == "hard":
        assert step.plan.sum(1) == pytest.approx(a / a.sum(), abs=1e-14)


@few
@given(seeds, st.sampled_from(DIVERGENCES))
def test_any_potential_gives_a_lower_bound_and_any_plan_an_upper_one(seed, name):
    x, a, y, b, tau = normalised(*problem(seed))
    C, rng = atoms.cost(x, y, tau), np.random.default_rng(seed)
    step = atoms.solve(C, a, b, "hard", name)
    v = step.v + rng.uniform(-0.1, 0.1, b.size)
    if (-v < divergences.entropy(name).top).all():
        assert atoms.semidual_value(v, C, a, b, "hard", name) <= step.primal + 1e-12
    plan = 0.9 * step.plan + 0.1 * np.outer(a, b)
    assert atoms.primal_value(plan, C, a, b, "hard", name) >= step.dual - 1e-12
    if math.isinf(r := atoms.recession(name)):
        return
    # The same where mass may stay: any part of each row.
    step = atoms.jko_step(x, a, y, b, tau, name)
    if (-v < r).all():
        assert atoms.semidual_value(v, C, a, b, "hard", name, r) <= step.primal + 1e-12
    assert atoms.primal_value(plan * rng.uniform(0, 1, a.size)[:, None], C, a, b, "hard", name, r) >= step.dual - 1e-12
    assert step.plan.sum(1) + step.kept == pytest.approx(a, abs=1e-14) and (step.kept >= 0).all()


@few
@given(seeds, st.sampled_from(DIVERGENCES))
def test_energy_inequalities(seed, name):
    """F <= F before, from nu's own atoms or, where mass off the data has a price, from any; and F <= W_2^2/(2 tau)."""
    x, elsewhere, y, b, tau = normalised(*problem(seed))
    a = np.random.default_rng(seed).dirichlet(np.full(b.size, 3.0)) + 0.02
    a = np.minimum(a / a.sum(), 1.9 * b) if name == "softplus" else a
    a, f = a / a.sum(), divergences.entropy(name).f
    if name == "softplus" and (a > 2 * b).any():
        return
    step = atoms.jko_step(y, a, y, b, tau, name)
    assert step.primal <= b @ f(a / b) + 1e-7
    whole = ot.emd2(a, b, ot.dist(y, y)) / (2 * tau)
    assert b @ f(step.mu / b) <= whole + 1e-7
    if np.isfinite(r := atoms.recession(name)):
        assert atoms.jko_step(x, elsewhere, y, b, tau, name).primal <= r + b @ f(0 * b) + 1e-9


# Mass off the data: it has a finite price where f grows linearly.


def test_a_far_atom_stays_where_it_is_under_js():
    """From 0 to 10 at tau = .5 the trip costs 100, staying log 2 + log 2. (It was sent on the trip, certified.)"""
    step = atoms.jko_step([0.0], [1.0], [10.0], [1.0], 0.5, "js")
    assert step.primal == pytest.approx(2 * math.log(2), abs=1e-8) and step.kept == pytest.approx([1.0], abs=1e-8)
    assert atoms.jko_step([0.0], [1.0], [10.0], [1.0], 0.5, "kl").primal == pytest.approx(100, abs=1e-8)
    # Hellinger: 100 t + (1 - t) + f(t) is least where f'(t) = 1 - t^(-1/2) = 1 - 100.
    step = atoms.jko_step([0.0], [1.0], [10.0], [1.0], 0.5, "hellinger")
    assert step.mu == pytest.approx([1e-4], rel=1e-3)


@pytest.mark.parametrize("name", ["js", "hellinger", "reverse_kl"])
def test_one_atom_to_two_by_a_search_in_one_variable(name):
    """delta_0 to two atoms at +-1: by symmetry only the share e^e that leaves is open."""
    entropy = divergences.entropy(name)
    for tau in (1e-6, 0.1, 0.4, 0.7, 0.73, 5.0, 1e6):
        value = lambda e: np.exp(e) / (2 * tau) - np.expm1(e) * entropy.top + float(entropy.f(np.exp(e)))  # noqa: B023, E731
        least = minimize_scalar(value, bounds=(-60, 0), method="bounded", options={"xatol": 1e-10})
        step = atoms.jko_step([0.0], [1.0], [-1.0, 1.0], [0.5, 0.5], tau, name)
        assert step.primal == pytest.approx(least.fun, abs=1e-8)
        assert step.gap < 1e-8
        if name == "js":
            assert (step.kept[0] < 1e-6) == (tau >= 1 / (2 * math.log(2)))


@pytest.mark.parametrize("steps", [2.5, -1, True, "3"])
def test_numbers_of_steps_are_whole(steps):
    with pytest.raises(UsageError, match="steps = "):
        atoms.jko_sequence([0.0], [1.0], [1.0], [1.0], 0.5, steps)
    with pytest.raises(UsageError, match="steps = "):
        gaussian.jko_sequence(0, 1, 3, 0.5, 0.1, steps)


def test_steps_in_a_row_keep_what_stays():
    """tau too small for JS to pay the trip of 10, enough for the trip of .1: one half never moves, in no number of steps."""
    laws = atoms.jko_sequence([0.0, 10.1], [0.5, 0.5], [10.0], [1.0], 0.5, 3, "js")
    assert laws == pytest.approx(np.full((3, 1), 0.5), abs=1e-6)
    whole = atoms.jko_sequence([0.0, 10.1], [0.5, 0.5], [10.0], [1.0], 0.5, 3, "kl")
    assert whole == pytest.approx(np.ones((3, 1)), abs=1e-9)


def tangents(name):
    """400 tangents (slopes, constants) of Psi, from far left to far right."""
    t, Psi = np.geomspace(1e-6, 60, 400), divergences.entropy(name)
    return Psi.df(t), Psi.f(t) - t * Psi.df(t)


@pytest.mark.parametrize("name", ["js", "hellinger"])
@pytest.mark.parametrize(("d", "tau"), [(1, 0.05), (2, 0.4), (500, 300.0)])
def test_linear_programming_on_tangents_with_mass_that_stays(name, d, tau):
    """As above with a column of the price r per source. The program's value is from below, within 2e-3 of t f''/8 (4.6 %)^2."""
    x, a, y, b, _ = normalised(*problem(7, n=6, m=5, d=d))
    n, m, r = 6, 5, divergences.entropy(name).top
    C, (slopes, constants) = atoms.cost(x, y, tau), tangents(name)
    wide = np.column_stack([C, np.full(n, r)]).ravel()
    rows = np.zeros((len(slopes) * m, n * (m + 1) + m))
    ends = np.zeros(len(rows))
    for j in range(m):
        own = slice(j * len(slopes), (j + 1) * len(slopes))
        rows[own, j : n * (m + 1) : m + 1] = slopes[:, None]
        rows[own, n * (m + 1) + j] = -1
        ends[own] = -b[j] * constants
    equal = np.hstack([np.kron(np.eye(n), np.ones(m + 1)), np.zeros((n, m))])
    bounds = [(0, None)] * (n * (m + 1)) + [(None, None)] * m
    found = linprog(np.concatenate([wide, np.ones(m)]), rows, ends, equal, a, bounds=bounds)
    step = atoms.jko_step(x, a, y, b, tau, name)
    assert found.fun <= step.primal + 1e-9 and found.fun == pytest.approx(step.primal, abs=2e-3)
    assert 0.01 < step.kept.sum() < 0.99, "both choices are in use"


# Scales: everything is judged by what there is to decide, not by a constant that is paid in any case.


@pytest.mark.parametrize("name", ["kl", "chi2"])
def test_large_costs_do_not_hide_the_gap(name):
    """Atoms at 0, 1e6 to 0, 1: the row of the far atom has a constant of 5e11. (The answer was .396, .604.)"""
    step = atoms.jko_step([0.0, 1e6], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5], 1.0, name)
    assert step.mu == pytest.approx([0.5, 0.5], abs=1e-6) and step.gap < 1e-8


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("tau", [1e-6, 1e-2, 1e2, 1e6])
@pytest.mark.parametrize("d", [1, 500])
def test_all_sizes_of_steps_are_certified(name, tau, d):
    """The gap, by sums written out here; atoms that coincide, float32 input, steps from frozen to free."""
    x, a, y, b, _ = normalised(*problem(d, n=7, m=6, d=d))
    x[:2], y[1] = x[0], y[0]
    y[2] = x[3]
    step = atoms.jko_step(x.astype(np.float32), a, y.astype(np.float32), b, tau, name)
    Psi, r = divergences.entropy(name), atoms.recession(name)
    C = ((x.astype(np.float32).astype(float)[:, None] - y.astype(np.float32).astype(float)) ** 2).sum(-1) / (2 * tau)
    kept = r * step.kept.sum() if np.isfinite(r) else 0.0
    primal = (C * step.plan).sum() + kept + b @ Psi.f(step.plan.sum(0) / b)
    dual = a @ np.minimum((C - step.v).min(1), r) - b @ Psi.conjugate(-step.v)
    rounding = 1e-12 * (1 + (C * step.plan).sum())
    assert step.plan.sum(1) + step.kept == pytest.approx(a, abs=1e-14)
    if name != "softplus":  # its cap on the ratios forces long trips, which count as much as any
        assert step.gap < 1e-7
    assert -rounding <= primal - dual <= step.gap + rounding
    assert step.primal == pytest.approx(primal, abs=rounding)


@pytest.mark.parametrize("bad", [dict(a=[1.0, 1.0, 1.0]), dict(b=[1.0, 1.0]), dict(x=[0.0, 1, np.nan])])
def test_masses_and_costs_are_checked(bad):
    arguments = dict(x=[0.0, 1, 2], a=[0.3, 0.3, 0.4], y=[0.0, 1], b=[0.5, 0.5], tau=1.0) | bad
    with pytest.raises(UsageError, match="mass|x = nan"):
        atoms.jko_step(**arguments)


def test_limits_of_tau():
    """tau to infinity gives nu; tau to 0 from nu's own atoms gives mu back; both to the size of tau's effect."""
    x, a, y, b, _ = normalised(*problem(3))
    assert atoms.jko_step(x, a, y, b, 1e6).mu == pytest.approx(b, abs=1e-5)
    assert atoms.jko_step(y, b[::-1].copy(), y, b, 1e-4).mu == pytest.approx(b[::-1], abs=1e-6)


def test_balanced_is_the_limit_of_a_heavy_penalty_and_agrees_with_pot():
    """D -> lambda D is cost -> cost / lambda: at lambda = 1e4 the marginal is off by about cost / lambda."""
    x, a, y, b, tau = normalised(*problem(5))
    C = atoms.cost(x, y, tau)
    balanced = atoms.solve(C, a, b, "hard", "hard")
    assert abs(balanced.gap) < 1e-10 and balanced.primal == pytest.approx(ot.emd2(a, b, C), abs=1e-12)
    near = atoms.solve(C / 1e4, a, b, "hard", "kl", tolerance=1e-12)
    assert 1e4 * near.primal == pytest.approx(balanced.primal, abs=1e-2 * (1 + balanced.primal))
    assert 1e4 * near.primal < balanced.primal


def test_linear_programming_on_tangents_gives_the_same_value():
    """f is the sup of its tangents: min <C, pi> + sum z_j, z_j >= tangents, is a linear program below the optimum.

    With tangents 2 % apart in t the program is below by at most f'' (t .01)^2 / 2 = t/2 1e-4 on average.
    """
    x, a, y, b, tau = normalised(*problem(11, n=8, m=6))
    C, (n, m) = atoms.cost(x, y, tau), (8, 6)
    rows, ends = [], []
    for t in np.geomspace(0.01, 30, 400):
        for j in range(m):
            row = np.zeros(n * m + m)
            row[j : n * m : m], row[n * m + j] = np.log(t), -1
            rows.append(row)
            ends.append(b[j] * (t - 1))  # b f(t) - f'(t) b t, the tangent's constant, changed of sign
    equal = np.hstack([np.kron(np.eye(n), np.ones(m)), np.zeros((n, m))])
    found = linprog(np.concatenate([C.ravel(), np.ones(m)]), rows, ends, equal, a, bounds=[(0, None)] * (n * m + m))
    value = atoms.solve(C, a, b).primal
    assert found.fun <= value + 1e-9 and found.fun == pytest.approx(value, abs=1e-4)


@few
@given(seeds)
def test_profiling_the_constant_gives_donsker_varadhan(seed):
    """max_C [int v^c - C - int (e^{-v-C} - 1) dnu] = int v^c - log int e^{-v} dnu, written with the shifted potential."""
    x, a, y, b, tau = normalised(*problem(seed))
    C, v = atoms.cost(x, y, tau), np.random.default_rng(seed).standard_normal(b.size)
    shift = math.log(b @ np.exp(-v))
    profiled = atoms.semidual_value(v + shift, C, a, b)
    assert profiled == pytest.approx(a @ (C - v).min(1) - shift, abs=1e-10)
    for other in (shift - 0.1, shift + 0.1):
        assert atoms.semidual_value(v + other, C, a, b) < profiled


@pytest.mark.parametrize(
    ("name", "tau", "relaxed", "gap"),
    [
        ("kl", 0.7, 1 / 1.4, math.log(2)),
        ("chi2", 0.7, 1 / 1.4, 1.0),
        ("js", 0.8, 1 / 1.6, 0.431523),
        ("js", 0.7, 0.713848, 0.431961),
        ("js", 0.4, 1.048715, 0.337580),
    ],
)
def test_an_atomic_source_separates_maps_from_couplings(name, tau, relaxed, gap):
    """Negative control of gwf, Proposition 3.1: delta_0 to two atoms at +-1.

    The relaxed value is 1/(2 tau), but for JS below tau = 1/(2 log 2) = .7213, where mass stays off the data.
    """
    y, b = [-1.0, 1.0], [0.5, 0.5]
    found = atoms.jko_step([0.0], [1.0], y, b, tau, name).primal
    assert found == pytest.approx(relaxed, abs=5e-7)
    assert atoms.value_over_maps(0.0, y, b, tau, name) - found == pytest.approx(gap, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.3), (2.5, 1.7)])
@pytest.mark.parametrize("C", [0.4, 3.0])
def test_one_atom_to_one_in_closed_form(a, b, C):
    """Masses that are not 1. Both sides relaxed by KL: C + log(p / a) + log(p / b) = 0 at p = sqrt(ab) e^(-C/2), of value
    a + b - 2 p; by chi2, C + 2 (p / a - 1) + 2 (p / b - 1) = 0. A hard source sends all."""
    at = lambda **names: atoms.solve([[C]], [a], [b], **names, tolerance=1e-12)
    p = math.sqrt(a * b) * math.exp(-C / 2)
    both = at(source="kl", target="kl")
    assert both.mu == pytest.approx([p], rel=1e-5) and both.primal == pytest.approx(a + b - 2 * p, abs=1e-10)
    p = (4 - C) / (2 / a + 2 / b)
    both = at(source="chi2", target="chi2")
    exact = C * p + (p - a) ** 2 / a + (p - b) ** 2 / b
    assert both.mu == pytest.approx([p], rel=1e-5) and both.primal == pytest.approx(exact, abs=1e-10)
    assert at(target="chi2").primal == pytest.approx(C * a + (a - b) ** 2 / b, abs=1e-10)
    assert at(target="kl").primal == pytest.approx(C * a + a * math.log(a / b) - a + b, abs=1e-10)


def test_both_sides_relaxed_by_kl_is_pots_problem():
    """POT's own solver of unbalanced transport (majorisation, 1e-9 in the value after many steps), masses 1.4 and .8."""
    x, a, y, b, tau = problem(21, n=5, m=7, d=3)
    a, b = 1.4 * a / a.sum(), 0.8 * b / b.sum()
    C = atoms.cost(x, y, tau)
    theirs = ot.unbalanced.mm_unbalanced(a, b, C, reg_m=1.0, div="kl", numItermax=20_000, stopThr=1e-12)
    step = atoms.solve(C, a, b, "kl", "kl", tolerance=1e-11)
    assert step.plan == pytest.approx(theirs, abs=1e-5)
    priced = (C * theirs).sum() + sum(
        (m * np.log(m / w) - m + w).sum() for m, w in ((theirs.sum(1), a), (theirs.sum(0), b))
    )
    assert step.primal == pytest.approx(priced, abs=1e-7)


@pytest.mark.parametrize("target", ["kl", "chi2", "js", "softplus"])
@pytest.mark.parametrize("source", ["js", "hellinger", "softplus", "kl"])
def test_two_relaxed_sides_exchange_their_roles(source, target):
    """The problem with both laws exchanged has the same value and the transposed plan; masses .6 and 1.1, penalties apart."""
    x, a, y, b, _ = problem(31, n=4, m=6)
    a, b, C = 0.6 * a / a.sum(), 1.1 * b / b.sum(), atoms.cost(x, y, 0.8)
    one = atoms.solve(C, a, b, source, target, tolerance=1e-11)
    other = atoms.solve(C.T, b, a, target, source, tolerance=1e-11)
    assert one.primal == pytest.approx(other.primal, abs=1e-9) and one.plan == pytest.approx(other.plan.T, abs=1e-4)
    f_1, f_2 = (divergences.entropy(name) for name in (source, target))
    by_hand = (C * one.plan).sum() + a @ f_1.f(one.plan.sum(1) / a) + b @ f_2.f(one.plan.sum(0) / b)
    assert one.primal == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("name", ["kl", "js", "hellinger"])
def test_a_sequence_is_its_steps(name):
    """Three steps, each from the atoms where there is mass; a gap of 1e-9 leaves the weights uncertain by its root."""
    x, a, y, b, _ = normalised(*problem(4, n=5, m=3))
    tau = 0.6
    laws = atoms.jko_sequence(x, a, y, b, tau, 3, name)
    points, mass = x, a
    for k in range(3):
        step = atoms.jko_step(points, mass, y, b, tau, name)
        assert laws[k] == pytest.approx(step.mu, abs=1e-4)
        points, mass = np.concatenate([points, y]), np.concatenate([step.kept, step.mu])
        points, mass = points[mass > 1e-12], mass[mass > 1e-12]
        mass = mass / mass.sum()
    assert (name == "kl") == (laws[0].sum() > 1 - 1e-9), "mass stays where it has a price"


def test_maps_of_one_atom_reach_one_atom():
    """KL(delta_j | b) = -log b_j, 2 JS by its definition, 2 log 2 for staying: the least of what maps can do, unequal b."""
    x, (y, b), tau = [0.2, -0.4], (np.array([[1.0, 0.0], [-1.0, 1.0], [0.5, -2.0]]), np.array([0.5, 0.2, 0.3])), 0.6
    trip = ((np.array(x) - y) ** 2).sum(1) / (2 * tau)
    assert atoms.value_over_maps(x, y, b, tau) == pytest.approx((trip - np.log(b)).min(), abs=1e-12)
    js = np.array([2 * jensenshannon(row, b) ** 2 for row in np.eye(3)])
    for tau in (0.2, 0.6, 5.0):
        trip = ((np.array(x) - y) ** 2).sum(1) / (2 * tau)
        exact = min((trip + js).min(), 2 * math.log(2))
        assert atoms.value_over_maps(x, y, b, tau, "js") == pytest.approx(exact, abs=1e-9)
    assert atoms.value_over_maps(3.0, [1.0, 4.0], [0.9, 0.1], 0.5) == pytest.approx(1 - math.log(0.1), abs=1e-12)


def test_a_ratio_over_its_cap_is_mixed_away():
    """Softplus prices no ratio above 2: a plan with 2.2 and 1.8 keeps its rows and gets ratios of at most 2."""
    C, a, b = np.zeros((1, 3)), np.array([1.0]), np.array([0.4, 0.3, 0.3])
    psi = divergences.entropy("softplus")
    plan = np.array([[0.88, 0.06, 0.06]])
    step = atoms._certify(plan, np.zeros(1), np.zeros(3), C, a, b, None, psi, np.full(1, np.inf))
    ratio = step.plan.sum(0) / b
    assert step.plan.sum(1) == pytest.approx(a, abs=1e-15) and 2 - 1e-5 < ratio.max() <= 2 and np.isfinite(step.primal)
    # In the proportions of the plan and of b alone.
    share = (plan - step.plan) / (plan - b)
    assert np.ptp(share) < 1e-12


@pytest.mark.parametrize("tau", [0.4, 100.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_newtons_method_takes_some_twenty_steps(name, tau):
    """12 to 28 over these problems: a direction or a length that is wrong still ends at a certified answer, in more."""
    for seed in range(3):
        x, a, y, b, _ = normalised(*problem(seed, n=9, m=8))
        C = atoms.cost(x, y, tau)
        for source in ("hard", "kl", "chi2"):
            assert atoms.solve(C, a, b, source, name, iterations=30).gap < 1e-8
        if np.isfinite(r := atoms.recession(name)):
            assert atoms.solve(C, a, b, "hard", name, iterations=30, stay=r).gap < 1e-8


def test_step_on_a_grid_is_the_gaussian_step():
    """Spacing .08 on both sides: the laws' moments are those of the continuous step to the square of it."""
    x, y = np.linspace(-5, 5, 126), np.linspace(-4, 6, 126)
    a, b = norm.pdf(x, 0.2, 0.8), norm.pdf(y, 1, 0.6) + 1e-12
    mu = atoms.jko_step(x, a / a.sum(), y, b / b.sum(), 0.3).mu
    m, s = gaussian.jko_step(0.2, 0.8, 1, 0.6, 0.3)
    assert mu @ y == pytest.approx(float(m), abs=0.01)
    assert math.sqrt(mu @ y**2 - (mu @ y) ** 2) == pytest.approx(float(s), abs=0.01)
    wrong = gaussian.jko_step(0.2, 0.8, 1, 0.6, 0.15)
    assert abs(float(wrong[0] - m)) > 0.1, "negative control: the weight 1/tau would be seen"


@pytest.mark.parametrize("bad", [dict(a=[0.5, 0.5, 0.0]), dict(tau=0.0), dict(divergence="kll")])
def test_errors_name_the_parameter(bad):
    arguments = dict(x=[0.0, 1, 2], a=[0.3, 0.3, 0.4], y=[0.0, 1], b=[0.5, 0.5], tau=1.0, divergence="kl") | bad
    with pytest.raises(UsageError, match=next(iter(bad))):
        atoms.jko_step(**arguments)


@pytest.mark.parametrize("name", ["tv", "linear"])
def test_divergences_without_curvature_are_refused_by_the_others_names(name):
    with pytest.raises(UsageError, match="no `curvature`.* Valid: hard, kl, .*softplus"):
        atoms.jko_step([0.0, 1.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5], 1.0, name)
    with pytest.raises(UsageError, match="^source"):
        atoms.solve(np.eye(2), [0.5, 0.5], [0.5, 0.5], source=name)


def test_a_capped_marginal_takes_no_more_than_its_cap():
    """softplus_uotm caps ratios at 1, softplus at 2. With less mass, two atoms to one: pi = a, value by the definition."""
    for name, mass in (("softplus_uotm", 1.0), ("softplus", 2.0), ("softplus", 5.0)):
        with pytest.raises(UsageError, match="takes less than"):
            atoms.solve([[1.0], [2.0]], [0.25 * mass, 0.75 * mass], [1.0], target=name)
    found = atoms.solve([[1.0], [2.0]], [0.25, 0.5], [1.0], target="softplus_uotm")
    assert found.primal == pytest.approx(1.25 + 0.75 * math.log(0.75) + 0.25 * math.log(0.25), abs=1e-9)
    assert found.gap < 1e-8
    both = atoms.solve([[1.0]], [2.0], [1.0], source="kl", target="softplus_uotm", tolerance=1e-12)
    # 1 + log(p / 2) + log(p / (1 - p)) = 0.
    p = brentq(lambda p: 1 + math.log(p / 2) + math.log(p / (1 - p)), 1e-9, 1 - 1e-9)
    assert both.mu == pytest.approx([p], rel=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("x", "y", "gap"), [([0.0], [0.0, 9.0], 1e-7), (np.arange(6.0), np.r_[np.zeros(4), 1:5], 1e-6)]
)
def test_a_ratio_that_ends_at_its_cap_is_no_crash(x, y, gap):
    """LinAlgError, and "gap nan" of the last iterate: the best one had a gap of 3e-8, which the error gives.

    Whether the solver ends with an error or within its tolerance is a matter of rounding, which differs between machines.
    """
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    try:
        reached = atoms.jko_step(x, a, y, b, 1e-3, "softplus").gap
    except RuntimeError as error:
        reached = float(re.match(r"no solution: gap (\S+)", str(error))[1])
    assert reached < gap


def test_values_over_maps_of_every_entropy():
    """delta_0 to atoms at +-1 of weight 1/2, tau = 1: 1/2 + f(2)/2 + f(0)/2, or r + f(0) for staying; inf beyond a cap."""
    at = lambda name: atoms.value_over_maps(0.0, [-1.0, 1.0], [0.5, 0.5], 1.0, name)
    assert at("softplus") == pytest.approx(0.5 + 2 * math.log(2)) and at("tv") == pytest.approx(1.0)
    assert at("linear") == at("softplus_uotm") == math.inf
    with pytest.raises(UsageError, match="hard"):
        at("hard")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((1, 1)), np.ones((1, 3))),
        (np.zeros((2, 3)), np.zeros(2)),
        ([1j], [0.0]),
        (["a"], [0.0]),
        ([[0.0], [0.0, 1.0]], [0.0]),
        ([], [0.0]),
        (None, [0.0]),
    ],
)
def test_what_are_no_atoms_of_one_space(x, y):
    """Broadcast, or read without the imaginary part."""
    with pytest.raises(UsageError, match="^x "):
        atoms.cost(x, y, 1.0)


@pytest.mark.parametrize("iterations", [0, 2.5, "3", None, True])
def test_numbers_of_newton_steps_are_whole(iterations):
    with pytest.raises(UsageError, match="iterations = "):
        atoms.solve(np.eye(2), [0.5, 0.5], [0.5, 0.5], iterations=iterations)
    with pytest.raises(UsageError, match="iterations = "):
        grids.semidiscrete_step(norm, [0.0, 1.0], [0.5, 0.5], 1.0, iterations=iterations)


# Semi-discrete steps on the line.


@pytest.mark.parametrize(
    ("y", "b"), [([0.0, 1.0], [1.0, 1.0]), ([0.0], [5.0]), ([0.0, 1.0], [1.5, -0.5]), ([], []), (["a"], [1.0])]
)
def test_targets_on_the_line_are_laws(y, b):
    for step in (grids.semidiscrete_step, grids.semidiscrete_sequence):
        with pytest.raises(UsageError, match="weights b|sum|^y must"):
            step(norm, y, b, 1.0, *([1] if step is grids.semidiscrete_sequence else []))


@pytest.mark.parametrize(("tau", "spacing"), [(0.02, 0.02), (0.1, 0.01), (2.0, 0.005), (2.0, 0.002), (1e3, 0.005)])
def test_fine_grids(tau, spacing):
    """The equations of the step, and O(spacing^2), 1e-3, between means; at small tau the law presses on the target's edge."""
    s, b, _ = mixtures.circle_radii(spacing)
    step = grids.semidiscrete_step(rayleigh, s, b, tau)
    assert (np.diff(step.cuts) > 0).all()
    masses = np.diff(np.concatenate([[0.0], rayleigh.cdf(step.cuts), [1.0]]))
    assert np.abs(masses - b * np.exp(-step.v)).sum() <= 1e-9
    cut = (s[1:] + s[:-1]) / 2 - tau * np.diff(step.v) / np.diff(s)
    assert step.cuts == pytest.approx(cut, abs=1e-12)
    s_4, b_4, _ = mixtures.circle_radii(0.04)
    plain = grids.semidiscrete_step(rayleigh, s_4, b_4, tau)
    assert step.mu @ s == pytest.approx(plain.mu @ s_4, abs=1e-3 if tau >= 1 else 0.02)


def test_a_sequence_of_one_atom():
    assert grids.semidiscrete_sequence(norm, [0.0], [1.0], 1.0, 2).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("spacing", [0, -0.1, "3", None, 2.0, 1e-9])
def test_spacings_are_named(spacing):
    for call in (
        lambda: mixtures.five_modes(spacing),
        lambda: mixtures.circle_radii(spacing),
        lambda: mixtures.two_circles(1.0, 1, spacing),
        lambda: mixtures.twenty_five_gaussians(1.0, 1, "jko", spacing),
    ):
        with pytest.raises(UsageError, match="spacing = "):
            call()


def test_semidiscrete_step_is_the_gaussian_step():
    """Spacing .02, error of second order: 1e-4 in the moments; and over a sequence, where atoms become bins."""
    y = np.arange(-3, 5, 0.02)
    b = norm.pdf(y, 1, 0.6)
    laws = grids.semidiscrete_sequence(norm(0.2, 0.8), y, b / b.sum(), 0.3, 3)
    m, s = gaussian.jko_sequence(0.2, 0.8, 1, 0.6, 0.3, 3)
    means = laws @ y
    assert means == pytest.approx(m[1:, 0], abs=2e-4)
    assert np.sqrt(laws @ y**2 - means**2) == pytest.approx(s[1:, 0], abs=2e-4)


@few
@given(seeds)
def test_semidiscrete_step_agrees_with_the_interior_point_solver(seed):
    """The normal cut into 400 quantiles: masses agree to a few of these quanta."""
    rng = np.random.default_rng(seed)
    y, b, tau = (
        np.sort(rng.uniform(-2, 2, 4)) + np.arange(4) * 0.2,
        rng.dirichlet(np.full(4, 3.0)) + 0.02,
        rng.uniform(0.1, 3),
    )
    b = b / b.sum()
    x = norm.ppf((np.arange(400) + 0.5) / 400)
    by_plan = atoms.jko_step(x, np.full(400, 1 / 400), y, b, tau).mu
    assert grids.semidiscrete_step(norm, y, b, tau).mu == pytest.approx(by_plan, abs=0.006)


def test_bins_are_a_law():
    bins = grids.Bins(np.array([0.0, 1, 3]), np.array([0.2, 0.5, 0.3]), np.array([0.5, 0.5, 1.0]))
    x = np.linspace(-1, 5, 60_001)
    assert np.trapezoid(bins.pdf(x), x) == pytest.approx(1, abs=1e-3)
    assert np.gradient(bins.cdf(x), x)[[4000, 20_000, 24_000]] == pytest.approx(
        bins.pdf(x[[4000, 20_000, 24_000]]), abs=1e-9
    )
    assert bins.cdf(np.array([-1, 5])) == pytest.approx([0, 1])


def test_one_atom_takes_all():
    step = grids.semidiscrete_step(norm(1.0, 2.0), [0.3], [1.0], 0.5)
    assert step.mu.tolist() == [1.0] and step.cuts.size == 0


def test_cells_of_the_relaxed_step_by_quadrature():
    """int over a cell of exp(v_j - (x - y_j)^2 / (2 tau)) phi(x) dx = b_j e^(-v_j), three atoms of unequal weights."""
    y, b, tau = np.array([-1.5, 0.2, 1.0]), np.array([0.5, 0.2, 0.3]), 0.7
    step = grids.relaxed_step(y, b, tau)
    ends = np.concatenate([[-12.0], step.cuts, [12.0]])
    for j in range(3):
        mass = quad(lambda x, j=j: math.exp(step.v[j] - (x - y[j]) ** 2 / (2 * tau)) * norm.pdf(x), *ends[j : j + 2])[0]
        assert mass == pytest.approx(b[j] * math.exp(-step.v[j]), rel=1e-8)
        assert step.mu[j] == pytest.approx(norm.cdf(ends[j + 1]) - norm.cdf(ends[j]), abs=1e-12)
    # At a cut the two atoms' costs are equal.
    for j, cut in enumerate(step.cuts):
        costs = (cut - y[j : j + 2]) ** 2 / (2 * tau) - step.v[j : j + 2]
        assert costs[0] == pytest.approx(costs[1], abs=1e-10)


def test_bins_of_unequal_widths_have_the_integral_of_their_density():
    """Gaps between them, points outside; half-widths .1 to 1."""
    bins = grids.Bins(np.array([-2.0, 0.5, 1.0, 4.0]), np.array([0.1, 0.3, 0.2, 0.4]), np.array([1.0, 0.2, 0.1, 0.5]))
    x = np.array([-3.5, -2.7, -0.5, 0.31, 0.6, 0.95, 1.3, 3.6, 4.4, 6.0])
    corners = np.sort(np.concatenate([bins.y - bins.half, bins.y + bins.half]))
    for at, value in zip(x, bins.cdf(x), strict=True):
        area = sum(
            m * np.clip((at - y + h) / (2 * h), 0, 1) for y, m, h in zip(bins.y, bins.mass, bins.half, strict=True)
        )
        assert value == pytest.approx(area, abs=1e-14)
    inside = [0, 0.05, 0, 0.75, 0.75, 1.0, 0, 0.4, 0.4, 0]
    assert bins.pdf(x) == pytest.approx(inside) and bins.cdf(corners[[0, -1]]) == pytest.approx([0, 1])


# sjko's outlier toy: source N(0, 1), atoms +1 (.99) and -1 (.01), cost a (x - y)^2 with a = 1/(2 tau).


def outlier(a):
    y, b, tau = np.array([-1.0, 1.0]), np.array([0.01, 0.99]), 1 / (2 * a)
    relaxed = grids.relaxed_step(y, b, tau)
    marginal = b * np.exp(-relaxed.v)
    return {
        "ot": b[0],
        "sf": grids.semidiscrete_step(norm, y, b, tau, tolerance=1e-14).mu[0],
        "uot": relaxed.mu[0],
        "uot marginal": marginal[0] / marginal.sum(),
    }


def test_relaxation_raises_the_share_of_the_outlier():
    found = outlier(0.05)
    assert found == pytest.approx({"ot": 0.0100, "sf": 0.0153, "uot": 0.0224, "uot marginal": 0.0149}, abs=5e-5)
    assert found["ot"] < found["sf"] < found["uot"]
    at_double = outlier(0.1)
    assert found["sf"] < at_double["sf"] and found["uot"] < at_double["uot"], "a dearer cost raises it further"
    # The cut of the source-fixed problem, from the card's own equation -4 a b = log(Phi(b)/.01) - log((1-Phi(b))/.99).
    cut = norm.ppf(found["sf"])
    assert -4 * 0.05 * cut == pytest.approx(
        math.log(found["sf"] / 0.01) - math.log((1 - found["sf"]) / 0.99), abs=1e-10
    )


# Mode masses of the toys.


def test_atomic_first_step_of_the_25_gaussians():
    assert mixtures.atomic_twenty_five(1.0)[[0, 1, 2]] == pytest.approx([0.0085, 0.2027, 0.5775], abs=5e-5)


def test_rows_of_every_method():
    """Row 0 is the source's, row 1 the method's: hard transport fills all modes alike, whatever tau."""
    start = norm.cdf([-4.5, -1.5, 1.5, 4.5])
    start = np.diff(np.concatenate([[0.0], start, [1.0]]))
    for method in mixtures.METHODS:
        rows = mixtures.twenty_five_gaussians(2.0, 1, method)
        assert (
            rows.shape == (2, 5) and rows[0] == pytest.approx(start, abs=1e-12) and rows.sum(1) == pytest.approx([1, 1])
        )
    assert mixtures.twenty_five_gaussians(2.0, 1, "ot")[1] == pytest.approx(np.full(5, 0.2))
    assert mixtures.twenty_five_gaussians(2.0, 1, "uotm")[1] == pytest.approx(mixtures.uotm_twenty_five(2.0))
    with pytest.raises(UsageError, match="steps"):
        mixtures.twenty_five_gaussians(2.0, 2, "ot")
    for tau, steps in ((0.0, 1), (1.0, 0), (1.0, 10_001)):
        with pytest.raises(UsageError, match="tau|steps"):
            mixtures.two_circles(tau, steps)


def test_the_radial_target_is_that_of_noisy_circles():
    """Mean and spread of |R e + .2 z| for z of the plane, by quadrature of its own. The grid ends at 4 deviations: 4e-6 and 3e-5."""
    s, b, circle = mixtures.circle_radii()
    z, w = np.polynomial.hermite_e.hermegauss(60)
    w = w / w.sum()
    for k, R in enumerate(mixtures.RADII):
        radius = np.hypot(R + 0.2 * z[:, None], 0.2 * z)
        mean = w @ radius @ w
        own, mass = s[circle == k], b[circle == k]
        assert mass.sum() == pytest.approx(0.5) and 2 * mass @ own == pytest.approx(mean, abs=1e-5)
        assert 2 * mass @ (own - mean) ** 2 == pytest.approx(w @ (radius - mean) ** 2 @ w, abs=5e-5)


def test_modes_of_the_line_have_their_variance():
    y, b, mode = mixtures.five_modes(spacing=0.01, width=0.6)
    for k, centre in enumerate((-6, -3, 0, 3, 6)):
        own, mass = y[mode == k], b[mode == k]
        assert mass.sum() == pytest.approx(0.2) and 5 * mass @ own == pytest.approx(centre, abs=1e-12)
        assert 5 * mass @ (own - centre) ** 2 == pytest.approx(0.005, rel=1e-6)
    w = np.array([0.1, 0.15, 0.5, 0.15, 0.1])
    assert mixtures.modes_found(w, share=0.3) == 21 and mixtures.modes_found(w, share=0.4) == 13
    assert mixtures.tv_to_uniform(np.array([1.0, 0, 0, 0, 0])) == pytest.approx(24 / 25)


# sjko's table at tau = 1, computed there with entropic weight .02 on a grid of spacing .03: outer, middle, centre.
ENTROPIC = {1: (0.0084, 0.2024, 0.5784), 2: (0.0236, 0.1872, 0.5784)}
# The same without entropy (ours), and what is derived from it: modes found, corner and centre shares, total variation.
SHARP = {
    1: (0.0083, 0.2020, 0.5795),
    2: (0.0234, 0.1868, 0.5795),
    5: (0.0297, 0.1806, 0.5795),
    20: (0.0335, 0.1768, 0.5795),
}


def entropic_step(x, a, y, b, tau, eps=0.02, tolerance=1e-6):
    """The JKO step for KL with an entropic term of weight eps, by scaling in the log domain: sjko's way to the table."""
    K = -atoms.cost(x, y, tau) / eps
    beta, mu, new = 0.0, np.inf, 0.0
    while np.abs(new - mu).sum() > tolerance:
        alpha = np.log(a) - logsumexp(K + beta, axis=1)
        image = logsumexp(K + alpha[:, None], axis=0)
        beta = (np.log(b) - image) / (1 + eps)
        mu, new = new, np.exp(beta + image)
    return new / new.sum()


def test_entropic_scaling_reproduces_the_published_masses():
    """The table was printed to four digits; scaling that moves by 1e-6 is within 1e-4 of its limit."""
    y, b, mode = mixtures.five_modes(spacing=0.03, width=0.39)
    x = np.arange(-150, 151) * 0.03
    a = norm.pdf(x) / norm.pdf(x).sum()
    for k, expected in ENTROPIC.items():
        a, x = entropic_step(x, a, y, b, tau=2.0), y
        assert np.bincount(mode, a)[:3] == pytest.approx(expected, abs=1.1e-4), k


def test_exact_masses_of_the_25_gaussians():
    """The entropic table differs from the exact masses by up to 1.1e-3; the counts derived from it agree."""
    w = mixtures.twenty_five_gaussians(1.0, 20)
    assert w.shape == (21, 5) and w.sum(1) == pytest.approx(np.ones(21), abs=1e-8)
    for k, expected in SHARP.items():
        assert w[k, :3] == pytest.approx(expected, abs=3e-4)
    assert w[[5, 20], 0] == pytest.approx([0.0293, 0.0325], abs=1.2e-3), "sjko's entropic table"
    assert [mixtures.modes_found(w[k]) for k in (1, 2, 5, 20)] == [13, 21, 21, 21]
    assert [mixtures.tv_to_uniform(w[k]) for k in (1, 20)] == pytest.approx([0.607, 0.547], abs=2e-3)
    assert 25 * w[20, 2] ** 2 == pytest.approx(8.4, abs=0.05)


def test_both_relaxed_and_released_uotm():
    w = mixtures.uotm_twenty_five(1.0)
    assert w[:3] == pytest.approx([0.0037, 0.1817, 0.6292], abs=3e-4), "modes as atoms"
    assert mixtures.modes_found(w) == 9 and mixtures.tv_to_uniform(w) == pytest.approx(0.653, abs=1e-3)
    assert 25 * w[2] ** 2 == pytest.approx(9.9, abs=0.05) and 25 * w[0] ** 2 == pytest.approx(0.0003, abs=5e-5)
    step = grids.relaxed_step(mixtures.MODES, np.full(5, 0.2), 2.0)
    marginal = 0.2 * np.exp(-step.v)
    total = marginal.sum()
    assert marginal[:3] / total == pytest.approx([0.0141, 0.2170, 0.5376], abs=3e-4), "the trap: another law"
    assert total == pytest.approx(0.641, abs=1e-3)
    released = mixtures.twenty_five_gaussians(1.0, 1, method="uotm_released")
    assert released[1] == pytest.approx(mixtures.twenty_five_gaussians(0.5, 1)[1], abs=1e-12)


def test_released_uotm_averages_over_all_pairs():
    """sjko's broadcast example: v = c = (0, 1), paired mean of e^{v-c} is 1, over all pairs 1.271540."""
    v = c = np.array([0.0, 1.0])
    assert np.exp(v - c).mean() == 1
    assert np.exp(v[:, None] - c).mean() == pytest.approx(1.271540, abs=5e-7)
    assert np.exp(v).mean() * np.exp(-c).mean() == pytest.approx(1.271540, abs=5e-7)


def test_plan_of_the_25_gaussians_factorises():
    """Five modes as atoms, source of 9 atoms, squared: the 2-D solution is the product of the 1-D ones."""
    x, y, b = np.linspace(-2, 2, 9), mixtures.MODES, np.full(5, 0.2)
    a = norm.pdf(x) / norm.pdf(x).sum()
    line = atoms.solve(atoms.cost(x, y, 2.0), a, b, tolerance=1e-11)
    X, Y = (np.stack(np.meshgrid(p, p, indexing="ij"), -1).reshape(-1, 2) for p in (x, y))
    plane = atoms.solve(atoms.cost(X, Y, 2.0), np.outer(a, a).ravel(), np.outer(b, b).ravel(), tolerance=1e-11)
    assert plane.primal == pytest.approx(2 * line.primal, abs=1e-9)
    assert plane.mu.reshape(5, 5) == pytest.approx(np.outer(line.mu, line.mu), abs=1e-5)


def test_two_circles():
    """Monotone in k, below one half; grids of spacing .04 and .02 agree to 4e-4."""
    mass = mixtures.two_circles(1.0, 20)
    assert mass[0] == pytest.approx(math.exp(-18)) and (np.diff(mass) > 0).all() and mass[-1] < 0.5
    assert mass[[1, 2, 5, 10, 20]] == pytest.approx([0.0039, 0.0354, 0.0680, 0.0870, 0.1036], abs=4e-4)
    for spacing in (0.02, 0.005):  # the second step of .005 had "no solution: residual 1.6"
        assert mixtures.two_circles(1.0, 2, spacing)[1:] == pytest.approx(mass[1:3], abs=4e-4)
    assert mixtures.two_circles(1e4, 1)[1] == pytest.approx(0.5, abs=1e-3), "a huge step lands on the target"


def test_unknown_method_is_an_error():
    with pytest.raises(UsageError, match="uotm"):
        mixtures.twenty_five_gaussians(1.0, 1, method="uot")
