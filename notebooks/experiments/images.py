"""Images of methods trained on variants of a data set; scores in the features of two networks; pictures."""

import dataclasses
from contextlib import suppress

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion import style
from gwf import metrics, paths
from gwf.metrics import squeezenet
from gwf.metrics.lenet import extract
from gwf.progress import follow
from gwf.training import loop, machine, recipes
from gwf.training.checkpoint import Checkpoint, fingerprint
from gwf.training.settings import complete
from notebooks.experiments import figures, trainings

KEPT = 15
"""Generated images of seed 0 that are kept to be shown."""
SEEN = 2000
"""Images that SqueezeNet sees of those generated and of those trained on, the same number for a distance and its floor."""


def measure(profile, dataset, case, seed, real, extractor):
    """Tables of one training, whose samples are stored: `metrics`, one row; `curve`; `classes`; `samples` for seed 0.

    `real` are the `Images` of the data set, `extractor` its LeNet and the sha256 of that.
    """
    settings, curve, samples = trainings.load(profile, dataset, case, seed)
    net, sha256 = extractor
    row, classes = measured(samples[-1], net, real)
    row = trainings.setting_columns(settings) | row | {"extractor_sha256": sha256}
    curve["fd_lenet"] = distances(samples, net, real, follow(f"measuring {case} seed {seed}"))
    tables = {"metrics": pd.DataFrame([row]), "curve": curve, "classes": classes}
    return tables | ({"samples": as_text(samples[-1][:KEPT])} if seed == 0 else {})


def after_training(functional, step, task, seed, settings, label):
    """Images (n, 28, 28) that a method generates after training on `task`, a class like those of `gwf.training.tasks`.

    `settings` override the method's own. None if a loss became infinite before the first evaluation.
    """
    kind = recipes.get(functional, step)
    chosen = complete(kind.Settings, task.defaults, settings)
    device = machine.prepare("cpu", chosen.threads)
    trainer = kind(functional, task(seed, device), chosen, seed, device)
    name = f"{functional}-{step} {label} seed {seed}"
    checkpoint = Checkpoint(paths.SCRATCH / "variants" / name, fingerprint({"name": name} | dataclasses.asdict(chosen)))
    if (state := checkpoint.load(device)) is not None:
        trainer.load_state_dict(state)
    with suppress(loop.NonFiniteLoss):
        loop.train(trainer, checkpoint, name)
    checkpoint.remove()
    return trainer.samples[-1] if trainer.samples else None


