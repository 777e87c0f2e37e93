"""Frechet distance against closed forms, torchmetrics and properties; broken formulas must fail."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance

from gwf import metrics
from gwf.errors import UsageError

quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def spd(rng, d):
    """A random covariance with eigenvalues between 0.3 and 3."""
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return Q @ np.diag(rng.uniform(0.3, 3, d)) @ Q.T


def with_moments(rng, n, mean, cov):
    """n points whose sample mean and unbiased covariance are exactly those given."""
    z = rng.normal(size=(n, len(mean)))
    z -= z.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(z.T)), z.T).T
    return mean + white @ np.linalg.cholesky(cov).T


def frechet_2d(mean_x, S, mean_y, R):
    """In d = 2, tr (S R)^(1/2) = sqrt(tr S R + 2 sqrt(det S R)): no eigenvalues of matrices needed."""
    cross = math.sqrt(np.trace(S @ R) + 2 * math.sqrt(np.linalg.det(S) * np.linalg.det(R)))
    return np.sum((mean_x - mean_y) ** 2) + np.trace(S) + np.trace(R) - 2 * cross


class Identity(torch.nn.Module):
    """Features that are the input, so that torchmetrics measures points."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d

    def forward(self, x):
        return x


@quick
@given(seeds)
def test_frechet_is_the_closed_form_of_the_fitted_gaussians(seed):
    rng = np.random.default_rng(seed)
    (m, r), S, R = rng.normal(size=(2, 2)), spd(rng, 2), spd(rng, 2)
    value = metrics.frechet_distance(with_moments(rng, 50, m, S), with_moments(rng, 70, r, R))
    # Rounding alone: values of order 1, condition numbers of at most 10.
    assert value == pytest.approx(frechet_2d(m, S, r, R), abs=1e-10)


@quick
@given(seeds, st.integers(1, 30))
def test_frechet_of_a_monge_image_is_the_mean_squared_displacement(seed, d):
    # x -> A x + b with A positive definite is optimal between the Gaussian fits; moments follow exactly.
    rng = np.random.default_rng(seed)
    x, A, b = rng.normal(size=(40, d)), spd(rng, d), rng.normal(size=d)
    centred = (x - x.mean(axis=0)) @ (A - np.eye(d))
    expected = np.sum((x.mean(axis=0) @ (A - np.eye(d)) + b) ** 2) + np.sum(centred**2) / (len(x) - 1)
    # Rounding alone; the smallest eigenvalue of a fit to 40 rows in d = 30 is about 1e-2.
    assert metrics.frechet_distance(x, x @ A + b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_frechet_of_samples_approaches_the_closed_form():
    rng = np.random.default_rng(0)
    n, rotation = 100_000, np.linalg.qr(rng.normal(size=(3, 3)))[0]
    m, a, b = np.array([1.0, -0.5, 0.0]), np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
    exact = np.sum(m**2) + np.sum((a - b) ** 2)
    # Delta method with var(mean) = s^2 / n and var(std) = s^2 / (2 n); the rest is of second order.
    variance = np.sum((4 * m**2 + 2 * (a - b) ** 2) * (a**2 + b**2)) / n
    x = m + rng.normal(size=(n, 3)) * a
    y = rng.normal(size=(n, 3)) * b
    value = metrics.frechet_distance(x @ rotation, y @ rotation)
    # The bias, about d tr(S + R) / n = 3e-4, is small beside 4 standard deviations, 7e-2.
    assert abs(value - exact) < 4 * math.sqrt(variance)


@pytest.mark.parametrize(("n", "m", "d"), [(500, 300, 16), (800, 1000, 64)])
def test_frechet_agrees_with_torchmetrics(n, m, d):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / math.sqrt(d) + 0.3
    y = np.maximum(rng.normal(size=(m, d)), 0)
    other = FrechetInceptionDistance(feature=Identity(d)).set_dtype(torch.float64)
    other.update(torch.from_numpy(x), real=True)
    other.update(torch.from_numpy(y), real=False)
    # It takes square roots of eigenvalues of a non-symmetric product: 2e-6 apart in practice.
    assert metrics.frechet_distance(x, y) == pytest.approx(float(other.compute()), rel=1e-5)


@quick
@given(seeds, st.integers(1, 12))
def test_frechet_ignores_rotations_and_the_order_of_arguments_and_is_zero_on_itself(seed, d):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, d)), rng.normal(size=(25, d)) @ spd(rng, d) + 1
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    value = metrics.frechet_distance(x, y)
    # Rounding alone, for values of order d.
    assert metrics.frechet_distance(x @ Q, y @ Q) == pytest.approx(value, rel=1e-10)
    assert metrics.frechet_distance(y, x) == pytest.approx(value, rel=1e-10)
    assert metrics.frechet_distance(x, x) < 1e-10


def test_frechet_of_fewer_samples_than_dimensions_is_still_exact():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 64)), rng.normal(size=(30, 64))
    # tr (S^(1/2) R S^(1/2))^(1/2) is a nuclear norm of centred data: no square root of an eigenvalue near 0.
    a = (x - x.mean(axis=0)) / math.sqrt(19)
    b = (y - y.mean(axis=0)) / math.sqrt(29)
    cross = np.linalg.norm(a @ b.T, ord="nuc")
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * cross
    # Rounding alone; keeping the 45 null directions would add sqrt(1e-16) each, an error of 1e-7.
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-11)


