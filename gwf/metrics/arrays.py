"""Checks that every metric makes on the arrays it is given."""

import numpy as np

from gwf.errors import UsageError


def as_samples(x, name, *, at_least=1):
    """`x` (n, d), samples or features, one per row, as a finite float64 array with d >= 1 and n >= `at_least`.

    `UsageError` for anything else; `name` is what the caller calls them.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise UsageError(f"{name} has shape {x.shape}: it must be (n, d), one sample per row, with d >= 1")
    if len(x) < at_least:
        raise UsageError(f"{name} holds n = {len(x)} samples: at least {at_least} are needed")
    finite = np.isfinite(x)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise UsageError(
            f"{name} has {bad.size} of {len(x)} rows with nan or inf, the first is row {bad[0]}: "
            "all values must be finite"
        )
    return x


def as_pair(x, y, names=("x", "y"), *, at_least=1):
    """Return `x` (n, d) and `y` (m, d) checked by `as_samples`; `UsageError` if their d differ."""
    x = as_samples(x, names[0], at_least=at_least)
    y = as_samples(y, names[1], at_least=at_least)
    same_dimension(x.shape[1], y.shape[1], names)
    return x, y


def same_dimension(d_x, d_y, names=("x", "y")):
    """Raise `UsageError` unless the two dimensions agree."""
    if d_x != d_y:
        raise UsageError(f"{names[0]} has d = {d_x} columns and {names[1]} has d = {d_y}: they must agree")


def row_blocks(x, rows=1024):
    """Yield `x` in consecutive blocks of at most `rows` rows, to keep an (n, m) table out of memory."""
    for start in range(0, len(x), rows):
        yield x[start : start + rows]
