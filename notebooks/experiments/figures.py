"""Figures of whole trainings: a score by method, against updates, and with the JKO step over that without it."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from companion import style
from notebooks.experiments import intervals, trainings

KINDS = {
    "no JKO": ("gan", "ck_gan"),
    "JKO": ("jko", "ck_jko", "increments", "whole"),
    "semi-dual": ("sjko", "uotm_fixed", "uotm", "uotm_released"),
    "explicit, matching": ("euler", "matching"),
}
"""Panels of the curves, and the steps in each."""
AGAINST = {"updates": "updates of the map", "seconds": "seconds of a processor, measured alone"}
"""What a curve is drawn against -> its axis."""


def log_axis(axis):
    """A logarithmic axis with ticks at 1, 2, 5 times powers of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def step_handles(frame):
    """Legend entries of the time steps, in black: they mean the same for every functional."""
    handles = []
    for step in (step for step in trainings.STEPS if step in set(frame["step"])):
        look = style.marker("", step) | {"color": "black", "markeredgecolor": "black", "linestyle": "none"}
        look["markerfacecolor"] = "white" if look["markerfacecolor"] == "white" else "black"
        handles.append(Line2D([], [], label=trainings.STEPS[step], **look))
    return handles


def floor_handle():
    """Legend entry of the floor."""
    return Line2D([], [], color=style.REAL, linestyle="dotted", label="floor")


def methods_figure(frame, metric, name):
    """The metric of every method on a logarithmic axis: each seed, their mean and range, and the floor."""
    found = list(dict.fromkeys(zip(frame["functional"], frame["step"], strict=True)))
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.27 * len(found) + 0.95), layout="constrained")
    for row, (functional, step) in enumerate(found):
        values, look = trainings.of(frame, functional, step)[metric].to_numpy(), style.marker(functional, step)
        centre = values.mean()
        axes.plot([values.min(), values.max()], [row, row], color=look["color"], lw=1.6)
        axes.plot(values, np.full(len(values), row + 0.25), "|", color=look["color"], markersize=5)
        axes.plot(centre, row, linestyle="none", **look)
    axes.axvline(frame[f"{metric}_floor"].mean(), color=style.REAL, linestyle="dotted", lw=1.2)
    axes.set_yticks(range(len(found)), [trainings.label(*method) for method in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xscale("log")
    log_axis(axes.xaxis)
    axes.set_xlabel(f"{name} (lower is better)")
    figure.legend(handles=[*step_handles(frame), floor_handle()], loc="outside upper center", ncols=4)
    return figure


def updates_figure(frame, curves, metric, name, against="updates"):
    """The metric against a key of `AGAINST`, a column of `curves`: median over seeds, a panel per kind of step, and the floor.

    Legends are in the order of the lines' ends; seconds on a logarithmic axis.
    """
    kinds = {kind: rows for kind, steps in KINDS.items() if len(rows := curves[curves["step"].isin(steps)])}
    size, shape = (style.WIDTH, 2.9 * math.ceil(len(kinds) / 2)), (math.ceil(len(kinds) / 2), 2)
    figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes, (kind, rows) in zip(grid.flat, kinds.items(), strict=False):
        ends = {}
        for (functional, step), part in rows.groupby(["functional", "step"], sort=False):
            median = part.groupby(against)[metric].median()
            look = style.marker(functional, step) | {"markersize": 3.5, "lw": 1.1}
            look["label"] = trainings.label(functional, step).removesuffix(f", {kind}")
            (line,) = axes.plot(median.index, median, **look)
            ends[line] = median.iloc[-1]
        axes.axhline(frame[f"{metric}_floor"].mean(), color=style.REAL, linestyle="dotted", lw=1.2)
        axes.set(title=kind, yscale="log")
        log_axis(axes.yaxis)
        if against == "seconds":
            axes.set_xscale("log")
            log_axis(axes.xaxis)
        where = {
            "loc": "upper left",
            "bbox_to_anchor": (1, 1),
            "fontsize": 6,
            "handlelength": 1.2,
            "borderaxespad": 0.2,
        }
        axes.legend(handles=sorted(ends, key=ends.get, reverse=True), **where)
    figure.supxlabel(AGAINST[against], fontsize=9)
    figure.supylabel(f"{name} (lower is better)", fontsize=9)
    return figure


def ratios_figure(frame, metric, name):
    """The metric with the JKO step over that without, by functional: each seed, geometric mean and its 95 % t interval."""
    logs = np.log(trainings.as_functional(frame).set_index(["functional", "step", "seed"])[metric]).unstack("step")
    logs = logs.reindex(columns=["jko", "gan"])  # a profile may have one of them alone: then nothing is drawn
    logs = (logs["jko"] - logs["gan"]).dropna()
    mean = logs.groupby("functional").mean().sort_values()
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.25 * len(mean) + 0.7), layout="constrained")
    for row, functional in enumerate(mean.index):
        values, hue = logs.xs(functional), style.colour(functional)
        if len(values) > 1:
            axes.plot(np.exp(intervals.interval(values)), [row, row], color=hue, lw=1.6)
        axes.plot(np.exp(values), np.full(len(values), row + 0.25), "|", color=hue, markersize=5)
        axes.plot(np.exp(values.mean()), row, "o", color=hue)
    axes.axvline(1, color=style.REAL, lw=1)
    axes.set_yticks(range(len(mean)), [trainings.functional_title(functional) for functional in mean.index])
    axes.set(xscale="log", ylim=(len(mean) - 0.4, -0.6), xlabel=f"{name} with the JKO step over {name} without")
    axes.set_xlim(max(axes.get_xlim()[0], 0.1), min(axes.get_xlim()[1], 20))
    axes.grid(axis="y", visible=False)
    log_axis(axes.xaxis)
    return figure
