"""Full-covariance Gaussian flows: two closed forms, an optimiser, properties, and the published floors of OU experiments."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from gwf.errors import UsageError
from gwf.exact import covariance, gaussian

few = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 10**6)


def spd(rng, d, least=0.1):
    A = rng.standard_normal((d, d))
    return A @ A.T / d + least * np.eye(d)


def problem(seed, d=None):
    rng = np.random.default_rng(seed)
    d = d or int(rng.integers(1, 6))
    m, M = rng.standard_normal((2, d))
    return m, spd(rng, d), M, spd(rng, d), float(np.exp(rng.uniform(-4, 2))), rng


# The step.


@few
@given(seeds)
def test_the_two_closed_forms_agree_and_satisfy_the_equation(seed):
    """Both are algebra with condition numbers of a few hundred: 1e-9 of the size of the terms."""
    m, C, M, Sigma, tau, _ = problem(seed)
    m_next, C_next = covariance.jko_step_by_square_root(m, C, M, Sigma, tau)
    m_other, C_other = gaussian.jko_step_cov(m, C, M, Sigma, tau)
    assert m_next == pytest.approx(m_other, abs=1e-9)
    assert C_next == pytest.approx(C_other, abs=1e-9)
    B = np.eye(len(m)) + tau * np.linalg.inv(Sigma)
    inverse = np.linalg.inv(C_next)
    assert B @ C_next @ B - 2 * tau * B + tau**2 * inverse == pytest.approx(C, abs=1e-8 * (1 + np.abs(B).max() ** 2))
    back = B - tau * inverse
    assert np.allclose(back, back.T, atol=1e-8 * np.abs(back).max()) and np.linalg.eigvalsh(back)[0] > 0
    assert back == pytest.approx(gaussian.monge_matrix(C_next, C), abs=1e-6 * (1 + np.abs(back).max()))


def test_step_agrees_with_a_minimiser_that_knows_no_formula():
    """BFGS over (m', Cholesky factor of C'), differences for gradients: values to 1e-9, arguments to 1e-4."""
    m, C, M, Sigma, _, _ = problem(7, d=3)
    tau, lower = 0.4, np.tril_indices(3)
    assert np.abs(C @ Sigma - Sigma @ C).max() > 0.05, "the covariances must not commute"

    def objective(u):
        L = np.zeros((3, 3))
        L[lower] = u[3:]
        return covariance.jko_objective_cov(u[:3], L @ L.T + 1e-12 * np.eye(3), m, C, M, Sigma, tau)

    found = minimize(
        objective, np.concatenate([m, np.linalg.cholesky(C)[lower]]), method="BFGS", options={"gtol": 1e-7}
    )
    m_next, C_next = covariance.jko_step_by_square_root(m, C, M, Sigma, tau)
    assert found.fun == pytest.approx(covariance.jko_objective_cov(m_next, C_next, m, C, M, Sigma, tau), abs=1e-9)
    assert found.x[:3] == pytest.approx(m_next, abs=1e-4)
    wrong = covariance.jko_step_by_square_root(m, C, M, Sigma, tau / 2)[0]
    assert np.abs(wrong - m_next).max() > 0.01, "negative control: weight 1/tau"


@few
@given(seeds)
def test_no_perturbation_does_better_and_energy_falls(seed):
    m, C, M, Sigma, tau, rng = problem(seed)
    m_next, C_next = covariance.jko_step_by_square_root(m, C, M, Sigma, tau)
    best = covariance.jko_objective_cov(m_next, C_next, m, C, M, Sigma, tau)
    S = np.eye(len(m)) + 0.05 * rng.standard_normal((len(m), len(m)))
    others = [(m, C), (M, Sigma), (m_next + 0.05 * rng.standard_normal(len(m)), S @ C_next @ S.T)]
    for other in others:
        assert best <= covariance.jko_objective_cov(*other, m, C, M, Sigma, tau) + 1e-8 * (1 + best)


@few
@given(seeds)
def test_rotation_equivariance(seed):
    """Rotating start and target rotates the step: nothing depends on coordinates."""
    m, C, M, Sigma, tau, rng = problem(seed)
    V = np.linalg.qr(rng.standard_normal((len(m), len(m))))[0]
    m_next, C_next = covariance.jko_step_by_square_root(m, C, M, Sigma, tau)
    m_turned, C_turned = covariance.jko_step_by_square_root(V @ m, V @ C @ V.T, V @ M, V @ Sigma @ V.T, tau)
    assert m_turned == pytest.approx(V @ m_next, abs=1e-9) and C_turned == pytest.approx(V @ C_next @ V.T, abs=1e-8)


@few
@given(seeds)
def test_commuting_covariances_are_the_product_case(seed):
    rng = np.random.default_rng(seed)
    d, tau = 3, float(rng.uniform(0.05, 5))
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    (m, M), (s, S) = rng.standard_normal((2, d)), rng.uniform(0.2, 2, (2, d))
    m_next, C_next = covariance.jko_step_by_square_root(V @ m, (V * s**2) @ V.T, V @ M, (V * S**2) @ V.T, tau)
    expected_m, expected_s = gaussian.jko_step(m, s, M, S, tau)
    assert V.T @ m_next == pytest.approx(expected_m, abs=1e-10)
    assert V.T @ C_next @ V == pytest.approx(np.diag(expected_s**2), abs=1e-10)


def test_limits_of_tau():
    """tau to infinity is the target, to order 1/tau; a step of tau = 1e-5 is the flow's to order tau^2 (times its jerk)."""
    m, C, M, Sigma, _, _ = problem(2, d=4)
    far = covariance.jko_step_by_square_root(m, C, M, Sigma, 1e7)
    assert far[0] == pytest.approx(M, abs=1e-5) and far[1] == pytest.approx(Sigma, abs=1e-4)
    near, flow = (f(m, C, M, Sigma, 1e-5) for f in (covariance.jko_step_by_square_root, covariance.ou_flow_cov))
    assert near[0] == pytest.approx(flow[0], abs=1e-7) and near[1] == pytest.approx(flow[1], abs=1e-7)


