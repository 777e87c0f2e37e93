"""What an initialisation by a Wasserstein gradient flow buys at equal work."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH, use_style
from gwf import fields

TITLE = "Initialising the map by a Wasserstein gradient flow"
CAPTION = (
    "Ring of eight Gaussians. Particles follow the Sinkhorn flow, the map is regressed on where each latent went, then Euler steps go on; every run "
    "has the work of the cold start, flow and regression included (work is counted in regression steps of the map; a curve starts where phase 1 "
    'ends). "Other flow" is a control: phase 1 aims at four Gaussians. W1 is taken on even latents; the floor is W1 between two data sets. Rows '
    '"particles" are flows without a map, against fresh data; w2fe\'s setting with exact transport gave us W1 .037 (full batch of 512) and .073 '
    "(batches of 128, modes inflated to .132). NSGF++, the published form, reports images only (MNIST FID 3.8) [second-hand]."
)
COLOURS = {"none": "#000000", "flow": "#0072B2", "flow, straight": "#009E73", "other flow": "#CC79A7"}


def joined(cases, name="table"):
    """All rows of the tables `name` in one frame; empty if no case has one."""
    frames = [tables[name].assign(seed=tables[name].get("seed", 0)) for tables in cases.values() if name in tables]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def table(cases):
    """A row per field and initialisation, then one per particle flow: means over seeds and spread."""
    out = []
    for (field, init), part in joined(cases).groupby(["field", "init"], sort=False):
        reached = np.isfinite(part["work_to_threshold"])
        out.append(
            {
                "row": f"{fields.title(field)}, {init}",
                "work before": part["work_before"].mean(),
                "W1 after it": part["w1_after_init"].mean(),
                "work to threshold": part["work_to_threshold"].median(),
                "reached in": f"{reached.sum()} of {len(part)}",
                "work in all": part["work"].mean(),
                "final W1": part["w1_even"].mean(),
                "spread": part["w1_even"].std(),
                "final W1, independent latents": part["w1"].mean(),
                "std in modes": part["std_within"].mean(),
                "floor": part["w1_floor"].mean(),
                "floor, independent": part["w1_floor_independent"].mean(),
                "published": "none",
                "n": len(part),
            }
        )
    particles = joined(cases, "particles")
    for (field, batch), part in particles.groupby(["field", "batch"], sort=False) if len(particles) else []:
        out.append(
            {
                "row": f"particles, {field}, batch {batch}",
                "final W1": part["w1"].mean(),
                "spread": part["w1"].std(),
                "std in modes": part["std_within"].mean(),
                "published": "none",
                "n": len(part),
            }
        )
    return pd.DataFrame(out)


def compare(rows):
    """Per field: ratio of median work to the threshold of flow to none, final difference, seed noise. A DataFrame.

    The ratio is 0 where only the initialised run gets there, infinite where only the cold one does, NaN where neither.
    Noise is twice the standard error of the difference of the two means, from the spread over seeds; NaN for one seed.
    """
    out = []
    for field, part in rows.groupby("field", sort=False):
        by = {init: same for init, same in part.groupby("init")}
        if not {"none", "flow"} <= set(by):
            continue
        cold, warm = by["none"], by["flow"]
        noise = 2 * np.sqrt(cold["w1_even"].var() / len(cold) + warm["w1_even"].var() / len(warm))
        first, second = (runs["work_to_threshold"].median() for runs in (warm, cold))
        out.append(
            {
                "field": field,
                "ratio": first / second if np.isfinite(second) else 0.0 if np.isfinite(first) else np.nan,
                "difference": warm["w1_even"].mean() - cold["w1_even"].mean(),
                "noise": noise,
            }
        )
    return pd.DataFrame(out)


def reading(cases):
    """One sentence per field on hypothesis H1: shorter work to the threshold, same final W1."""
    said = []
    for _, row in compare(joined(cases)).iterrows():
        if np.isnan(row["ratio"]):
            work = "neither run reaches the threshold in the median"
        elif row["ratio"] == 0:
            work = "the initialised run reaches the threshold in the median, the cold start does not"
        elif np.isinf(row["ratio"]):
            work = "the initialised run does not reach the threshold in the median, the cold start does"
        else:
            work = f"the initialised run needs {row['ratio']:.2f} times the cold start's work to the threshold"
        if np.isnan(row["noise"]):
            final = f"final W1 differs by {row['difference']:+.3f} (one seed)"
        else:
            final = (
                f"final W1 differs by {row['difference']:+.3f}, {'within' if abs(row['difference']) <= row['noise'] else 'beyond'} "
                f"the seed noise of {row['noise']:.3f}"
            )
        said.append(f"{fields.title(row['field'])}: {work}; {final}.")
    return " ".join(said)


def figure(cases):
    """W1 against work, a panel per field; mean over seeds."""
    use_style()
    curve, rows = joined(cases, "curve"), joined(cases)
    shown = list(dict.fromkeys(curve["field"]))
    figure, panels = plt.subplots(1, len(shown), figsize=(WIDTH, 2.8), layout="constrained", sharey=True, squeeze=False)
    for panel, field in zip(panels[0], shown, strict=True):
        for init, part in curve[curve["field"] == field].groupby("init", sort=False):
            mean = part.groupby("work")["w1_even"].mean()
            panel.plot(mean.index, mean, color=COLOURS.get(init, REAL), lw=1.2, marker="o", ms=2, label=init)
        panel.axhline(rows["w1_floor"].mean(), color=REAL, lw=1, ls="dotted")
        panel.axhline(rows["threshold"].iloc[0], color=REAL, lw=0.8, ls="dashed")
        panel.set(yscale="log", xlabel="work (regression steps)", title=fields.title(field))
    panels[0, 0].set_ylabel("W₁, even latents")
    panels[0, -1].legend(fontsize=7, title="initialisation", title_fontsize=7)
    return figure
