"""Evidence: W2-FE, its relatives without a critic, and GANs on toys of the plane."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator

from companion.style import REAL, WIDTH, use_style

TITLE = "Frozen targets on the ring: W1 against three axes, tuned rates, schedules"
CAPTION = (
    "Exact W1 between images of fixed latents and as many fixed data points, means over seeds. Top: one learning rate, the same curves "
    "against outer iterations, generator updates and critic updates. Bottom: learning rates tried for each persistency; a schedule at "
    "w2fe's network and batch sizes, and averaged weights; where other toys end. Two floors: the grey line is the distance of two data "
    "sets as w2fe draws them, with equally many points in each mode of the ring; the dotted line is what a perfect map of independent "
    "latents would score. The bottom panels are drawn where the profile has such trainings."
)
KEYS = ["case", "toy", "width", "batch", "label", "method", "persistency", "eps", "lr", "schedule", "iterations"]
RATE, LEVEL = 1e-4, 0.3
#: (method, persistency) -> colour and line style; others are grey.
LOOK = {
    ("w2fe", 1): ("#56B4E9", "-"),
    ("w2fe", 3): ("#0072B2", "-"),
    ("w2fe", 10): ("#332288", "-"),
    ("w2fe_released", 10): ("#332288", ":"),
    ("w2gan", 1): ("#56B4E9", "--"),
    ("naive", 10): ("#D55E00", "--"),
    ("wgan_lp", 1): ("#E69F00", "--"),
    ("w1fe_lp", 10): ("#E69F00", "-"),
    ("sinkhorn", 10): ("#009E73", "-"),
    ("sinkhorn", 1): ("#44AA99", "-"),
}
SHOWN = [("w2fe", 1), ("w2fe", 3), ("w2fe", 10), ("naive", 10), ("wgan_lp", 1), ("w1fe_lp", 10), ("sinkhorn", 10)]
TOY_COLOURS = {"w2fe": "#332288", "sinkhorn": "#009E73"}
AXES = {"iteration": "outer iterations", "generator_updates": "generator updates", "critic_updates": "critic updates"}


def joined(cases):
    """All rows in one frame, with the case."""
    return pd.concat([tables["table"].assign(case=case) for case, tables in cases.items()], ignore_index=True)


def first_below(rows, level):
    """Outer iterations until W1 first falls to `level`, linearly between evaluations; inf if it does not."""
    rows = rows.sort_values("iteration")
    i, w = rows["iteration"].to_numpy(float), rows["w1"].to_numpy()
    below = np.flatnonzero(w <= level)
    if not below.size:
        return np.inf
    k = below[0]
    return i[k] if k == 0 else i[k - 1] + (i[k] - i[k - 1]) * (w[k - 1] - level) / (w[k - 1] - w[k])


def table(cases):
    """A row per training: iterations to W1 = .3, W1 over the second half and at the end, averaged weights, floors."""
    out = []
    for key, rows in joined(cases).groupby(KEYS, sort=False):
        about = dict(zip(KEYS, key, strict=True))
        by_seed = [part for _, part in rows.groupby("seed")]
        late = pd.Series([part.loc[part["iteration"] >= part["iteration"].max() / 2, "w1"].mean() for part in by_seed])
        end = rows[rows["iteration"] == rows["iteration"].max()]
        row = {
            "case": about["case"],
            "toy": about["toy"],
            "method": about["label"],
            "persistency": about["persistency"],
            "eps": about["eps"],
            "learning rate": about["lr"],
            "schedule": about["schedule"],
            "outer iterations": about["iterations"],
            "iterations to W1 = .3": np.mean([first_below(part, LEVEL) for part in by_seed]),
            "W1, second half": late.mean(),
            "sd": late.std(),
            "W1 at the end": end["w1"].mean(),
            "averaged weights": end["w1_ema"].mean(),
            "floor": rows["floor_w1"].mean(),
            "floor, independent latents": rows["floor_w1_independent"].mean(),
            "W2 at the end": end["w2"].mean(),
            "floor W2, independent latents": rows["floor_w2_independent"].mean(),
        }
        if "spread" in rows:
            row |= {
                "spread in modes": end["spread"].mean(),
                "share within 3 sd": end["share_3sd"].mean(),
                "modes": end["modes"].mean(),
            }
        out.append(row | {"published": "none [unknown]", "n": len(by_seed)})
    return pd.DataFrame(out).round(4)


def comparison(rows):
    """The ring with the narrowest networks: where all methods are."""
    rows = rows[rows["toy"] == "ring"]
    return rows[rows["width"] == rows["width"].min()]


def curve(rows, axis="iteration", value="w1"):
    """(x, mean over seeds of `value`) along an axis."""
    mean = rows.groupby(axis)[value].mean()
    return mean.index.to_numpy(), mean.to_numpy()


def chosen(rows, method, persistency, **where):
    """Rows of one training at a constant rate; the smallest eps where several were tried."""
    rows = rows[(rows["method"] == method) & (rows["persistency"] == persistency) & (rows["schedule"] == "constant")]
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    return rows[rows["eps"] == rows["eps"].min()]


def steps_to(rows, level=LEVEL):
    """Mean over seeds of `first_below`."""
    return float(np.mean([first_below(part, level) for _, part in rows.groupby("seed")])) if len(rows) else np.nan


def said(n):
    """Iterations as text."""
    return f"{n:.0f}" if np.isfinite(n) else "not reached by every seed"


def reading(cases):
    """What the numbers say: speed by persistency at one rate and at tuned rates, the frozen target, the schedule."""
    rows, out = joined(cases), []
    small = comparison(rows)
    took = {
        J: steps_to(chosen(small, "w2fe", J, lr=RATE))
        for J in sorted(small.loc[small["method"] == "w2fe", "persistency"].unique())
    }
    took = {J: n for J, n in took.items() if not np.isnan(n)}
    if took:
        out.append(
            f"Outer iterations to W1 = {LEVEL} at the rate {RATE:g}: "
            + ", ".join(f"{said(n)} (persistency {J})" for J, n in took.items())
            + "."
        )
    tuned = {}
    for J in took:
        part = small[(small["method"] == "w2fe") & (small["persistency"] == J) & (small["schedule"] == "constant")]
        tuned[J] = min((steps_to(rate), lr) for lr, rate in part.groupby("lr"))
    if len(tuned) > 1:
        out.append(
            "At the fastest rate of each: "
            + ", ".join(f"{said(n)} (persistency {J}, rate {lr:g})" for J, (n, lr) in tuned.items())
            + "."
        )
    late = {}
    for name in ("naive", "w2fe"):
        part = chosen(small, name, 10, lr=RATE)
        if len(part):
            late[name] = part.loc[part["iteration"] >= part["iterations"] / 2, "w1"].mean()
    if len(late) == 2:
        out.append(
            f"Ten generator steps, W1 over the second half: {late['naive']:.3f} without and {late['w2fe']:.3f} with a frozen target."
        )
    for key, part in rows[rows["schedule"] == "cosine"].groupby(["width", "toy", "label", "persistency"], sort=False):
        if key[1] != "ring":
            continue
        end = part[part["iteration"] == part["iteration"].max()]
        out.append(
            f"{key[2]} with persistency {key[3]}, width {key[0]}, rates along a cosine: W1 {end['w1'].mean():.3f} at the end, W2 {end['w2'].mean():.3f}; "
            f"a perfect map of independent latents scores {end['floor_w1_independent'].mean():.3f} and {end['floor_w2_independent'].mean():.3f}."
        )
    return " ".join(out)


def floors(panel, rows):
    """Both floors across a panel."""
    panel.axhline(rows["floor_w1"].mean(), color=REAL, lw=1)
    panel.axhline(rows["floor_w1_independent"].mean(), color=REAL, lw=1, ls=":")


def dress(panel, x, y=True):
    """Logarithmic W1 with readable ticks."""
    panel.set(yscale="log", ylim=(0.04, 1.15), xlabel=x)
    panel.yaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1]))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    if y:
        panel.set_ylabel("W₁")


def counted(panel):
    """A logarithmic axis of counts, labelled at 1, 3, 10, 30 and so on."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator([a * 10**k for k in range(7) for a in (1, 3)]))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())


