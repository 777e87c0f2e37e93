"""Errors that name the parameter, the value and what would be valid."""

import difflib
import numbers
from textwrap import shorten

import numpy as np


class UsageError(ValueError):
    """A parameter, name or file the user gave cannot be used; the message says what would be valid."""


def nearest(name, valid, what):
    """`name` if it is in `valid`, else `UsageError` naming all of `what`, and the nearest if one is near."""
    valid = sorted(set(valid))
    if name in valid:
        return name
    close = difflib.get_close_matches(str(name), valid, n=1)
    hint = f": did you mean {close[0]!r}?" if close else "."
    raise UsageError(f"unknown {what} {name!r}{hint} Valid: {', '.join(valid)}")


def in_range(value, low, high, what, *, open_low=False):
    """Return `value`, one real number, if `low <= value <= high` (`low < value` with `open_low`), else `UsageError`."""
    try:
        number = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # an array or tensor of several numbers
        number = None
    if not isinstance(number, numbers.Real) or isinstance(number, bool):
        raise UsageError(f"{what} = {shorten(repr(value), 80)} is not a number")
    if not ((low < number if open_low else low <= number) and number <= high):
        limits = f"{'(' if open_low else '['}{low}, {high}]"
        raise UsageError(f"{what} = {number!r} is out of range: it must lie in {limits}")
    return value


def real(values, what, low=-1e300, high=1e300, *, open_low=False):
    """`values`, a number or an array of any shape, in float64 and each `in_range`; else `UsageError`."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors that numpy cannot read
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{what} must be real numbers, got {shorten(repr(values), 80)}")
    array = array.astype(np.float64)
    for end in (array.min(), array.max()) if array.size else ():
        in_range(end, low, high, what, open_low=open_low)
    return array


def whole(value, low, high, what):
    """Return `value` as an int if it is a whole number with `low <= value <= high` and no bool, else `UsageError`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise UsageError(f"{what} = {value!r}: it must be a whole number from {low} to {high}")
    return int(in_range(value, low, high, what))
