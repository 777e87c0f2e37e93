"""Points in a few dimensions: exact Wasserstein distances, their floor, modes, energy distance."""

import warnings

import numpy as np
from scipy.spatial.distance import cdist

from gwf.errors import UsageError
from gwf.metrics.arrays import as_pair, as_samples, row_blocks, same_dimension
from gwf.metrics.classes import as_shares, total_variation


def wasserstein(x, y, p=2, *, max_iterations=10_000_000):
    r"""Exact Wasserstein distance between two clouds of points with uniform weights, x (n, d) and y (m, d).

    .. math::
        W_p(x, y) = \Bigl( \min_{\pi \ge 0} \sum_{i, j} |x_i - y_j|^p \, \pi_{ij}
            \;:\; \sum_j \pi_{ij} = \tfrac1n, \ \sum_i \pi_{ij} = \tfrac1m \Bigr)^{1/p}

    (the distance, not its p-th power, in the unit of x; 1 <= p < inf) by the network simplex of POT [1]_ [2]_. It needs the
    (n, m) table of costs and about 0.1 s for n = m = 1000, 0.4 to 2 s for 2000. Of laws it is biased upwards: compare with
    `two_sample_floor` at the same n. `RuntimeError` if the optimum is not reached within `max_iterations` pivots.

    .. [1] N. Bonneel et al. Displacement interpolation using Lagrangian mass transport. ACM Trans. Graphics 30(6), 2011.
    .. [2] R. Flamary et al. POT: Python optimal transport. Journal of Machine Learning Research 22(78), 2021.
    """
    x, y = as_pair(x, y)
    if not 1 <= p < np.inf:
        raise UsageError(f"p = {p} is out of range: it must lie in [1, inf)")
    distance = cdist(x, y)
    unit = distance.max()
    if unit == 0:
        return 0.0
    a = np.full(len(x), 1 / len(x))
    b = np.full(len(y), 1 / len(y))

    # POT loads every array library it finds, which takes seconds: only who needs it waits.
    import ot

    while True:
        # Costs in units of a typical trip keep the solver's absolute tolerances meaningful. A vertex carries at least
        # 1 / (n m) on each of its pairs, so no pair above the optimum by n m is in it: larger costs need not be told apart.
        with np.errstate(over="ignore"):
            cost = np.minimum((distance / unit) ** p, 2.0 * distance.size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the log says the same, and is checked below
            value, log = ot.emd2(a, b, cost, numItermax=max_iterations, log=True, return_matrix=True)
        if log["warning"] is not None:
            raise RuntimeError(
                f"the network simplex did not reach the optimum for n = {len(x)}, m = {len(y)}, p = {p} "
                f"within max_iterations = {max_iterations}: {log['warning']}"
            )
        longest = distance[log["G"] > 0].max()
        # With large p the optimum in units of the largest distance is below the tolerance, or 0: take its longest trip.
        if value > 1e-10 or not 0 < longest < unit:
            return float(unit * max(float(value), 0.0) ** (1 / p))
        unit = longest


def two_sample_floor(sampler, n, p, repeats, rng):
    r"""Distance between two independent samples of one law, :math:`W_p(\hat\nu_n, \hat\nu_n')`: mean and spread.

    A perfect generator scores this, not 0, against n points of data. For modes far apart it falls slowly: their counts
    differ by a share of order :math:`n^{-1/2}`, which has to travel, so the floor is of order :math:`n^{-1/(2p)}`.

    Parameters
    ----------
    sampler : callable
        `sampler(n, rng)` returns n >= 1 fresh points of the law, (n, d), and advances `rng`, numpy's or torch's.
    p, repeats : float, int
        Order of the distance, 1 <= p < inf; independent pairs, >= 2.

    Returns
    -------
    mean, sd : float
        Over the pairs; the sd (n - 1) is the spread of one pair's distance, in the unit of the points.
    """
    if repeats < 2:
        raise UsageError(f"repeats = {repeats} is out of range: at least 2 are needed for a spread")
    values = [wasserstein(sampler(n, rng), sampler(n, rng), p) for _ in range(repeats)]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def mode_statistics(x, centres, std, radius=3.0, weights=None):
    r"""Which modes of a mixture of round Gaussians a sample has found, and in what proportions.

    Every point belongs to its nearest centre :math:`c_j`, and is inside its mode within `radius` standard deviations of it:
    of the mixture itself a share of 0.989 in d = 2 at radius 3 (chi-squared, d degrees of freedom, at radius^2). A mode is
    found if the points inside are at least a tenth of its fair share :math:`w_j n`: a few stray points find nothing.

    Parameters
    ----------
    x, centres : array_like (n, d), (k, d)
    std, radius : float
        Standard deviation of each mode per coordinate, in the unit of x, and a multiple of it; both > 0.
    weights : array_like (k,), optional
        Masses of the modes in the mixture, shares that sum to 1; uniform by default. A mode of mass 0 is never found.

    Returns
    -------
    dict
        `modes` : int, number of modes found, 0 to k.
        `share_3sd` : float, share of all points that are inside their mode (within 3 std at the default radius).
        `masses` : ndarray (k,), share of all points per nearest mode, inside or not; sums to 1.
        `mode_tv` : float in [0, 1], total variation between `masses` and `weights`.
    """
    x = as_samples(x, "x")
    centres = as_samples(centres, "centres")
    same_dimension(x.shape[1], centres.shape[1], ("x", "centres"))
    for name, value in (("std", std), ("radius", radius)):
        if not 0 < value < np.inf:
            raise UsageError(f"{name} = {value} is out of range: it must lie in (0, inf)")
    k = len(centres)
    weights = as_shares(np.full(k, 1 / k) if weights is None else weights, "weights")
    if weights.size != k:
        raise UsageError(f"weights has {weights.size} shares for {k} centres: they must agree")

    distance = cdist(x, centres)
    mode = distance.argmin(axis=1)
    inside = distance.min(axis=1) <= radius * std
    masses = np.bincount(mode, minlength=k) / len(x)
    inside_masses = np.bincount(mode[inside], minlength=k) / len(x)
    return {
        "modes": int(np.sum((inside_masses >= weights / 10) & (weights > 0))),
        "share_3sd": float(inside.mean()),
        "masses": masses,
        "mode_tv": total_variation(masses, weights),
    }


def energy_distance(x, y):
    r"""Energy distance between two clouds of points x (n, d) and y (m, d), a V-statistic, in the unit of x [1]_.

    .. math::
        \mathcal E(x, y) = \frac{2}{nm} \sum_{i, j} |x_i - y_j| - \frac{1}{n^2} \sum_{i, j} |x_i - x_j|
            - \frac{1}{m^2} \sum_{i, j} |y_i - y_j|,

    the squared MMD of the kernel -|a - b| (no root is taken); in d = 1 it equals :math:`2 \int (F_x - F_y)^2`. The
    diagonal terms are kept, so the value is >= 0 and 0 only for equal clouds; two samples of one law are apart by about
    :math:`(1/n + 1/m) E|a - a'|`.

    .. [1] G. Szekely, M. Rizzo. Energy statistics: statistics based on distances. J. Stat. Planning and Inference 143(8), 2013.
    """
    x, y = as_pair(x, y)
    return float(max(2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y), 0.0))


def sliced_w2(x, y, w):
    r"""(d mean_l W_2^2(x w_l, y w_l))^{1/2}, in the scale of W2: a shift counts in full.

    `x` (n, d), `y` (m, d), unit directions `w` (d, L). The laws on a line are compared at min(n, m) levels.
    """
    levels = (np.arange(min(len(x), len(y))) + 0.5) / min(len(x), len(y))
    along = [np.quantile(t @ w, levels, axis=0, method="hazen") for t in (x, y)]
    return float(np.sqrt(len(w) * np.square(along[0] - along[1]).mean()))


def _mean_distance(x, y):
    return sum(cdist(rows, y).sum() for rows in row_blocks(x)) / (len(x) * len(y))
