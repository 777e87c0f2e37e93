"""What every estimator on tables asks of its input."""

import numpy as np

from gwf.errors import UsageError


def table_of(X, what="X", missing=True):
    """X as float64 (n, d) with n, d >= 1, finite but for NaN where `missing`; `UsageError` else."""
    try:
        X = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(
            f"{what} cannot be read as a table of numbers: mark missing cells by NaN and encode words"
        ) from None
    if X.ndim != 2 or not X.size:
        raise UsageError(f"{what} has shape {X.shape}: it must be a table (n, d) with at least one row and one column")
    if np.isinf(X).any() or (not missing and np.isnan(X).any()):
        raise UsageError(
            f"{what} holds {'infinite values' if missing else 'NaN or infinite values'}: every cell must be finite"
            f"{', or NaN where missing' if missing else ''}"
        )
    return X


def table_for(estimator, X, what, missing=True):
    """`table_of` X for an estimator that was fitted on a table `what` with as many columns; `UsageError` else."""
    if not hasattr(estimator, "n_features_in_"):
        raise UsageError(f"this {type(estimator).__name__} is not fitted: call fit(X) first")
    X, d = table_of(X, missing=missing), estimator.n_features_in_
    if X.shape[1] != d:
        raise UsageError(f"X has {X.shape[1]} columns, the {what} {d}: they must agree")
    return X