def test_a_dirac_has_a_step():
    """From C = 0 the step has C' = tau B^{-1}: the other closed form divides by C."""
    M, Sigma, tau = np.ones(2), np.diag([0.5, 2.0]), 0.3
    C_next = covariance.jko_step_by_square_root(np.zeros(2), np.zeros((2, 2)), M, Sigma, tau)[1]
    assert C_next == pytest.approx(tau * np.linalg.inv(np.eye(2) + tau * np.linalg.inv(Sigma)), abs=1e-12)
    with pytest.raises(UsageError, match="semi-definite"):
        covariance.jko_step_by_square_root(np.zeros(2), -np.eye(2), M, Sigma, tau)


@pytest.mark.parametrize("tau", [0.0, math.inf])
def test_the_step_by_square_root_needs_a_finite_step(tau):
    with pytest.raises(UsageError, match="tau"):
        covariance.jko_step_by_square_root([0.0], [[1.0]], [1.0], [[1.0]], tau)


@few
@given(seeds)
def test_contraction(seed):
    """KL(. | N(M, Sigma)) is 1/lambda_max-convex: a step shrinks W_2 by 1 / (1 + tau / lambda_max) or more."""
    m, C, M, Sigma, tau, rng = problem(seed)
    m_1, C_1 = rng.standard_normal(len(m)), spd(rng, len(m))
    after = gaussian.w2_cov(
        *gaussian.jko_step_cov(m, C, M, Sigma, tau), *gaussian.jko_step_cov(m_1, C_1, M, Sigma, tau)
    )
    assert after <= gaussian.w2_cov(m, C, m_1, C_1) / (1 + tau / np.linalg.eigvalsh(Sigma)[-1]) + 1e-7


@few
@given(seeds)
def test_bures_distance_is_a_metric(seed):
    """Symmetry to rounding under the root (1e-7), triangle inequality."""
    rng = np.random.default_rng(seed)
    laws = [(rng.standard_normal(3), spd(rng, 3)) for _ in range(3)]
    d = [[gaussian.w2_cov(*p, *q) for q in laws] for p in laws]
    assert np.array(d) == pytest.approx(np.array(d).T, abs=1e-6)
    assert d[0][2] <= d[0][1] + d[1][2] + 1e-9


# The flow and first order in tau.


