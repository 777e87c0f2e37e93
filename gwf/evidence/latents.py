"""What the proximal term does to the auxiliary latent."""

import matplotlib.pyplot as plt
import pandas as pd

TITLE = "Matched or independent latents in the proximal term"
CAPTION = (
    "E Var_z T(x, z), the randomness a generator draws from its auxiliary latent z, after each step, for a map that starts with "
    "T = .8 x + .6 z. When the anchor sees the map's own z, the exact step keeps the ratio of the two parts; when it draws its own, as in "
    "sjko's algorithm, the exact affine step removes z at once. Lines are exact (for affine maps), points learned, mean over seeds. "
    "The papers report nothing of the kind: the question is ours."
)
COLOURS = {"matched": "#0072B2", "independent": "#D55E00"}


def joined(cases):
    """All rows in one frame."""
    return pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)


def table(cases):
    """A row per map, rule and step."""
    rows = []
    for (net, rule, k), part in joined(cases).groupby(["map", "latents", "step"], sort=False):
        rows.append(
            {
                "map": net,
                "latents": rule,
                "step": k,
                "E Var_z T": part["variance_z"].mean(),
                "sd over seeds": part["variance_z"].std(),
                "exact": part["variance_z_exact"].iloc[0],
                "mean": part["mean"].mean(),
                "mean, exact": part["mean_exact"].iloc[0],
                "standard deviation": part["sd"].mean(),
                "standard deviation, exact": part["sd_exact"].iloc[0],
                "published": "none",
                "n": len(part),
            }
        )
    return pd.DataFrame(rows)


def figure(cases):
    """E Var_z T and the law's standard deviation by step."""
    figure, panels = plt.subplots(1, 2, figsize=(7.0, 2.6), layout="constrained")
    rows = joined(cases)
    for panel, column, title in zip(
        panels, ("variance_z", "sd"), ("E Var$_z$ T", "standard deviation of the law"), strict=True
    ):
        for (net, rule), part in rows.groupby(["map", "latents"], sort=False):
            mean = part.groupby("step")[[column, f"{column}_exact"]].mean()
            if net == "affine":
                panel.plot(mean.index, mean[f"{column}_exact"], color=COLOURS[rule], lw=1.2, label=f"{rule}, exact")
            panel.plot(
                mean.index,
                mean[column],
                "o" if net == "affine" else "x",
                color=COLOURS[rule],
                ms=5,
                label=f"{rule}, {net}",
            )
        panel.set(xlabel="step k", ylabel=title, xticks=sorted(rows["step"].unique()))
    panels[0].legend(fontsize=7)
    return figure
