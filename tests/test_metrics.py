"""Metrics against closed forms, other implementations and properties: all but the Frechet distance."""

import math

import numpy as np
import ot
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import KernelInceptionDistance

from gwf import metrics
from gwf.errors import UsageError
from gwf.metrics import low_dimension

quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)

EIGHT = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def eight(n, rng, modes=8):
    """n points of the eight Gaussians (unit circle, std 0.1), or of the first few of them."""
    return EIGHT[rng.integers(0, modes, n)] + 0.1 * rng.normal(size=(n, 2))


def spd(rng, d):
    """A random covariance with eigenvalues between 0.3 and 3."""
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return Q @ np.diag(rng.uniform(0.3, 3, d)) @ Q.T


class Identity(torch.nn.Module):
    """Features that are the input, so that torchmetrics measures points."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d

    def forward(self, x):
        return x


def kid_by_loops(x, y):
    def mean(a, b, skip):
        pairs = [(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (skip and i == j)]
        return sum((p @ q / len(p) + 1) ** 3 for p, q in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`:UserWarning")
def test_kid_is_the_double_loop_and_agrees_with_torchmetrics():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(17, 5)), rng.normal(size=(23, 5)) + 0.4
    # Rounding alone, for kernel values of order 10.
    assert metrics.kid(x, y) == pytest.approx(kid_by_loops(x, y), abs=1e-12)
    y = y[:17]
    other = KernelInceptionDistance(feature=Identity(5), subsets=1, subset_size=17).set_dtype(torch.float64)
    other.update(torch.from_numpy(x), real=True)
    other.update(torch.from_numpy(y), real=False)
    # It stores its result in float32.
    assert metrics.kid(x, y) == pytest.approx(float(other.compute()[0]), rel=1e-6)


def test_kid_in_blocks_is_kid_at_once():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(1500, 4)), rng.normal(size=(1100, 4)) + 0.1
    k_xx, k_yy, k_xy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (k_xx, k_yy)]
    # Rounding alone: means of a million values of order 1.
    assert metrics.kid(x, y) == pytest.approx(sum(off) - 2 * k_xy.mean(), abs=1e-12)


def test_kid_has_no_bias_and_one_with_the_diagonal_has():
    rng = np.random.default_rng(9)

    def v_statistic(x, y):
        k_xx, k_yy, k_xy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        return k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()

    values, biased = [], []
    for _ in range(400):
        x, y = rng.normal(size=(20, 4)), rng.normal(size=(30, 4))
        values.append(metrics.kid(x, y))
        biased.append(v_statistic(x, y))
    standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
    # 4 standard errors: one false alarm in 16000 seeds, and the seed is fixed.
    assert abs(np.mean(values)) < 4 * standard_error
    assert abs(np.mean(biased)) > 10 * standard_error


def test_kid_sees_a_shift():
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(400, 4)), rng.normal(size=(400, 4)) + 0.5
    assert metrics.kid(x, y) > 10 * abs(metrics.kid(x, rng.normal(size=(400, 4))))
    with pytest.raises(UsageError, match="at least 2"):
        metrics.kid(x, y[:1])


def test_precision_recall_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[0.5], [4.5], [30.0]])
    # k = 1: real radii 1, 1, 1, 8 cover .5 and 4.5; fake radii 4, 4, 25.5 cover all four real points.
    assert metrics.precision_recall(real, fake, k=1) == (2 / 3, 1.0)
    # k = 2: fake radii 29.5, 25.5, 29.5; real radii 2, 1, 2, 9.
    assert metrics.precision_recall(real, fake, k=2) == (2 / 3, 1.0)
    # Balls are closed: 2 lies on the edge of the ball of radius 1 around 1.
    assert metrics.precision_recall([[0.0], [1.0]], [[2.0], [9.0]], k=1) == (0.5, 1.0)


def test_dropping_half_the_modes_halves_recall_alone():
    rng = np.random.default_rng(11)
    real, same, half = eight(1200, rng), eight(1200, rng), eight(1200, rng, modes=4)
    floor = metrics.precision_recall(real, same)
    precision, recall = metrics.precision_recall(real, half)
    assert min(floor) > 0.95
    assert precision > 0.95
    # Half of the real points, binomial sd .5 / sqrt(1200) = .014, less the few per cent nobody covers.
    assert 0.5 - 0.1 < recall < 0.5 + 4 * 0.0145
    # Swapped arguments swap the two numbers: a version that mixes them up calls the collapse poor quality.
    assert metrics.precision_recall(half, real) == (recall, precision)


def test_precision_recall_of_noise_collapse_and_copies():
    rng = np.random.default_rng(12)
    real = eight(1100, rng)
    assert metrics.precision_recall(real, real) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 50) == (0.0, 0.0)
    # One point repeated: balls of radius 0, which cover no real point, around a point inside the support.
    assert metrics.precision_recall(real, np.repeat(real[:1], 1100, axis=0) + 1e-9) == (1.0, 0.0)
    for k in (0, 5):
        with pytest.raises(UsageError, match=f"k = {k}"):
            metrics.precision_recall(real, real[:5], k=k)


@quick
@given(seeds, st.integers(2, 60), st.sampled_from([1, 1.5, 2, 3]))
def test_wasserstein_is_the_sorted_coupling_on_the_line(seed, n, p):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.gamma(1.0, size=n)
    expected = np.mean(np.abs(np.sort(x) - np.sort(y)) ** p) ** (1 / p)
    # Rounding alone.
    assert metrics.wasserstein(x[:, None], y[:, None], p) == pytest.approx(expected, rel=1e-9)


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_w1_is_scipys_for_unequal_sizes(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(size=m) + 0.5
    expected = scipy.stats.wasserstein_distance(x, y)
    assert metrics.wasserstein(x[:, None], y[:, None], 1) == pytest.approx(expected, rel=1e-9)


@quick
@given(seeds, st.integers(1, 5), st.floats(1e-6, 1e6))
def test_w2_of_a_monge_image_at_any_scale(seed, d, scale):
    # The gradient of a convex quadratic is optimal; a translation (A = 1) is the Gaussian translation.
    rng = np.random.default_rng(seed)
    x, b = rng.normal(size=(40, d)), rng.normal(size=d)
    for A in (np.eye(d), spd(rng, d)):
        y = x @ A + b
        expected = scale * math.sqrt(np.mean(np.sum((x - y) ** 2, axis=1)))
        value = metrics.wasserstein(scale * x, scale * rng.permutation(y), 2)
        # Rounding alone, at any scale.
        assert value == pytest.approx(expected, rel=1e-9)


def test_wasserstein_agrees_with_the_assignment_solver():
    rng = np.random.default_rng(13)
    x, y = eight(300, rng), rng.normal(size=(300, 2))
    for p in (1, 2):
        cost = np.linalg.norm(x[:, None] - y[None], axis=2) ** p
        rows, columns = scipy.optimize.linear_sum_assignment(cost)
        # Both solvers are exact: rounding alone. The power, or another p, is off by over a per cent.
        value = metrics.wasserstein(x, y, p)
        assert value == pytest.approx(cost[rows, columns].mean() ** (1 / p), rel=1e-10)
    assert value != pytest.approx(value**2, rel=1e-2)
    assert value != pytest.approx(metrics.wasserstein(x, y, 1), rel=1e-2)


@pytest.mark.parametrize("p", [1.0, 2.0, 16.0, 64.0, 1000.0])
def test_wasserstein_of_any_order_on_the_line(p):
    """Sorted coupling, in logarithms. (At p = 64 it was 3.35 for 2.35 or so, at p = 1000 it was 0.)"""
    rng = np.random.default_rng(3)
    clouds = [(np.array([0.0, 10.0]), np.array([1.0, 12.0])), tuple(rng.normal(size=(2, 40)) * [[1], [5]])]
    for x, y in clouds:
        logs = p * np.log(np.abs(np.sort(x) - np.sort(y)))
        exact = np.exp((scipy.special.logsumexp(logs) - np.log(len(x))) / p)
        assert metrics.wasserstein(x[:, None], y[:, None], p) == pytest.approx(exact, rel=1e-9)
    assert metrics.wasserstein([[0.0], [10.0]], [[1.0], [12.0]], p=1000) == pytest.approx(1.9986, abs=1e-4)


def test_wasserstein_reports_a_solver_that_stopped_early():
    rng = np.random.default_rng(14)
    x, y = eight(100, rng), eight(100, rng)
    with pytest.raises(RuntimeError, match="max_iterations = 5"):
        metrics.wasserstein(x, y, max_iterations=5)
    for p in (0.5, math.inf, math.nan):
        with pytest.raises(UsageError, match="p = "):
            metrics.wasserstein(x, y, p)
    assert metrics.wasserstein(x[:1], x[:1]) == 0


def test_two_sample_floor_is_what_another_true_sample_scores():
    mean, sd = metrics.two_sample_floor(eight, 100, 2, 20, np.random.default_rng(15))
    assert (mean, sd) == metrics.two_sample_floor(eight, 100, 2, 20, np.random.default_rng(15))
    rng = np.random.default_rng(16)
    fresh = metrics.wasserstein(eight(100, rng), eight(100, rng))
    # One more draw of the same variable, within 4 sd of a mean over 20.
    assert abs(fresh - mean) < 4 * sd * math.sqrt(1 + 1 / 20)
    # Half the modes gone: the centres alone are 0.89 apart, against a floor of .29 +- .06.
    assert metrics.wasserstein(eight(100, rng), eight(100, rng, modes=4)) > mean + 4 * sd
    # Order n^(-1/4): 1.41 for 4 times the points; each mean is known to about 5 per cent.
    assert metrics.two_sample_floor(eight, 400, 2, 20, rng)[0] < mean / 1.2
    with pytest.raises(UsageError, match="repeats = 1"):
        metrics.two_sample_floor(eight, 10, 2, 1, rng)


def test_mode_statistics_by_hand():
    # 40 points on the first centre, 39 on the second, 1 on the third, 20 between the fourth and the outside.
    x = np.concatenate([np.repeat(EIGHT[:4], [40, 39, 1, 20], axis=0)])
    x[80:] *= 1.31
    result = metrics.mode_statistics(x, EIGHT, 0.1)
    # The fair share is 12.5 points: a tenth of it is more than the one point of the third mode.
    assert result["modes"] == 2
    assert result["share_3sd"] == 0.8
    np.testing.assert_allclose(result["masses"], [0.4, 0.39, 0.01, 0.2, 0, 0, 0, 0])
    assert result["mode_tv"] == pytest.approx((0.275 + 0.265 + 0.115 + 0.075 + 4 * 0.125) / 2)
    wider = metrics.mode_statistics(x, EIGHT, 0.1, radius=3.2, weights=[0.4, 0.39, 0.01, 0.2, 0, 0, 0, 0])
    assert (wider["modes"], wider["share_3sd"]) == (4, 1.0)
    assert wider["mode_tv"] == pytest.approx(0, abs=1e-15)


def test_mode_statistics_of_the_mixture_and_of_a_collapse():
    rng = np.random.default_rng(17)
    n = 20_000
    result = metrics.mode_statistics(eight(n, rng), EIGHT, 0.1)
    expected = 1 - math.exp(-4.5)
    assert result["modes"] == 8
    # Binomial: 4 sd around the chi-squared share, and 4 sd of the mean absolute error of eight shares.
    assert abs(result["share_3sd"] - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
    assert result["mode_tv"] < 8 / 2 * 4 * math.sqrt(1 / 8 * 7 / 8 / n)
    collapsed = metrics.mode_statistics(eight(n, rng, modes=5), EIGHT, 0.1)
    assert collapsed["modes"] == 5
    # Five modes at 1/5 instead of 1/8 and three at 0: 3/8, with the same error.
    assert collapsed["mode_tv"] == pytest.approx(3 / 8, abs=8 / 2 * 4 * math.sqrt(1 / 5 * 4 / 5 / n))
    # Points everywhere find no mode, though each has a nearest one.
    assert metrics.mode_statistics(20 * rng.normal(size=(n, 2)), EIGHT, 0.1)["modes"] == 0


def test_a_tenth_of_its_fair_share_finds_a_mode():
    """One point of 80 in a mode that is due an eighth; with one point more elsewhere it is one of 81."""
    x = np.repeat(EIGHT, [1, 79, 0, 0, 0, 0, 0, 0], axis=0)
    assert metrics.mode_statistics(x, EIGHT, 0.1)["modes"] == 2
    assert metrics.mode_statistics(np.concatenate([x, EIGHT[1:2]]), EIGHT, 0.1)["modes"] == 1


def test_mode_statistics_refuses_what_it_cannot_measure():
    x = np.zeros((3, 2))
    for arguments, message in (
        ((np.zeros((3, 1)), EIGHT, 0.1), "d = 1 columns"),
        ((x, EIGHT, 0.0), "std = 0.0"),
        ((x, EIGHT, 0.1, -1), "radius = -1"),
        ((x, EIGHT, 0.1, 3.0, np.ones(8)), "sum to 1"),
        ((x, EIGHT, 0.1, 3.0, np.ones(4) / 4), "must agree"),
    ):
        with pytest.raises(UsageError, match=message):
            metrics.mode_statistics(*arguments)


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_energy_distance_is_scipys_squared_on_the_line(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(size=m) * 2
    # Rounding of sums of order 1.
    assert metrics.energy_distance(x[:, None], y[:, None]) == pytest.approx(
        scipy.stats.energy_distance(x, y) ** 2, abs=1e-12
    )


def test_energy_distance_properties():
    rng = np.random.default_rng(18)
    x, y = rng.normal(size=(1300, 3)), rng.normal(size=(700, 3))
    value = metrics.energy_distance(x, y)
    assert value == pytest.approx(metrics.energy_distance(y, x), abs=1e-13)
    assert metrics.energy_distance(x, rng.permutation(x)) == pytest.approx(0, abs=1e-12)
    assert metrics.energy_distance(x, y + 0.5) > 10 * value
    # For N(0, I_3), E|a - a'| = 4 / sqrt(pi) = 2.257; the null value is (1/n + 1/m) times that on average.
    assert 0.3 < value / ((1 / 1300 + 1 / 700) * 2.257) < 3


def test_class_histogram_and_total_variation():
    shares = metrics.class_histogram(np.array([0, 0, 1, 3], dtype=np.uint8), 5)
    np.testing.assert_array_equal(shares, [0.5, 0.25, 0, 0.25, 0])
    assert metrics.total_variation(shares, shares) == 0
    assert metrics.total_variation(shares, np.full(5, 0.2)) == pytest.approx(0.4)
    assert metrics.total_variation([1, 0], [0, 1]) == 1
    for labels in ([], [10], [-1], [0.5], [[1]]):
        with pytest.raises(UsageError, match="labels"):
            metrics.class_histogram(np.array(labels))
    for p, q in (([1.0], [0.5, 0.5]), ([0.5, 0.4], [0.5, 0.5]), ([1.5, -0.5], [0.5, 0.5]), ([np.nan], [1.0])):
        with pytest.raises(UsageError):
            metrics.total_variation(p, q)


def test_sliced_w2_is_pots_times_the_root_of_the_dimension():
    """On the same lines; of three times as many points the middle one of every three is met; a shift counts in full."""
    rng = np.random.default_rng(19)
    x, y, w = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)) + 0.5, rng.normal(size=(3, 40))
    w /= np.linalg.norm(w, axis=0)
    theirs = ot.sliced_wasserstein_distance(x, y, projections=w)
    assert low_dimension.sliced_w2(x, y, w) == pytest.approx(math.sqrt(3) * theirs, rel=1e-12)
    assert low_dimension.sliced_w2(x, x + [1, 2, 2], np.eye(3)) == pytest.approx(3, rel=1e-12)
    middle = [np.sort(x @ line)[1::3] for line in w.T]
    exact = np.mean([np.square(a - np.sort(y[:4] @ line)).mean() for a, line in zip(middle, w.T, strict=True)])
    for pair in ((x, y[:4]), (y[:4], x)):
        assert low_dimension.sliced_w2(*pair, w) == pytest.approx(math.sqrt(3 * exact), rel=1e-12)


def test_two_points_are_enough_where_pairs_are_counted():
    x, y = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 0.5], [0.0, 0.0]])
    assert metrics.kid(x, y) == pytest.approx(kid_by_loops(x, y), abs=1e-14)
    assert metrics.energy_distance(x[:1], y[:1]) == pytest.approx(2 * math.hypot(1, 0.5))
    # Radii are 2.8 of x and 1.1 of y: (2, -1) is covered by none of y's balls.
    assert metrics.precision_recall(x, y, k=1) == (1.0, 0.5)
    single = metrics.mode_statistics(x[:1], x, 0.1)
    assert single["modes"] == 1 and single["masses"].tolist() == [1.0, 0.0]


def test_spread_of_floors_is_that_of_a_sample():
    """The standard deviation has divisor n - 1: values that a generator repeats are drawn again here."""
    mean, sd = metrics.two_sample_floor(eight, 5, 1, 2, np.random.default_rng(2))
    again = np.random.default_rng(2)
    values = [metrics.wasserstein(eight(5, again), eight(5, again), 1) for _ in range(2)]
    assert (mean, sd) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
