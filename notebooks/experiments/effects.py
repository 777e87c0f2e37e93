"""What the JKO step does to whole trainings: distances with it over distances without it, with intervals over seeds."""

from contextlib import suppress

import numpy as np
import pandas as pd
from scipy import stats

from companion import results
from companion.claims import NotRun, show
from gwf.errors import UsageError
from notebooks.experiments import intervals, trainings

UNSTABLE = {"mmd_learned": "squared MMD", "mmd_scaled": "scaled MMD", "w1": "W1"}
"""Objectives that GWF calls unstable without the JKO step."""
F_DIVERGENCES = ["kl", "kl_dv", "js", "js_ns", "chi2"]
DISTANCES = {"digits": "fd_lenet", "eight_gaussians": "w2"}
"""Data set -> what measures its samples."""
PLACES = {"digits": "", "eight_gaussians": ", eight Gaussians", "fashion": ", clothes"}
"""Data set -> what follows the name of a functional on it."""
FOUR = "four, without JS"
EYES = {"fd_lenet": "FD-LeNet", "fd_squeezenet": "FD-SqueezeNet"}
"""Score of images -> its name."""


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


def at_noise(step):
    """A control: in the place of the runs of `step` those of the conditional kernel with the JKO step, which never leave noise."""

    def broken(rows):
        noise = rows[rows["step"] == "ck_jko"].set_index(["eye", "seed"])["value"]
        chosen = rows["step"] == step
        found = noise.reindex(pd.MultiIndex.from_frame(rows.loc[chosen, ["eye", "seed"]]))
        return pd.concat([rows[~chosen], rows[chosen].assign(value=found.to_numpy()).dropna(subset="value")])

    return broken


def of_eyes(rows, measure):
    """Extractor -> interval of `measure` by it. `NotRun` where there are no runs."""
    spans = {EYES[eye]: measure(part) for eye, part in rows.groupby("eye", sort=False)}
    if not spans:
        raise NotRun("the profile has none of these runs")
    return spans


def hull(spans):
    """The interval that holds all of `spans`, a dict."""
    lows, highs = zip(*spans.values(), strict=True)
    return min(lows), max(highs)


def apart(frame, first, second):
    """Interval of the ratio of distances that holds those of both extractors, and those in words: `by_each`.

    `frame` has a column for each extractor; `first` and `second` are dicts column -> value.
    """
    seen = frame.melt([name for name in frame if name not in EYES], [*EYES], "eye", "value")
    return by_each(seen, lambda part: intervals.ratio(part, first, second))


def by_each(rows, measure):
    """(Interval that holds the intervals of `measure` by either extractor, those in words): what one alone sees is undecided."""
    spans = of_eyes(rows, measure)
    return hull(spans), ", ".join(f"{show(span)} by {name}" for name, span in spans.items())


def gain(rows, *groups):
    """Distance with the JKO step over that without: interval of the geometric mean, see `intervals.ratio`."""
    return intervals.ratio(rows, {"step": "jko"}, {"step": "gan"}, groups)


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


def named(rows):
    """Title -> rows of a functional with and without the JKO step; the conditional kernel's as a functional of its own."""
    groups = trainings.as_functional(rows).groupby("functional", sort=False)
    return {trainings.functional_title(name): part for name, part in groups}


def pools(rows):
    """Name -> (rows, groups whose mean is taken for each seed first): the f-divergences pooled, then each functional alone."""
    divergences = rows[rows["functional"].isin(F_DIVERGENCES)]
    without = lambda *names: divergences[~divergences["functional"].isin(names)]
    found = {"five f-divergences, both data sets": divergences, FOUR: without("js")}
    found |= {"three, without JS and KL": without("js", "kl")}
    pooled = {name: (part, ["functional", "dataset"]) for name, part in found.items()}
    for dataset, words in (("digits", ""), ("eight_gaussians", ", eight Gaussians")):
        part = without("js")
        pooled[f"{FOUR}{words or ', digits'}"] = part[part["dataset"] == dataset], ["functional"]
    for dataset, words in PLACES.items():
        pooled |= {name + words: (part, []) for name, part in named(rows[rows["dataset"] == dataset]).items()}
    return pooled


