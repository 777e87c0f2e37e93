"""What the experiments on whole trainings share: measured samples read back, means over seeds, comparisons by seed.

A case is called `<functional>-<step>`; one with a further part, as `kl_dv-jko-longer`, is the same method with settings
of its own and stands in no comparison of methods. `gan` and `jko` say that the proximal term is absent or there, whichever
trainer that takes: `mmd_learned-jko` has the time step `implicit` of `gwf.training.recipes`.
"""

import json
import math
from contextlib import suppress

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from companion import results
from companion.claims import NotRun
from companion.sheet import spread, summary
from gwf import divergences, fields, paths
from gwf.errors import UsageError
from notebooks.experiments import intervals

ORDER = (
    "kl",
    "kl_dv",
    "js",
    "js_ns",
    "chi2",
    "w1",
    "w1_r1",
    "reverse_kl",
    "reverse_chi2",
    "hellinger",
    "chi2_tight",
    "mmd",
    "mmd_learned",
    "mmd_scaled",
    "mmd_repulsive",
    "sinkhorn",
    "sliced",
    "w2",
)
STEPS = {
    "gan": "no JKO",
    "jko": "JKO",
    "ck_gan": "conditional kernel, no JKO",
    "ck_jko": "conditional kernel, JKO",
    "increments": "JKO, increments",
    "whole": "JKO, whole map",
    "sjko": "semi-dual JKO",
    "uotm_fixed": "semi-dual, one step",
    "uotm": "both relaxed",
    "uotm_released": "all pairs of a batch",
    "euler": "Euler",
    "matching": "flow matching",
    "gaussian": "Gaussian",
    "real": "real data",
}
REFERENCES = ("gaussian", "real")
"""Steps that train nothing: what a method is compared with, and no method."""
ALSO = {
    ("w2", "euler"): "W2-FE",
    ("w1", "euler"): "W1-FE",
    ("w1", "gan"): "WGAN",
    ("w1_r1", "gan"): "WGAN with R1",
    ("w2", "gan"): "W2-GAN",
    ("mmd", "gan"): "fixed kernel, no critic",
    ("mmd", "jko"): "GWF-MMD, algorithm 1",
    ("mmd_learned", "gan"): "MMD-GAN",
    ("mmd", "ck_gan"): "CKGAN",
    ("mmd", "ck_jko"): "GWF-ckMMD",
    ("kl", "sjko"): "S-JKO",
    ("js_ns", "sjko"): "S-JKO-JSD",
    ("kl", "uotm_fixed"): "source-fixed UOTM",
    ("w2", "uotm_fixed"): "OTM",
    ("kl", "uotm"): "UOTM",
    ("kl", "uotm_released"): "UOTM as released",
    ("js", "increments"): "VWGF",
    ("minibatch_ot", "matching"): "OT-CFM",
}
"""What a method is called elsewhere."""
CONDITIONAL = "mmd_conditional"
"""What `as_functional` calls the squared MMD with a conditional kernel."""
PRETTY = {"chi2": "χ²", "W1": "W₁", "W2": "W₂"}


def load(profile, dataset, case, seed):
    """(settings, losses, samples) of a training run: dict, DataFrame, array (evaluations, n, ...)."""
    folder = paths.training(profile, dataset, case, seed)
    if not (folder / "samples.npy").exists():
        raise UsageError(
            f"{folder} holds no samples: train with `make train DATASET={dataset} CASE={case} SEED={seed}`"
        )
    settings = json.loads((folder / "settings.json").read_text())
    return settings, pd.read_csv(folder / "curve.csv"), np.load(folder / "samples.npy", allow_pickle=False)


def by_hand(profile, dataset, case, seed, **small):
    """A small training, for a notebook that is run by hand: in the profile `lab` alone, which no other stage trains for."""
    from gwf.training import loop

    if profile == "lab":
        functional, step = case.split("-")
        loop.run(functional, step, dataset, seed, profile, small, paths.training(profile, dataset, case, seed))


def setting_columns(settings):
    """The settings that a table or caption needs; tau is infinite where there is no proximal term."""
    names = ("functional", "step", "updates", "batch", "ema", "params_map", "params_critic")
    row = {name: settings[name] for name in names} | {"tau": settings.get("tau", math.inf)}
    return row | {name: settings[name] for name in ("eps", "persistency") if name in settings}


def order(method):
    """Sorting key of (functional, step): critics first, a functional's steps side by side."""
    functional, step = method
    place = ORDER.index(functional) if functional in ORDER else len(ORDER)
    kind = list(STEPS).index(step)
    return max(kind - 1, 0), place, functional, kind


def methods(cases):
    """(functional, step) of every case that is a method, in the order of `order`."""
    return sorted((tuple(case.split("-")) for case in cases if case.count("-") == 1), key=order)