def compared(images, net, real):
    """Scores of uint8 images (n, 28, 28) against the held-out ones of `real`, in the LeNet's features; class shares (10,).

    Fréchet distance; unbiased squared MMD with a cubic kernel (KID); precision and recall of k-nearest-neighbour
    manifolds with k = 3, whose supports are of equal size; total variation between the shares of the classes.
    """
    features, labels = extract(net, images)
    reference, _ = extract(net, real.test)
    shares = metrics.class_histogram(labels, 10)
    part = features[:: max(1, len(features) // len(reference))][: len(reference)]
    precision, recall = metrics.precision_recall(reference, part)
    scores = {
        "fd_lenet": metrics.frechet_distance(features, reference),
        "kid": metrics.kid(features, reference),
        "precision": precision,
        "recall": recall,
        "class_tv": metrics.total_variation(shares, metrics.class_histogram(real.test_labels, 10)),
    }
    return scores, shares


def nearer_to_train(images, real):
    """Share of uint8 images whose nearest neighbour among as many train as held-out images is a train image, in pixels.

    About one half for a generator that has copied nothing, up to the luck of the two sets, draws of the same law.
    """
    flat = lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32)
    x, count = flat(images), len(real.test)
    nearest = []
    for part in (real.train[:: len(real.train) // count][:count], real.test):  # the files may be sorted by class
        y = flat(part)
        nearest.append(((y**2).sum(1) - 2 * x @ y.T).min(1))  # without |x|^2, the same for both
    return float(np.mean(nearest[0] < nearest[1]))


def measured(images, net, real):
    """(row, class shares) of uint8 images (n, 28, 28): every score with its floor, that of train against held-out images."""
    scores, shares = compared(images, net, real)
    floor, floor_shares = compared(real.train, net, real)
    eye, _ = squeezenet.load()
    reference = squeezenet.extract(eye, real.test)
    for found, own in ((scores, images), (floor, real.train)):
        part = own[:: max(1, len(own) // SEEN)][:SEEN]
        found["fd_squeezenet"] = metrics.frechet_distance(squeezenet.extract(eye, part), reference)
    row = scores | {f"{name}_floor": value for name, value in floor.items()}
    row |= {"nearer_to_train": nearer_to_train(images, real)}
    row |= {"n": len(images), "n_floor": len(real.train), "n_reference": len(real.test)}
    return row, pd.DataFrame({"class": range(10), "share": shares, "floor": floor_shares})


def distances(samples, net, real, progress):
    """FD-LeNet of the samples (evaluations, n, 28, 28) at each evaluation."""
    reference, _ = extract(net, real.test)
    found = []
    for index, images in enumerate(samples, start=1):
        features, _ = extract(net, images)
        found.append(metrics.frechet_distance(features, reference))
        progress(index, len(samples), fd_lenet=found[-1])
    return found


def as_text(images):
    """Images as a table: a row per image, its bytes written in hexadecimal digits."""
    return pd.DataFrame({"image": range(len(images)), "pixels": [image.tobytes().hex() for image in images]})


def as_images(table):
    """The images (n, 28, 28) of a table of `as_text`."""
    return np.stack([np.frombuffer(bytes.fromhex(pixels), np.uint8).reshape(28, 28) for pixels in table["pixels"]])


def table_of(frame, name, profile):
    """The table of the methods on the images of the experiment `name`, the same for people, and the rows of those that train."""
    columns = {("fd_lenet_mean", "fd_lenet_sd"): "fd_lenet", "kid_mean": "kid", "precision": "precision"}
    columns |= {
        "recall": "recall",
        "class_tv": "class_tv",
        "nearer_to_train": "nearer_to_train",
        "floor": "fd_lenet_floor",
    }
    columns |= {("fd_squeezenet_mean", "fd_squeezenet_sd"): "fd_squeezenet", "floor_squeezenet": "fd_squeezenet_floor"}
    shown = {"FD-LeNet": ("fd_lenet_mean", "fd_lenet_sd", 1), "floor": ("floor", None, 1), "KID": ("kid_mean", None, 3)}
    shown |= {name: (name, None, 2) for name in ("precision", "recall")} | {"classes": ("class_tv", None, 2)}
    shown |= {"FD-SqueezeNet": ("fd_squeezenet_mean", "fd_squeezenet_sd", 0)}
    shown |= {"its floor": ("floor_squeezenet", None, 0), "nearer to train": ("nearer_to_train", None, 2)}
    table = trainings.table(frame, name, profile, columns)
    return table, trainings.shown(table, shown), table[~table["step"].isin(trainings.REFERENCES)]


def of_methods(cases, held_out, count):
    """Name -> `count` images: of those held out, and of what every method generated that kept any."""
    found = {"real, held out": held_out[np.random.default_rng(0).permutation(len(held_out))[:count]]}
    for functional, step in trainings.methods(cases):
        if "samples" in (tables := cases[f"{functional}-{step}"]):
            found[trainings.label(functional, step)] = as_images(tables["samples"].head(count))
    return found


def overview(rows, zoom=2, gap=2):
    """A row of images per name, `gap` white pixels apart, a pixel `zoom` dots large; `rows` is name -> images (n, 28, 28)."""
    around = ((0, 0), (0, gap), (0, gap))
    strips = [np.hstack(np.pad(images, around, constant_values=255)) for images in rows.values()]
    picture, dpi = np.vstack(strips)[:-gap, :-gap], plt.rcParams["savefig.dpi"]
    wide, high = picture.shape[1] * zoom / dpi, picture.shape[0] * zoom / dpi
    left = 0.2 + 0.075 * max(map(len, rows))  # about 0.075 inch a character at this font size
    figure = plt.figure(figsize=(left + wide, high))
    axes = figure.add_axes([left / (left + wide), 0, wide / (left + wide), 1])
    axes.set_axis_off()
    axes.imshow(picture, vmin=0, vmax=255, interpolation="none")
    for index, name in enumerate(rows):
        axes.text(-8, index * 30 + 14, name, ha="right", va="center", fontsize=8.5)
    return figure


def yardsticks(table):
    """Rank correlation of the two distances over the trained methods, in words, and the method whose places differ most."""
    trained = table[~table["step"].isin(trainings.REFERENCES)]
    places = trained[["fd_lenet_mean", "fd_squeezenet_mean"]].rank().astype(int)
    farthest = (places["fd_lenet_mean"] - places["fd_squeezenet_mean"]).abs().idxmax()
    return (
        f"The two distances rank {len(trained)} methods with a correlation of {places.corr().iloc[0, 1]:.2f}; farthest apart: "
        f"{trained.loc[farthest, 'method']}, place {places.loc[farthest].iloc[0]} by FD-LeNet and {places.loc[farthest].iloc[1]} "
        "by FD-SqueezeNet."
    )


def yardsticks_figure(table, named=2):
    """FD-SqueezeNet against FD-LeNet, each over its floor, a point per method; names of those whose places differ most.

    References are grey.
    """
    figure, axes = plt.subplots(figsize=(style.WIDTH, 4.2), layout="constrained")
    x, y = table["fd_lenet_mean"] / table["floor"], table["fd_squeezenet_mean"] / table["floor_squeezenet"]
    apart = (x.rank() - y.rank()).abs().rank(ascending=False, method="first")
    for at in table.index:
        functional, step = table.loc[at, ["functional", "step"]]
        look = style.marker(functional, step) | {"markersize": 4.5, "lw": 0}
        if step in trainings.REFERENCES:
            look |= {"markeredgecolor": style.REAL, "markerfacecolor": style.REAL}
        axes.plot(x[at], y[at], **look)
        if apart[at] <= named:  # away from the others, each at a distance of its own
            far = 16 * apart[at] * (1 if y.rank()[at] > x.rank()[at] else -1)
            look = {"ha": "center", "fontsize": 7, "arrowprops": {"arrowstyle": "-", "lw": 0.5, "color": style.REAL}}
            look |= {"bbox": {"pad": 0.5, "fc": "white", "ec": "none"}, "zorder": 9 - apart[at]}
            name = trainings.label(functional, step)
            axes.annotate(name, (x[at], y[at]), (0, far), textcoords="offset points", **look)
    axes.set(xscale="log", yscale="log", xlabel="FD-LeNet over its floor", ylabel="FD-SqueezeNet over its floor")
    figures.log_axis(axes.xaxis)
    figures.log_axis(axes.yaxis)
    figure.legend(handles=figures.step_handles(table), loc="outside right upper", fontsize=7)
    return figure


def in_units_of_the_gaussian(frame):
    """(functional, step) -> geometric mean of FD-LeNet over seeds, over that of the Gaussian; trained methods alone."""
    logs = np.log(frame["fd_lenet"]).groupby([frame["functional"], frame["step"]]).mean()
    logs -= logs.get(("w2", "gaussian"), 0)
    return np.exp(logs[~logs.index.get_level_values("step").isin(trainings.REFERENCES)])


def carried_figure(both):
    """The columns `clothes` and `digits` of `in_units_of_the_gaussian` against each other, a point per method with its place
    on clothes."""
    figure, axes = plt.subplots(figsize=(style.WIDTH, 4.6), layout="constrained")
    for place, ((functional, step), at) in enumerate(both.sort_values("clothes").iterrows(), 1):
        look = {"color": style.colour(functional), "markersize": 5, "lw": 0}
        name = f"{place} {trainings.label(functional, step)}"
        axes.plot(at["digits"], at["clothes"], "o" if step != "gan" else "s", label=name, **look)
        above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 7}
        axes.annotate(str(place), tuple(at[["digits", "clothes"]]), **above)
    axes.set(xscale="log", yscale="log", xlabel="digits: FD-LeNet over the Gaussian's", ylabel="clothes: the same")
    figures.log_axis(axes.xaxis)
    figures.log_axis(axes.yaxis)
    figure.legend(loc="outside right upper", fontsize=7)
    return figure
