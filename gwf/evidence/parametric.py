"""A network's JKO increment against the parametric flow."""

import matplotlib.pyplot as plt
import pandas as pd

from companion.style import REAL, SPARE_COLOURS, WIDTH, use_style

TITLE = "Parametric JKO follows the flow in the metric of the map, without forming it"
CAPTION = (
    "A network with one hidden layer, squared MMD with a fixed kernel, every JKO step solved to rounding. Left: the increment of the "
    "parameters over tau against -G^-1 grad F, with G the metric formed explicitly, and the residual of implicit Euler; both fall "
    "like tau (grey). Right: the angle; as tau falls the increment turns into the flow's direction and not into that of plain gradient descent."
)


def joined(cases):
    """All rows in one frame."""
    return pd.concat([tables["table"] for tables in cases.values()], ignore_index=True)


def table(cases):
    """A row per tau: mean over seeds, and the greatest over seeds where small is good."""
    rows = (
        joined(cases)
        .groupby(["p", "tau"], sort=False)
        .agg(
            cosine=("cosine", "mean"),
            least_cosine=("cosine", "min"),
            relative_error=("relative_error", "mean"),
            greatest_error=("relative_error", "max"),
            residual=("residual", "mean"),
            order_of_error=("order_error", "mean"),
            order_of_residual=("order_residual", "mean"),
            cosine_with_gradient=("cosine_gradient", "mean"),
            n=("seed", "nunique"),
        )
    )
    return rows.reset_index().assign(
        exact="cosine 1, order 1", published="o(1) as tau falls [second-hand: gwf, proposition 6.3]"
    )


def figure(cases):
    """Errors and cosines against tau, a line for each seed."""
    use_style()
    rows = joined(cases)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.8), layout="constrained")
    for i, (_, part) in enumerate(rows.groupby(["p", "seed"])):
        one = {"label": "increment against flow"} if i == 0 else {}
        two = {"label": "residual of implicit Euler"} if i == 0 else {}
        three = {"label": "with −grad F (G = I)"} if i == 0 else {}
        left.loglog(part["tau"], part["relative_error"], "o-", ms=3, lw=1, color=SPARE_COLOURS[0], **one)
        left.loglog(part["tau"], part["residual"], "s-", ms=3, lw=1, color=SPARE_COLOURS[2], **two)
        right.semilogx(part["tau"], part["cosine"], "o-", ms=3, lw=1, color=SPARE_COLOURS[0], **one)
        right.semilogx(part["tau"], part["cosine_gradient"], "s-", ms=3, lw=1, color=SPARE_COLOURS[3], **three)
    tau = rows["tau"].agg(["min", "max"])
    left.plot(tau, rows["relative_error"].median() * tau / rows["tau"].median(), color=REAL, ls=":", label="slope 1")
    left.set(xlabel="step tau", ylabel="relative size")
    right.set(xlabel="step tau", ylabel="cosine of the increment", ylim=(-0.1, 1.05))
    left.legend()
    right.legend(loc="center left")
    return figure
