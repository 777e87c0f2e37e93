"""Kernel Stein discrepancy and estimators of SymKL, against closed forms, autograd and sampling theory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde, multivariate_normal

from gwf.errors import UsageError
from gwf.exact import covariance, gaussian
from gwf.metrics import scores


def stein_kernel(x, y, score_x, score_y, beta):
    """u(x, y) from its definition s.s' k + s.grad_y k + s'.grad_x k + tr grad_x grad_y k, kernel by autograd."""
    x, y = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, y))
    k = torch.exp(-beta * (x - y).square().sum())
    (gx, gy) = torch.autograd.grad(k, (x, y), create_graph=True)
    trace = sum(torch.autograd.grad(gx[i], y, retain_graph=True)[0][i] for i in range(len(x)))
    sx, sy = torch.tensor(score_x), torch.tensor(score_y)
    return float((k * sx @ sy + sx @ gy + sy @ gx + trace).detach())


@settings(derandomize=True, deadline=None, max_examples=6)
@given(st.integers(1, 5), st.floats(0.01, 1), st.integers(0, 10**6))
def test_ksd_is_the_stein_kernel_averaged_over_pairs(d, beta, seed):
    """float64 on both sides: 1e-9."""
    rng = np.random.default_rng(seed)
    x, s = rng.standard_normal((3, d)), rng.standard_normal((3, d))
    pairs = [stein_kernel(x[i], x[j], s[i], s[j], beta) for i in range(3) for j in range(3) if i != j]
    assert scores.ksd(x, s, beta) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_ksd_is_zero_in_the_mean_and_notices_a_shift():
    """40 samples of 200 points of the law itself: mean within 4 standard errors of 0; shifted by .3: far outside."""
    rng = np.random.default_rng(0)
    law = scores.GaussianMixture.spherical(rng.uniform(-2, 2, (3, 2)))
    beta = scores.ksd_scale(law.sample(500, rng))
    clouds = [law.sample(200, rng) for _ in range(40)]
    own = np.array([scores.ksd(x, law.score(x), beta) for x in clouds])
    error = own.std(ddof=1) / math.sqrt(40)
    shifted = np.mean([scores.ksd(x + 0.3, law.score(x + 0.3), beta) for x in clouds])
    assert abs(own.mean()) < 4 * error and shifted > 20 * error


def test_score_of_a_mixture_is_the_gradient_of_its_log_density():
    """Central differences with step 1e-5: error about 1e-9."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((3, 2, 2))
    law = scores.GaussianMixture([0.2, 0.5, 0.3], rng.standard_normal((3, 2)), A @ A.mT + 0.3 * np.eye(2))
    x, step = rng.standard_normal((5, 2)), 1e-5
    by_differences = [(law.log_density(x + step * e) - law.log_density(x - step * e)) / (2 * step) for e in np.eye(2)]
    assert law.score(x) == pytest.approx(np.stack(by_differences, 1), abs=1e-7)


def test_kernel_density_agrees_with_scipy():
    rng = np.random.default_rng(2)
    x, points = rng.standard_normal((300, 3)), rng.standard_normal((7, 3))
    assert scores.KernelDensity(x).log_density(points) == pytest.approx(gaussian_kde(x.T).logpdf(points.T), abs=1e-9)


@pytest.mark.parametrize(
    "d, n, printed", [(2, 512_000, -5.01), (12, 1000, -1.05), (12, 10_000, -2.05), (12, 50_000, -2.74)]
)
def test_sampling_floor_of_a_moment_fit(d, n, printed):
    """Printed to .01 (exact formula: -1.046, -2.046, -2.745); the estimator itself is tried where n is small."""
    assert math.log10(covariance.moment_fit_floor(d, n)) == pytest.approx(printed, abs=0.01)
    if n <= 1000:
        rng = np.random.default_rng(3)
        fits = [scores.moments(rng.standard_normal((n, d))) for _ in range(20)]
        found = np.mean([covariance.symkl_cov(*fit, np.zeros(d), np.eye(d)) for fit in fits])
        # 20 values of relative spread about sqrt(2 / 90): 10 % is 3 standard errors and the next order, d / n.
        assert found == pytest.approx(covariance.moment_fit_floor(d, n), rel=0.1)


