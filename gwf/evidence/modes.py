"""Masses of the modes of sjko's toys: learned against exact."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL

TITLE = "Mode masses of S-JKO and UOTM on 25 Gaussians and two circles"
CAPTION = (
    "Total variation between the masses of the modes that a trained map reaches after step k and the exact ones, and the "
    "distance of both from uniform masses. The exact scheme itself stays far from uniform: the centre holds a third of the mass, a corner less "
    'than a thousandth. "Experts" is a map that may jump, "plain" the papers\' residual network (in the laptop profile smaller and trained '
    'for a fraction of the published updates), "atoms" the first step with an exact inner minimum and one number per mode: '
    "what is left there is not the scheme's error but optimisation's. The papers show these toys as pictures, without numbers."
)
TITLES = {"sjko": "S-JKO", "jsd": "S-JKO (JSD)", "uotm": "UOTM, paired", "uotm_released": "UOTM, all pairs"}
COLOURS = {"experts": "#0072B2", "plain": "#D55E00", "atoms": "#009E73"}
PUBLISHED = "picture only [second-hand]"


def joined(cases):
    """All rows with their case, in one frame."""
    return pd.concat([tables["table"].assign(case=case) for case, tables in cases.items()], ignore_index=True)


def table(cases):
    """A row per case and phase shown (first and last): mean and spread over seeds beside the exact values."""
    rows = []
    for (case, k), part in joined(cases).groupby(["case", "k"], sort=False):
        if k not in (1, max(cases[case]["table"]["k"])):
            continue
        first = part.iloc[0]
        heavy = "outer_circle" if first["toy"] == "circles" else "centre"
        rows.append(
            {
                "case": case,
                "method": TITLES[first["method"]],
                "map": first["map"],
                "toy": first["toy"],
                "k": int(k),
                "updates": int(first["updates"]),
                "TV to exact": part["tv_to_exact"].mean(),
                "sd": part["tv_to_exact"].std(),
                "TV to uniform": part["tv_to_uniform"].mean(),
                "TV to uniform, exact": first["tv_to_uniform_exact"],
                "mass of": heavy.replace("_", " "),
                "learned": part[heavy].mean(),
                "exact": first[f"{heavy}_exact"],
                "inside modes": part["inside"].mean(),
                "published": PUBLISHED,
                "n": len(part),
            }
        )
    return pd.DataFrame(rows)


def figure(cases):
    """Left: total variation to the exact masses by phase. Right: share of the outer, middle and centre lines, or samples."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2), layout="constrained", width_ratios=[1.25, 1])
    rows = joined(cases)
    rows = rows[(rows["toy"] == "gaussians") & rows["tv_to_exact"].notna()]
    markers = {"sjko": "o", "uotm": "s", "uotm_released": "^"}
    for case, part in rows.groupby("case", sort=False):
        first, mean = part.iloc[0], part.groupby("updates")["tv_to_exact"].mean()
        left.plot(
            mean.index,
            mean.values,
            marker=markers[first["method"]],
            color=COLOURS[first["map"]],
            lw=1.2,
            ls=":" if "long" in case else "-",
            label=f"{TITLES[first['method']]}, {first['map']}" + (" (longer phases)" if "long" in case else ""),
        )
    left.axhline(0.05, color=REAL, lw=0.8, ls="--")
    left.set(xlabel="updates", ylabel="TV to the exact masses", xscale="log", yscale="log")
    left.xaxis.set_minor_formatter("")
    figure.legend(fontsize=7, loc="outside upper center", ncols=3)
    shown = next(
        (c for c in ("modes_sjko_long", "modes_sjko", *cases) if c in cases and len(cases[c].get("points", []))), None
    )
    if shown:
        points = cases[shown]["points"]
        points = points[points["seed"] == points["seed"].min()] if "seed" in points else points
        right.scatter(points["x"], points["y"], s=3, color=COLOURS[cases[shown]["table"]["map"].iloc[0]], lw=0)
        k = int(cases[shown]["table"]["k"].max())
        right.set(
            title=f"samples of {TITLES[cases[shown]['table']['method'].iloc[0]]} after {k} step{'s' if k > 1 else ''}",
            aspect="equal",
            xticks=np.arange(-6, 7, 3),
            yticks=np.arange(-6, 7, 3),
            xlim=(-7.5, 7.5),
            ylim=(-7.5, 7.5),
        )
    return figure