def test_ou_flow_solves_its_equation_and_is_the_limit_of_the_scheme():
    m, C, M, Sigma, _, _ = problem(4, d=3)
    t, step = 0.3, 1e-5
    ahead, back, now = (covariance.ou_flow_cov(m, C, M, Sigma, t + k * step) for k in (1, -1, 0))
    P = np.linalg.inv(Sigma)
    assert (ahead[0] - back[0]) / (2 * step) == pytest.approx(-P @ (now[0] - M), abs=1e-6)
    assert (ahead[1] - back[1]) / (2 * step) == pytest.approx(2 * np.eye(3) - P @ now[1] - now[1] @ P, abs=1e-5)
    flow = covariance.ou_flow_cov(m, C, M, Sigma, 0.4)
    errors = []
    for steps in (40, 80):
        means, covariances = covariance.jko_sequence_cov(m, C, M, Sigma, 0.4 / steps, steps)
        errors.append(np.abs(means[-1] - flow[0]).max() + np.abs(covariances[-1] - flow[1]).max())
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.15)


PRINTED = {  # vwgf recursion: m = 1, lam = .5, T = .8: errors of mean and standard deviation at 8, 32, 128 steps
    "crank_nicolson": [(6.54e-3, 6.33e-4), (1.65e-3, 2.13e-4), (4.12e-4, 5.65e-5)],
    "jko": [(3.07e-2, 8.25e-3), (7.97e-3, 2.04e-3), (2.01e-3, 5.08e-4)],
    "trapezoid": [(1.08e-3, 4.47e-4), (6.73e-5, 2.78e-5), (4.21e-6, 1.74e-6)],
}


@pytest.mark.parametrize("scheme", sorted(PRINTED))
def test_orders_in_tau(scheme):
    """Three printed digits: half a unit of the last, .5 %. Crank-Nicolson is first order, five times better than JKO."""
    errors = np.array([covariance.scheme_error(scheme, n) for n in (8, 32, 128)])
    assert errors == pytest.approx(np.array(PRINTED[scheme]), rel=5e-3)
    means = [covariance.scheme_error(scheme, n)[0] for n in (256, 512)]
    assert means[0] / means[1] == pytest.approx(4 if scheme == "trapezoid" else 2, rel=0.01)


def test_crank_nicolson_refuses_steps_without_a_minimiser():
    with pytest.raises(UsageError, match="tau"):
        covariance.crank_nicolson_step(0.0, 0.3, 1.0, 5.0, 1.0)


def test_gaussian_recursion_of_vwgf():
    a, s = gaussian.jko_sequence(0.0, 1.0, 1.0, math.sqrt(0.5), 0.05, 18)
    assert (a[-1, 0], s[-1, 0]) == pytest.approx((0.820141, 0.719908), abs=1e-6)
    assert gaussian.ou_flow(0.0, 1.0, 1.0, math.sqrt(0.5), 0.9) == pytest.approx((0.834701, 0.716702), abs=1e-6)
    s = gaussian.jko_sequence(0.0, 4.0, 0.0, 1.0, 0.1, 10)[1][:, 0]
    assert s[[1, 2, 5, 10]] == pytest.approx([3.66119, 3.35545, 2.60942, 1.80600], abs=5e-6)


def test_gaussian_recursion_of_sjko():
    """From N(0, 1) to N(3, .25); mean, std and KL, the value of the first step, and the energy inequality."""
    m, s = gaussian.jko_sequence(0, 1, 3, 0.5, 0.1, 5)
    found = np.column_stack([m[:, 0], s[:, 0], gaussian.kl(m, s, 3, 0.5)])[[1, 2, 5]]
    expected = [(0.857143, 0.803214, 9.499966), (1.469388, 0.678932, 4.801532), (2.442197, 0.533116, 0.626583)]
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    value = gaussian.jko_objective(m[1], s[1], 0, 1, 3, 0.5, 0.1)
    assert value == pytest.approx(13.367059, abs=1e-6)
    assert value <= gaussian.kl(0, 1, 3, 0.5) == pytest.approx(18.806853, abs=1e-6)
    m, s = gaussian.jko_step(0, 1, 3, 0.5, 1.0)
    assert (m, s, gaussian.kl(m, s, 3, 0.5)) == pytest.approx((2.4, 0.558258, 0.733091), abs=1e-6)


def latent_objective(u, tau=1.0, s_0=0.8, r_0=0.6, matched=True):
    """T(x, z) = m + s x + r z against its anchor (0, s_0, r_0), KL to N(3, .25); z shared with the anchor or not."""
    m, s, r = u
    cost = m**2 + (s - s_0) ** 2 + ((r - r_0) ** 2 if matched else r**2 + r_0**2)
    return cost / (2 * tau) + float(gaussian.kl(m, math.hypot(s, r), 3, 0.5))


