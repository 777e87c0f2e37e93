"""The outlier toy of uotm: share of the outlier, samples between the modes, monotonicity."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL

TITLE = "Does relaxing the marginals remove outliers?"
CAPTION = (
    "One per cent of the data sits at −1, the rest at +1; the source is N(0, 1) and the cost a (x − y)². The exact share of "
    "generated points at the outlier is *larger* the more is relaxed, because the outlier is the nearer mode for the left half of the "
    'source. "Far" counts samples farther than four standard deviations from both modes, "inversions" neighbours in the wrong order '
    "(0 for a monotone map). uotm shows this toy as a picture (standard deviation .5 in its text, .1 in its code, used here)."
)
TITLES = {
    "ot": "OT (both hard)",
    "source_fixed": "source fixed",
    "uotm": "UOT, paired",
    "uotm_released": "UOT, all pairs",
}
COLOURS = {"ot": "#999933", "source_fixed": "#0072B2", "uotm": "#D55E00", "uotm_released": "#CC79A7"}


def joined(cases):
    """All rows in one frame."""
    return pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)


def table(cases):
    """A row per method, map and coefficient: shares in per cent, mean and spread over seeds."""
    rows = []
    for (a, map, method), part in joined(cases).groupby(["a", "map", "method"], sort=False):
        rows.append(
            {
                "a": a,
                "map": map,
                "method": TITLES[method],
                "outlier's share, %": 100 * part["share"].mean(),
                "sd": 100 * part["share"].std(),
                "exact, %": 100 * part["share_exact"].iloc[0],
                "far, %": 100 * part["far"].mean(),
                "inversions, %": 100 * part["inversions"].mean(),
                "published": "picture only [second-hand]",
                "n": len(part),
            }
        )
    return pd.DataFrame(rows)


def figure(cases):
    """Left: learned against exact share. Right: the maps of the first seed at the smallest a."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.7), layout="constrained")
    rows = joined(cases)
    for method, part in rows.groupby("method", sort=False):
        for i, (map, same) in enumerate(part.groupby("map")):
            left.plot(
                100 * same["share_exact"],
                100 * same["share"],
                "ox"[i % 2],
                color=COLOURS[method],
                ms=4,
                alpha=0.8,
                label=f"{TITLES[method]}, {map}",
            )
    top = 100 * max(rows["share"].max(), rows["share_exact"].max()) * 1.1
    left.plot([0, top], [0, top], color=REAL, lw=0.8, zorder=0)
    left.set(xlabel="exact share of the outlier, %", ylabel="learned, %")
    left.legend(fontsize=6, loc="upper left")
    curve = next(iter(cases.values()))["curve"]
    curve = curve[curve["a"] == curve["a"].min()]
    if "seed" in curve:
        curve = curve[curve["seed"] == curve["seed"].min()]
    for method, part in curve.groupby("method", sort=False):
        right.plot(part["x"], part["T"], color=COLOURS[method], lw=1.2, label=TITLES[method])
    right.axhspan(-1.4, -0.6, color=REAL, alpha=0.12, lw=0)
    right.axhspan(0.6, 1.4, color=REAL, alpha=0.12, lw=0)
    right.set(xlabel="x", ylabel="T(x)", title=f"maps at a = {curve['a'].min():g}, one seed", yticks=np.arange(-1, 2))
    return figure
