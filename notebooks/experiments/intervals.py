"""What a few seeds tell: 95 % t intervals of means, ratios and differences paired by seed, and of any number by the jackknife."""

import dataclasses
import math
from contextlib import suppress

import numpy as np
import pandas as pd
from scipy import stats

from companion.claims import NotRun, column


def by_seed(rows, number):
    """Seed -> `number` of its rows."""
    return pd.Series({seed: number(part) for seed, part in rows.groupby("seed")})


def interval(values):
    """95 % t interval of the mean of `values`, one per seed: (low, high). `NotRun` for fewer than two."""
    if len(values) < 2:
        raise NotRun("fewer than two seeds: no spread, no verdict")
    reach = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return values.mean() - reach, values.mean() + reach


def geometric(logs):
    """95 % interval of the geometric mean of what has these logarithms, one per seed, from their t interval."""
    return tuple(float(end) for end in np.exp(interval(logs)))


def differences(frame, first, second, keys):
    """Value of `first` minus value of `second` on each set of shared `keys`, a Series; both are dicts column -> value."""
    values = []
    for chosen in (first, second):
        rows = frame
        for name, wanted in chosen.items():
            rows = rows[column(rows, name) == wanted]
        values.append(rows.set_index(keys)["value"])
    return (values[0] - values[1]).dropna()


def ratio(frame, first, second, groups=()):
    """Value of `first` over value of `second`, paired by seed: 95 % interval of the geometric mean over seeds.

    With `groups`, columns, the mean over all groups is taken for each seed first, of those seeds that have every group.
    `first` and `second` are dicts column -> value; `frame` has a column value.
    """
    logs = differences(frame.assign(value=np.log(frame["value"])), first, second, [*groups, "seed"])
    if logs.empty:
        raise NotRun(f"no run of {first} and {second}")
    seeds = logs.groupby("seed").agg(["mean", "size"])
    return geometric(seeds["mean"][seeds["size"] == seeds["size"].max()])


def over(first, second, number):
    """`number` of trainings `first` over that of `second`, paired by seed: 95 % interval of the geometric mean.

    Both have columns seed and iteration, and `number` is of one seed's rows. All the iterations that a training had are a
    least value, of what it did not reach: that leaves its side of the interval open.
    """
    numbers = [by_seed(rows, number) for rows in (first, second)]
    above, below = (
        (found >= by_seed(rows, lambda part: part["iteration"].max())).any()
        for found, rows in zip(numbers, (first, second), strict=True)
    )
    low, high = geometric(np.log(numbers[0] / numbers[1]).dropna())
    return 0.0 if below else low, math.inf if above else high


def smallest_gap(frame, first, second, group):
    """Value of `first` minus value of `second`, paired by seed, in that group where the mean is smallest: (interval, words).

    From 95 % t intervals, one per value of the column `group`: the smallest mean lies between the least of their lower ends
    and the least of their upper ones. `NotRun` where no group has both.
    """
    gaps = differences(frame, first, second, [group, "seed"]).groupby(group, sort=False)
    found = {name: interval(values) for name, values in gaps}
    if not found:
        raise NotRun(f"no run of {first} and {second}")
    words = ", ".join(f"{low:+.3f} to {high:+.3f} ({name})" for name, (low, high) in found.items())
    return tuple(map(min, zip(*found.values(), strict=True))), words


def without(evidence, seed):
    """Evidence but for the rows of one seed; in cases that have no other seed they stay. Tuples are taken apart."""
    if isinstance(evidence, tuple):
        return tuple(without(part, seed) for part in evidence)
    if not isinstance(evidence, pd.DataFrame) or "seed" not in evidence:
        return evidence
    groups = evidence["case"] if "case" in evidence else np.zeros(len(evidence))
    alone = evidence["seed"].groupby(groups).transform("nunique") == 1
    return evidence[(evidence["seed"] != seed) | alone]


def seeds_in(evidence):
    """The seeds of evidence, a set; of a tuple those of its parts."""
    if isinstance(evidence, tuple):
        return set().union(*map(seeds_in, evidence))
    return set(evidence["seed"]) if isinstance(evidence, pd.DataFrame) and "seed" in evidence else set()


def jackknifed(measure):
    """The check `measure` with 95 % intervals in the place of its numbers, by the jackknife over seeds.

    With theta_i the number without seed i, of n seeds, it is theta -+ t s / n^(1/2), with s the standard deviation of Tukey's
    pseudo-values n theta - (n - 1) theta_i; for a mean these are the seeds' own, and it is their t interval. n counts the
    seeds that the number reads: that change it, or would with another left out. One that reads fewer than two stays a
    number. Made for means, their ratios and differences, also the least of a few; not for medians, nor for the largest
    error among seeds. `NotRun` for fewer than two seeds.
    """
    apart = lambda first, second: not np.isclose(first, second, rtol=1e-12, atol=0)

    def spans(evidence):
        outcome, seeds = measure(evidence), sorted(seeds_in(evidence))
        if len(seeds) < 2:
            raise NotRun("fewer than two seeds: no spread, no verdict")
        left = {seed: measure(without(evidence, seed)).values for seed in seeds}

        def reads(seed, name, value, far):
            if apart(left[seed][name], value):
                return True
            with suppress(NotRun):  # a seed at the mean moves it once another is left out
                return apart(measure(without(without(evidence, far), seed)).values[name], left[far][name])
            return True

        values = dict(outcome.values)
        for name, value in values.items():
            if isinstance(value, tuple):
                continue
            far = max(seeds, key=lambda seed: abs(left[seed][name] - value))
            if apart(left[far][name], value):
                others = pd.Series([left[seed][name] for seed in seeds if reads(seed, name, value, far)])
                if len(others) > 1:
                    low, high = interval((len(others) - 1) * others)
                    values[name] = value - (high - low) / 2, value + (high - low) / 2
        return dataclasses.replace(outcome, values=values)

    return spans
