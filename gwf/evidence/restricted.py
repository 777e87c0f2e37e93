"""What the report shows of the restricted divergence."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH, use_style

TITLE = "What a restricted class of critics sees"
CAPTION = (
    "The statements of vwgf, section 4, computed without training: critics from the span of a few features make the "
    "restricted divergence a finite maximum. Each value must lie between the two bounds of its statement. Laws whose "
    "moments match are invisible to a class of those moments; for the chi-square divergence the bounds coincide with the "
    "value; the error of particle JKO lies under its bound and falls with the number of samples."
)


def table(cases):
    """One row per check and case; mean and spread over seeds (only random features and particles vary), verdict."""
    frames = [tables["table"] for tables in cases.values()]
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames)
    grouped = frame.groupby(["check", "case"], sort=False)
    out = grouped[["value", "lower", "upper"]].mean()
    out.insert(1, "spread", grouped["value"].std())
    inside = (frame["value"] >= frame["lower"] - 1e-8) & (frame["value"] <= frame["upper"] + 1e-8)
    out["within bounds"] = inside.groupby([frame["check"], frame["case"]], sort=False).all()
    out["n"] = grouped.size()
    return out.round(5).reset_index()


def figure(cases):
    """Left: approximation error under its bound against the number of features. Right: particle error."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.7), layout="constrained")
    if not cases:
        return fig
    rows = table(cases)
    for name, colour in [("chi2", "#CC79A7"), ("clipped KL", "#0072B2")]:
        at = rows[(rows["check"] == "approximation") & rows["case"].str.startswith(name)]
        width = at["case"].str.extract(r"(\d+) features")[0].astype(int)
        axes[0].plot(width, at["value"], "o-", color=colour, label=name)
        axes[0].plot(width, at["upper"], color=colour, linestyle="dotted", label=f"{name}, bound")
    axes[0].set(xlabel="random features", ylabel="D - restricted D", yscale="log", xticks=width)
    at = rows[rows["check"] == "particles"]
    N = at["case"].str.extract(r"N = (\d+)")[0].astype(int)
    axes[1].plot(N, at["value"], "o-", color="#009E73", label="simulated error")
    axes[1].plot(N, at["upper"], color=REAL, linestyle="dotted", label="bound")
    guide = at["value"].iloc[-1] * np.sqrt(N.iloc[-1] / N)
    axes[1].plot(N, guide, color=REAL, linewidth=0.8, label="slope -1/2")
    axes[1].set(xlabel="samples per step N", ylabel="error of the objective", xscale="log", yscale="log")
    for ax in axes:
        ax.legend(fontsize=7)
    return fig