@pytest.mark.parametrize(("matched", "expected"), [(True, (2.4, 0.44661, 0.33495)), (False, (2.4, 0.53431, 0.0))])
def test_independent_latents_kill_the_noise_in_one_step(matched, expected):
    """sjko's algorithm draws z afresh: then r' = 0. Formulas to five printed digits, Nelder-Mead to 1e-4."""
    found = minimize(
        latent_objective,
        [1.0, 0.7, 0.3],
        (1.0, 0.8, 0.6, matched),
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-14, "maxiter": 4000},
    ).x
    assert found == pytest.approx(expected, abs=1e-4)
    A = 1 + 4.0
    if matched:
        scale = gaussian.jko_step(0, 1, 3, 0.5, 1.0)[1]
        assert (0.8 * scale, 0.6 * scale) == pytest.approx(expected[1:], abs=5e-6)
    else:
        assert (0.8 + math.sqrt(0.64 + 4 * A)) / (2 * A) == pytest.approx(expected[1], abs=5e-6)


def test_pass_counts_of_compositions():
    """sjko: 2(k+1) generator passes per iteration of phase k when maps are composed, 3 when they are whole."""
    K, N_0, N = 50, 10_000, 2_000
    composed = 2 * N_0 + sum(2 * (k + 1) * N for k in range(1, K))
    assert composed == 2 * N_0 + N * (K - 1) * (K + 2) == 5_116_000
    assert composed / (3 * (N_0 + N * (K - 1))) == pytest.approx(15.8, abs=0.05)


# Floors of the OU experiments.


@pytest.mark.parametrize(
    ("d", "tau", "value"), [(2, 0.05, -3.61), (2, 0.025, -4.19), (6, 0.05, -2.96), (6, 0.025, -3.55)]
)
def test_ou_floor_of_vwgf(d, tau, value):
    """Two samples of 400 targets, standard errors .024 (d = 2) and .013 (d = 6) each: three of their differences."""
    found = covariance.ou_floor(d, tau, 0.9, targets=400)
    assert found.mean() == pytest.approx(value, abs=3 * math.sqrt(2) * (0.024 if d == 2 else 0.013))


@pytest.mark.parametrize(
    ("tau", "t", "values"), [(0.05, 0.5, (-3.26, -2.63)), (0.05, 0.9, (-3.66, -3.18)), (0.1, 0.5, (-2.66, -2.04))]
)
def test_ou_floor_of_sjko(tau, t, values):
    """Printed from 6000 targets; ours 2000, standard error .013: .05 is over three of them."""
    found = [covariance.ou_floor(d, tau, t, 2000, "sjko").mean() for d in (2, 4)]
    assert found == pytest.approx(values, abs=0.05)


@pytest.mark.parametrize("recipe", sorted(covariance.TARGETS))
def test_floor_is_that_of_the_matrix_code(recipe):
    d, tau, t = 3, 0.1, 0.5
    rng = np.random.default_rng([0, d])
    M, Sigma = covariance.TARGETS[recipe](d, rng)
    means, covariances = covariance.jko_sequence_cov(np.zeros(d), np.eye(d), M, Sigma, tau, 5)
    flow = covariance.ou_flow_cov(np.zeros(d), np.eye(d), M, Sigma, t)
    by_matrices = math.log10(covariance.symkl_cov(means[-1], covariances[-1], *flow))
    assert covariance.ou_floor(d, tau, t, 1, recipe)[0] == pytest.approx(by_matrices, abs=1e-6)
    with pytest.raises(UsageError, match="multiple"):
        covariance.ou_floor(d, 0.3, 0.5, 1, recipe)


def test_spd_recipe_is_scikit_learns():
    from sklearn.datasets import make_spd_matrix

    rng = np.random.default_rng(0)
    M, Sigma = covariance.target_sjko(4, rng)
    assert np.linalg.eigvalsh(Sigma)[0] > 0 and np.linalg.eigvalsh(Sigma)[-1] > 4
    rng = np.random.RandomState(5)

    class Same:
        def standard_normal(self, d):
            return np.zeros(d)

        def uniform(self, size):
            return rng.uniform(size=size)

    assert covariance.target_sjko(4, Same())[1] == pytest.approx(make_spd_matrix(4, random_state=5), abs=1e-12)


