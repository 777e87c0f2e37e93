"""Checks of the proposal's uses: robustness, anomaly detection, imputation. They read the studies `outliers`, `anomalies`, `imputation`."""

import math

from gwf.claims.checks.learned import mean_of, scale, select, study
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check
from gwf.claims.sources import column

W1 = "W1 to the clean ring"
RELAXED = 0.5


@check(
    "proposal-P5",
    study("outliers"),
    scale(W1, 8, relaxation=RELAXED, kind="far"),
    scale(W1, 0.12, relaxation=math.inf, kind="far"),
    scale(W1, 0.2, relaxation=RELAXED, kind="far"),
)
def robustness(frame):
    """W1 at 5 % far outliers over that on clean data, relaxed and balanced; kept masses; and the worst ratio up to 10 %."""
    rows = select(frame, part="particles")
    rows = rows[column(rows, "iterations") == rows["iterations"].min()]
    clean = {w: mean_of(rows, W1, relaxation=w, kind="none") for w in (RELAXED, math.inf)}
    ratio = mean_of(rows, W1, relaxation=RELAXED, kind="far", contamination=0.05) / clean[math.inf]
    hard = mean_of(rows, W1, relaxation=math.inf, kind="far", contamination=0.05) / clean[math.inf]
    far = select(rows, relaxation=RELAXED, kind="far")
    far = far[far["contamination"] <= 0.1]
    inside = (column(far, "kept inside") - column(far, "kept exact")).abs().max()
    others = {
        kind: mean_of(rows, W1, relaxation=RELAXED, kind=kind, contamination=0.05) / clean[math.inf]
        for kind in ("near", "noise")
        if (rows["kind"] == kind).any()
    }
    values = {
        "relaxed with 5 % far outliers over balanced on clean data": ratio,
        "balanced with 5 % far outliers over balanced on clean data": hard,
        "relaxed with up to 10 % far outliers over clean, worst": float(
            far.groupby("contamination")[W1].mean().max() / clean[math.inf]
        ),
        "relaxed on clean data over balanced": clean[RELAXED] / clean[math.inf],
        "largest error of the mass kept inside": float(inside),
        "mass kept outside": float(column(far, "kept outside").mean()),
    }
    if others:
        values["relaxed with near outliers or noise over clean, worst"] = max(others.values())
    said = "; ".join(f"{kind} {value:.2f}" for kind, value in {"far": ratio, **others}.items())
    return Outcome(
        values,
        f"W1 at 5 % outliers, relaxation {RELAXED}, over the clean {clean[math.inf]:.3f}: {said}; balanced, far: {hard:.2f}.",
    )


def _shift(amount, *, task):
    """A control that adds to the AUROC of the kept mass in one task."""

    def broken(frame):
        chosen = (column(frame, "method") == "kept_mass") & (column(frame, "task") == task)
        return frame.assign(AUROC=(frame["AUROC"] + amount * chosen).clip(0, 1))

    return broken


@check(
    "proposal-P7",
    study("anomalies"),
    _shift(-0.3, task="rare"),
    lambda frame: frame.assign(AUROC=0.5),
    lambda frame: frame.assign(AUROC=frame["AUROC"].where(frame["method"] != "knn", 0.2)),
)
def detection(frame):
    """Kept mass minus 5-NN in mean AUROC on digits: rare anomalies and all others, with a contaminated reference and without."""
    rows = select(frame, data="digits")
    relaxation = 0.1

    def gain(task, contamination):
        return mean_of(
            rows, "AUROC", task=task, contamination=contamination, method="kept_mass", relaxation=relaxation
        ) - mean_of(rows, "AUROC", task=task, contamination=contamination, method="knn")

    polluted = [c for c in sorted(column(rows, "contamination").unique()) if c >= 0.1]
    if not polluted or not (rows["contamination"] == 0).any():
        raise NotRun("no contamination of 10 % or more beside a clean reference")
    tested = set(column(rows, "task"))
    gains = {task: min(gain(task, c) for c in polluted) for task in ("others", "similar", "rare") if task in tested}
    if "rare" not in gains:
        raise NotRun("no task with rare anomalies")
    values = {
        "rare anomalies: smallest gain over 5-NN at 10 to 20 %": gains["rare"],
        "AUROC of 5-NN on clean digits": mean_of(rows, "AUROC", task="others", contamination=0.0, method="knn"),
    }
    if "others" in gains:
        values["all others: smallest gain over 5-NN at 10 to 20 %"] = gains["others"]
        values["all others: gain over 5-NN at 0 %"] = gain("others", 0.0)
    said = ", ".join(f"{task} {value:+.3f}" for task, value in gains.items())
    return Outcome(
        values,
        f"Kept mass (relaxation {relaxation}) minus 5-NN, smallest of {', '.join(f'{c:.0%}' for c in polluted)}: {said}. All tested rows are served together.",
    )


@check(
    "proposal-P8",
    study("imputation"),
    scale("MAE", 1.4, method="Sinkhorn"),
    scale("MAE", 0.5, method="iterative ridge"),
)
def missing_values(frame):
    """MAE of Sinkhorn imputation over iterative ridge's on wine at 50 % with the published mask; the bars; collinear data."""
    wine = select(frame, data="wine", mask="MCAR, seed 42", p=0.5)
    ridge, mae = mean_of(wine, "MAE", method="iterative ridge"), mean_of(wine, "MAE", method="Sinkhorn")
    values = {
        "MAE over that of iterative ridge, wine": mae / ridge,
        "MAE on wine": mae,
        "RMSE on wine": mean_of(wine, "RMSE", method="Sinkhorn"),
    }
    said = [f"wine {mae:.3f} / {values['RMSE on wine']:.3f}, ridge {ridge:.3f}"]
    try:
        values["MAE on wine, published settings"] = mean_of(wine, "MAE", method="Sinkhorn, published settings")
        said.append(f"published settings {values['MAE on wine, published settings']:.3f}")
    except NotRun:
        pass
    try:
        cancer = select(frame, data="breast cancer", mask="MCAR")
        values["MAE over that of iterative ridge, breast cancer"] = mean_of(cancer, "MAE", method="Sinkhorn") / mean_of(
            cancer, "MAE", method="iterative ridge"
        )
        said.append(f"breast cancer {values['MAE over that of iterative ridge, breast cancer']:.2f} times ridge's")
    except NotRun:
        pass
    return Outcome(values, f"MAE / RMSE: {', '.join(said)}.")
