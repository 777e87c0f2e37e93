"""Two methods compared on the same seeds: differences, and one score for each comparison."""

import pandas as pd

from gwf.claims.outcome import NotRun
from gwf.claims.sources import column

METRICS = {"digits": "fd_lenet", "eight_gaussians": "w2"}
"""Data set -> the distance that its runs report; lower is better on both."""


def distances(sources, *datasets):
    """Distances of all finished runs on the data sets that the profile has.

    Returns
    -------
    DataFrame with columns dataset, functional, step, seed, value
    """
    frames, missing = [], []
    for dataset in datasets:
        try:
            frames.append(sources.runs(dataset, METRICS[dataset]).assign(dataset=dataset))
        except NotRun as reason:
            missing.append(str(reason))
    if not frames:
        raise NotRun("; ".join(missing))
    return pd.concat(frames, ignore_index=True)


def differences(frame, first, second, keys):
    """Value of `first` minus value of `second` on each set of shared `keys`, a Series; both are dicts column -> value."""
    values = []
    for chosen in (first, second):
        rows = frame
        for name, wanted in chosen.items():
            rows = rows[column(rows, name) == wanted]
        values.append(rows.set_index(keys)["value"])
    return (values[0] - values[1]).dropna()


def score(difference):
    """1 where the mean is below zero by more than the standard deviation of the differences, -1 above, 0 for a tie.

    Raises `NotRun` for fewer than two seeds: no spread, no verdict.
    """
    if len(difference) < 2:
        raise NotRun("fewer than two seeds: no spread, no verdict")
    centre, spread = difference.mean(), difference.std(ddof=1)
    return 0 if abs(centre) <= spread else (1 if centre < 0 else -1)


def scale(factor, **where):
    """A control that multiplies the distances of the chosen runs, e.g. `scale(2, functional="kl_dv")`."""

    def broken(frame):
        chosen = pd.Series(True, index=frame.index)
        for name, wanted in where.items():
            chosen &= column(frame, name) == wanted
        return frame.assign(value=frame["value"].where(~chosen, frame["value"] * factor))

    return broken
