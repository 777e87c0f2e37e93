"""The figures of the report, each a function from finished runs to a `Figure` with its caption."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gwf import evidence, style
from gwf.data.embedded import EIGHT_CENTRES, EIGHT_STD, digits
from gwf.runs import STEPS, functional_title, method_title

METRICS = {"digits": ("fd_lenet", "FD-LeNet"), "eight_gaussians": ("w2", "W₂")}
GRID = 8
OVERVIEW = 15
GAP = 2
"""Pixels between the pictures of a grid."""
ZOOM = 2
"""Dots per pixel of a digit, a whole number so that every pixel of a digit is drawn equally large."""
POINTS = 1000


@dataclass(frozen=True)
class Figure:
    """A figure of the report: file `name`, `section` of the page, `title`, `caption`, and the drawing."""

    name: str
    section: str
    title: str
    caption: str
    figure: object


def every(study):
    """All figures that the profile's data sets allow, one after the other, in the order of the page."""
    if study.has("digits"):
        yield overview(study, digits().test)
        yield methods(study, "digits")
        yield curves(study, "digits", "updates")
        yield curves(study, "digits", "seconds")
        yield class_histogram(study)
        for functional, step in study.methods_on("digits"):
            yield samples(study, functional, step)
    if study.has("eight_gaussians"):
        yield eight_gaussians(study)
        yield methods(study, "eight_gaussians")
        yield curves(study, "eight_gaussians", "updates")
    yield jko_gaussian(study)
    for name, module, cases in evidence.every(study.profile):
        yield Figure(f"study_{name}", "studies", module.TITLE, module.CAPTION, module.figure(cases))


def tile(images, rows, columns):
    """A picture (rows (h + GAP) - GAP, columns (w + GAP) - GAP) of the first rows x columns images, uint8."""
    height, width = images.shape[1:]
    picture = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), 255, dtype=np.uint8)
    for index, image in enumerate(images[: rows * columns]):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        picture[top : top + height, left : left + width] = image
    return picture


def picture_axes(height, width, left=0.0, top=0.0):
    """Figure and axes where a picture of height x width pixels takes ZOOM dots a pixel; margins in inches."""
    dpi = plt.rcParams["savefig.dpi"]
    wide, high = width * ZOOM / dpi, height * ZOOM / dpi
    figure = plt.figure(figsize=(left + wide, top + high))
    axes = figure.add_axes([left / (left + wide), 0, wide / (left + wide), high / (top + high)])
    axes.set_axis_off()
    return figure, axes


def load_samples(study, functional, step, dataset):
    """`samples.npy` of a method's first seed."""
    run = study.run(functional, step, dataset, study.seeds[0])
    return np.load(study.file(run, "samples.npy"), allow_pickle=False)


def samples(study, functional, step):
    """The first 64 generated digits of a method's first seed."""
    picture = tile(load_samples(study, functional, step, "digits"), GRID, GRID)
    figure, axes = picture_axes(*picture.shape, top=0.28)
    axes.imshow(picture, vmin=0, vmax=255, interpolation="none")
    figure.suptitle(style.label(functional, step), fontsize=9, y=0.985)
    caption = (
        f"The first {GRID * GRID} digits generated with seed {study.seeds[0]}, not chosen; "
        f"{study.weights_text('digits')}."
    )
    return Figure(f"samples-{functional}-{step}", "samples", method_title(functional, step), caption, figure)


def overview(study, real):
    """A row of generated digits per method below a row of real digits `real` (n, 28, 28) uint8."""
    chosen = np.random.default_rng(0).permutation(len(real))[:OVERVIEW]
    rows = [real[chosen]]
    rows += [
        load_samples(study, functional, step, "digits")[:OVERVIEW] for functional, step in study.methods_on("digits")
    ]
    names = ["real, held out"] + [style.label(functional, step) for functional, step in study.methods_on("digits")]
    picture = tile(np.concatenate(rows), len(rows), OVERVIEW)
    # about 0.075 inch a character at this font size
    figure, axes = picture_axes(*picture.shape, left=0.2 + 0.075 * max(map(len, names)))
    axes.imshow(picture, vmin=0, vmax=255, interpolation="none")
    for index, name in enumerate(names):
        axes.text(-8, index * (28 + GAP) + 14, name, ha="right", va="center", fontsize=8.5)
    caption = (
        f"Real held-out digits (top row) and the first {OVERVIEW} digits that each method generates "
        f"with seed {study.seeds[0]}. Nothing is chosen by hand. Columns have nothing in common."
    )
    return Figure("samples_overview", "overview", "Every method at a glance", caption, figure)