def effects(rows):
    """A row for each pool with two seeds: ratio with its 95 % interval, its p-value, and whether it is told apart from 1."""
    found = []
    for name, (part, groups) in pools(rows).items():
        with suppress(NotRun):
            low, high = gain(part, *groups)
            sizes = part[part["step"].isin(["gan", "jko"])].groupby("seed").size()
            seeds, ratio = int((sizes == sizes.max()).sum()), np.sqrt(low * high)
            t = np.log(ratio) / np.log(high / ratio) * stats.t.ppf(0.975, seeds - 1) if high > low else np.inf
            verdict = "lower" if high < 1 else "higher" if low > 1 else "not told apart"
            row = {"functional": name, "seeds": seeds, "ratio": ratio, "low": low, "high": high}
            found.append(row | {"p": 2 * stats.t.sf(abs(t), seeds - 1), "with JKO": verdict})
    return pd.DataFrame(found)


def by_both(profile, dataset="digits"):
    """The `effects` on images by FD-LeNet, a row for each functional, beside those by FD-SqueezeNet."""
    found = []
    for _, rows in images(profile, dataset).groupby("eye", sort=False):
        part = effects(rows)
        kept = {*(name + PLACES[dataset] for name in named(rows)), f"{FOUR}, {dataset}"}
        found.append(part[part["functional"].isin(kept)].drop(columns="p"))
    return found[0].merge(found[1], on=["functional", "seeds"], suffixes=("", ", SqueezeNet"))


def read_both(both):
    """Of how many ratios the two extractors say the same: a sentence."""
    one, other = both["with JKO"], both["with JKO, SqueezeNet"]
    told = ~(one.str.contains("not") & other.str.contains("not"))
    opposite = both["functional"][(one != other) & ~(one + other).str.contains("not")]
    return (
        f"Told apart from 1 by at least one of the two: {told.sum()} of {len(both)} ratios; by both in the same direction: "
        f"{(told & (one == other)).sum()}; in opposite directions: {'; '.join(opposite) or 'none'}."
    )


def images(profile, dataset="digits"):
    """All runs on a set of images, as `by_eyes` has them, and a column dataset."""
    return by_eyes(trainings.gather(results.read(dataset, profile))).assign(dataset=dataset)


def at_both_rates(profile):
    """Runs on digits at the table's rates and at three times these, as `by_eyes` has them, and a column rates."""
    cases = results.read("digits", profile)
    runs = {"the table's": cases, "three times these": trainings.faster(cases)}
    return pd.concat([by_eyes(trainings.gather(of)).assign(rates=rates) for rates, of in runs.items() if of])


def by_eyes(rows):
    """Runs of `trainings.gather` first by FD-LeNet, then by FD-SqueezeNet: columns eye, functional, step, seed, value."""
    return pd.concat([trainings.score_parts(rows, eye).assign(eye=eye) for eye in EYES], ignore_index=True)


def updates_to(distance, updates, values):
    """Updates after which a curve first is at `distance`: log distance interpolated; at most the last, at least the first."""
    falling = np.minimum.accumulate(np.log(values))
    return float(np.interp(-np.log(distance), -falling, updates))


def work(profile):
    """Updates with the JKO step over those without for the same FD-LeNet on digits, that of the worse at its end.

    A row for each functional with two seeds: geometric mean over seeds, 95 % t interval. A pair of which a run never trains
    (recall 0 at the end) is left out and counted.
    """
    cases, found = results.read("digits", profile), []
    scores, keys = trainings.gather(cases), ["functional", "step", "seed"]
    curves = trainings.gather(cases, "curve").merge(scores[[*keys, "recall"]], on=keys)
    for name, rows in named(curves).items():
        ratios, left_out = [], 0
        for _, both in rows.groupby("seed"):
            pair = {step: both[both["step"] == step].sort_values("updates") for step in ("jko", "gan")}
            if all(map(len, pair.values())):
                distance = max(part["fd_lenet"].iloc[-1] for part in pair.values())
                jko, gan = (updates_to(distance, part["updates"], part["fd_lenet"]) for part in pair.values())
                trained = all(part["recall"].iloc[-1] > 0 for part in pair.values())
                ratios += [np.log(jko / gan)] * trained
                left_out += not trained
        with suppress(NotRun):
            low, high = np.exp(intervals.interval(pd.Series(ratios, dtype=float)))
            row = {"functional": name, "seeds": len(ratios), "left out": left_out}
            found.append(row | {"updates with over without": np.exp(np.mean(ratios)), "low": low, "high": high})
    return pd.DataFrame(found)
