"""Gaussian closed forms against published digits, other solvers and properties.

Reference digits are those of independent derivations, printed to the figures shown: `abs=1e-6` is one unit
in the sixth decimal of such a table. Identities between two closed forms must hold to rounding (1e-10 or
better).
"""

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import ot
import pytest
from envelopes import ENVELOPES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import rel_entr
from scipy.stats import norm

from gwf.errors import UsageError
from gwf.exact import gaussian as g

deterministic = settings(derandomize=True, deadline=None)
means = st.floats(-3, 3)
stds = st.floats(0.1, 3)
taus = st.floats(1e-3, 1e2)

# Start (2, .5), target N(0, 1), tau = .5: means, standard deviations and KL of three steps.
SEQUENCE = [(1.333333, 0.767592, 0.947985), (0.888889, 0.887370, 0.408268), (0.592593, 0.944500, 0.178723)]

# Two coordinates: mu, nu and tau of the case where the primal and the dual value are known.
MU, NU, TAU = ((-1.2, 0.7), (0.55, 1.4)), ((0.4, -0.9), (1.1, 0.65)), 0.17
VALUE = 3.97874864632925


def spd(rng, d):
    """A random covariance with condition number below about 100."""
    A = rng.standard_normal((d, d))
    return A @ A.T / d + 0.1 * np.eye(d)


# Distances and divergences.


@deterministic
@given(means, stds, means, stds)
def test_w2_is_the_cost_of_the_monotone_coupling(m_0, s_0, m_1, s_1):
    """Quantiles paired in order are optimal on the line; 2000 mid-point quantiles lose under 1 % in s."""
    z = norm.ppf((np.arange(2000) + 0.5) / 2000)
    by_quantiles = np.sqrt(np.mean((m_0 + s_0 * z - m_1 - s_1 * z) ** 2))
    assert by_quantiles == pytest.approx(g.w2(m_0, s_0, m_1, s_1), rel=0.01, abs=1e-12)


def test_bures_distance_agrees_with_pot_and_with_its_monge_map():
    rng = np.random.default_rng(0)
    for d in (1, 2, 5):
        m_0, m_1, C_0, C_1 = rng.standard_normal(d), rng.standard_normal(d), spd(rng, d), spd(rng, d)
        distance = g.w2_cov(m_0, C_0, m_1, C_1)
        by_pot = ot.gaussian.bures_wasserstein_distance(m_0, m_1, C_0, C_1)
        assert distance == pytest.approx(by_pot, rel=1e-9)
        T = g.monge_matrix(C_0, C_1)
        assert np.allclose(T, T.T, atol=1e-10) and np.linalg.eigvalsh(T)[0] > 0
        assert np.allclose(T @ C_0 @ T, C_1, atol=1e-9)
        cost = (m_1 - m_0) @ (m_1 - m_0) + np.trace((T - np.eye(d)) @ C_0 @ (T - np.eye(d)))
        assert distance**2 == pytest.approx(cost, rel=1e-9)


