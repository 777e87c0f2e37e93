"""Shares of classes and how far two vectors of shares are apart."""

import numpy as np

from gwf.errors import UsageError


def class_histogram(labels, classes=10):
    """Share of the samples in each class, float64 (classes,), 0 where nobody is, of `labels` (n,), n >= 1.

    `UsageError` unless the labels are integers with 0 <= label < `classes`.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"labels have shape {labels.shape} and type {labels.dtype}: they must be integers, shape (n,)")
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"labels span [{labels.min()}, {labels.max()}]: they must lie in [0, {classes - 1}]")
    return np.bincount(labels, minlength=classes) / labels.size


def total_variation(p, q):
    r"""Total variation distance :math:`\tfrac12 \sum_c |p_c - q_c|` between two vectors of shares (c,), in [0, 1].

    The share of mass that would have to change class. `UsageError` unless both are >= 0 and sum to 1 within 1e-6.
    """
    p, q = as_shares(p, "p"), as_shares(q, "q")
    if p.shape != q.shape:
        raise UsageError(f"p has {p.size} shares and q has {q.size}: they must agree")
    return float(np.abs(p - q).sum() / 2)


def as_shares(p, name):
    """Return `p` as float64 shares, shape (c,); `UsageError` if negative, not finite or not summing to 1."""
    p = np.asarray(p, dtype=np.float64)
    # Shares printed with six digits and read back still pass.
    if p.ndim != 1 or p.size == 0 or not np.all(p >= 0) or not abs(p.sum() - 1) <= 1e-6:
        raise UsageError(f"{name} = {p} is not a vector of shares: entries must be >= 0 and sum to 1")
    return p
