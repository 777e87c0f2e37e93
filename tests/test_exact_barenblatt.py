"""Porous-medium closed forms (vwgf's numbers)."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from gwf.errors import UsageError
from gwf.exact import barenblatt as B

few = settings(derandomize=True, deadline=None, max_examples=25)
cases = st.tuples(st.integers(1, 8), st.floats(1.2, 4), st.floats(0.2, 3))

# d: G1, sigma2, radii at k = 1, 2, 10, 20, 50, the flow's radii there, G at k = 0, 1, 2, 10, 20, 50.
PRINTED = {
    3: (
        0.3410463,
        3 / 7,
        (0.4337, 0.4603, 0.5802, 0.6587, 0.7865),
        (0.4385, 0.4669, 0.5874, 0.6645, 0.7905),
        (5.329, 4.180, 3.497, 1.746, 1.193, 0.701),
    ),
    2: (0.4244132, 1 / 3, (0.4175, 0.4332, 0.5225, 0.5940, 0.7247), None, (2.653, 2.435, 2.262, 1.554, 1.203, 0.808)),
}


@pytest.mark.parametrize("d", sorted(PRINTED))
def test_jko_radii_and_entropies_match_the_printed_digits(d):
    G1, sigma2, radii, flow, energies = PRINTED[d]
    k = np.array([1, 2, 10, 20, 50])
    assert B.entropy(1.0, d, 2) == pytest.approx(G1, abs=5e-8) and B.second_moment(1.0, d, 2) == pytest.approx(sigma2)
    found = B.jko_radii(0.4, 5e-4, 50, d, 2)
    assert found[k] == pytest.approx(radii, abs=5.1e-5)
    assert B.entropy(found[[0, *k]], d, 2) == pytest.approx(energies, abs=5.1e-4)
    if flow:
        assert B.flow_radius(0.4, 5e-4 * k, d, 2) == pytest.approx(flow, abs=5.1e-5)
    doubled = B.jko_radii(0.4, 1e-3, 1, d, 2)[1]
    assert abs(doubled - found[1]) > 0.005, "negative control: weight 1/(4 tau)"


def constant_of_unit_mass(d, m):
    """The C of mass 1."""
    return B.profile_mass(1.0, d, m) ** (-1 / (1 / (m - 1) + d / 2))


def test_constants_of_vwgf_and_its_wrong_truth():
    C = constant_of_unit_mass(3, 2)
    assert C == pytest.approx(0.13481, abs=5e-6) and B.profile_radius(1e-3, C, 3, 2) == pytest.approx(0.4125, abs=5e-5)
    released = B.constant_from_radius(0.4, 1e-3, 3, 2)
    assert released == pytest.approx(0.126791, abs=1e-6)
    assert B.profile_mass(released, 3, 2) == pytest.approx(0.857864, abs=1e-6)
    assert B.profile_mass(B.constant_from_radius(0.6, 1e-3, 6, 2), 6, 2) == pytest.approx(0.678, abs=5e-4)
    times = 1e-3 + 5e-4 * np.array([2, 10, 50])
    assert B.released_wrong_entropy(times, 0.4, 1e-3, 3) == pytest.approx([3.016, 1.560, 0.647], abs=5.1e-4)
    ratio = B.entropy(0.4, 3, 2) / B.released_wrong_entropy(1e-3, 0.4, 1e-3, 3)
    assert ratio == pytest.approx(1 / 0.857864, abs=1e-5)


@few
@given(cases)
def test_radial_integrals(case):
    """Mass, second moment and G by quadrature over the radius."""
    d, m, R = case
    sphere = d * math.exp(B.log_ball(d))

    def integral(g):
        at = lambda r: B.density(np.eye(1, d) * r, R, d, m)[0]  # noqa: E731
        return quad(lambda r: g(r, at(r)) * sphere * r ** (d - 1), 0, R, epsabs=1e-11, limit=200)[0]

    assert integral(lambda r, u: u) == pytest.approx(1, abs=1e-7)
    assert integral(lambda r, u: r**2 * u) == pytest.approx(B.second_moment(R, d, m), rel=1e-7)
    assert integral(lambda r, u: u**m / (m - 1)) == pytest.approx(B.entropy(R, d, m), rel=1e-7)


def test_profile_solves_the_porous_medium_equation_and_keeps_its_mass():
    """d_t U = Laplace(U^m) in the interior by differences, in d = 2, m = 3; the unit-mass profile is the unit-mass law."""
    d, m, t, h = 2, 3.0, 0.7, 1e-4
    C = constant_of_unit_mass(d, m)
    x = np.array([[0.2, 0.3]])
    rate = (B.profile(x, t + h, C, d, m) - B.profile(x, t - h, C, d, m)) / (2 * h)
    power = lambda p: B.profile(p, t, C, d, m) ** m  # noqa: E731
    laplace = sum(power(x + h * e) + power(x - h * e) - 2 * power(x) for e in np.eye(d)) / h**2
    assert rate == pytest.approx(laplace, rel=1e-4)
    R = B.profile_radius(t, C, d, m)
    assert B.profile(x, t, C, d, m) == pytest.approx(B.density(x, R, d, m), rel=1e-10)
    # Two times of one solution: the flow of radii.
    assert B.flow_radius(R, 0.5, d, m) == pytest.approx(B.profile_radius(t + 0.5, C, d, m), rel=1e-10)


@few
@given(cases, st.floats(1e-4, 10))
def test_jko_radius_is_the_minimiser_and_energy_falls(case, tau):
    """Growths that a radius can show; far smaller ones are in the next tests."""
    d, m, R = case
    objective = lambda r: B.w2(R, r, d, m) ** 2 / (2 * tau) + B.entropy(r, d, m)  # noqa: E731
    found = B.jko_radius(R, tau, d, m)
    high = 2 * found + 1
    search = minimize_scalar(
        lambda r: float(objective(r)), bounds=(R * 0.5, high), method="bounded", options={"xatol": 1e-10}
    )
    rounding = 1e-12 * objective(found)
    assert objective(found) <= objective(search.x) + rounding and objective(found) <= objective(R) + rounding
    # The flow runs ahead: dR/dt falls with R, and the implicit step uses the speed at its end.
    flow = B.flow_radius(R, tau, d, m)
    assert R <= found <= flow * (1 + 1e-15)
    if B.jko_growth(R, tau, d, m) > 1e-6:
        assert R < found < flow


@pytest.mark.parametrize("d", [1, 3, 100, 500, 10_000])
@pytest.mark.parametrize("m", [1.01, 2.0, 5.0])
@pytest.mark.parametrize("tau", [1e-6, 5e-4, 1.0, 1e6])
@pytest.mark.parametrize("R", [0.4, 1.0, 30.0])
def test_jko_growth_solves_its_equation_at_all_sizes(d, m, tau, R):
    """e (1 + e)^(q-1) = K by bisection in log e, in logarithms throughout; both to rounding of log K, 0 below 1e-308."""
    q = d * (m - 1) + 2
    log_K = math.log(tau * d * (m - 1) / B.second_moment(1.0, d, m)) + B.log_entropy(1.0, d, m) - q * math.log(R)
    low, high = -abs(log_K) - 800.0, abs(log_K) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        above = middle + (q - 1) * np.logaddexp(0, middle) > log_K
        low, high = (low, middle) if above else (middle, high)
    assert B.jko_growth(R, tau, d, m) == pytest.approx(math.exp(low), rel=1e-12 * (1 + abs(log_K)), abs=0)
    assert B.jko_radius(R, tau, d, m) <= B.flow_radius(R, tau, d, m) * (1 + 1e-12)


def test_a_step_in_a_hundred_dimensions():
    """The bracket's tolerance was taken from a bound of 1e23: R' was 3.6e23."""
    assert B.jko_radius(1.0, 5e-4, 100, 2.0) == pytest.approx(2.4047, abs=5e-5)
    # sigma2 (R' - R) / tau = d (m - 1) G_1 / R'^101, both sides of 5,000.
    R, pull = 2.4046701665343426, 100 / 104 * 1.4046701665343426 / 5e-4
    assert math.log(pull) == pytest.approx(math.log(100) + B.log_entropy(1.0, 100, 2.0) - 101 * math.log(R), abs=1e-11)
    assert math.isinf(B.jko_radius(1.0, math.inf, 3, 2.0))


@few
@given(cases)
def test_jko_first_order_condition_of_the_density(case):
    """(x' - x)/tau = -grad (m/(m-1)) mu'^{m-1} at x' = (R'/R) x: the condition holds in every point, not in the mean only."""
    d, m, R = case
    tau, h = 0.01 * R**2, 1e-6 * R
    R_next = B.jko_radius(R, tau, d, m)
    x_next = np.full((1, d), 0.5 * R_next / math.sqrt(d))
    pressure = lambda p: m / (m - 1) * B.density(p, R_next, d, m) ** (m - 1)  # noqa: E731
    gradient = (pressure(x_next + h * np.eye(1, d)) - pressure(x_next - h * np.eye(1, d)))[0] / (2 * h)
    assert (1 - R / R_next) * x_next[0, 0] / tau == pytest.approx(-gradient, rel=1e-5)


def test_a_step_far_smaller_than_the_radius_is_found():
    """R'/R - 1 is about 1e-9 here: the bracket must not vanish in rounding (it did)."""
    R, tau, d, m = 3.0, 0.09, 5, 4.0
    speed = d * (m - 1) * B.entropy(R, d, m) / (R * B.second_moment(1.0, d, m))
    assert (B.jko_radius(R, tau, d, m) - R) / tau == pytest.approx(speed, rel=1e-5)
    assert R * B.jko_growth(R, 1e-12 * tau, d, m) / (1e-12 * tau) == pytest.approx(speed, rel=1e-12)


