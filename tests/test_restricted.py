"""Restricted divergences of spans: the theorems' statements, which hold to rounding since nothing is sampled."""

import numpy as np
import pandas as pd
import pytest

from gwf import divergences
from gwf.errors import UsageError
from gwf.seeding import rng
from notebooks.experiments.restricted_span import (
    ClippedKL,
    ipm_squared,
    jko_bound,
    jko_particle_error,
    restricted_divergence,
)
from tests.notebook_code import load_notebook

sheet = load_notebook("restricted")


@pytest.fixture(scope="module")
def table():
    mu, clipped = sheet.gaussian(0.7, 0.6), ClippedKL(0.25, 4.0)
    rows = sheet.moment_matching() + sheet.sandwich(mu, clipped)
    rows += sheet.approximation(mu, clipped, [0, 2, 8], rng(0, "features"))
    draw = rng(0, "particles")
    rows += [sheet.particles(20, 0.1, 5, N, 2000, draw) for N in (100, 1000)]
    return pd.DataFrame(rows, columns=["check", "case", "value", "lower", "upper"])


def test_every_statement_holds_and_is_not_empty(table):
    """lower <= value <= upper up to rounding of sums of size one (1e-8); two more features see what moments do not."""
    assert (table["value"] >= table["lower"] - 1e-8).all() and (table["value"] <= table["upper"] + 1e-8).all()
    matched = table[table["check"] == "moment matching"]
    assert matched["value"][matched["case"].str.endswith("sin 2x")].min() > 0.1
    for mu in sheet.matched_laws().values():
        assert mu @ sheet.quadratics(sheet.X) == pytest.approx([1, 0, 1], abs=1e-9)


def test_bounds_are_equalities_for_chi2_and_strict_for_the_clipped_kl(table):
    for check, bound, rel in (("sandwich", "lower", 1e-8), ("approximation", "upper", 1e-5)):
        rows = table[table["check"] == check]
        chi2 = rows["case"].str.startswith("chi2")
        assert rows["value"][chi2].to_numpy() == pytest.approx(rows[bound][chi2].to_numpy(), rel=rel)
        rest = rows[~chi2]
        assert (rest["value"] > 1.1 * rest["lower"]).all() and (rest["value"] < 0.9 * rest["upper"]).all()


def test_approximation_improves_with_the_class(table):
    gaps = table[table["check"] == "approximation"]["value"].to_numpy()
    assert (np.diff(gaps[::2]) < 0).all() and (np.diff(gaps[1::2]) < 0).all(), "nested classes"


def test_kl_of_gaussians_is_reached_by_quadratics_and_not_by_lines():
    """Between Gaussians log dmu/dnu is quadratic: H = span{1, x, x^2} gives KL itself, span{1, x} the mean's part."""
    m, s, phi = 0.7, 0.6, sheet.quadratics(sheet.X)
    mu = sheet.gaussian(m, s)
    exact = np.log(1 / s) + (s**2 + m**2 - 1) / 2
    assert restricted_divergence(divergences.get("kl"), phi, mu, phi, sheet.NU)[0] == pytest.approx(exact, abs=1e-8)
    lines = phi[:, :2]
    assert restricted_divergence(divergences.get("kl"), lines, mu, lines, sheet.NU)[0] == pytest.approx(
        m**2 / 2, abs=1e-8
    )


def test_without_constants_the_divergence_can_be_negative():
    """Negative control: H = span{x} and mu = nu gives -E f*(0) = -1/e for KL, as the statement needs constants."""
    x = sheet.X[:, None]
    assert restricted_divergence(divergences.get("kl"), x, sheet.NU, x, sheet.NU)[0] == pytest.approx(
        -np.exp(-1), abs=1e-9
    )


