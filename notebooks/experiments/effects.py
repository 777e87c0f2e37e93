"""What the JKO step does to whole trainings: distances with it over distances without it, with intervals over seeds."""

from contextlib import suppress

import numpy as np
import pandas as pd
from scipy import stats

from companion import results
from companion.claims import NotRun
from gwf.errors import UsageError
from notebooks.experiments import trainings

UNSTABLE = {"w1": "W1", "mmd_learned": "squared MMD", "mmd_scaled": "scaled MMD"}
"""Objectives that GWF calls unstable without the JKO step."""
F_DIVERGENCES = ["kl", "kl_dv", "js", "js_ns", "chi2"]
DISTANCES = {"digits": "fd_lenet", "eight_gaussians": "w2"}
"""Data set -> what measures its samples."""


def distances(profile):
    """All runs on digits, and on eight Gaussians if the profile has any: columns dataset, functional, step, seed, value, first.

    `value` is the distance at the end, `first` that at the first evaluation, in most a quarter of the updates.
    """
    found, keys = [], ["functional", "step", "seed"]
    for dataset, metric in DISTANCES.items():
        with suppress(UsageError):
            cases = results.read(dataset, profile)
            curves = trainings.gather(cases, "curve").sort_values("updates")
            first = curves.groupby(keys, sort=False)[metric].first().rename("first").reset_index()
            rows = trainings.score_parts(trainings.gather(cases), metric).assign(dataset=dataset)
            found.append(rows.merge(first, on=keys, how="left"))
    if not found:
        raise UsageError(f"the profile {profile!r} has no trainings: run the notebooks digits and eight_gaussians")
    return pd.concat(found, ignore_index=True)


def stopped(**where):
    """A control: the runs with the given values as they stood at their first evaluation."""

    def broken(rows):
        chosen = np.logical_and.reduce([rows[name] == wanted for name, wanted in where.items()])
        return rows.assign(value=rows["value"].where(~chosen, rows["first"]))

    return broken


def gain(rows, *groups):
    """Distance with the JKO step over that without: interval of the geometric mean, see `trainings.ratio`."""
    return trainings.ratio(rows, {"step": "jko"}, {"step": "gan"}, groups)


def steadiness(rows):
    """Variance over seeds of log distance, pooled over `UNSTABLE`, without the JKO step over with it: (95 % F interval, words)."""
    rows = rows[rows["functional"].isin(UNSTABLE) & rows["step"].isin(["gan", "jko"])]
    logs = rows.assign(value=np.log(rows["value"])).groupby(["step", "functional"])["value"]
    freedom = (logs.count() - 1).groupby("step").sum().reindex(["gan", "jko"], fill_value=0)
    if not freedom.all():
        raise NotRun("the profile has no two seeds of W1 or an MMD with and without the JKO step")
    variance = (logs.var() * (logs.count() - 1)).groupby("step").sum() / freedom
    ratio = variance["gan"] / variance["jko"]
    words = "; ".join(f"{name} {root:.3f}" for name, root in np.sqrt(variance).items())
    return tuple(float(ratio / stats.f.ppf(level, *freedom)) for level in (0.975, 0.025)), words


def pools(rows):
    """Name -> rows whose seeds are pooled: the f-divergences on both data sets, then each functional on digits."""
    divergences = rows[rows["functional"].isin(F_DIVERGENCES)]
    found = {"five f-divergences, both data sets": divergences}
    found["four, JS non-saturating only, both"] = divergences[divergences["functional"] != "js"]
    on_digits = rows[rows["dataset"] == "digits"].groupby("functional", sort=False)
    return found | {trainings.functional_title(name): part for name, part in on_digits}


def effects(rows):
    """A row for each pool with two seeds: ratio with its interval, the verdict, and the smallest effect that could be seen."""
    found = []
    for name, part in pools(rows).items():
        groups = ["functional", "dataset"] if "both" in name else []
        with suppress(NotRun):
            low, high = gain(part, *groups)
            sizes = part[part["step"].isin(["gan", "jko"])].groupby("seed").size()
            row = {"functional": name, "seeds": int((sizes == sizes.max()).sum()), "ratio": np.sqrt(low * high)}
            verdict = "lower" if high < 1 else "higher" if low > 1 else "not told apart"
            found.append(row | {"low": low, "high": high, "with JKO": verdict, "visible": np.sqrt(high / low)})
    return pd.DataFrame(found)


def updates_to(distance, updates, values):
    """Updates after which a curve first is at `distance`: log distance interpolated; at most the last, at least the first."""
    falling = np.minimum.accumulate(np.log(values))
    return float(np.interp(-np.log(distance), -falling, updates))


def work(profile):
    """Updates with the JKO step over those without for the same FD-LeNet on digits, that of the worse at its end.

    A row for each functional with two seeds: geometric mean over seeds, 95 % t interval.
    """
    curves, found = trainings.gather(results.read("digits", profile), "curve"), []
    for functional, rows in curves.groupby("functional", sort=False):
        ratios = []
        for _, both in rows.groupby("seed"):
            pair = {step: both[both["step"] == step].sort_values("updates") for step in ("jko", "gan")}
            if all(map(len, pair.values())):
                distance = max(part["fd_lenet"].iloc[-1] for part in pair.values())
                jko, gan = (updates_to(distance, part["updates"], part["fd_lenet"]) for part in pair.values())
                ratios.append(np.log(jko / gan))
        with suppress(NotRun):
            low, high = np.exp(trainings.interval(pd.Series(ratios, dtype=float)))
            row = {"functional": trainings.functional_title(functional), "seeds": len(ratios)}
            found.append(row | {"updates with over without": np.exp(np.mean(ratios)), "low": low, "high": high})
    return pd.DataFrame(found)