def test_first_order_in_tau():
    errors = [B.jko_radii(0.4, 0.025 / n, n, 3, 2)[-1] - B.flow_radius(0.4, 0.025, 3, 2) for n in (200, 400)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(("d", "m"), [(1, 3.0), (3, 2.0), (30, 1.5)])
def test_samples_have_the_moments(d, m):
    """20000 points: the second moment to 2 %, all inside the support."""
    x = B.sample(20_000, 0.7, d, m, np.random.default_rng(0))
    squared = (x**2).sum(1)
    assert x.shape == (20_000, d) and squared.max() <= 0.49
    assert squared.mean() == pytest.approx(B.second_moment(0.7, d, m), rel=0.02)
    # E p(x)^{m-1} = (m-1) G: a Monte-Carlo check of density and entropy together.
    assert (B.density(x, 0.7, d, m) ** (m - 1)).mean() / (m - 1) == pytest.approx(B.entropy(0.7, d, m), rel=0.03)


def test_the_heat_equation_is_refused():
    with pytest.raises(UsageError, match="m = 1"):
        B.entropy(1.0, 3, 1.0)


def growth_by_many_digits(R, tau, d, m):
    """R'/R - 1 from Gamma functions of 50 digits (mpmath), by Newton's method there."""
    with mpmath.workdps(50):
        R, tau, m = mpmath.mpf(R), mpmath.mpf(tau), mpmath.mpf(m)
        p, q, half = 1 / (m - 1), d * (m - 1) + 2, mpmath.mpf(d) / 2
        log_bump = lambda p: half * mpmath.log(mpmath.pi) + mpmath.loggamma(p + 1) - mpmath.loggamma(p + 1 + half)
        log_G = log_bump(p * m) - m * log_bump(p) - mpmath.log(m - 1)
        log_K = mpmath.log(tau * (m - 1) * (d + 2 + 2 * p)) + log_G - q * mpmath.log(R)
        y = min(log_K, log_K / q)
        for _ in range(60):
            e = mpmath.exp(y)
            y -= (y + (q - 1) * mpmath.log1p(e) - log_K) / (1 + (q - 1) * e / (1 + e))
        return float(mpmath.exp(y))


@pytest.mark.parametrize("d", [1, 3, 500, 10_000])
@pytest.mark.parametrize("m", [1 + 1e-12, 1 + 1e-9, 1 + 1e-6, 1.01, 2.0])
@pytest.mark.parametrize(("R", "tau"), [(1.0, 1.0), (0.4, 5e-4), (0.4, 1e6), (30.0, 1e-6)])
def test_growth_to_rounding_as_m_nears_one(d, m, R, tau):
    """3.2e-6 off at d = 10,000, m = 1 + 1e-9: logarithms of Gamma of size 1e10 cancelled. Now rounding of log K, up to 1e5."""
    expected = growth_by_many_digits(R, tau, d, m)
    if expected > 1e-300:
        assert B.jko_growth(R, tau, d, m) == pytest.approx(expected, rel=1e-13 * max(1, abs(math.log(expected)) / 100))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: B.sample(2.5, 1.0, 3, 2.0, np.random.default_rng(0)), "n"),
        (lambda: B.sample("3", 1.0, 3, 2.0, np.random.default_rng(0)), "n"),
        (lambda: B.sample(3, 1.0, 2.5, 2.0, np.random.default_rng(0)), "d"),
        (lambda: B.density(np.zeros((1, 3)), 1.0, 2.5, 2.0), "d"),
        (lambda: B.density(np.zeros((1, 3)), 0.0, 3, 2.0), "R"),
        (lambda: B.density(np.zeros((1, 3)), -1, 3, 2.0), "R"),
        (lambda: B.entropy([1.0, 0.0], 3, 2.0), "R"),
        (lambda: B.exponents(3, "2"), "m"),
        (lambda: B.exponents(3, None), "m"),
        (lambda: B.exponents(3, math.inf), "m"),
        (lambda: B.profile(np.zeros((1, 3)), 0, 1.0, 3, 2.0), "t"),
        (lambda: B.profile(np.zeros((1, 3)), -1, 1.0, 3, 2.0), "t"),
        (lambda: B.profile_mass(0, 3, 2.0), "C"),
        (lambda: B.profile_radius([1.0, -1.0], 1.0, 3, 2.0), "t"),
        (lambda: B.constant_from_radius(1.0, 0, 3, 2.0), "t"),
        (lambda: B.flow_radius(1.0, -1, 3, 2.0), "t"),
        (lambda: B.flow_radius(0.0, 1.0, 3, 2.0), "R_0"),
        (lambda: B.jko_growth("1", 1.0, 3, 2.0), "R"),
        (lambda: B.jko_growth(1.0, 1.0, "3", 2.0), "d"),
        (lambda: B.jko_radii(None, 1.0, 2, 3, 2.0), "R"),
    ],
)
def test_what_is_out_of_range_is_named(call, name):
    """Zero divisions, type errors, domain errors of the logarithm, complex and NaN values before."""
    with pytest.raises(UsageError, match=f"^{name} "):
        call()
