"""Checks that read the low-dimensional studies: networks trained against exact solutions."""

import numpy as np

from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check
from gwf.claims.sources import column, table


def study(name):
    """`gather` of a claim that reads one study: the tables of all its cases, in one DataFrame."""
    return lambda sources: table(sources.study(name))


def select(frame, **where):
    """Rows with the given values; `NotRun` that names what no row has."""
    rows = frame
    for name, wanted in where.items():
        rows = rows[column(rows, name) == wanted]
    if rows.empty:
        raise NotRun(f"no row with {', '.join(f'{name} = {wanted}' for name, wanted in where.items())}")
    return rows


def mean_of(frame, value, **where):
    """Mean of the column `value` over the rows with the given values, without NaN; `NotRun` if nothing is left."""
    values = column(select(frame, **where), value).dropna()
    if values.empty:
        raise NotRun(f"{value} is empty for {', '.join(map(str, where.values()))}")
    return float(values.mean())


def rename(name, first, second):
    """A control that exchanges two values of the column `name`."""
    return lambda frame: frame.assign(**{name: frame[name].replace({first: second, second: first})})


def scale(name, factor, **where):
    """A control that multiplies the column `name` by `factor` in the rows with the given values."""

    def broken(frame):
        chosen = np.full(len(frame), True)
        for key, wanted in where.items():
            chosen &= (column(frame, key) == wanted).to_numpy()
        return frame.assign(**{name: frame[name].where(~chosen, frame[name] * factor)})

    return broken


def _against_svgd(frame, method):
    rows = {
        data: [
            (
                mean_of(frame, "accuracy", method=name, data=data, prior="stated"),
                mean_of(frame, "log_predictive", method=name, data=data, prior="stated"),
            )
            for name in (method, "SVGD")
        ]
        for data in column(frame, "data").unique()
    }
    worst = [min(pair[0][i] - pair[1][i] for pair in rows.values()) for i in (0, 1)]
    said = "; ".join(f"{data} {a:.3f} / {b:.3f} against {c:.3f} / {e:.3f}" for data, ((a, b), (c, e)) in rows.items())
    return worst, said


@check("vwgf-C6", study("bayes"), scale("accuracy", 0.9, method="VWGF"), scale("accuracy", 0.9, method="SVGD"))
def logistic_regression(frame):
    """Smallest advantage of VWGF over SVGD in accuracy and in mean log predictive, over the data sets, stated prior."""
    worst, said = _against_svgd(frame, "VWGF")
    return Outcome(
        {"smallest accuracy minus SVGD's": worst[0], "smallest log predictive minus SVGD's": worst[1]},
        f"VWGF against SVGD (accuracy / log predictive): {said}.",
    )
