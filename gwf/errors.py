"""Errors that name the parameter, the value and what would be valid."""

import difflib
import numbers


class UsageError(ValueError):
    """A parameter, name or file the user gave cannot be used; the message says what would be valid."""


def nearest(name, valid, what):
    """Return `name` if it is in `valid`; otherwise raise `UsageError` with the nearest valid name.

    `what` says what is being named ("functional", "parameter of train.ipynb", ...).
    """
    valid = sorted(set(valid))
    if name in valid:
        return name
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.0)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown {what} {name!r}{hint} Valid: {', '.join(valid)}")


def in_range(value, low, high, what, *, open_low=False):
    """Return `value` if `low <= value <= high` (`low < value` with `open_low`), else raise `UsageError`."""
    try:
        ok = (low < value if open_low else low <= value) and value <= high
    except TypeError:
        raise UsageError(f"{what} = {value!r} is not a number") from None
    if isinstance(value, bool):
        raise UsageError(f"{what} = {value!r} is not a number")
    if not ok:
        bracket = "(" if open_low else "["
        raise UsageError(f"{what} = {value!r} is out of range: it must lie in {bracket}{low}, {high}]")
    return value


def whole(value, low, high, what):
    """Return `value` as an int if it is a whole number with `low <= value <= high` and no bool, else `UsageError`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise UsageError(f"{what} = {value!r}: it must be a whole number from {low} to {high}")
    return int(in_range(value, low, high, what))