def _panels(study, dataset, height=1.75):
    """A panel per functional, three a row, with shared axes; `(figure, {functional: axes})`."""
    names = list(dict.fromkeys(functional for functional, _ in study.methods_on(dataset)))
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(style.WIDTH, height * rows + 0.55),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for index, name in enumerate(names):
        axes = grid.flat[index]
        axes.set_title(functional_title(name))
        axes.tick_params(labelbottom=index + columns >= len(names))
    return figure, dict(zip(names, grid.flat, strict=False))


def _step_handles(study, dataset, marker=False):
    """Legend entries of the time steps, in black: they mean the same in every panel."""
    steps = list(dict.fromkeys(step for _, step in study.methods_on(dataset)))
    if not marker:
        return [Line2D([], [], color="black", linestyle=style.LINES[step], label=STEPS[step]) for step in steps]
    return [
        Line2D(
            [],
            [],
            color="black",
            linestyle="none",
            marker=style.MARKERS[step],
            label=STEPS[step],
            markerfacecolor="white" if step == "gan" else "black",
        )
        for step in steps
    ]


def _floor_handle(name="floor"):
    return Line2D([], [], color=style.REAL, linestyle="dotted", label=name)


def log_axis(axis):
    """A logarithmic axis with ticks at 1, 2, 5 times powers of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def floor(study, dataset):
    """Mean over all runs of the metric's real-vs-real floor."""
    key = METRICS[dataset][0]
    return float(np.mean([run.metrics[f"{key}_floor"] for run in study.everything(dataset)]))


def curve_table(study, functional, step, dataset):
    """The metric along training: a table with a row per evaluated step and a column per seed."""
    key = METRICS[dataset][0]
    found = {
        run.metrics["seed"]: study.curve(run).dropna(subset=[key]).set_index("step")[key]
        for run in study.runs(functional, step, dataset)
    }
    return pd.DataFrame(found).dropna()


def milliseconds(study, functional, step, dataset):
    """Mean over seeds of the milliseconds per update in `run.json`; NaN where none was recorded."""
    times = [run.timing.get("ms_per_update") for run in study.runs(functional, step, dataset)]
    return math.nan if None in times else float(np.mean(times))


def curves(study, dataset, against):
    """The metric against `updates` or `seconds`: mean and range over seeds, a panel per functional."""
    key, name = METRICS[dataset]
    figure, panels = _panels(study, dataset)
    for functional, step in study.methods_on(dataset):
        table, axes = curve_table(study, functional, step, dataset), panels[functional]
        scale = 1.0 if against == "updates" else milliseconds(study, functional, step, dataset) / 1000
        x = table.index.to_numpy() * scale
        axes.plot(x, table.mean(axis=1), **style.line(functional, step))
        axes.fill_between(x, table.min(axis=1), table.max(axis=1), color=style.colour(functional), alpha=0.2, lw=0)
    for axes in panels.values():
        axes.axhline(floor(study, dataset), color=style.REAL, linestyle="dotted", lw=1.2)
        axes.set_yscale("log")
        log_axis(axes.yaxis)
    figure.supxlabel("updates of the map" if against == "updates" else "training time, s", fontsize=9)
    figure.supylabel(f"{name} (lower is better)", fontsize=9)
    figure.legend(handles=[*_step_handles(study, dataset), _floor_handle()], loc="outside upper center", ncols=4)
    time = (
        ""
        if against == "updates"
        else (
            " Time: updates times the mean milliseconds per update of the run, evaluation not included; it "
            "depends on the machine."
        )
    )
    caption = (
        f"{name} during training, on a logarithmic scale: mean over {study.seeds_text()} as a line, "
        f"range over seeds as a band; {study.weights_text(dataset)}. Solid with the JKO step, dashed "
        f"without, dashes and dots with the explicit step; dotted: the floor, what real data score.{time}"
    )
    short = "fd" if dataset == "digits" else key
    return Figure(f"{short}_{against}", dataset, f"{name} against {against}", caption, figure)