def test_moment_fit_floor():
    """log10 of d(d+3)/(2n) at d = 12; and a simulation at d = 3, n = 400: 300 repeats give the mean to 4 %."""
    assert [math.log10(covariance.moment_fit_floor(12, n)) for n in (1000, 10_000, 50_000)] == pytest.approx(
        [-1.05, -2.05, -2.74], abs=0.005
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 400, 3))
    fits = [covariance.symkl_cov(p.mean(0), np.cov(p.T), np.zeros(3), np.eye(3)) for p in x]
    assert np.mean(fits) == pytest.approx(covariance.moment_fit_floor(3, 400), rel=0.12)


@pytest.mark.parametrize("tau", [0.0, -0.1])
def test_a_floor_needs_a_step(tau):
    """It ended in a ZeroDivisionError."""
    with pytest.raises(UsageError, match="tau"):
        covariance.ou_floor(2, tau, 0.9, 3)


# Ill-conditioned laws, single steps, and what is refused.


def exact_step(C, Sigma, tau):
    """C' with 80 digits (mpmath) by the equation of the inverse map, D + tau^2 D^{-1} = E: see `jko_step_by_square_root`."""
    with mpmath.workdps(80):

        def of(A, f):
            w, Q = mpmath.eigsy((A + A.T) / 2)
            return Q * mpmath.diag([f(x) for x in w]) * Q.T

        C, Sigma, identity = mpmath.matrix(C.tolist()), mpmath.matrix(Sigma.tolist()), mpmath.eye(len(C))
        root = of(identity + tau * Sigma**-1, lambda x: 1 / mpmath.sqrt(x))
        D = of(root * C * root, lambda x: (x + 2 * tau + mpmath.sqrt(max(x, 0) * (x + 4 * tau))) / 2)
        return np.array((root * D * root).tolist(), dtype=float)


@pytest.mark.parametrize("step", [gaussian.jko_step_cov, covariance.jko_step_by_square_root])
@pytest.mark.parametrize("tau", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("condition", [1e6, 1e9, 1e12])
def test_steps_of_ill_conditioned_laws(step, tau, condition):
    """Both were inverted: C'[0, 0] was .0053 for .2134 at 1e12. A last digit of C moves its root by 1e-16 / 1e-6, hence C'."""
    flat = np.diag([1, condition**-0.5, 1 / condition])
    Q, P = (np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0] for seed in (0, 1))
    C, Sigma = ((V @ flat @ V.T + (V @ flat @ V.T).T) / 2 for V in (Q, P))
    for pair in ((C, Sigma), (C, np.eye(3)), (np.eye(3), Sigma), (flat, Sigma)):
        found, expected = step(np.zeros(3), pair[0], np.zeros(3), pair[1], tau)[1], exact_step(*pair, tau)
        assert np.abs(found - expected).max() <= 3e-10 * np.abs(expected).max()


def symkl_by_many_digits(M, lam, tau, steps):
    with mpmath.workdps(60):
        m, s, lam, tau = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(lam), mpmath.mpf(tau)
        A, P = 1 / tau + 1 / lam, mpmath.exp(-steps * tau / lam)
        for _ in range(steps):
            m, s = (m / tau + M / lam) / A, (s / tau + mpmath.sqrt((s / tau) ** 2 + 4 * A)) / (2 * A)
        gap, v = m - M * (1 - P), lam + P**2 * (1 - lam)
        return float(mpmath.log10(((s**2 + gap**2) / v + (v + gap**2) / s**2 - 2) / 2))


@pytest.mark.parametrize(("tau", "steps"), [(1e-8, 3), (1e-6, 1), (1e-5, 1), (1e-4, 1), (0.05, 18), (1e3, 3), (1e6, 1)])
@pytest.mark.parametrize(("M", "lam"), [(1.0, 0.7), (0.0, 0.7), (-2.0, 30.0)])
def test_floor_of_short_and_long_steps(tau, steps, M, lam):
    """-inf for -19.80 at tau = 1e-5, one step. Numbers of size a = tau / lam round at 1e-16, their differences are a^2."""
    found = covariance.jko_error(np.array([[M]]), np.array([[lam]]), tau, steps * tau)
    assert found[0] == pytest.approx(symkl_by_many_digits(M, lam, tau, steps), abs=1e-13 + 1e-14 / min(1, tau / lam))


