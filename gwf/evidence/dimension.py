"""Evidence: explicit flows against dimension, accuracy of the field apart from quality of the samples."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import LogFormatter, NullLocator

from companion.style import REAL, WIDTH, use_style

TITLE = "Explicit flows as the dimension grows"
CAPTION = (
    "Pairs with a known optimal map: Gaussians, and a Gaussian pushed onto eight clusters by the gradient of a convex function. Cosine and L2-UVP "
    "hold the velocity at the start against the true displacement (for the energy MMD, whose velocity is no displacement, the cosine and the best multiple are what counts). "
    "Energy distance and sliced W2 are those of samples after the same training of the same network with the same settings in every dimension, over the distance of two samples of the data. "
    "The linear map is optimal between Gaussians, is fitted on many samples in closed form, and trains nothing: the bar. "
    "Work is arithmetic operations of one outer iteration. W2 benchmark, penalised dual, L2-UVP at d = 2, 16, 64, 256: 5.0, 31.7, 40.1, 54.7 %; linear map 14.1, 41.6, 63.9, 67.4 % on other pairs [second-hand]."
)
COLOURS = {
    "W2 critic": "#D55E00",
    "Sinkhorn": "#0072B2",
    "sliced": "#009E73",
    "minibatch OT": "#CC79A7",
    "MMD, energy": "#E69F00",
    "linear map": REAL,
}
FREE, CRITIC = "Sinkhorn", "W2 critic"


def _rows(cases):
    return pd.concat([tables["table"].assign(case=case) for case, tables in sorted(cases.items())], ignore_index=True)


def _pm(values, digits):
    values = values.dropna()
    if not len(values):
        return "–"
    return f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")


def table(cases):
    """A row per pair, dimension and method; mean and spread over seeds."""
    return pd.DataFrame(
        [
            {
                "pair": kind,
                "d": d,
                "method": method,
                "cosine at the start": _pm(part["cosine"], 3),
                "L2-UVP at the start, %": _pm(part["uvp"], 1),
                "the same, best multiple": _pm(part["uvp_scaled"], 1),
                "L2-UVP of the trained map, %": _pm(part["uvp_map"], 1),
                "energy distance / floor": _pm(part["energy_ratio"], 2),
                "sliced W2 / floor": _pm(part["sliced_ratio"], 2),
                "million operations": _pm(part["million_operations"].iloc[:1], 1),
                "n": len(part),
            }
            for (kind, d, method), part in _rows(cases).groupby(["kind", "d", "method"], sort=False)
        ]
    )


def reading(cases):
    """What becomes of the hypothesis on critic-free and critic flows, per kind of pair."""
    said = []
    for kind, rows in _rows(cases).groupby("kind", sort=False):
        low, high = rows["d"].min(), rows["d"].max()
        there = set(rows["method"])
        if low == high or not {FREE, CRITIC} <= there:
            continue
        mean = rows.groupby(["method", "d"])[["cosine", "energy_ratio", "million_operations"]].mean()

        def ends(method, name, mean=mean, low=low, high=high):
            return mean.loc[(method, low), name], mean.loc[(method, high), name]

        def words(pair, digits=2):
            return f"from {pair[0]:.{digits}f} to {pair[1]:.{digits}f}"

        free, critic, cosine, work = (
            ends(FREE, "energy_ratio"),
            ends(CRITIC, "energy_ratio"),
            ends(CRITIC, "cosine"),
            ends(FREE, "million_operations"),
        )
        line = mean.loc[("linear map", high), "energy_ratio"]
        better = sorted(m for m in there - {"linear map"} if mean.loc[(m, high), "energy_ratio"] < line)
        said.append(
            f"{kind}, d = {low} to {high}: energy distance over floor goes {words(free)} for Sinkhorn and {words(critic)} for the W2 critic, whose cosine goes {words(cosine)}; "
            f"the work of a Sinkhorn iteration grows {work[1] / work[0]:.1f} times; below the linear map ({line:.2f}) at d = {high}: {', '.join(better) or 'none'}"
        )
    return (". ".join(said) if said else "One dimension, or not both kinds of flow: no trend to read") + "."


def figure(cases):
    """Cosine at the start, energy distance over floor, and work, against d; mixtures filled, Gaussians open and dashed."""
    use_style()
    rows = _rows(cases)
    fig, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.2), layout="constrained")
    for (kind, method), part in rows.groupby(["kind", "method"], sort=False):
        mixture = kind == "mixture"
        for panel, name in zip(panels, ("cosine", "energy_ratio", "million_operations"), strict=True):
            level = part.groupby("d")[name].agg(["mean", "min", "max"]).dropna()
            if name == "million_operations" and not mixture or level.empty:
                continue
            panel.plot(
                level.index,
                level["mean"],
                "o-" if mixture else "s--",
                color=COLOURS[method],
                mfc=COLOURS[method] if mixture else "white",
                ms=4,
                lw=1.2,
            )
            panel.vlines(level.index, level["min"], level["max"], color=COLOURS[method], lw=1)
    for panel, title in zip(
        panels,
        ("cosine with the true displacement", "energy distance over floor", "million operations / iteration"),
        strict=True,
    ):
        panel.set(xscale="log", xlabel="dimension $d$", ylabel=title)
        panel.set_xticks(sorted(rows["d"].unique()), [str(d) for d in sorted(rows["d"].unique())])
        panel.xaxis.set_minor_locator(NullLocator())
    panels[0].set_ylim(min(0, rows["cosine"].min() - 0.05), 1.05)
    for panel in panels[1:]:
        panel.set_yscale("log")
        for axis in ("major", "minor"):
            getattr(panel.yaxis, f"set_{axis}_formatter")(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    methods = [method for method in COLOURS if method in set(rows["method"])]
    handles = [plt.Line2D([], [], color=COLOURS[method], marker="o", ms=4, label=method) for method in methods]
    kinds = set(rows["kind"])
    handles += [
        plt.Line2D([], [], color=REAL, marker=m, mfc=fill, ls=line, ms=4, label=k)
        for k, m, fill, line in (("mixture", "o", REAL, "-"), ("gaussian", "s", "white", "--"))
        if k in kinds
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5)
    return fig
