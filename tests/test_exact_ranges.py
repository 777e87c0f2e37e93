"""What lies just outside a stated range is refused by name, whatever function of gwf.exact it is given to."""

import math

import numpy as np
import pytest

from gwf.divergences import Power
from gwf.errors import UsageError
from gwf.exact import atoms, barenblatt, covariance, gaussian, grids, mixtures

A = np.full(2, 0.5)
C, EYE, ONE, ZERO = np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(2), np.ones(1), np.zeros(2)
POSITIVE = (0.0, -1.0, math.nan)
LARGE = 1.0001e300
STEPS = (0, 10_001, 1.5, True)


@pytest.mark.parametrize(
    "name, call, outside",
    [
        ("tau", lambda v: atoms.cost(ZERO, ZERO, v), POSITIVE),
        ("tolerance", lambda v: atoms.solve(C, A, A, tolerance=v), (-1e-9, 1.001)),
        ("iterations", lambda v: atoms.solve(C, A, A, iterations=v), (0, 1_000_001)),
        ("steps", lambda v: atoms.jko_sequence([0.0, 1.0], A, [0.0, 1.0], A, 1.0, v), STEPS),
        ("a", lambda v: atoms.solve(C, [v, 1.0], A), POSITIVE),
        ("d", lambda v: barenblatt.entropy(1.0, v, 2), (0, 10_001)),
        ("m", lambda v: barenblatt.entropy(1.0, 2, v), (1.0, 0.5, LARGE)),
        ("R", lambda v: barenblatt.entropy(v, 2, 2), POSITIVE),
        ("n", lambda v: barenblatt.sample(v, 1.0, 2, 2, np.random.default_rng(0)), (0, 10**9 + 1)),
        ("t", lambda v: barenblatt.flow_radius(1.0, v, 2, 2), (-1e-9, math.nan)),
        ("tau", lambda v: barenblatt.jko_growth(1.0, v, 2, 2), POSITIVE),
        ("R", lambda v: barenblatt.jko_growth(v, 1.0, 2, 2), (*POSITIVE, LARGE)),
        ("steps", lambda v: barenblatt.jko_radii(1.0, 1.0, v, 2, 2), (-1, 1_000_001)),
        ("tau", lambda v: covariance.jko_step_by_square_root(ZERO, EYE, ZERO, EYE, v), (*POSITIVE, LARGE)),
        ("t", lambda v: covariance.ou_flow_cov(ZERO, EYE, ZERO, EYE, v), (-1e-9, math.nan)),
        ("d", lambda v: covariance.moment_fit_floor(v, 10), (0, 10**9 + 1)),
        ("n", lambda v: covariance.moment_fit_floor(2, v), (0, 10**15 + 1)),
        ("tau", lambda v: covariance.crank_nicolson_step(0.0, 1.0, 0.0, 1.0, v), (*POSITIVE, LARGE)),
        ("tau", lambda v: covariance.trapezoid_step(0.0, 1.0, 0.0, 1.0, v), (*POSITIVE, LARGE)),
        ("steps", lambda v: covariance.scheme_error("jko", v), (0, 1_000_001)),
        ("tau", lambda v: gaussian.jko_step(0.0, 1.0, 0.0, 1.0, v), POSITIVE),
        ("steps", lambda v: gaussian.jko_sequence(0.0, 1.0, 0.0, 1.0, 1.0, v), (-1, 10_001)),
        ("t", lambda v: gaussian.ou_flow(0.0, 1.0, 0.0, 1.0, v), (-1e-9, math.nan)),
        ("ridge", lambda v: gaussian.fitted_map(EYE, EYE, v), (-1e-9, math.nan)),
        (
            "tau",
            lambda v: grids.semidiscrete_step(grids.Bins(A.cumsum(), A, A / 4), A.cumsum(), A, v),
            (*POSITIVE, 1.001e12),
        ),
        ("spacing", mixtures.five_modes, (0.9e-4, 1.001)),
        ("spacing", mixtures.circle_radii, (0.9e-4, 1.001)),
        ("tau", lambda v: mixtures.twenty_five_gaussians(v, 1), (*POSITIVE, 5.001e11)),
        ("steps", lambda v: mixtures.twenty_five_gaussians(1.0, v), STEPS),
        ("m", Power, (1.0, 10.001)),
    ],
)
def test_what_is_outside_a_range_is_refused(name, call, outside):
    for value in outside:
        with pytest.raises(UsageError, match=name):
            call(value)


def test_the_ends_of_closed_ranges_are_inside():
    assert atoms.solve(C, A, A, tolerance=1, iterations=1_000_000).gap < 1
    assert (
        barenblatt.flow_radius(2.0, 0, 3, 2) == pytest.approx(2.0) and len(barenblatt.jko_radii(1.0, 1.0, 0, 2, 2)) == 1
    )
    assert gaussian.ou_flow(1.0, 2.0, 0.0, 1.0, 0)[1] == 2 and covariance.moment_fit_floor(1, 1) > 0
    assert len(mixtures.five_modes(1)[0]) == 5 and Power(10).m == 10