@deterministic
@given(means, stds, means, stds)
def test_diagonal_and_matrix_forms_agree(m, s, M, S):
    assert g.w2_cov([m], [[s**2]], [M], [[S**2]]) == pytest.approx(g.w2(m, s, M, S), abs=1e-6)
    assert g.kl_cov([m], [[s**2]], [M], [[S**2]]) == pytest.approx(g.kl(m, s, M, S), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", sorted(g.DIVERGENCES))
def test_divergences_agree_with_quadrature_of_their_definition(name):
    """Trapezium rule on a grid that leaves out less than 1e-12 of both laws: error far below 1e-8."""
    m, s, M, S = 0.7, 0.8, -0.2, 1.1
    x, w = np.linspace(-12, 12, 4001, retstep=True)
    log_p, log_q = norm.logpdf(x, m, s), norm.logpdf(x, M, S)
    t = np.exp(log_p - log_q)
    f = {
        "kl": t * (log_p - log_q),
        "reverse_kl": log_q - log_p,
        "chi2": (t - 1) ** 2,
        "js": (t * (log_p - log_q) - (1 + t) * np.log((1 + t) / 2)) / 2,
    }[name]
    assert g.DIVERGENCES[name](m, s, M, S) == pytest.approx(w * np.sum(f * np.exp(log_q)), abs=1e-8)


def test_known_values_of_divergences():
    assert g.kl(1.3, 1, 0, 1) == pytest.approx(0.845, abs=1e-12)
    assert g.chi2(1.3, 1, 0, 1) == pytest.approx(math.exp(1.69) - 1, rel=1e-12)
    assert g.js(1, 1, 0, 1) == pytest.approx(0.111421, abs=1e-6)
    assert g.chi2(0, 1.5, 0, 1) == np.inf, "int p^2/q diverges once s^2 >= 2 S^2"


def js_by_adaptive_quadrature(m, s, M, S):
    """Both halves by scipy's adaptive rule, told where the other law's features are; 1e-12 asked for."""

    def half(m, s, M, S):
        def integrand(z):
            log_ratio = z**2 / 2 - ((m - M + s * z) / S) ** 2 / 2 + math.log(s / S)
            return norm.pdf(z) * (math.log(2) - np.logaddexp(0, log_ratio))

        marks = {(M - m) / s + k * S / s for k in (-8, -4, -2, -1, 0, 1, 2, 4, 8)}
        ends = [-40, *sorted(z for z in marks if -40 < z < 40), 40]
        return sum(
            quad(integrand, *pair, epsabs=1e-13, epsrel=1e-12, limit=400)[0] for pair in itertools.pairwise(ends)
        )

    return (half(m, s, M, S) + half(M, S, m, s)) / 2


@pytest.mark.parametrize(
    "laws", [(0, 1, 0, 0.1), (0, 1, 0.3, 1e-6), (2, 1e-3, 0, 3), (0, 1, 5, 1), (1e8, 1, 1e8 + 1, 2), (0, 1, 17, 0.5)]
)
def test_js_of_laws_of_any_widths(laws):
    """32 Gauss-Hermite points missed a law ten times narrower: .5528 for .4333."""
    assert g.js(*laws) == pytest.approx(js_by_adaptive_quadrature(*laws), abs=1e-11)
    assert g.js(*laws) == pytest.approx(g.js(*laws[2:], *laws[:2]), abs=1e-13)
    # A second coordinate with one law adds nothing, and is the tensor grid's business.
    m, s, M, S = laws
    if S > 0.01:
        assert g.js([m, 0], [s, 1], [M, 0], [S, 1]) == pytest.approx(g.js(*laws), abs=1e-11)


def test_js_far_apart_and_in_the_plane():
    assert g.js(0, 1e-150, 0, 1e150) == pytest.approx(math.log(2), abs=1e-12) and g.js(0, 1, 0, 1) == 0
    # Laws that differ along the diagonal alone: turned by 45 degrees they are products again.
    turned = g.js(math.sqrt(2) * 0.9, 1.3, 0, 1.3)
    assert g.js([0.9, 0.9], [1.3, 1.3], [0, 0], [1.3, 1.3]) == pytest.approx(turned, abs=1e-11)


@pytest.mark.parametrize("tau", [1e-6, 1e-3, 1.0, 1e3, 1e6, math.inf])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_search_finds_the_closed_form_in_every_unit(tau, unit):
    """Means and deviations of the target's size, steps from frozen to free: 1e-6 of the unit, as gradients vanish to 1e-9."""
    laws = 0.3 * unit, 0.8 * unit, -unit, 0.9 * unit
    found = np.ravel(g.jko_step_within("kl", *laws, tau * unit**2))
    assert found == pytest.approx(np.ravel(g.jko_step(*laws, tau * unit**2)), abs=1e-6 * unit)


@pytest.mark.parametrize(
    "wrong",
    [
        ([0, 0], np.eye(2), [0, 0], np.diag([1.0, -0.5])),
        ([0, 0], np.diag([1.0, -0.5]), [0, 0], np.eye(2)),
        ([0, 0], np.eye(2), [0, 0, 0], np.eye(3)),
        ([0, 0], np.eye(2), [0], np.eye(2)),
        ([0, 0], np.eye(2), [0, 0], [[1.0, 0.5], [0.0, 1.0]]),
    ],
)
def test_bures_refuses_what_is_no_pair_of_laws(wrong):
    """An indefinite second covariance and several sizes gave numbers, 0 among them."""
    with pytest.raises(UsageError, match="semi-definite|sizes|symmetric"):
        g.w2_cov(*wrong)
    assert g.w2_cov([0, 0], np.diag([1.0, 0.0]), [1, 0], np.zeros((2, 2))) == pytest.approx(math.sqrt(2)), (
        "singular is fine"
    )


@pytest.mark.parametrize("d", [1, 20, 100, 500])
@pytest.mark.parametrize("rank", [1, 250])
def test_bures_distance_of_singular_covariances(d, rank):
    """Equal ones at means 1e-3 apart: 1e-3. (It was 2.9e-4 at d = 20 and 0 from 100 on.) Dilated by r: (r - 1) sqrt(tr C)."""
    L = np.sin(np.arange(1.0, d * rank + 1) ** 2).reshape(d, rank) if rank > 1 else np.sin(1.0 + np.arange(d))[:, None]
    C, apart, r = L @ L.T, np.eye(1, d)[0] * 1e-3, 1 + 1e-6
    assert g.w2_cov(np.zeros(d), C, apart, C) == pytest.approx(1e-3, rel=1e-9)
    # A factor of r^2 in C is known to 1e-16 / (r - 1) of r - 1, and so is each root of an eigenvalue that is not 0.
    dilated = g.w2_cov(np.zeros(d), C, np.zeros(d), r**2 * C)
    assert dilated == pytest.approx(1e-6 * math.sqrt(np.trace(C)), rel=1e-4)


def test_bures_distance_of_rays_and_of_close_laws():
    """N(0, a a^T) and N(0, b b^T) are the images of one z under a z and +-b z: |a -+ b|. The other form lost half the digits."""
    a, other = np.random.default_rng(0).standard_normal((2, 50))
    for b in (other, -other, a + 1e-7 * other):
        expected = min(np.linalg.norm(a - b), np.linalg.norm(a + b))
        assert g.w2_cov(0 * a, np.outer(a, a), 0 * a, np.outer(b, b)) == pytest.approx(expected, rel=1e-7)


# The JKO step for KL.


@pytest.mark.parametrize("tau", [5e-324, 1e-160, 1e-6, 1e6, 1e160, math.inf])
def test_steps_of_all_sizes(tau):
    """s' = inf at 1e-160. The equation in exact fractions: s'^2 (1 + a) - s s' - tau = 0, a = tau / S^2, of slope s' at least."""
    m, s = (float(t) for t in g.jko_step(1.0, 2.0, 0.0, 0.5, tau))
    if math.isinf(tau):
        assert (m, s) == (0.0, 0.5)
        return
    a, t = 4 * Fraction(tau), Fraction(s)
    assert m == pytest.approx(float(1 / (1 + a)), rel=1e-15)
    assert abs(t**2 * (1 + a) - 2 * t - Fraction(tau)) <= Fraction(1, 10**15) * (2 * t**2 * (1 + a) + 2 * t)


def test_sequence_matches_the_published_digits():
    m, s = g.jko_sequence(2, 0.5, 0, 1, tau=0.5, steps=3)
    assert m.shape == s.shape == (4, 1)
    found = np.column_stack([m[1:, 0], s[1:, 0], g.kl(m[1:], s[1:], 0, 1)])
    assert found == pytest.approx(np.array(SEQUENCE), abs=1e-6)
    assert g.jko_objective(m[1], s[1], m[0], s[0], 0, 1, 0.5) == pytest.approx(1.464034488, abs=1e-9)


def test_broken_proximal_weight_misses_the_published_digits():
    """Negative control: weight 1/tau in place of 1/(2 tau), the same as tau/2, is off by 5e-2 and more."""
    m, s = g.jko_sequence(2, 0.5, 0, 1, tau=0.25, steps=3)
    found = np.column_stack([m[1:, 0], s[1:, 0], g.kl(m[1:], s[1:], 0, 1)])
    assert np.abs(found - SEQUENCE).min() > 0.05


@deterministic
@given(means, stds, means, stds, taus)
def test_step_satisfies_the_first_order_condition(m, s, M, S, tau):
    m_next, s_next = g.jko_step(m, s, M, S, tau)
    residual = g.jko_residual(m_next, s_next, m, s, M, S, tau)
    scale = (abs(m) + abs(M) + s + S) * (1 / tau + 1 / S**2) + 1 / s_next
    assert np.abs(residual).max() <= 1e-12 * scale, "zero up to rounding of the terms that cancel"


@settings(deterministic, max_examples=30)
@given(means, stds, means, stds, st.floats(0.05, 10))
def test_step_agrees_with_a_generic_minimiser(m, s, M, S, tau):
    """Nelder-Mead knows no formula; at a quadratic minimum xatol 1e-7 is reached well below 1e-4."""

    def objective(u):
        return g.jko_objective(u[0], math.exp(u[1]), m, s, M, S, tau)

    simplex = np.array([m, math.log(s)]) + [[0, 0], [0.5, 0], [0, 0.5]]
    options = {"xatol": 1e-7, "fatol": 1e-13, "maxiter": 1000, "initial_simplex": simplex}
    found = minimize(objective, simplex[0], method="Nelder-Mead", options=options).x
    assert [found[0], math.exp(found[1])] == pytest.approx(list(g.jko_step(m, s, M, S, tau)), abs=1e-4)


@deterministic
@given(means, stds, means, stds, taus, means, stds)
def test_step_is_a_global_minimum_and_energy_decreases(m, s, M, S, tau, other_m, other_s):
    """F(mu') + W_2^2(mu', mu)/(2 tau) is least at the step; against mu that is the energy inequality."""
    m_next, s_next = g.jko_step(m, s, M, S, tau)
    best = g.jko_objective(m_next, s_next, m, s, M, S, tau)
    for candidate in [(m, s), (other_m, other_s)]:
        value = g.jko_objective(*candidate, m, s, M, S, tau)
        assert best <= value + 1e-12 * (1 + abs(value))


def test_energy_inequality_notices_a_step_that_is_too_long():
    """Negative control: the infinite step, all the way to nu, breaks the inequality of tau = .5."""
    m_next, s_next = g.jko_step(2, 0.5, 0, 1, tau=math.inf)
    assert g.jko_objective(m_next, s_next, 2, 0.5, 0, 1, tau=0.5) > g.kl(2, 0.5, 0, 1)


@deterministic
@given(means, stds, means, stds, means, stds, taus)
def test_step_contracts(m_0, s_0, m_1, s_1, M, S, tau):
    """W_2 shrinks by 1/(1 + lambda tau) with lambda = 1/S^2, the convexity of KL(. | N(M, S^2))."""
    before = g.w2(m_0, s_0, m_1, s_1)
    after = g.w2(*g.jko_step(m_0, s_0, M, S, tau), *g.jko_step(m_1, s_1, M, S, tau))
    assert after <= before / (1 + tau / S**2) + 1e-12


@deterministic
@given(means, stds, means, stds)
def test_limits_of_tau(m, s, M, S):
    """tau = inf gives the target (the GAN); a tiny tau moves by its size times the gradient."""
    assert g.jko_step(m, s, M, S, math.inf) == pytest.approx((M, S), abs=1e-12)
    tau = 1e-9
    m_next, s_next = g.jko_step(m, s, M, S, tau)
    assert abs(m_next - m) <= 2 * tau * abs(m - M) / S**2 + 1e-14
    assert abs(s_next - s) <= 2 * tau * (s / S**2 + 1 / s) + 1e-14


def test_first_order_convergence_to_the_ou_flow():
    """JKO at t = 1 minus the flow: the printed differences, halving with tau (ratio 2 up to O(tau))."""
    m_flow, s_flow = g.ou_flow(2, 0.5, 0, 1, t=1)
    assert (m_flow, s_flow) == pytest.approx((0.735759, 0.947892), abs=1e-6)
    printed = {0.1: (0.035328, -0.013703), 0.05: (0.018020, -0.006958), 0.025: (0.009102, -0.003506)}
    errors = []
    for tau, expected in printed.items():
        m, s = g.jko_sequence(2, 0.5, 0, 1, tau, round(1 / tau))
        errors.append((m[-1, 0] - m_flow, s[-1, 0] - s_flow))
        assert errors[-1] == pytest.approx(expected, abs=1e-6)
    ratios = np.divide(errors[:-1], errors[1:])
    assert ratios == pytest.approx(2, abs=0.1), "first order: the ratio is 2 up to O(tau), here .04"


def test_ou_flow_solves_its_differential_equations():
    """dm/dt = -(m - M)/S^2 and ds/dt = 1/s - s/S^2, by central differences (error about step^2 = 1e-10)."""
    m, s, M, S, t, step = 2, 0.5, -0.3, 1.2, 0.7, 1e-5
    ahead, back, now = (np.array(g.ou_flow(m, s, M, S, t + k * step)) for k in (1, -1, 0))
    rate = [-(now[0] - M) / S**2, 1 / now[1] - now[1] / S**2]
    assert (ahead - back) / (2 * step) == pytest.approx(rate, abs=1e-8)


# Equal values of the two orders, and the envelope.


def test_primal_and_dual_values_agree():
    (m, s), (M, S) = MU, NU
    m_next, s_next = g.jko_step(m, s, M, S, TAU)
    assert m_next == pytest.approx([-1.002899, 0.240928], abs=1e-6)
    assert s_next == pytest.approx([0.696314, 1.107745], abs=1e-6)
    assert g.jko_objective(m_next, s_next, m, s, M, S, TAU) == pytest.approx(VALUE, abs=1e-10)
    critic = g.optimal_critic(m_next, s_next, M, S)
    assert g.dual_value(*critic, m, s, M, S, TAU) == pytest.approx(VALUE, abs=1e-10)


@deterministic
@given(means, stds, means, stds, st.floats(0.01, 10), st.floats(-1, 1), st.floats(-1, 1))
def test_dual_value_is_a_lower_bound_attained_at_the_optimal_critic(m, s, M, S, tau, dq, dr):
    m_next, s_next = g.jko_step(m, s, M, S, tau)
    primal = g.jko_objective(m_next, s_next, m, s, M, S, tau)
    q, r = g.optimal_critic(m_next, s_next, M, S)
    assert g.dual_value(q, r, m, s, M, S, tau) == pytest.approx(primal, rel=1e-7, abs=1e-9)
    assert g.dual_value(q + dq, r + dr, m, s, M, S, tau) <= primal + 1e-9 * (1 + abs(primal))


@pytest.mark.parametrize("name", sorted(ENVELOPES))
def test_half_a_gradient_step_on_the_envelope_is_the_jko_step(name):
    """gamma = 1/2 lands on the minimiser, printed to 1e-6; gamma = .35 misses it by the printed distance."""
    m, s, M, S, eps, minimiser, value, miss = ENVELOPES[name]
    start, step = np.array([*m, *s], dtype=float), 2e-4

    def envelope(u):
        return g.moreau_envelope(name, u[:2], u[2:], M, S, eps)

    gradient = [(envelope(start + step * e) - envelope(start - step * e)) / (2 * step) for e in np.eye(4)]
    gradient = np.array(gradient)
    assert envelope(start) == pytest.approx(value, abs=1e-7)
    assert np.concatenate(g.jko_step_within(name, m, s, M, S, eps / 2)) == pytest.approx(minimiser, abs=1e-6)
    assert start - gradient / 2 == pytest.approx(minimiser, abs=1.5e-6)
    assert np.linalg.norm(start - 0.35 * gradient - minimiser) == pytest.approx(miss, abs=2e-6)


@settings(deterministic, max_examples=20)
@given(means, stds, means, stds, st.floats(0.05, 10))
def test_numerical_step_for_kl_agrees_with_the_formula(m, s, M, S, tau):
    assert np.ravel(g.jko_step_within("kl", m, s, M, S, tau)) == pytest.approx(
        np.ravel(g.jko_step(m, s, M, S, tau)), abs=1e-5
    )


@pytest.mark.parametrize("name", ["reverse_kl", "chi2", "js"])
def test_energy_decreases_for_the_other_divergences(name):
    m, s, M, S, tau = -0.6, 0.7, 0.3, 1.2, 0.4
    m_next, s_next = g.jko_step_within(name, m, s, M, S, tau)
    D = g.DIVERGENCES[name]
    assert 0 < D(m_next, s_next, M, S) < D(m, s, M, S)
    assert g.jko_objective(m_next, s_next, m, s, M, S, tau, name) < D(m, s, M, S)


def test_chi2_step_starts_where_the_divergence_is_infinite():
    m_next, s_next = g.jko_step_within("chi2", 0.5, 2.0, 0.0, 1.0, tau=0.5)
    assert np.isfinite(g.chi2(m_next, s_next, 0, 1)) and s_next[0] < math.sqrt(2)


@pytest.mark.parametrize(
    "laws",
    [
        ([0.4, -0.3], [0.8, 1.2], [0.0, 0.5], [1.1, 0.9]),
        ([0.4, -0.3], [0.4, 1.2], [1.5, 0.5], [1.3, 0.5]),
        ([2.0, 0.0], [0.7, 0.7], [-1.5, 0.3], [0.7, 0.9]),
    ],
)
def test_js_in_the_plane_is_its_double_integral(laws):
    """The trapezoidal rule for smooth laws, spacing .05: similar ones, ones of other widths, ones far apart; 1e-9."""
    x = np.arange(-10, 10, 0.05)
    p, q = (np.outer(norm.pdf(x, m[0], s[0]), norm.pdf(x, m[1], s[1])) for m, s in (laws[:2], laws[2:]))
    middle = (p + q) / 2
    value = 0.05**2 * (rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2
    assert g.js(*laws) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("slopes", "value", "found"),
    [([0.0, 1e-3], 1.0, False), ([1e-3, 0.0], 1.0, False), ([9e-6, -9e-6], 0.1, True), ([0.05, 0.0], 1e4, True)],
)
def test_a_search_is_believed_where_the_whole_gradient_vanishes(monkeypatch, slopes, value, found):
    """Below 1e-5, or that share of a value above 1, in each component."""
    end = SimpleNamespace(jac=np.array(slopes), fun=value, x=np.array([0.5, math.log(2)]))
    monkeypatch.setattr(g, "minimize", lambda *args, **kwargs: end)
    if found:
        assert np.ravel(g.jko_step_within("kl", 0.3, 1.0, 1.0, 2.0, 1.0)) == pytest.approx([2.0, 4.0])
    else:
        with pytest.raises(RuntimeError, match="no minimiser"):
            g.jko_step_within("kl", 0.3, 1.0, 1.0, 2.0, 1.0)


def test_dual_value_outside_its_range_is_minus_infinity():
    """One coordinate is enough: e^h has no integral at q >= 1 / S^2, and the inner problem no minimiser at q <= -1 / tau."""
    at = lambda q, tau=0.5: g.dual_value(q, [0.1, 0.1], [0, 0], [1, 1], [0, 0], [1, 2], tau)
    assert at([0.2, 0.25]) == at([1.0, 0.2]) == at([-2.0, 0.0]) == at([0.0, -2.5]) == -np.inf
    assert np.isfinite([at([0.9, 0.2]), at([-1.9, 0.0])]).all()


def test_fitted_maps_carry_the_moments_with_their_ridge():
    """M is symmetric, M (C_x + r) M = C_y + r, means go to means; without a ridge an affine optimal map is found again."""
    rng = np.random.default_rng(5)
    x, y, ridge = rng.standard_normal((30, 3)), rng.standard_normal((20, 3)) @ spd(rng, 3) + 1, 0.2
    T = g.fitted_map(x, y, ridge)
    M = np.stack([T(x.mean(0) + e) - T(x.mean(0)) for e in np.eye(3)])
    C_x, C_y = (np.cov(t.T, bias=True) + ridge * np.eye(3) for t in (x, y))
    assert T(x.mean(0)) == pytest.approx(y.mean(0), abs=1e-12) and M == pytest.approx(M.T, abs=1e-10)
    assert M @ C_x @ M == pytest.approx(C_y, abs=1e-9) and np.linalg.eigvalsh(M)[0] > 0
    A = spd(rng, 3)
    again = g.fitted_map(x, x @ A - 2.0)
    assert again(y) == pytest.approx(y @ A - 2.0, abs=1e-8)
    with pytest.raises(UsageError, match="ridge"):
        g.fitted_map(x, y, -0.1)


# General covariances.


def affine_objective(u, T_k, m, M, Sigma, tau):
    """E|T - T_k|^2/(2 tau) + KL(T# N(0, I) | N(M, Sigma)) for T(z) = L z + b and T_k(z) = T_k z + m."""
    d = len(M)
    L, b = u[: d * d].reshape(d, d), u[d * d :]
    cost = np.sum((L - T_k) ** 2) + np.sum((b - m) ** 2)
    return cost / (2 * tau) + g.kl_cov(b, L @ L.T, M, Sigma)


def test_matched_latents_give_the_exact_step_through_a_rotation():
    """T_k need be no Monge map: the best affine T from a rotation has the JKO value of its image, N(0, I)."""
    T_k, m, tau = np.array([[0.0, -1], [1, 0]]), np.zeros(2), 0.3
    M, Sigma = np.array([1, 0.5]), np.diag([0.36, 2.25])
    m_next, C_next = g.jko_step_cov(m, np.eye(2), M, Sigma, tau)
    value = g.w2_cov(m_next, C_next, m, np.eye(2)) ** 2 / (2 * tau) + g.kl_cov(m_next, C_next, M, Sigma)
    assert value == pytest.approx(1.06331674639, abs=1e-10)
    assert m_next == pytest.approx([0.454545, 0.058824], abs=1e-6)
    assert np.sqrt(np.diag(C_next)) == pytest.approx([0.760597, 1.118925], abs=1e-6)

    optimal = np.concatenate([(np.diag(np.sqrt(np.diag(C_next))) @ T_k).ravel(), m_next])
    problem = (T_k, m, M, Sigma, tau)
    assert affine_objective(optimal, *problem) == pytest.approx(value, abs=1e-12)
    found = minimize(affine_objective, np.concatenate([T_k.ravel(), m]), problem, method="BFGS")
    assert found.fun == pytest.approx(value, abs=1e-8) and found.x == pytest.approx(optimal, abs=1e-4)


def test_step_for_covariances_that_do_not_commute():
    """Against BFGS (with differences: 1e-4) over all affine maps, from a T_k that is not symmetric."""
    rng = np.random.default_rng(3)
    d, tau = 2, 0.6
    T_k, Sigma = rng.standard_normal((d, d)), spd(rng, d)
    m, M = rng.standard_normal(d), rng.standard_normal(d)
    C = T_k @ T_k.T
    assert np.abs(C @ Sigma - Sigma @ C).max() > 0.1
    m_next, C_next = g.jko_step_cov(m, C, M, Sigma, tau)
    problem = (T_k, m, M, Sigma, tau)
    found = minimize(affine_objective, np.concatenate([T_k.ravel(), m]), problem, method="BFGS")
    L = found.x[: d * d].reshape(d, d)
    assert found.x[d * d :] == pytest.approx(m_next, abs=1e-4)
    assert np.abs(L @ L.T - C_next).max() < 1e-4
    value = g.w2_cov(m_next, C_next, m, C) ** 2 / (2 * tau) + g.kl_cov(m_next, C_next, M, Sigma)
    assert found.fun == pytest.approx(value, abs=1e-8)


@settings(deterministic, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 4), st.floats(0.01, 50))
def test_commuting_covariances_reduce_to_the_eigenbasis(seed, d, tau):
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    m, M = rng.standard_normal((2, d))
    s, S = rng.uniform(0.2, 2, (2, d))
    m_next, C_next = g.jko_step_cov(V @ m, (V * s**2) @ V.T, V @ M, (V * S**2) @ V.T, tau)
    expected_m, expected_s = g.jko_step(m, s, M, S, tau)
    assert V.T @ m_next == pytest.approx(expected_m, abs=1e-9)
    assert np.abs(V.T @ C_next @ V - np.diag(expected_s**2)).max() < 1e-9


