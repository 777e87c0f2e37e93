"""Restricted divergences of spans: the theorems' statements, which hold to rounding since nothing is sampled."""

import numpy as np
import pytest

from gwf.errors import UsageError
from gwf.exact.restricted import KL, Chi2, ClippedKL, ipm_squared, jko_bound, jko_particle_error, restricted_divergence
from gwf.studies import restricted as study

SETTINGS = {
    "mean": 0.7,
    "std": 0.6,
    "alpha": 0.25,
    "L": 4.0,
    "widths": [0, 2, 8],
    "K": 20,
    "tau": 0.1,
    "d": 5,
    "samples": [100, 1000],
    "repeats": 2000,
}


@pytest.fixture(scope="module")
def table():
    return study.run(0, lambda *a, **k: None, **SETTINGS)["table"]


def test_every_statement_holds(table):
    """lower <= value <= upper up to rounding of sums of size one (1e-8)."""
    assert (table["value"] >= table["lower"] - 1e-8).all() and (table["value"] <= table["upper"] + 1e-8).all()


def test_matched_moments_are_not_seen_and_two_more_features_see_them(table):
    rows = table[table["check"] == "moment matching"]
    blind = rows["case"].str.endswith("x^2")
    assert rows["value"][blind].abs().max() < 1e-3, "the published check asks for 1e-3; here it is rounding"
    assert rows["value"][~blind].min() > 0.1
    for mu in study.matched_laws().values():
        assert mu @ study.quadratics(study.X) == pytest.approx([1, 0, 1], abs=1e-9)


def test_sandwich_is_an_equality_for_chi2_and_strict_for_the_clipped_kl(table):
    rows = table[table["check"] == "sandwich"]
    chi2 = rows["case"].str.startswith("chi2")
    assert rows["value"][chi2].to_numpy() == pytest.approx(rows["lower"][chi2].to_numpy(), rel=1e-8)
    rest = rows[~chi2]
    assert (rest["value"] > 1.1 * rest["lower"]).all() and (rest["value"] < 0.9 * rest["upper"]).all()


def test_approximation_improves_with_the_class(table):
    rows = table[table["check"] == "approximation"]
    for name in ("chi2", "clipped KL"):
        gaps = rows["value"][rows["case"].str.startswith(name)].to_numpy()
        assert (np.diff(gaps) < 0).all(), "nested classes"
    chi2 = rows[rows["case"].str.startswith("chi2")]
    assert chi2["value"].to_numpy() == pytest.approx(chi2["upper"].to_numpy(), rel=1e-5), "delta^2/4 exactly"


def test_kl_of_gaussians_is_reached_by_quadratics_and_not_by_lines():
    """Between Gaussians log dmu/dnu is quadratic: H = span{1, x, x^2} gives KL itself, span{1, x} the mean's part."""
    m, s, phi = 0.7, 0.6, study.quadratics(study.X)
    mu = study.gaussian(m, s)
    exact = np.log(1 / s) + (s**2 + m**2 - 1) / 2
    assert restricted_divergence(KL(), phi, mu, phi, study.NU)[0] == pytest.approx(exact, abs=1e-8)
    lines = phi[:, :2]
    assert restricted_divergence(KL(), lines, mu, lines, study.NU)[0] == pytest.approx(m**2 / 2, abs=1e-8)


def test_without_constants_the_divergence_can_be_negative():
    """Negative control: H = span{x} and mu = nu gives -E f*(0) = -1/e for KL, as the statement needs constants."""
    x = study.X[:, None]
    assert restricted_divergence(KL(), x, study.NU, x, study.NU)[0] == pytest.approx(-np.exp(-1), abs=1e-9)


@pytest.mark.parametrize("f", [Chi2(), ClippedKL(0.25, 4.0), KL()])
def test_conjugates(f):
    """Fenchel's equality u f'(u) = f(u) + f*(f'(u)) and (f*)' = inverse of f'; differences of step 1e-5."""
    u = np.linspace(0.05, 8, 300)
    s = f.df(u)
    value, first, _ = f.conjugate(s)
    assert first == pytest.approx(u, rel=1e-9) and f.f(u) + value == pytest.approx(u * s, abs=1e-9)
    slope = (f.conjugate(s + 1e-5)[0] - f.conjugate(s - 1e-5)[0]) / 2e-5
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
    phi = study.quadratics(study.X)
    with pytest.raises(UsageError, match="sum 1"):
        ipm_squared(phi, 2 * study.NU, phi, study.NU)
    with pytest.raises(UsageError, match="alpha"):
        ClippedKL(2.0, 4.0)
