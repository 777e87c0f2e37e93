"""Evidence: cost of one update against dimension, variational bound against determinant."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullLocator

from companion.style import WIDTH

TITLE = "Cost of one update against dimension: variational bound and determinant"
CAPTION = (
    "Floating-point operations of the matrix products in one update, networks of one fixed width, counted and so the same "
    "on every machine. The variational step knows the dimension only through its first and last layers; the exact log "
    "determinant needs a Hessian, d columns and more; the stochastic one d or fewer conjugate-gradient products. Published: "
    "seconds per two JKO steps from d = 2 to 32, VWGF flat at 22, JKO-ICNN from 25 to 105 and 95 [2nd]."
)
COLOURS = {"VWGF": "#0072B2", "JKO-ICNN, exact log det": "#009E73", "JKO-ICNN, stochastic log det": "#44AA99"}


def _rows(cases):
    rows = pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)
    return rows.groupby(["method", "d"], sort=False, as_index=False)["million operations"].mean()


def table(cases):
    """Million operations of one update: a row per dimension, a column per method, and the growth from the first d."""
    wide = _rows(cases).pivot(index="d", columns="method", values="million operations")[list(COLOURS)]
    growth = (wide / wide.iloc[0]).add_suffix(", growth")
    return wide.round(1).join(growth.round(1)).reset_index()


def figure(cases):
    """Growth of the operations of one update, relative to the lowest dimension."""
    fig, panel = plt.subplots(figsize=(0.62 * WIDTH, 3.0), layout="constrained")
    for method, group in _rows(cases).groupby("method", sort=False):
        panel.plot(group.d, group["million operations"], "o-", color=COLOURS[method], label=method)
    dimensions = sorted(_rows(cases).d.unique())
    panel.set(xscale="log", yscale="log", xlabel="dimension $d$", ylabel="million operations per update")
    panel.set_xticks(dimensions, [str(d) for d in dimensions])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.legend()
    return fig