def test_infinite_tau_gives_the_target_covariance():
    rng = np.random.default_rng(1)
    C, Sigma, M = spd(rng, 3), spd(rng, 3), rng.standard_normal(3)
    m_next, C_next = g.jko_step_cov(np.zeros(3), C, M, Sigma, math.inf)
    assert m_next == pytest.approx(M, abs=1e-10) and np.abs(C_next - Sigma).max() < 1e-10


# Errors.


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: g.jko_step(0, 1, 0, 1, tau=0), "tau"),
        (lambda: g.jko_step(0, 1, 0, 1, tau=math.nan), "tau"),
        (lambda: g.kl(0, -1, 0, 1), "positive"),
        (lambda: g.jko_step_within("ch2", 0, 1, 0, 1, 1), "did you mean 'chi2'"),
        (lambda: g.js([0, 0, 0], 1, 0, 1), "d = 1 or 2"),
        (lambda: g.kl_cov([0, 0], np.zeros((2, 2)), [0, 0], np.eye(2)), "positive definite"),
        (lambda: g.w2_cov([0, 0], [[1, 2], [0, 1]], [0, 0], np.eye(2)), "symmetric"),
        (lambda: g.jko_step(0, 1, 0, 1, tau="3"), "tau"),
        (lambda: g.jko_step(0, 1, 0, 1, tau=None), "tau"),
        (lambda: g.jko_step(0, 1, 0, 1, tau=[1.0, 2.0]), "tau"),
        (lambda: g.jko_residual(0, 1, 0, 1, 0, 1, tau=-1), "tau"),
        (lambda: g.dual_value(0.1, 0, 0, 1, 0, 1, tau=-1), "tau"),
        (lambda: g.dual_value(0.1, 0, 0, 1, 0, 1, tau=math.inf), "tau"),
        (lambda: g.moreau_envelope("kl", 0, 1, 0, 1, "3"), "eps"),
        (lambda: g.ou_flow(0, 1, 0, 1, t=-1), "t = -1"),
        (lambda: g.ou_flow(0, 1, 0, 1, t=[0.0, math.nan]), "t = nan"),
    ],
)
def test_arguments_out_of_range_are_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()
