"""The gate of every public function: tables and point clouds, numbers, units, by scikit-learn's own validation.

What passes is an own float64 copy whose cells are finite; what does not is a `UsageError`, a line with what and where.
"""

import numbers

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from gwf.errors import UsageError, in_range

LARGEST = 1e150  # Squares of larger cells are not finite.


class NotNumbers(UsageError, TypeError):
    """Cells that are no numbers at all: scikit-learn has TypeErrors for them."""


def _cells(X):
    """X with every mark of a missing cell (a mask, None, pd.NA) as NaN; tensors and lists as arrays."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().to(torch.promote_types(X.dtype, torch.float64)).numpy()
    if isinstance(X, np.ma.MaskedArray):
        X = X.astype(object).filled(np.nan)
    if isinstance(X, pd.DataFrame) and not all(isinstance(t, np.dtype) and t.kind in "biuf" for t in X.dtypes):
        X = X.to_numpy(dtype=object)
    X = X if hasattr(X, "shape") else np.asarray(X)
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    if kind in ("m", "M"):
        raise TypeError("dates and durations have no zero: subtract one and divide by a unit first")
    if len(X.shape) != 2:
        raise ValueError(f"its shape is {X.shape}, not (n, d). Reshape your data: reshape(-1, 1) makes it a column")
    return np.where(pd.isna(X), np.nan, X) if kind == "O" else X


def table_of(estimator, X, reset, what="X", missing=False, least=1):
    """X (n, d) as float64, a copy, n >= `least`, d >= 1, for an estimator.

    `UsageError` for another shape or other columns, sparse or complex data, words, dates, cells beyond `LARGEST`.

    Parameters
    ----------
    X : array_like, DataFrame or Tensor (n, d)
        Called `what` in messages.
    reset : bool
        The estimator keeps names and number of columns; else it is fitted (`NotFittedError`), and they are compared.
    missing : bool
        Whether NaN, None, pd.NA and masked cells may stand, as NaN.
    """
    if not reset:
        check_is_fitted(estimator)
    try:
        named = {"input_name": what, "estimator": estimator, "ensure_min_samples": least, "ensure_all_finite": False}
        cells = check_array(_cells(X), dtype=np.float64, order="C", copy=True, **named)
    except (TypeError, ValueError) as error:
        kind = NotNumbers if isinstance(error, TypeError) else UsageError
        raise kind(f"{what} cannot be read as a table of numbers: {str(error).strip().splitlines()[0]}") from None
    bad = ~((np.abs(cells) <= LARGEST) | (missing & np.isnan(cells)))
    if bad.any():
        i, j = np.argwhere(bad)[0]
        found = "NaN" if np.isnan(cells[i, j]) else f"{cells[i, j]:g}"
        where = f"row {i}, column {X.columns[j] if isinstance(X, pd.DataFrame) else j}"
        wanted = f"finite, at most {LARGEST:g} in size{', or NaN where missing' if missing else ''}"
        raise UsageError(f"{what} holds {found} in {where}: every cell must be {wanted}")
    try:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    except (TypeError, ValueError) as error:
        # Of several lines where names differ: they are listed.
        raise UsageError(f"{what}{text[1:]}" if (text := str(error)).startswith("X ") else text) from None
    return cells


def alike(**tables):
    """Several complete tables with the same columns, the first of which says which: `alike(reference=R, X=X)`."""
    first = next(iter(tables))
    gate = type(first, (BaseEstimator,), {"fit": None})()
    return [table_of(gate, X, reset=what == first, what=what) for what, X in tables.items()]


def number(value, low, high, what, *, open_low=False):
    """A real number in the range, numpy's too, as a float; True is none. `UsageError` else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UsageError(f"{what} = {value!r} is not a number")
    return float(in_range(value, low, high, what, open_low=open_low))


def typical(squares):
    """Median of `squares` (n,), of the positive ones where it would be 0; 0 if none is. A unit that no few rows can move."""
    median = squares.median() if squares.numel() else torch.zeros(())
    return float(squares[squares > 0].median() if median == 0 and (squares > 0).any() else median)


def offset(X):
    """Where zero is to be put (d,), so that float32 keeps the digits of X (n, d): a column's median if it lies more than
    a thousand times its spread from zero, else 0, which leaves the numbers as they are."""
    low, middle, high = np.nanquantile(X, [0.25, 0.5, 0.75], axis=0)
    return np.where(np.abs(middle) > 1e3 * (high - low), middle, 0.0)