def test_the_metric_decides_the_ranking_of_exact_particles():
    """d = 12, 1000 exact particles: .72 by kernel density (jko-icnn's baseline), -1.05 by a moment fit.

    Repeats spread by .003, .02 and .07 (90 moments: a relative spread of (2 / 90)^(1/2)); three of them are allowed.
    With fresh draws of the kernel density it is .43: three scores of one cloud.
    """
    rng = np.random.default_rng(4)
    law = scores.GaussianMixture([1.0], np.zeros((1, 12)), np.eye(12)[None])
    x = law.sample(1000, rng)
    assert math.log10(scores.symkl_kde(x, law, 2000, rng)) == pytest.approx(0.72, abs=0.03)
    assert math.log10(scores.symkl_kde(x, law, 2000, rng, draws="fresh")) == pytest.approx(0.43, abs=0.06)
    by_moments = covariance.symkl_cov(*scores.moments(x), np.zeros(12), np.eye(12))
    assert math.log10(by_moments) == pytest.approx(-1.05, abs=0.2)


def test_monte_carlo_symkl_of_gaussians_meets_the_closed_form():
    """50,000 samples: the integrands have spread about 1, so the error is about .006; 5 of them are allowed."""
    rng = np.random.default_rng(5)
    p = scores.GaussianMixture([1.0], [[0.3, -0.2]], [[[1.2, 0.3], [0.3, 0.7]]])
    q = scores.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    exact = covariance.symkl_cov(p.means[0], p.covariances[0], q.means[0], q.covariances[0])
    x_p, x_q = p.sample(50_000, rng), q.sample(50_000, rng)
    assert scores.symkl_densities(p.log_density, q.log_density, x_p, x_q) == pytest.approx(exact, abs=0.03)
    assert exact == pytest.approx(
        gaussian.kl_cov([0.3, -0.2], p.covariances[0], [0, 0], np.eye(2))
        + gaussian.kl_cov([0, 0], np.eye(2), [0.3, -0.2], p.covariances[0]),
        rel=1e-12,
    )


def test_expectation_maximisation_finds_the_mixture():
    """Well separated components and 4000 points: SymKL of the fit is its sampling error, 17 parameters / 4000."""
    rng = np.random.default_rng(6)
    law = scores.GaussianMixture.spherical([[-4.0, 0.0], [4.0, 1.0], [0.0, 5.0]])
    assert abs(scores.symkl_mixture(law.sample(4000, rng), law, 3, 5000, rng)) < 0.02
    moved = law.sample(4000, rng) + [0.5, 0]
    assert scores.symkl_mixture(moved, law, 3, 5000, rng) > 0.2, "negative control: shift .5 costs .25 nats"


def test_the_scale_of_the_stein_kernel():
    """Distances 3, 4, 5 of a triangle: the median is 4; of two points it is their distance."""
    assert scores.ksd_scale([[0, 0], [3, 0], [0, 4]]) == pytest.approx(1 / 32, rel=1e-14)
    assert scores.ksd_scale([[0.0], [0.5]]) == pytest.approx(2.0, rel=1e-14)


def test_densities_of_mixtures_are_scipys():
    """Unequal weights, one of them 0, full covariances, d = 3; and the law of draws, by moments: 5 standard errors."""
    rng = np.random.default_rng(7)
    A, w, m = rng.standard_normal((3, 3, 3)), np.array([0.7, 0.0, 0.3]), 2 * rng.standard_normal((3, 3))
    law = scores.GaussianMixture(w, m, C := A @ A.mT + 0.2 * np.eye(3))
    x = rng.standard_normal((6, 3))
    parts = np.stack([multivariate_normal(m[j], C[j]).pdf(x) for j in range(3)], 1)
    assert law.log_density(x) == pytest.approx(np.log(parts @ w), abs=1e-12)
    z = law.sample(40_000, rng)
    mean = w @ m
    second = sum(w[j] * (C[j] + np.outer(m[j], m[j])) for j in range(3))
    assert z.mean(0) == pytest.approx(mean, abs=5 * math.sqrt(np.trace(second) / 40_000))
    assert z.T @ z / 40_000 == pytest.approx(second, abs=5 * 2 * np.trace(second) / math.sqrt(40_000))