@pytest.mark.parametrize("f", [divergences.get("chi2"), ClippedKL(0.25, 4.0), divergences.get("kl")])
def test_conjugates(f):
    """Fenchel's equality u f'(u) = f(u) + f*(f'(u)) and (f*)' = inverse of f'; differences of step 1e-5."""
    u = np.linspace(0.05, 8, 300)
    s = f.df(u)
    assert f.slope(s) == pytest.approx(u, rel=1e-9) and f.f(u) + f.conjugate(s) == pytest.approx(u * s, abs=1e-9)
    slope = (f.conjugate(s + 1e-5) - f.conjugate(s - 1e-5)) / 2e-5
    assert slope == pytest.approx(u, rel=1e-4)
    curvature = (f.df(u + 1e-5) - f.df(u - 1e-5)) / 2e-5
    assert curvature.min() >= f.alpha - 1e-4 and curvature.max() <= f.L + 1e-4
    if isinstance(f, ClippedKL):
        middle = (u > 0.3) & (u < 3.9)
        assert f.f(u)[middle] == pytest.approx((u * np.log(u) - u + 1)[middle], abs=1e-9)


def test_particle_error_stays_under_its_bound_and_falls_like_the_root_of_samples(table):
    """From N = 100 to 1000 the bound's root term falls by 3.16, its xi/2 term by 10: the error's ratio lies between;
    2000 repeats leave 2 % of noise."""
    errors = table["value"][table["check"] == "particles"].to_numpy()
    assert 3.0 < errors[0] / errors[1] < 10
    assert jko_bound(20, 0.1, 5, np.sqrt(5), 100) == pytest.approx(0.1022, abs=1e-4)


def test_particle_error_breaks_the_bound_without_contraction():
    """Negative control: the bound of 20 steps does not hold after 2, when the mean is still far."""
    error, _ = jko_particle_error(2, 0.1, np.ones(5), 100, 2000, np.random.default_rng(0))
    assert error > jko_bound(20, 0.1, 5, np.sqrt(5), 100)


def test_errors_are_named():
    phi = sheet.quadratics(sheet.X)
    with pytest.raises(UsageError, match="sum 1"):
        ipm_squared(phi, 2 * sheet.NU, phi, sheet.NU)
    with pytest.raises(UsageError, match="alpha"):
        ClippedKL(2.0, 4.0)


@pytest.mark.parametrize("f", [divergences.get("chi2"), divergences.get("kl"), ClippedKL(0.25, 4.0)])
def test_a_feature_that_nu_does_not_see_makes_all_infinite(f):
    """It was 0, and for KL whatever the exponent underflowed at (1520.6)."""
    one, w = np.ones((3, 1)), np.full(3, 1 / 3)
    assert ipm_squared(one, w, 0 * one, w) == np.inf
    with pytest.raises(UsageError, match="without bound"):
        restricted_divergence(f, one, w, 0 * one, w)
    # The same among features that nu sees: an indicator beyond its support, with 1e-5 of mu's mass.
    x = np.linspace(-1, 1, 41)
    phi_nu = np.column_stack([np.ones(41), x, x**2, np.zeros(41)])
    phi_mu = np.vstack([phi_nu, [1, 1.5, 2.25, 1]])
    w_nu, w_mu = np.full(41, 1 / 41), np.append(np.full(41, (1 - 1e-5) / 41), 1e-5)
    assert ipm_squared(phi_mu, w_mu, phi_nu, w_nu) == np.inf
    with pytest.raises(UsageError, match="without bound"):
        restricted_divergence(f, phi_mu, w_mu, phi_nu, w_nu)
    assert ipm_squared(phi_mu[:, :3], w_mu, phi_nu[:, :3], w_nu) < 1
    assert 0 < restricted_divergence(f, phi_mu[:, :3], w_mu, phi_nu[:, :3], w_nu)[0] < 1


def test_kl_on_the_wrong_side_is_infinite_and_chi2_is_not():
    """Critics theta x, mu at 2, nu at -1: 2 theta - exp(-theta - 1) has no maximum, 3 theta - theta^2 / 4 has 9."""
    two, minus, w = np.array([[2.0]]), np.array([[-1.0]]), np.ones(1)
    with pytest.raises(UsageError, match="without bound"):
        restricted_divergence(divergences.get("kl"), two, w, minus, w)
    assert restricted_divergence(divergences.get("chi2"), two, w, minus, w)[0] == pytest.approx(9, abs=1e-9)