def top(panels, small):
    """One rate, three axes. Returns the legend's handles."""
    handles = []
    for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
        for method, J in SHOWN:
            rows = chosen(small, method, J, lr=RATE)
            if rows.empty or not rows[axis].max():
                continue
            hue, style = LOOK[method, J]
            x, w = curve(rows, axis)
            (drawn,) = panel.plot(x[1:], w[1:], color=hue, ls=style, label=f"{rows['label'].iloc[0]}, {J}")
            handles += [drawn] if axis == "iteration" else []
        floors(panel, small)
        dress(panel, label, axis == "iteration")
        counted(panel)
    return handles


def tuned(panel, small):
    """Every rate of persistency 1, 3 and 10."""
    styles = ["-", "--", ":", "-."]
    part = small[(small["method"] == "w2fe") & (small["schedule"] == "constant")]
    for J, rows in part.groupby("persistency"):
        for style, (lr, group) in zip(styles, rows.groupby("lr"), strict=False):
            x, w = curve(group)
            panel.plot(
                x[1:],
                w[1:],
                color=LOOK.get(("w2fe", J), (REAL,))[0],
                ls=style,
                lw=1.2,
                label=f"{J}: {lr:.0e}".replace("e-0", "e−"),
            )
    floors(panel, small)
    dress(panel, "outer iterations")
    counted(panel)
    panel.set_ylim(0.012, 1.15)
    panel.legend(
        fontsize=6,
        title="persistency: rate",
        title_fontsize=6.5,
        ncols=2,
        loc="lower left",
        columnspacing=1.0,
        handlelength=1.6,
        labelspacing=0.2,
    )