@pytest.mark.parametrize(
    ("tau", "t"), [(2e-10, 5e-10), (0.3, 0.5), (1.0, 0.0), (1.0, np.inf), (1e-300, 1.0), (1.0, "3")]
)
def test_a_time_is_a_multiple_of_the_step(tau, t):
    with pytest.raises(UsageError, match="t = "):
        covariance.jko_error(np.ones((1, 1)), np.full((1, 1), 0.7), tau, t)


zero, one, unit, wide = np.zeros(2), np.zeros(1), np.eye(2), np.eye(3)
indefinite, asymmetric = np.diag([-1.0, 1.0]), np.array([[1e-13, 5e-13], [0, 1e-13]])
step_cov, by_root, flow_cov = gaussian.jko_step_cov, covariance.jko_step_by_square_root, covariance.ou_flow_cov


@pytest.mark.parametrize("f", [step_cov, by_root, flow_cov, gaussian.kl_cov, gaussian.w2_cov])
@pytest.mark.parametrize(
    ("laws", "words"),
    [
        ((zero, indefinite, zero, unit), "C.* definite|semi-definite"),
        ((zero, unit, zero, indefinite), "(Sigma|C_1) .*definite"),
        ((zero, asymmetric, zero, unit), "symmetric"),
        ((zero, unit, one, unit), "sizes"),
        ((zero, unit, zero, wide), "sizes"),
        ((zero, wide, zero, unit), "sizes"),
        ((one[:0], np.zeros((0, 0)), one[:0], np.zeros((0, 0))), "sizes"),
        ((zero, unit * 1j, zero, unit), "real numbers"),
        ((zero, "3", zero, unit), "real numbers"),
        ((zero, unit * np.nan, zero, unit), "nan"),
    ],
)
def test_what_is_no_pair_of_laws_is_refused(f, laws, words):
    """`jko_step_by_square_root` measured C by tau = 1e6, `ou_flow_cov` looked at nothing; sizes were numpy's to refuse."""
    last = () if f in (gaussian.kl_cov, gaussian.w2_cov) else (1e6,)
    with pytest.raises(UsageError, match=words):
        f(*laws, *last)


def test_a_long_step_from_an_ill_conditioned_law_is_taken():
    """It was refused: "covariance must be a symmetric (d, d) matrix", its own B by rounding. 2 / tau from the target."""
    V = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    found = by_root(np.zeros(3), (V * [1, 1e-6, 1e-12]) @ V.T, np.ones(3), (V * [2.0, 2.0, 2.0]) @ V.T, 1e6)
    assert found[0] == pytest.approx(np.ones(3), abs=1e-5) and found[1] == pytest.approx(2 * np.eye(3), abs=1e-4)


bad = [0, 2.5, "3", None, True, -1]


@pytest.mark.parametrize("value", bad)
def test_counts_and_steps_are_named(value):
    step = 2.5 if value in (2.5, True) else value  # a number is a step of any size, a bool is none
    calls = [
        (lambda: covariance.ou_floor(2, 0.1, 0.5, value), "targets"),
        (lambda: covariance.ou_floor(value, 0.1, 0.5, 3), "d"),
        (lambda: covariance.moment_fit_floor(value, 9), "d"),
        (lambda: covariance.moment_fit_floor(2, value), "n"),
    ]
    if value != 0:
        calls.append((lambda: covariance.ou_floor(2, 0.1, 0.5, 3, seed=value), "seed"))
    if step != 2.5:
        calls += [
            (lambda: covariance.crank_nicolson_step(0.0, 1.0, 1.0, 0.5, step), "tau"),
            (lambda: covariance.trapezoid_step(0.0, 1.0, 1.0, 0.5, step), "tau"),
            (lambda: covariance.jko_objective_cov(zero, unit, zero, unit, zero, unit, step), "tau"),
            (lambda: step_cov(zero, unit, zero, unit, step), "tau"),
        ]
    if value not in (0, 2.5):
        calls.append((lambda: flow_cov(zero, unit, zero, unit, value), "t"))
    for call, name in calls:
        with pytest.raises(UsageError, match=f"^{name} = "):
            call()