def faster(cases):
    """The cases that are trained at three times the table's rates, by the names that they have in the table."""
    return {name.removesuffix("-fast"): tables for name, tables in cases.items() if name.endswith("-fast")}


def gather(cases, name="metrics"):
    """The tables `name` of all methods, one below the other, with columns functional and step in front.

    What a curve calls step are updates of the map; here step is the time step.
    """
    frames = []
    for functional, step in methods(cases):
        table = cases[f"{functional}-{step}"][name]
        if "functional" not in table:
            table = table.rename(columns={"step": "updates"})
            table.insert(0, "functional", functional)
            table.insert(1, "step", step)
        frames.append(table.assign(functional=functional, step=step))
    if not frames:
        raise UsageError(f"no method has been measured: there are {', '.join(cases) or 'no cases'}")
    return pd.concat(frames, ignore_index=True)


def of(frame, functional, step):
    """The rows of one method."""
    return frame[(frame["functional"] == functional) & (frame["step"] == step)]


def functional_title(name):
    """Name of a functional for people, `KL-DV` for `kl_dv`, with χ², W₁ and W₂ spelt so."""
    if name == CONDITIONAL:
        return "MMD, conditional kernel"
    title = (fields.FIELDS[name] if name in fields.FIELDS else divergences.get(name)).title
    for plain, pretty in PRETTY.items():
        title = title.replace(plain, pretty)
    return title


def label(functional, step):
    """Short name of a method for legends and axes, `KL-DV, no JKO`."""
    return STEPS[step] if step in REFERENCES else f"{functional_title(functional)}, {STEPS[step]}"


def method_title(functional, step):
    """Full name of a method: `KL-DV, JKO (GWF-KL-DV)`, `KL-DV, no JKO (f-GAN)`."""
    others = {"euler": "explicit flow", "jko": f"GWF-{functional_title(functional)}"}
    others |= {"gan": "f-GAN"} if divergences.has_critic(functional) else {}
    also = ALSO.get((functional, step)) or others.get(step)
    return f"{label(functional, step)} ({also})" if also else label(functional, step)


def head(part, name, profile):
    """First columns of a method's row in a table of the experiment `name`; `part` are its rows, one per seed."""
    first = part.iloc[0]
    return {
        "method": method_title(first["functional"], first["step"]),
        "functional": first["functional"],
        "step": first["step"],
        "tau": first["tau"],
        **{key: first[key] for key in ("eps", "persistency") if key in part and not pd.isna(first[key])},
        "seeds": len(part),
        "n": first["n"],
        "updates": first["updates"],
        "command": results.command(name, profile),
    }


def show_step(row):
    """The size of a method's time step: `τ = 0.5`, `τ = ∞`, `ε = 1, J = 5` for the explicit step, or none."""
    if row["step"] == "euler":
        return f"ε = {row['eps']:g}, J = {row['persistency']:g}"
    if row["step"] in ("matching", *REFERENCES):
        return "–"
    return "τ = ∞" if math.isinf(row["tau"]) else f"τ = {row['tau']:g}"


def table(frame, name, profile, columns):
    """A row for each method, means over seeds: `head`, then `columns` as `companion.tables.summary` takes them."""
    heads = [head(part, name, profile) for _, part in frame.groupby(["functional", "step"], sort=False)]
    means = summary(frame, ["functional", "step"], columns, n=None).to_dict("records")
    return pd.DataFrame([first | rest for first, rest in zip(heads, means, strict=True)])


def shown(table, columns):
    """The same for people; `columns` is title -> (mean, standard deviation or None, digits), or a function of a row."""
    return pd.DataFrame(
        {"method": row["method"], "step": show_step(row)}
        | {
            title: what(row) if callable(what) else spread(row[what[0]], row.get(what[1]), what[2])
            for title, what in columns.items()
        }
        | {"updates": "–" if row["step"] in REFERENCES else row["updates"], "seeds": row["seeds"]}
        for row in table.to_dict("records")
    )


def ties(frame, best, metric):
    """Which methods the seeds cannot tell from the row `best` of their table, by the 95 % interval of the paired ratio."""
    if best["seeds"] < 2:
        return "With one seed there is no spread, and no ranking can be read from the table."
    values, rivals, spread_out = frame.rename(columns={metric: "value"}), [], []
    for functional, step in dict.fromkeys(zip(frame["functional"], frame["step"], strict=True)):
        if step in REFERENCES or (functional, step) == (best["functional"], best["step"]):
            continue
        methods = ({"functional": a, "step": b} for a, b in ((functional, step), (best["functional"], best["step"])))
        with suppress(NotRun):
            low, high = intervals.ratio(values, *methods)
            if low <= 1 <= high:
                (rivals if high < 2 else spread_out).append(method_title(functional, step))
    said = f"Not told apart from it by the 95 % interval of the ratio over seeds: {'; '.join(rivals) or 'none'}"
    return said + (
        f"; so spread that it may be twice as far or as near: {'; '.join(spread_out)}." if spread_out else "."
    )


