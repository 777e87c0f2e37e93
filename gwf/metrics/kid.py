"""Kernel distance between two sets of features, without bias in n."""

import numpy as np

from gwf.errors import UsageError
from gwf.metrics.arrays import as_pair, row_blocks


def polynomial_kernel(x, y):
    r"""Table of :math:`k(x_i, y_j) = (x_i \cdot y_j / d + 1)^3`, shape (n, m), for x (n, d) and y (m, d)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def kid(x, y):
    r"""Unbiased squared MMD with the cubic polynomial kernel, the kernel inception distance [1]_; x (n, d), y (m, d).

    .. math::
        \mathrm{KID} = \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j)
            + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
            - \frac{2}{nm} \sum_{i, j} k(x_i, y_j), \qquad k(a, b) = (a \cdot b / d + 1)^3.

    All features are used, n, m >= 2. Its mean over samples of one and the same law is 0 for every n, so single values
    may be negative.

    .. [1] M. Binkowski, D. Sutherland, M. Arbel, A. Gretton. Demystifying MMD GANs. ICLR 2018, arXiv 1801.01401.
    """
    x, y = as_pair(x, y, at_least=2)
    n, m = len(x), len(y)
    within_x = _off_diagonal_sum(x) / (n * (n - 1))
    within_y = _off_diagonal_sum(y) / (m * (m - 1))
    across = sum(polynomial_kernel(rows, y).sum() for rows in row_blocks(x)) / (n * m)
    return float(within_x + within_y - 2 * across)


def _off_diagonal_sum(x):
    diagonal = ((x * x).sum(axis=1) / x.shape[1] + 1.0) ** 3
    return sum(polynomial_kernel(rows, x).sum() for rows in row_blocks(x)) - diagonal.sum()


def kid_subsets(x, y, subsets, size, rng):
    """Mean and standard deviation of `kid` over random subsets, the published protocol.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (m, d)
    subsets : int
        How many pairs of subsets, >= 2.
    size : int
        Rows of each subset, drawn without replacement, 2 <= size <= min(n, m).
    rng : numpy.random.Generator

    Returns
    -------
    mean, sd : float
        The sd (n - 1) is the spread of one subset's value, not the error of the mean.

    Raises
    ------
    UsageError
        If `subsets` or `size` is out of range, or for the reasons of `kid`.
    """
    x, y = as_pair(x, y, at_least=2)
    if subsets < 2:
        raise UsageError(f"subsets = {subsets} is out of range: at least 2 are needed for a spread")
    if not 2 <= size <= min(len(x), len(y)):
        raise UsageError(f"size = {size} is out of range: it must lie in [2, {min(len(x), len(y))}]")
    values = [
        kid(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values, ddof=1))
