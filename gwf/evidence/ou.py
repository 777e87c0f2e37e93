"""Evidence: Ornstein-Uhlenbeck flows by neural JKO schemes, against the exact solution, under several yardsticks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, WIDTH

TITLE = "Ornstein-Uhlenbeck flows: what training adds to the bias of the JKO scheme, and what the yardstick decides"
CAPTION = (
    "Left: log10 SymKL between the Gaussian of each method's moments and the exact flow; the grey line is the exact JKO "
    "iterate, whose error is that of the time step alone, so only the height above it is due to training. Right: the same "
    "clouds scored by moments, by a kernel density and by the energy distance, each as rank within its row (1 is best): a "
    "particle method scored by a kernel density is charged for the density estimate. Rows with R or 'first R' take another "
    "reference law for the dual. Published values are those of vwgf "
    "(rotated targets, 15 seeds), S-JKO and jko-icnn (other targets), for the eye and not for a verdict."
)
COLOURS = {"VWGF": "#0072B2", "S-JKO": "#D55E00", "JKO-ICNN": "#009E73", "Euler": "#E69F00"}
PUBLISHED = {
    ("VWGF", 2): "-3.34 [code]",
    ("VWGF", 6): "-2.99 [code]",
    ("VWGF", 16): "-2.36 [code]",
    ("VWGF", 32): "-2.06 [code]",
    ("JKO-ICNN, exact log det", 2): "-2.39 [code], other targets",
    ("JKO-ICNN, exact log det", 6): "-2.11 [code], other targets",
    ("S-JKO (whole map)", 2): "-2.4 [2nd], other targets",
    ("S-JKO (whole map)", 6): "-0.8 [2nd], other targets",
}
SCORES = {
    "log10 SymKL": "moments",
    "log10 SymKL, kernel density": "kernel density",
    "energy distance": "energy distance",
}


def _rows(cases):
    frames = [tables["table"].assign(case=case) for case, tables in sorted(cases.items())]
    return pd.concat(frames, ignore_index=True)


def table(cases):
    """A row per case, dimension and method: mean and spread over seeds, exact JKO, published value."""
    rows = []
    for (case, d, method), group in _rows(cases).groupby(["case", "d", "method"], sort=False):
        if method == "exact flow":
            continue
        rows.append(
            {
                "case": case,
                "d": d,
                "method": method,
                "seeds": len(group),
                "diverged": int(group["energy distance"].isna().sum()),
                "log10 SymKL": _pm(group["log10 SymKL"]),
                "exact JKO": _pm(group["exact JKO"]),
                "log10 SymKL to exact JKO": _pm(group["log10 SymKL to exact JKO"]),
                "kernel density": _pm(group["log10 SymKL, kernel density"]),
                "map density": _pm(group["log10 SymKL, map density"]),
                "energy distance": _pm(group["energy distance"], 4),
                "published": PUBLISHED.get((method, d), ""),
            }
        )
    return pd.DataFrame(rows)


def _pm(values, digits=2):
    values = values.dropna()
    if not len(values):
        return ""
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _colour(method):
    return next((colour for start, colour in COLOURS.items() if method.startswith(start)), REAL)


def figure(cases):
    """Error against dimension, and the rank of every method under three scores."""
    rows = _rows(cases)
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.0), layout="constrained", width_ratios=[1, 1.2])
    plain = rows[~(rows.method.str.contains("R =") | rows.method.isin(["exact flow", "exact JKO"]))]
    # A setting that two cases share is one result.
    plain = plain.drop_duplicates([c for c in ("d", "method", "seed", "log10 SymKL") if c in plain])
    floor = rows.drop_duplicates(["case", "d", "seed"] if "seed" in rows else ["case", "d"])
    mean = floor.groupby("d")["exact JKO"].mean()
    left.plot(mean.index, mean, color=REAL, lw=2, label="exact JKO")
    styles = {}
    for method, group in plain.groupby("method", sort=False):
        colour = _colour(method)
        number = styles[colour] = styles.get(colour, -1) + 1
        level = group.groupby("d")["log10 SymKL"]
        left.errorbar(
            level.mean().index,
            level.mean(),
            level.std().fillna(0),
            color=colour,
            marker="osD^"[number % 4],
            ms=4,
            lw=1,
            ls=["-", "--", ":", "-."][number % 4],
            label=method,
            capsize=2,
        )
    dimensions = sorted(rows.d.unique())
    left.set(xscale="log", xlabel="dimension $d$", ylabel="$\\log_{10}$ SymKL of the moments")
    left.set_xticks(dimensions, [str(d) for d in dimensions])
    left.minorticks_off()
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7.5)

    d = max(dimensions, key=lambda d: plain[plain.d == d].method.nunique())
    own = plain[plain.d == d].groupby("method", sort=False)[list(SCORES)].mean()
    ranks = own.rank()
    right.imshow(np.ma.masked_invalid(ranks.to_numpy()), cmap="Greens_r", aspect="auto", vmin=-2, vmax=len(own) + 3)
    for i, j in np.argwhere(np.isfinite(ranks.to_numpy())):
        value = own.iloc[i, j]
        text = f"{value:.4f}" if SCORES[own.columns[j]] == "energy distance" else f"{value:.2f}"
        right.text(j, i, f"{ranks.iloc[i, j]:.0f}   ({text})", ha="center", va="center", fontsize=7.5)
    right.set_xticks(range(len(SCORES)), [name.replace(" ", "\n") for name in SCORES.values()], fontsize=8)
    right.set_yticks(range(len(own)), own.index, fontsize=7.5)
    right.grid(False)
    right.set_title(f"rank and score, $d$ = {d}")
    return fig