def methods(study, dataset):
    """The metric of every method: each seed, their mean and standard deviation, and the floor."""
    key, name = METRICS[dataset]
    figure, axes = plt.subplots(
        figsize=(style.WIDTH, 0.27 * len(study.methods_on(dataset)) + 0.95), layout="constrained"
    )
    for row, (functional, step) in enumerate(study.methods_on(dataset)):
        values = np.array([run.metrics[key] for run in study.runs(functional, step, dataset)])
        centre, look = values.mean(), style.marker(functional, step)
        if len(values) > 1:
            low, high = centre - values.std(ddof=1), centre + values.std(ddof=1)
            axes.plot([max(low, 1e-3 * centre), high], [row, row], color=look["color"], lw=1.6)
        axes.plot(values, np.full(len(values), row + 0.25), "|", color=look["color"], markersize=5)
        axes.plot(centre, row, linestyle="none", **look)
    axes.axvline(floor(study, dataset), color=style.REAL, linestyle="dotted", lw=1.2)
    axes.set_yticks(
        range(len(study.methods_on(dataset))), [style.label(*method) for method in study.methods_on(dataset)]
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xscale("log")
    log_axis(axes.xaxis)
    axes.set_xlabel(f"{name} (lower is better)")
    figure.legend(
        handles=[*_step_handles(study, dataset, marker=True), _floor_handle()], loc="outside upper center", ncols=4
    )
    caption = (
        f"{name} at the end of training on a logarithmic scale: mean over {study.seeds_text()} "
        f"(marker), sample standard deviation (bar) and each seed (ticks below). Filled circles with the JKO "
        f"step, open squares without, diamonds with the explicit step; dotted: the floor. Methods whose bars overlap are not told apart by "
        f"this experiment. n = {study.common(dataset, 'n')}; reference: "
        f"{study.reference_text(dataset)}."
    )
    short = "fd" if dataset == "digits" else key
    return Figure(f"{short}_methods", dataset, f"{name} by method", caption, figure)


def class_histogram(study):
    """Share of each digit class among the generated digits, as the measuring LeNet reads them."""
    figure, panels = _panels(study, "digits")
    classes = np.arange(10)
    real = 100 * np.mean([run.metrics["class_histogram_floor"] for run in study.everything("digits")], axis=0)
    for axes in panels.values():
        axes.bar(classes, real, width=0.85, color="#DDDDDD")
        axes.set_xticks(classes)
        axes.grid(axis="x", visible=False)
    offset = dict(zip(study.params["steps"], (-0.18, 0.18), strict=False)) | {"euler": 0.0}
    for functional, step in study.methods_on("digits"):
        runs, look = study.runs(functional, step, "digits"), style.marker(functional, step)
        shares = 100 * np.array([run.metrics["class_histogram"] for run in runs])
        centre = shares.mean(axis=0)
        spread = [centre - shares.min(axis=0), shares.max(axis=0) - centre]
        panels[functional].errorbar(
            classes + offset[step],
            centre,
            yerr=spread,
            linestyle="none",
            elinewidth=1.2,
            markersize=4,
            ecolor=look["color"],
            **look,
        )
    figure.supxlabel("class of the digit, as the LeNet reads it", fontsize=9)
    figure.supylabel("share of samples, %", fontsize=9)
    bar = Line2D([], [], color="#DDDDDD", lw=6, label="real digits")
    figure.legend(handles=[*_step_handles(study, "digits", marker=True), bar], loc="outside upper center", ncols=4)
    caption = (
        f"Share of each class among n = {study.common('digits', 'n')} generated digits, as the LeNet "
        f"reads them: mean over {study.seeds_text()} (marker) and range over seeds (bar). Grey: real "
        f"digits, read by the same LeNet. A method that forgets a class falls to zero there."
    )
    return Figure("class_histogram", "digits", "Which digits are generated", caption, figure)


def eight_gaussians(study):
    """Generated points of every method over the eight modes of the target."""
    columns = min(5, len(study.params["functionals"]))
    order = [
        (f, step)
        for start in range(0, len(study.params["functionals"]), columns)
        for step in study.params["steps"]
        for f in study.params["functionals"][start : start + columns]
    ]
    rows = math.ceil(len(study.params["functionals"]) / columns) * len(study.params["steps"])
    size = max(3.4, style.WIDTH * columns / 5), 1.56 * rows + 0.35
    figure, grid = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(order) :]:
        axes.set_visible(False)
    for axes, (functional, step) in zip(grid.flat, order, strict=False):
        points = load_samples(study, functional, step, "eight_gaussians")[:POINTS]
        axes.scatter(*points.T, s=1.5, color=style.colour(functional), linewidths=0, rasterized=True)
        for centre in EIGHT_CENTRES.numpy():
            axes.add_patch(Circle(centre, 3 * EIGHT_STD, fill=False, lw=0.7, edgecolor="black"))
        axes.set_title(style.label(functional, step), fontsize=8)
        axes.set(xlim=(-1.65, 1.65), ylim=(-1.65, 1.65), xticks=(-1, 0, 1), yticks=(-1, 0, 1), aspect="equal")
    figure.supxlabel("x₁", fontsize=9)
    figure.supylabel("x₂", fontsize=9)
    caption = (
        f"Generated points (the first {POINTS} at most), seed {study.seeds[0]}; "
        f"{study.weights_text('eight_gaussians')}. Circles: 3 standard deviations around the eight "
        f"modes of the target, which hold 98.9 % of its mass. Points between circles are mass that a "
        f"continuous map leaves on the way; points beyond ±1.65 are not shown."
    )
    return Figure("eight_gaussians", "eight_gaussians", "Eight Gaussians, generated", caption, figure)