def test_draws_of_a_kernel_density_have_its_covariance():
    """That of the points, divisor n, and n^(-2/(d+4)) times that with n - 1 (Scott); 100,000 draws leave one per cent."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((12, 2)) @ [[1.0, 0.8], [0.0, 0.5]] + [3.0, -1.0]
    z = scores.KernelDensity(x).sample(100_000, rng)
    C = np.cov(x.T, bias=True) + 12 ** (-1 / 3) * np.cov(x.T)
    assert z.mean(0) == pytest.approx(x.mean(0), abs=0.02) and np.cov(z.T) == pytest.approx(C, abs=0.02 * np.trace(C))


@pytest.mark.parametrize("d", [1, 3])
def test_one_component_has_the_moments_of_the_points_and_the_ridge(d):
    """Expectation-maximisation of one Gaussian is its fit, divisor n, after any number of iterations."""
    rng = np.random.default_rng(9)
    x = 2 * rng.standard_normal((20, d)) + 1
    for iterations in (1, 3):
        law = scores.fit_mixture(x, 1, rng, iterations, ridge=0.3)
        assert law.weights == pytest.approx([1.0]) and law.means[0] == pytest.approx(x.mean(0), abs=1e-12)
        C = np.atleast_2d(np.cov(x.T, bias=True)) + 0.3 * np.eye(d)
        assert law.covariances[0] == pytest.approx(C, abs=1e-12)


def test_one_iteration_starts_from_drawn_points_with_the_spread_of_all():
    """Responsibilities under equal weights, means drawn as k-means++ draws them and covariance Cov(x) k^(-2/d)."""
    x, k, d = np.random.default_rng(4).standard_normal((30, 2)) * [1.0, 3.0], 3, 2
    law, rng = scores.fit_mixture(x, k, np.random.default_rng(5), 1, ridge=0.0), np.random.default_rng(5)
    means, gap = [x[rng.integers(30)]], np.full(30, np.inf)
    for _ in range(k - 1):
        gap = np.minimum(gap, ((x - means[-1]) ** 2).sum(1))
        means.append(x[rng.choice(30, p=gap / gap.sum())])
    density = [multivariate_normal(m, np.cov(x.T) / k ** (2 / d)).pdf(x) for m in means]
    share = np.array(density) / np.sum(density, axis=0)
    assert law.weights == pytest.approx(share.mean(1)) and law.means == pytest.approx(share @ x / share.sum(1)[:, None])


def test_expectation_maximisation_of_two_points_clouds_finds_their_shares_and_moments():
    """Two clouds a hundred spreads apart: responsibilities are 0 or 1, so weights, means and covariances are the clouds'."""
    rng = np.random.default_rng(10)
    a, b = rng.standard_normal((30, 2)), rng.standard_normal((10, 2)) @ [[0.5, 0.2], [0.0, 1.5]] + [100.0, 0.0]
    law = scores.fit_mixture(np.concatenate([a, b]), 2, rng, ridge=0.0)
    for j, cloud in zip(np.argsort(law.means[:, 0]), (a, b), strict=True):
        assert law.weights[j] == pytest.approx(len(cloud) / 40, abs=1e-12)
        assert law.means[j] == pytest.approx(cloud.mean(0), abs=1e-10)
        assert law.covariances[j] == pytest.approx(np.cov(cloud.T, bias=True), abs=1e-9)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: scores.ksd(np.zeros((3, 2)), np.zeros((3, 2)), 0), "beta"),
        (lambda: scores.ksd(np.zeros((3, 2)), np.zeros((4, 2)), 1), "one score per sample"),
        (lambda: scores.moments(np.zeros((2, 2))), "more than d = 2"),
    ],
)
def test_arguments_out_of_range_are_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_samples_without_a_density_are_named():
    """A constant column ended in a LinAlgError, equal rows in "Probabilities contain NaN"."""
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.normal(size=50), np.full(50, 2.0)])
    two = np.repeat([[0.0, 1.0], [2.0, 3.0]], 25, axis=0)
    for make in (lambda: scores.KernelDensity(flat), lambda: scores.fit_mixture(flat, 3, rng)):
        with pytest.raises(UsageError, match="constant"):
            make()
    with pytest.raises(UsageError, match="2 different points: 3 components"):
        scores.fit_mixture(two, 3, rng)
