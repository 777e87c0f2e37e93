"""Kernel distance between two sets of features, without bias in n."""

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

    Here n, m >= 2. Its mean over samples of one law is 0 for every n, so single values may be negative.

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
