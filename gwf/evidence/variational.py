"""Variational bounds on finite batches, against their exact values."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH, colour, use_style

TITLE = "What a variational bound costs: bias on finite batches and the gradient the map receives"
CAPTION = (
    "N(m, 1) against N(0, 1) with affine critics, where everything has an exact value (grey). Left: mean of a bound over many "
    "batches minus its true value; the classical bounds have none, Donsker-Varadhan and the tight chi-square are too large by an "
    "amount that falls like 1/B. Middle: the gradient that the map receives from a critic trained by stochastic ascent; its right "
    "value is m, bars are the spread along the ascent. Right: the gradients of the saturating and the non-saturating "
    "Jensen-Shannon losses with a fitted discriminator; they add up to the gradient of KL."
)
COLOURS = {
    "KL": colour("kl"),
    "KL-DV": colour("kl_dv"),
    "chi2": colour("chi2"),
    "chi2 tight": colour("chi2_tight"),
    "JS saturating": colour("js"),
    "JS non-saturating": colour("js_ns"),
}


def joined(cases):
    """All rows in one frame."""
    return pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)


def table(cases):
    """A row per quantity, bound, setting and batch: mean over seeds, its spread, spread within a run, exact value."""
    by = ["quantity", "bound", "setting", "batch"]
    rows = (
        joined(cases)
        .groupby(by, sort=False)
        .agg(
            value=("measured", "mean"),
            seed_sd=("measured", "std"),
            batch_sd=("spread", "mean"),
            exact=("exact", "first"),
            n=("seed", "nunique"),
        )
    )
    return rows.reset_index().assign(published="none")


def figure(cases):
    """Bias against B, gradient of the map against B, and the two Jensen-Shannon gradients against m."""
    use_style()
    rows = joined(cases)
    rows = (
        rows.groupby(["part", "bound", "setting", "batch"], sort=False)[["measured", "spread", "exact"]]
        .mean()
        .reset_index()
    )
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 2.7), layout="constrained")
    for (bound, setting), part in rows[rows["part"] == "bias"].groupby(["bound", "setting"], sort=False):
        if bound in ("KL-DV", "chi2 tight"):
            left.loglog(part["batch"], part["exact"], color=REAL, lw=1)
            marker = "o" if setting == "a = 1" else "s" if bound == "KL-DV" else "^"
            left.plot(part["batch"], part["measured"], marker, ms=4, color=COLOURS[bound], label=f"{bound}, {setting}")
    left.set(xlabel="batch B", ylabel="bias of the bound")
    for i, (bound, part) in enumerate(rows[rows["part"] == "ascent"].groupby("bound", sort=False)):
        at = part["batch"] * (0.94, 1.06)[i]
        middle.errorbar(
            at, part["measured"], part["spread"], fmt="o", ms=4, lw=1, capsize=2, color=COLOURS[bound], label=bound
        )
        middle.axhline(part["exact"].iloc[0], color=REAL, lw=1)
    middle.set(xscale="log", xlabel="batch B", ylabel="gradient of the map")
    for panel, part in ((left, "bias"), (middle, "ascent")):
        batches = sorted(rows.loc[rows["part"] == part, "batch"].unique())
        panel.set_xlim(batches[0] / 1.4, batches[-1] * 1.4)
        panel.set_xticks(batches, [str(B) for B in batches])
        panel.set_xticks([], minor=True)
    js = rows[rows["part"] == "js"].assign(m=lambda rows: rows["setting"].str.removeprefix("m = ").astype(float))
    for bound, part in js.groupby("bound", sort=False):
        right.plot(part["m"], part["exact"], color=REAL, lw=1)
        right.plot(part["m"], part["measured"], "o", ms=4, color=COLOURS[bound], label=bound)
    right.plot(np.unique(js["m"]), np.unique(js["m"]), color=REAL, ls=":", lw=1, label="their sum: d KL / dm")
    right.set(xlabel="m", ylabel="gradient of the map")
    for panel in (left, middle, right):
        panel.legend(fontsize=6.5)
    return figure