def jko_gaussian(study):
    """Exact against learned JKO sequence of Gaussians, for each step size in the chapter's `curve.csv`."""
    path = study.folder / "jko_gaussian" / "curve.csv"
    if not path.exists():
        raise study.missing(path, "chapter jko_gaussian", "chapter")
    table = pd.read_csv(path)
    figure, panels = plt.subplots(1, 3, figsize=(style.WIDTH, 2.75), layout="constrained")
    taus = sorted(table["tau"].unique())
    shades = plt.get_cmap("cividis")(np.linspace(0.0, 0.8, len(taus)))
    for shade, tau in zip(shades, taus, strict=True):
        part = table[table["tau"] == tau].sort_values("step")
        for axes, key in zip(panels, ("m", "s", "f"), strict=True):
            axes.plot(part["step"] * tau, part[f"{key}_exact"], color=shade, lw=1.2)
            axes.plot(part["step"] * tau, part[f"{key}_learned"], "o", color=shade, markersize=4)
    for axes, name in zip(panels, ("mean m", "standard deviation s", "functional F, nats"), strict=True):
        axes.set(xlabel="flow time t = k τ", ylabel=name)
    panels[2].set_yscale("log")
    handles = [Line2D([], [], color=shade, lw=4, label=f"τ = {tau:g}") for shade, tau in zip(shades, taus, strict=True)]
    handles += [
        Line2D([], [], color="black", lw=1.2, label="exact"),
        Line2D([], [], color="black", linestyle="none", marker="o", markersize=4, label="learned"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    caption = (
        "A JKO sequence whose answer is known: Gaussians descending KL to a Gaussian target. Lines "
        "join the exact mean, standard deviation and value of the functional after each step; dots "
        "are what a network trained by the same JKO step reaches. Nothing is fitted: dots off the "
        "line are errors of training. A larger τ takes fewer, coarser steps along the same time axis."
    )
    return Figure("jko_gaussian", "exact", "Exact against learned JKO steps", caption, figure)