def scheduled(panel, large):
    """w2fe's sizes: constant rates and the cosine, live and averaged weights."""
    for schedule, hue in (("constant", "#CC79A7"), ("cosine", "#332288")):
        rows = large[(large["schedule"] == schedule) & (large["method"] == "w2fe")]
        for value, style, name in (("w1", "-", ""), ("w1_ema", "--", ", averaged")):
            if len(rows):
                panel.plot(*curve(rows, value=value), color=hue, ls=style, lw=1.3, label=f"{schedule}{name}")
    floors(panel, large)
    dress(panel, "outer iterations, w2fe's sizes", False)
    panel.legend(fontsize=6.5)


def ends(panel, rows):
    """Where other toys end: W1 and its floor."""
    names = list(dict.fromkeys(rows["toy"]))
    for i, name in enumerate(names):
        here = rows[(rows["toy"] == name) & (rows["iteration"] == rows["iterations"])]
        floor = here["floor_w1_independent"].mean()
        panel.plot([i - 0.3, i + 0.3], [floor] * 2, color=REAL, lw=1.2, ls=":")
        for shift, (method, part) in zip((-0.12, 0.12), here.groupby("method"), strict=False):
            panel.errorbar(
                i + shift,
                part["w1"].mean(),
                part["w1"].std() if len(part) > 1 else 0,
                fmt="o",
                ms=4,
                lw=1,
                color=TOY_COLOURS.get(method, REAL),
                label=part["label"].iloc[0] if i == 0 else None,
            )
    panel.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    panel.set(ylim=(0, None), xlabel="W₁ at the end")
    panel.legend(fontsize=6.5)


def figure(cases):
    """Three axes above; rates, a schedule and other toys below, as far as there are any."""
    use_style()
    rows = joined(cases)
    small, ring = comparison(rows), rows[rows["toy"] == "ring"]
    large, others = ring[ring["width"] == ring["width"].max()], rows[rows["toy"] != "ring"]
    if not (large["schedule"] == "cosine").any():
        large = large.iloc[:0]
    fig, panels = plt.subplots(2, 3, figsize=(WIDTH, 5.4), layout="constrained")
    handles = top(panels[0], small)
    tuned(panels[1, 0], small)
    for panel, part, draw in ((panels[1, 1], large, scheduled), (panels[1, 2], others, ends)):
        draw(panel, part) if len(part) else panel.axis("off")
    fig.legend(
        handles=handles, loc="outside upper center", ncols=4, fontsize=7, title="method, persistency", title_fontsize=7
    )
    return fig