def as_functional(frame):
    """The runs with a conditional kernel as a functional of its own with the steps `gan` and `jko`."""
    conditional = frame["step"].isin(["ck_gan", "ck_jko"])
    steps = frame["step"].str.removeprefix("ck_")
    return frame.assign(functional=frame["functional"].mask(conditional, CONDITIONAL), step=steps)


def verdict(rows):
    """What the ratio of JKO to no JKO, paired by seed, allows to say: a sentence."""
    try:
        low, high = intervals.ratio(rows, {"step": "jko"}, {"step": "gan"})
    except NotRun:
        return "one seed: no spread, no verdict"
    within = f"ratio {low:.2f} to {high:.2f}"
    if low <= 1 <= high:
        return f"not told apart: {within}"
    return f"{'lower' if high < 1 else 'higher'} with JKO: {within}"


def published():
    """The published tables of gwf, with notes and trust, from conf/published.yaml."""
    return yaml.safe_load((paths.CONF / "published.yaml").read_text(encoding="utf-8"))["gwf"]


def published_difference(functional, step=1):
    """Published FID at JKO step `step` minus FID without JKO: a value and trust tag per table, as text."""
    source = published()
    at = source["columns"].index(f"step {step:g}")
    found = []
    for table in source["tables"]:
        if functional in table["rows"]:
            row = table["rows"][functional]
            found.append(f"{spread(row[at][0] - row[0][0], None, 2)} ({table['short']}) [{table['trust']}]")
    return ", ".join(found) or "–"


def paired(frame, metric, digits, compare=False):
    """JKO minus no JKO paired by seed: (frame, reading, the frame for people), a row per functional that has both steps.

    The verdict goes by the ratio, whose logarithm is the more alike over seeds. `compare` adds the published differences of FID on CIFAR-10.
    """
    values = as_functional(frame.rename(columns={metric: "value"}))
    rows = []
    for functional in dict.fromkeys(values["functional"]):
        chosen = values[values["functional"] == functional]
        difference = intervals.differences(chosen, {"step": "jko"}, {"step": "gan"}, ["seed"])
        if not len(difference):
            continue
        means = chosen[chosen["seed"].isin(difference.index)].groupby("step")["value"].mean()
        row = {"metric": metric, "functional": functional, "seeds": len(difference)}
        row |= {"jko_mean": means["jko"], "gan_mean": means["gan"]}
        row |= {"difference_mean": difference.mean(), "difference_sd": difference.std(ddof=1)}
        row |= {"lower_with_jko": (difference < 0).sum(), "verdict": verdict(chosen)}
        rows.append(row | ({"published_fid_difference": published_difference(functional)} if compare else {}))
    table = pd.DataFrame(rows, columns=None if rows else ["metric", "functional", "seeds", "verdict"])
    return table, read_paired(table), show_paired(table, digits)


def show_paired(table, digits):
    """The paired comparison for people."""
    shown = [
        {
            "functional": functional_title(row["functional"]),
            "JKO": spread(row["jko_mean"], None, digits),
            "no JKO": spread(row["gan_mean"], None, digits),
            "difference": spread(row["difference_mean"], row["difference_sd"], digits),
            "seeds": row["seeds"],
            "verdict": row["verdict"],
            **({"published": row["published_fid_difference"]} if "published_fid_difference" in table else {}),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(
        shown, columns=None if shown else ["functional", "JKO", "no JKO", "difference", "seeds", "verdict"]
    )


def read_paired(table):
    """How many comparisons the JKO step wins, and how weak the test is."""
    if not len(table) or table["seeds"].max() < 2:
        return "Two seeds of a functional with and without the JKO step are needed for a verdict."
    better, worse, tied = (table["verdict"].str.startswith(word).sum() for word in ("lower", "higher", "not"))
    counts = sorted({int(count) for count in table["seeds"] if count > 1})
    needed = "; ".join(f"{stats.t.ppf(0.975, n - 1) / n**0.5:.1f} with {n} seeds" for n in counts)
    return (
        f"Of {better + worse + tied} comparisons with several seeds the JKO step lowers the distance in {better} and raises it in {worse}; "
        f"{tied} are not told apart. To be seen the logarithm of the ratio has to be so many times its spread over seeds: {needed}; "
        f"one comparison in twenty of equal methods is seen too."
    )


def score_parts(frame, metric):
    """The distances of all runs as claims compare them: columns functional, step, seed, value."""
    return frame.rename(columns={metric: "value"})[["functional", "step", "seed", "value"]]