@quick
@given(seeds, st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_streaming_equals_one_batch(seed, sizes):
    rng = np.random.default_rng(seed)
    # Far from the origin, where sums of squares would lose 12 of 16 digits.
    x = 1e6 + rng.normal(size=(sum(sizes) + 1, 3))
    streamed = metrics.FrechetStats()
    for part in np.split(x, np.cumsum(sizes)):
        streamed.update(part)
    assert streamed.n == len(x)
    # Rounding of the inputs' own size, 1e6 * 2e-16, in the mean; times the spread in the covariance.
    np.testing.assert_allclose(streamed.mean, x.mean(axis=0), rtol=0, atol=1e-8)
    np.testing.assert_allclose(streamed.cov, np.cov(x.T), rtol=0, atol=1e-8)


def test_one_row_has_a_mean():
    assert metrics.FrechetStats().update([[3.0, -1.0]]).mean.tolist() == [3.0, -1.0]


def test_raw_moments_would_fail_the_streaming_test():
    x = 1e6 + np.random.default_rng(3).normal(size=(100, 3))
    raw = (x.T @ x - len(x) * np.outer(x.mean(axis=0), x.mean(axis=0))) / (len(x) - 1)
    assert np.abs(raw - np.cov(x.T)).max() > 1e-6


def test_broken_frechet_formulas_fail_the_closed_form():
    rng = np.random.default_rng(4)
    (m, r), S, R = rng.normal(size=(2, 2)), spd(rng, 2), spd(rng, 2)
    x, y = with_moments(rng, 50, m, S), with_moments(rng, 50, r, R)
    exact = frechet_2d(m, S, r, R)
    head = np.sum((m - r) ** 2) + np.trace(S) + np.trace(R)
    root_S, root_R = (V * np.sqrt(w) @ V.T for w, V in (np.linalg.eigh(S), np.linalg.eigh(R)))
    biased = metrics.frechet_from_moments(
        x.mean(axis=0), np.cov(x.T, bias=True), y.mean(axis=0), np.cov(y.T, bias=True)
    )
    no_cross_term, roots_commuted = head, head - 2 * np.trace(root_S @ root_R)
    # The tolerance of the closed-form test is 1e-10.
    for broken in (biased, no_cross_term, roots_commuted):
        assert abs(broken - exact) > 1e-3


def test_frechet_sees_shifts_and_missing_modes():
    rng = np.random.default_rng(5)
    centres = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)

    def eight(n, modes=8):
        return centres[rng.integers(0, modes, n)] + 0.1 * rng.normal(size=(n, 2))

    x = eight(2000)
    floor = max(metrics.frechet_distance(x, eight(2000)) for _ in range(5))
    # Losing 2 of 8 modes moves the mean by .31: .09 against a floor of about tr(S) * 2 / n = .001.
    assert metrics.frechet_distance(x, eight(2000, modes=6)) > 20 * floor
    assert metrics.frechet_distance(x, eight(2000) + 0.3) > 20 * floor


def test_frechet_refuses_what_it_cannot_measure():
    x = np.random.default_rng(6).normal(size=(5, 3))
    broken = x.copy()
    broken[2, 1] = np.nan
    for other, message in (
        (x[:1], "y holds n = 1"),
        (x[:, :2], "d = 3 columns"),
        (broken, "the first is row 2"),
        (x[0], "shape"),
    ):
        with pytest.raises(UsageError, match=message):
            metrics.frechet_distance(x, other)
    stats = metrics.FrechetStats()
    with pytest.raises(UsageError, match="n = 0"):
        stats.mean
    stats.update(x[:1])
    with pytest.raises(UsageError, match="n = 1"):
        stats.cov
    for batch in (broken, x[:, :2], x[:0]):
        with pytest.raises(UsageError):
            stats.update(batch)
    assert stats.n == 1
    with pytest.raises(UsageError, match=r"\(3, 3\)"):
        metrics.frechet_from_moments(x[0], np.eye(3), x[1], np.eye(2))


@pytest.mark.parametrize("wrong", [[[1.0, 0.9], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]], [[1.0, 2.0], [2.0, 1.0]]])
def test_frechet_refuses_what_is_no_covariance(wrong):
    """Asymmetric and indefinite matrices gave numbers, 0 among them; float32 rounding is no reason to refuse."""
    good, zero = np.eye(2), np.zeros(2)
    for pair in ((good, wrong), (wrong, good), (wrong, wrong)):
        with pytest.raises(UsageError, match="no covariance"):
            metrics.frechet_from_moments(zero, pair[0], zero, pair[1])
    x = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    C = np.cov(x.T).astype(np.float32)  # rank 4 of 40, symmetric and >= 0 to seven digits
    assert metrics.frechet_from_moments(np.zeros(40), C, np.zeros(40), C) == pytest.approx(0, abs=1e-4)
