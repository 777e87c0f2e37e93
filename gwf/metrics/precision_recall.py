"""Quality and coverage as two numbers."""

import numpy as np
from scipy.spatial.distance import cdist

from gwf.errors import UsageError
from gwf.metrics.arrays import as_pair, row_blocks


def precision_recall(real, fake, k=3):
    r"""Improved precision and recall [1]_ of features `fake` (m, d), with those of the data, `real` (n, d): shares.

    The support of a set :math:`\Phi` is estimated by the union of balls :math:`B(\phi, r_k(\phi))`, with
    :math:`r_k(\phi)` the distance of :math:`\phi` to its k-th nearest other point, 1 <= k < min(n, m). Then

    .. math::
        \mathrm{precision} = \frac{\#\{\text{fake} \in \bigcup B(\text{real})\}}{n_{\text{fake}}}, \qquad
        \mathrm{recall} = \frac{\#\{\text{real} \in \bigcup B(\text{fake})\}}{n_{\text{real}}}.

    Both depend on n, and neither is 1 for two samples of one law: print the real-vs-real values beside them.

    .. [1] T. Kynkaanniemi et al. Improved precision and recall metric for assessing generative models. NeurIPS 2019.
    """
    real, fake = as_pair(real, fake, ("real", "fake"), at_least=2)
    smallest = min(len(real), len(fake))
    if not 1 <= k < smallest:
        raise UsageError(f"k = {k} is out of range: it must lie in [1, {smallest - 1}]")
    return _covered(fake, real, k), _covered(real, fake, k)


def _covered(points, support, k):
    """Share of `points` that lie in a k-nearest-neighbour ball of `support`."""
    radii = _radii(support, k)
    covered = sum((cdist(rows, support) <= radii).any(axis=1).sum() for rows in row_blocks(points))
    return float(covered / len(points))


def _radii(x, k):
    """Distance of every row of `x` to its k-th nearest other row, shape (n,)."""
    # cdist subtracts before it squares, so a point is at distance exactly 0 from itself and from its copies;
    # the k + 1 smallest entries of a row are the point itself and its k nearest others.
    return np.concatenate([np.partition(cdist(rows, x), k, axis=1)[:, k] for rows in row_blocks(x)])
