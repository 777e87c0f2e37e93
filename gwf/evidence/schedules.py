"""What schedules gain over constant rates, and what persistency gains once the rate is tuned."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH, use_style
from gwf import fields
from gwf.evidence import initialisation

TITLE = "Schedules, velocity fields and persistency on the ring"
CAPTION = (
    "One loop, one map, equal outer iterations; the field and the schedule differ. W1 to fresh data at the end of training, on even latents (what "
    "the map got wrong) and on independent ones (as w2fe takes it). The two have different floors: two data sets, each with n / 8 points in every mode, "
    "are nearer to one another than independent points of the same law are to a data set, so that a perfect map fed with independent latents stays "
    'above the former. "Closed" is the share of the gap between the constant rate and the floor (even latents). Work is counted in '
    "regression steps of the map. No paper of the family isolates the schedule."
)
NAMES = {
    "constant": "constant",
    "cosine": "cosine of the rates",
    "euler": "Euler step falls",
    "temperature": "temperature falls",
    "average": "averaged weights",
    "rising": "rates rise",
    "all": "all together",
}
COLOURS = {
    "w2": "#0072B2",
    "w1": "#E69F00",
    "sinkhorn": "#D55E00",
    "sinkhorn_single": "#661100",
    "sliced": "#009E73",
    "mmd": "#CC79A7",
    "minibatch_ot": "#56B4E9",
}


def main(cases):
    """The cases with the small networks: all but those whose name ends with `_full`."""
    return {name: tables for name, tables in cases.items() if not name.endswith("_full")}


def joined(cases, name="table"):
    """Rows of the cases with the small networks, in one frame."""
    return initialisation.joined(main(cases), name)


def full_size(cases):
    """Rows of the cases with the published networks and batch, in one frame; empty if there are none."""
    cases = {name: tables for name, tables in cases.items() if name.endswith("_full")}
    return initialisation.joined(cases) if cases else pd.DataFrame()


def closed(rows, score="w1_even", floor="w1_floor"):
    """Share of the gap between plateau and floor that each schedule closes: a DataFrame field, schedule, share; means over seeds.

    (constant - schedule) / (constant - floor); NaN where the constant rate already reaches the floor.
    """
    mean = rows.groupby(["field", "schedule"], sort=False)[[score, floor]].mean().reset_index()
    plateau = mean[mean["schedule"] == "constant"].set_index("field")
    gap = mean["field"].map(plateau[score] - plateau[floor])
    share = (mean["field"].map(plateau[score]) - mean[score]) / gap.where(gap > 0)
    return mean[["field", "schedule"]].assign(share=share)


def tuned(persistency):
    """Per persistency: iterations and work to the threshold at the smallest rate and at the best one; medians over seeds.

    A DataFrame J, first, best, rate, work, cap; a cell that is not reached within the cap is infinite.
    """
    out = []
    for J, part in persistency.groupby("persistency"):
        medians = part.groupby("lr")[["reached", "work_to_threshold"]].median()
        best = medians["reached"].idxmin()
        out.append(
            {
                "J": J,
                "first": medians["reached"].iloc[0],
                "best": medians.loc[best, "reached"],
                "rate": best,
                "work": medians.loc[best, "work_to_threshold"],
                "cap": part["cap"].iloc[0],
                "first_rate": medians.index[0],
            }
        )
    return pd.DataFrame(out)


def gains(persistency):
    """Iterations of J = 1 over those of the fastest J > 1: (at the smallest rate, with the rate tuned for each J).

    Where J = 1 does not get there within the cap, the cap stands for it and the ratio is a lower bound.
    """
    rows = tuned(persistency)
    one, more = rows[rows["J"] == 1].iloc[0], rows[rows["J"] > 1]
    return tuple(min(one[column], one["cap"]) / more[column].min() for column in ("first", "best"))


def table(cases):
    """A row per field and schedule, then one per persistency."""
    out = results(joined(cases), "")
    full = full_size(cases)
    out += results(full, "w2fe's networks and batch: ") if len(full) else []
    persistency = joined(cases, "persistency")
    for _, row in tuned(persistency).iterrows() if len(persistency) else []:
        out.append(
            {
                "row": f"Sinkhorn, J = {row['J']:.0f}, best rate {row['rate']:g}: {row['best']:g} iterations ({row['first']:g} at {row['first_rate']:g})",
                "work to threshold": row["work"],
                "n": persistency["seed"].nunique(),
            }
        )
    return pd.DataFrame(out)


def results(rows, prefix):
    """A dict per field and schedule, the name of the row with `prefix`."""
    out, shares = [], closed(rows).set_index(["field", "schedule"])["share"]
    for (field, schedule), part in rows.groupby(["field", "schedule"], sort=False):
        out.append(
            {
                "row": f"{prefix}{fields.title(field)}, {NAMES[schedule]}",
                "W1": part["w1_even"].mean(),
                "spread": part["w1_even"].std(),
                "W2": part["w2_even"].mean(),
                "floor W1": part["w1_floor"].mean(),
                "closed": shares[field, schedule] if schedule != "constant" else None,
                "W1, independent": part["w1"].mean(),
                "floor, independent": part["w1_floor_independent"].mean(),
                "mode KL": part["mode_kl"].mean(),
                "std in modes": part["std_within"].mean(),
                "failed": f"{int(part['failed'].sum())} of {len(part)}",
                "work": part["work"].mean(),
                "work to threshold": part["work_to_threshold"].median() if schedule == "constant" else None,
                "n": len(part),
            }
        )
    return out


def reading(cases):
    """What all schedules close (H3), whether fields without critic need less work (H2), what tuned rates leave of persistency (H5)."""
    rows, said = joined(cases), []
    shares = closed(rows)
    shares = shares[shares["schedule"] == "all"]
    if len(shares):
        said.append(
            "All schedules together close "
            + ", ".join(f"{100 * row['share']:.0f} % ({fields.title(row['field'])})" for _, row in shares.iterrows())
            + " of the gap to the floor; half was the hypothesis."
        )
    work = rows[rows["schedule"] == "constant"].groupby("field")["work_to_threshold"].median()
    critic, free = (
        work[[f for f in work.index if fields.FIELDS[f].potentials]],
        work[[f for f in work.index if not fields.FIELDS[f].potentials]],
    )
    if len(critic) and len(free):
        said.append(
            f"Least work to the threshold: {free.min():.0f} without a critic, "
            + (f"{critic.min():.0f}" if np.isfinite(critic.min()) else "never")
            + " with one."
        )
    full = full_size(cases)
    if len(full):
        best = full.groupby("schedule")["w1_even"].mean()
        said.append(
            f"With w2fe's networks and batch the W2 critic ends at W1 {best['constant']:.3f} with constant rates and at {best.min():.3f} with "
            f"the best schedule ({NAMES[best.idxmin()]})."
        )
    persistency = joined(cases, "persistency")
    if len(persistency):
        first, best = gains(persistency)
        if np.isfinite(first) and np.isfinite(best) and best > 0:
            said.append(
                f"Persistency above 1 gains {first:.1f} times the iterations at the smallest rate and {best:.1f} times with tuned rates."
            )
    return " ".join(said)


def figure(cases):
    """Left: W1 by field and schedule. Right: iterations to the threshold by rate and persistency."""
    use_style()
    rows, persistency = joined(cases), joined(cases, "persistency")
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3), layout="constrained", width_ratios=(1.7, 1))
    shown, names = list(dict.fromkeys(rows["field"])), [name for name in NAMES if name in set(rows["schedule"])]
    marks = dict(zip(NAMES, ("o", "^", "v", "D", "s", "x", "*"), strict=True))
    for i, name in enumerate(names):
        part = rows[rows["schedule"] == name].groupby("field")["w1_even"].agg(["mean", "std"]).reindex(shown)
        place = np.arange(len(shown)) + 0.11 * (i - (len(names) - 1) / 2)
        colour = "#000000" if name == "constant" else "#D55E00" if name == "all" else "#777777"
        left.errorbar(
            place,
            part["mean"],
            part["std"].fillna(0),
            fmt=marks[name],
            ms=4.5 if name in ("constant", "all") else 3.5,
            lw=0.8,
            color=colour,
            mfc=colour if name in ("constant", "all") else "white",
            label=NAMES[name],
        )
    left.axhline(rows["w1_floor"].mean(), color=REAL, lw=1, ls="dotted")
    left.set_xticks(
        range(len(shown)),
        [fields.title(f).replace(", single batch", "\nsingle batch").replace(" ", "\n", 1) for f in shown],
        fontsize=7,
    )
    left.set(ylabel="W₁ at the end, even latents", yscale="log")
    left.yaxis.set_minor_formatter(plt.NullFormatter())
    ticks = [
        t for t in (0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8) if left.get_ylim()[0] <= t <= left.get_ylim()[1]
    ]
    left.set_yticks(ticks, [f"{t:g}" for t in ticks])
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", fontsize=7, ncols=4)
    if len(persistency):
        cap = persistency["cap"].max()
        for (J, part), mark in zip(persistency.groupby("persistency"), ("o", "s", "^", "D"), strict=False):
            median = part.groupby("lr")["reached"].median()
            right.plot(median.index, median.clip(upper=cap), marker=mark, lw=1.2, ms=4, label=f"J = {J}")
        right.axhline(cap, color=REAL, lw=0.8, ls="dashed")
        right.set(xscale="log", yscale="log", xlabel="rate of the map", ylabel="iterations to threshold (Sinkhorn)")
        right.legend(fontsize=7)
    else:
        right.set_axis_off()
    return figure
