"""What mixtures and schemes are built of, against quadrature and their own equations, where no other test looks."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from gwf.errors import UsageError
from gwf.exact import covariance, gaussian, grids, mixtures


def test_radii_of_a_circle_with_noise_have_the_density_of_an_integral_over_angles():
    """f(s) = s / (2 pi sigma^2) int exp(-|s e^{i t} - R|^2 / (2 sigma^2)) dt, without Bessel's function."""
    s, b, circle = mixtures.circle_radii(0.02)
    variance = mixtures.CIRCLE_STD**2
    for index, R in enumerate(mixtures.RADII):
        radii, mass = s[circle == index], b[circle == index]
        assert (radii[0], radii[-1]) == pytest.approx((R - 0.8, R + 0.8))
        near = np.abs(radii - R) < 0.6
        density = [
            quad(lambda t, r=r: r * math.exp(-(r * r + R * R - 2 * r * R * math.cos(t)) / (2 * variance)), 0, 0.8)[0]
            for r in radii[near]
        ]
        assert mass[near] / mass[near].sum() == pytest.approx(np.array(density) / sum(density), rel=1e-6)
    assert b.sum() == pytest.approx(1)


@pytest.mark.parametrize("lam", [0.3, 2.0])
def test_a_step_of_the_trapezoidal_rule_satisfies_its_equations(lam):
    a, s, m, tau = 0.4, 1.7, -1.0, 0.25
    new, wide = covariance.trapezoid_step(a, s, m, lam, tau)
    assert (new - a) / tau == pytest.approx(-((a - m) + (new - m)) / (2 * lam))
    assert (wide - s) / tau == pytest.approx((1 / s - s / lam + 1 / wide - wide / lam) / 2)


def test_between_steps_an_atom_is_a_bin_of_half_the_distance_to_its_nearest_neighbour():
    y, b, tau = np.array([0.0, 2.0, 3.0, 4.5]), np.array([0.1, 0.4, 0.3, 0.2]), 0.8
    first, second = grids.semidiscrete_sequence(norm, y, b, tau, 2)
    bins = grids.Bins(y, first, np.array([1.0, 0.5, 0.5, 0.75]))
    again = grids.semidiscrete_step(bins, y, b, tau).mu
    assert second == pytest.approx(again / again.sum(), rel=1e-7)


def test_a_mode_that_holds_just_its_share_is_found():
    """Weights 1/2, 1/2, 0, 0, 0: four modes of 1/4, which is 25/4 times what is due."""
    weights = np.array([0.5, 0.5, 0.0, 0.0, 0.0])
    assert [mixtures.modes_found(weights, share) for share in (6.25, 6.3)] == [4, 0]


@pytest.mark.parametrize("tau", [0.3, 4.0])
def test_the_first_step_of_the_25_gaussians_is_that_of_atoms_at_any_tau(tau):
    """By the closed problem of five atoms, cost |x - y|^2 / (4 tau): a mode's width moves a mass by 1.6e-3 / tau at most."""
    own = grids.semidiscrete_step(norm, mixtures.MODES, np.full(5, 0.2), 2 * tau, tolerance=1e-13).mu
    assert mixtures.atomic_twenty_five(tau) == pytest.approx(own, abs=1e-9)
    assert mixtures.twenty_five_gaussians(tau, 1)[1] == pytest.approx(own / own.sum(), abs=2e-3 / min(tau, 1))


@pytest.mark.parametrize("scheme, orders", [("jko", 1), ("trapezoid", 2)])
def test_schemes_err_by_their_order_from_any_start(scheme, orders):
    """m = 1, lam = 1/2, from a deviation of 1.7, whose powers differ: twice the steps, the error divided by 2^order."""
    few, many = (np.array(covariance.scheme_error(scheme, steps, a=-2.0, s=1.7)) for steps in (200, 400))
    assert few / many == pytest.approx(2.0**orders, rel=0.02) and (many < 0.01).all()


def test_no_step_leaves_the_start():
    m, s = gaussian.jko_sequence([1.0], [2.0], [0.0], [1.0], 0.5, 0)
    assert (m.tolist(), s.tolist()) == ([[1.0]], [[2.0]])


@pytest.mark.parametrize(
    "C, exponent, message",
    [
        (np.array([[1.0, 0.5], [0.2, 1.0]]), 0.5, "symmetric"),
        (np.ones((2, 3)), 0.5, "symmetric"),
        (np.diag([1.0, 0.0]), -0.5, "positive definite"),
        (np.diag([1.0, -1e-3]), 0.5, "positive semi-definite"),
    ],
)
def test_powers_of_what_is_no_covariance_are_refused(C, exponent, message):
    with pytest.raises(UsageError, match=message):
        gaussian.power(C, exponent)


def test_a_singular_covariance_has_a_root():
    assert gaussian.power(np.diag([4.0, 0.0]), 0.5) == pytest.approx(np.diag([2.0, 0.0]))
