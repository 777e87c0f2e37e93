"""What the report shows of the Bayesian logistic regression study."""

import matplotlib.pyplot as plt
import pandas as pd

from companion.style import REAL, SPARE_COLOURS, WIDTH, use_style

TITLE = "Bayesian logistic regression: accuracy does not tell the methods, or even the priors, apart"
CAPTION = (
    "Mean log predictive on test rows (left) and mean of log alpha, the log precision of the weights (right), for every "
    "data set, method and prior; bars span the seeds, each with its own data. The stated prior has the normaliser of "
    "the Gaussian and the Jacobian of alpha, the released one lacks both. Grey crosses on the right: the exact mean of "
    "log alpha given the method's own weights; black ticks on the left: published values."
)

PUBLISHED = {
    ("twonorm", "VWGF"): "within .01 of rivals [2nd]",
    ("twonorm", "JKO-ICNN"): ".982 / -.058 [code]",
    ("ringnorm", "VWGF"): "within .01 of rivals [2nd]",
    ("ringnorm", "JKO-ICNN"): ".740 / -.499 [code]",
    ("waveform", "VWGF"): ".785 / -.455 [2nd]",
    ("waveform", "JKO-ICNN"): ".781 / -.487 [code]",
    ("twonorm", "SVGD"): ".98 / -.062 [2nd]",
    ("ringnorm", "SVGD"): ".74 / -.50 [2nd]",
    ("waveform", "SVGD"): ".765 / -.465 [2nd]",
}
"""Accuracy / mean log predictive as published, with trust tags: read second-hand, or in the released result files."""
_LOG_PREDICTIVE = {"twonorm": (-0.058,), "ringnorm": (-0.499,), "waveform": (-0.455, -0.487)}


def _all(cases):
    return pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)


def _spread(values, digits):
    """Mean and, with more than one seed, half the range."""
    half = (values.max() - values.min()) / 2
    return f"{values.mean():.{digits}f}" + (f" +- {half:.{digits}f}" if len(values) > 1 else "")


def table(cases):
    """One row per data set, prior and method: means over seeds, half their range, limits and published values."""
    rows = []
    for (data, prior, method), part in _all(cases).groupby(["data", "prior", "method"], sort=False):
        limit = part.accuracy_limit.iloc[0], part.log_predictive_limit.iloc[0]
        known = pd.notna(part.log_alpha).all()
        rows.append(
            {
                "data": data,
                "prior": prior,
                "method": method,
                "accuracy": _spread(part.accuracy, 3),
                "log predictive": _spread(part.log_predictive, 3),
                "linear limit": "" if pd.isna(limit[0]) else f"{limit[0]:.3f} / {limit[1]:.3f}",
                "published": PUBLISHED.get((data, method), ""),
                "mean log alpha": _spread(part.log_alpha, 2) if known else "",
                "exact given w": _spread(part.log_alpha_exact, 2) if known else "",
                "w: sd": _spread(part.w_sd, 3) if known else "",
                "w: error of mean / posterior sd": _spread(part.w_mean_error, 2) if known else "",
                "seeds": len(part),
            }
        )
    return pd.DataFrame(rows)


def figure(cases):
    """Log predictive and log alpha by data set and method; filled: stated prior, open: released prior."""
    use_style()
    frame = _all(cases)
    methods = list(dict.fromkeys(frame.method))
    data = list(dict.fromkeys(frame.data))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
    shades = dict(zip(methods, ["#000000", "#999999", "#0072B2", "#009E73", "#D55E00"] + SPARE_COLOURS, strict=False))
    labelled = set()
    for (name, prior, method), part in frame.groupby(["data", "prior", "method"], sort=False):
        at = data.index(name) + 0.15 * (methods.index(method) - (len(methods) - 1) / 2)
        at += 0.05 * (prior == "released")
        style = {
            "color": shades[method],
            "marker": "o",
            "markersize": 4.5,
            "linestyle": "none",
            "elinewidth": 1,
            "markerfacecolor": shades[method] if prior == "stated" else "white",
        }
        for ax, column in zip(axes, ("log_predictive", "log_alpha"), strict=True):
            values = part[column].dropna()
            if values.empty:
                continue
            middle = values.mean()
            new = ax is axes[0] and method not in labelled and prior == "stated"
            ax.errorbar(
                at, middle, [[middle - values.min()], [values.max() - middle]], label=method if new else None, **style
            )
            if new:
                labelled.add(method)
        if part.log_alpha_exact.notna().all():
            axes[1].plot(at, part.log_alpha_exact.mean(), "x", color=REAL, markersize=5, zorder=3)
    for i, name in enumerate(data):
        for value in _LOG_PREDICTIVE[name]:
            axes[0].plot([i - 0.42, i + 0.42], [value] * 2, color="black", linewidth=0.8, zorder=1)
    for ax, label in zip(axes, ("mean log predictive [nats]", "mean of log alpha"), strict=True):
        ax.set_xticks(range(len(data)), data)
        ax.set(ylabel=label, xlim=(-0.6, len(data) - 0.4))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7.5)
    return fig
