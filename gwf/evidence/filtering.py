"""What the report shows of the nonlinear filtering study."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH, use_style

TITLE = "Nonlinear filtering: a particle filter, and what its published score measures"
CAPTION = (
    "Left: the law of the hidden state at the end, on the grid and as kernel estimates from bootstrap filters. Right: "
    "symmetric KL of those estimates to the grid (median and quartiles over all hidden paths), with two floors: the "
    "same number of independent draws from the truth, and the truth smoothed by the same kernel. Where the filter lies "
    "on the floors the score measures the kernel and not the filter. The dashed line and the crosses are the published "
    "medians of JKO-ICNN and of the bootstrap filter."
)

PUBLISHED = {1000: -1.40, 50000: -2.37}
"""Median log10 SymKL of the bootstrap filter (jko-icnn, from its released result files)."""
JKO_ICNN = -1.77
"""The same for JKO-ICNN, at 13,627 s per run."""

_LAWS = {
    "bootstrap filter": ("#0072B2", "o", "-"),
    "exact draws": (REAL, "s", "--"),
    "smoothed truth": ("#CC79A7", "^", ":"),
}


def _all(cases):
    frame = pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)
    return frame.assign(log10=np.log10(frame.sym_kl))


def table(cases):
    """One row per number of particles: medians of log10 SymKL and of W_1, their floors, and what was published."""
    rows = []
    for n, part in _all(cases).groupby("particles"):
        by = {law: rows_of for law, rows_of in part.groupby("law")}
        own = by["bootstrap filter"]
        low, middle, high = own.log10.quantile([0.25, 0.5, 0.75])
        rows.append(
            {
                "particles": n,
                "log10 SymKL, median": f"{middle:.2f}",
                "quartiles": f"{low:.2f} / {high:.2f}",
                "floor: exact draws": f"{by['exact draws'].log10.median():.2f}",
                "floor: smoothed truth": f"{by['smoothed truth'].log10.median():.2f}",
                "published [code]": f"{PUBLISHED[n]:.2f}" if n in PUBLISHED else "",
                "beside JKO-ICNN's -1.77": "better" if middle < JKO_ICNN else "worse",
                "W1, median": f"{own.w1.median():.4f}",
                "W1 floor: exact draws": f"{by['exact draws'].w1.median():.4f}",
                "paths": len(own),
            }
        )
    return pd.DataFrame(rows)


def figure(cases):
    """Densities of one path on the left, scores against the number of particles on the right."""
    use_style()
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), layout="constrained")
    curve = next(iter(cases.values()))["curve"]
    if "seed" in curve:
        curve = curve[curve.seed == curve.seed.min()]
    sizes = [name for name in curve.columns if name not in ("x", "truth", "seed")]
    left.fill_between(curve.x, curve.truth, color="#DDDDDD", label="grid")
    for name, shade in zip((sizes[0], sizes[-1]) if len(sizes) > 1 else sizes, ("#E69F00", "#0072B2"), strict=False):
        left.plot(curve.x, curve[name], color=shade, label=f"{int(name):,} particles")
    left.set(xlim=(-4, 4), xlabel="x", ylabel="density at the end", ylim=(0, 1.35 * curve.truth.max()))
    left.legend(loc="upper left", ncols=1)

    for law, part in _all(cases).groupby("law"):
        shade, marker, line = _LAWS[law]
        q = part.groupby("particles").log10.quantile([0.25, 0.5, 0.75]).unstack()
        right.plot(q.index, q[0.5], color=shade, marker=marker, linestyle=line, label=law)
        right.fill_between(q.index, q[0.25], q[0.75], color=shade, alpha=0.15, linewidth=0)
    right.axhline(JKO_ICNN, color="#882255", linestyle="--", linewidth=1.2)
    right.annotate(
        "JKO-ICNN, published",
        (1, JKO_ICNN),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color="#882255",
        xytext=(0, 2),
        textcoords="offset points",
    )
    right.plot(
        list(PUBLISHED), list(PUBLISHED.values()), "x", color="black", markersize=7, label="bootstrap filter, published"
    )
    right.set(xscale="log", xlabel="particles", ylabel="log10 SymKL [nats]")
    right.legend(loc="lower left", fontsize=7.5)
    return fig
