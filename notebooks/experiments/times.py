"""What a training costs, measured alone: conf/times.yaml, which benchmarks/digits.py writes, beside measured samples."""

import pandas as pd
import yaml

from gwf import paths

NETWORKS = {"map": "map passes", "critic": "critic passes"}
"""What passes are counted of -> their title."""


def read():
    """(Processor, a row for each method, or for each of its phases): conf/times.yaml, methods by functional and step."""
    known = yaml.safe_load((paths.CONF / "times.yaml").read_text(encoding="utf-8"))
    rows = pd.DataFrame(known["rows"])
    rows[["functional", "step"]] = rows["case"].str.split("-", expand=True)
    return known["machine"]["cpu"], rows.drop(columns="case")


def where():
    """On what the seconds were measured: a sentence."""
    return f"Seconds: one thread of {read()[0]}."


def of(frame):
    """Cost of an update of each method in `frame`, mean over its phases, and `seconds` of its updates.

    One row per method. Nothing is known of a batch of another size than the measured one.
    """
    keys = ["functional", "step", "batch"]
    costs = read()[1].drop(columns="phase").groupby(keys, as_index=False).mean()
    found = frame[[*keys, "updates"]].drop_duplicates(keys[:2]).merge(costs, on=keys, how="left")
    return found.assign(seconds=found["ms"] * found["updates"] / 1000).drop(columns=["batch", "updates"])


def beside(table, shown, frame):
    """The table of methods and the same for people, with seconds of training and passes per update."""
    table = table.merge(of(frame), on=["functional", "step"], how="left")
    places = [*shown].index("seeds")
    words = {"seconds": ["–" if pd.isna(value) else f"{value:.0f}" for value in table["seconds"]]}
    for name, title in NETWORKS.items():
        pairs = zip(table[f"{name}_forward"], table[f"{name}_back"], strict=True)
        words[title] = [f"{there:.3g} + {back:.3g}" if there > 0 else "–" for there, back in pairs]
    for place, (title, cells) in enumerate(words.items(), places):
        shown.insert(place, title, cells)
    return table, shown


def curves(measured, frame):
    """The curves `measured` of the methods in `frame` with `seconds` up to each evaluation, where they are known."""
    costs = of(frame)[["functional", "step", "ms"]]
    found = measured.merge(costs, on=["functional", "step"]).dropna(subset="ms")
    return found.assign(seconds=found["ms"] * found["updates"] / 1000)


def by_phase(functional, updates):
    """Increments beside the whole map of `functional`, a row for each phase: (table, reading); `updates` in a phase."""
    rows = read()[1]
    rows = rows[rows["functional"] == functional].dropna(subset="phase").astype({"phase": int})
    columns = {"map_forward": "map passes", "ms": "ms", "networks_mb": "MB of weights"}
    wide = rows.pivot(index="phase", columns="step", values=[*columns])
    pairs = [(name, step) for name in columns for step in ("increments", "whole")]
    table = wide[pairs].set_axis([f"{columns[name]}, {step}" for name, step in pairs], axis=1).reset_index()
    total = {name: wide[name].sum() for name in ("map_forward", "ms")}
    passes, seconds = (total["map_forward"] * updates, total["ms"] * updates / 1000)
    last, peak = wide.iloc[-1], rows.groupby("step")["peak_mb"].max()
    reading = (
        f"{len(wide)} phases of {updates} updates: the increments take {passes['increments']:.0f} passes of the map and "
        f"{seconds['increments']:.0f} s, the whole map {passes['whole']:.0f} and {seconds['whole']:.0f} s. In the last phase an "
        f"update of the increments takes {last['ms', 'increments'] / last['ms', 'whole']:.1f} times as long and "
        f"{last['networks_mb', 'increments'] / last['networks_mb', 'whole']:.1f} times the weights. Beyond the modules "
        f"a process takes up to {peak['increments']:.0f} and {peak['whole']:.0f} MB, most of it not weights. {where()}"
    )
    return table, reading
