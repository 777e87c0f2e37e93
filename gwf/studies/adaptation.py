r"""Digits of one hand-writing data set moved onto another: label-blind transports, learned maps, and a yardstick that sees labels.

One-nearest-neighbour accuracy on the full test set of the target, of a classifier fitted on the moved, labelled source.
Rows: closed-form transports (none, shifts and rescalings, the Gaussian map), exact discrete transport, and maps trained
by the explicit flows in the networks of w2fe, from the identity or from the per-pixel affine map. Beside the accuracy
stand the distance of the moved images to the target's test images with its floor, and the label agreement, the share
of source images whose partner in the target keeps their label. The last row transports class by class: its cost,
against that of the optimal plan, says whether the least cost and the labels ask for the same thing. Source: w2fe.
"""

import copy

import numpy as np
import pandas as pd
import torch

from gwf.data.readers import domain
from gwf.errors import in_range, nearest
from gwf.fields.learned import CriticField
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.sliced import Sliced
from gwf.metrics import energy_distance
from gwf.seeding import derive, generator, rng
from gwf.steps.euler import Descent, Euler, iterate
from gwf.uses import adaptation as ad

LEARNED = ("W2-FE", "W2-GAN", "W1-FE", "WGAN-LP", "Sinkhorn flow", "sliced flow")
FROM_AFFINE = " from affine"
"""Suffix of a method whose map acts on the images moved per pixel: it starts at the per-pixel affine map."""


def make_step(name, T, *, lr, critic_lr, critic_steps, persistency, eps_w1, reg):
    """The outer step of a learned method; Adam with betas (0, .9) for map and critics, as w2fe has it for images."""
    nearest(name, LEARNED, "learned method")
    adam = torch.optim.Adam(T.parameters(), lr=lr, betas=(0.0, 0.9), fused=True)
    settings = {"lr": critic_lr, "critic_steps": critic_steps, "betas": (0.0, 0.9)}
    if name.startswith("W2"):
        field = ad.DigitDualField(ad.digit_potential(), ad.digit_potential(), **settings)
    elif name in ("W1-FE", "WGAN-LP"):
        field = CriticField("w1", ad.digit_potential(), weight=10.0, **settings)
    else:
        field = Sinkhorn(reg=reg) if name == "Sinkhorn flow" else Sliced()
    if name in ("W2-GAN", "WGAN-LP"):
        return Descent(T, field, adam)
    return Euler(T, field, adam, eps=eps_w1 if name == "W1-FE" else 1.0, persistency=persistency)


def batches(points):
    """Sampler (n, stream) of rows of `points` (float32 tensor), drawn with replacement."""
    return lambda n, stream: points[torch.randint(len(points), (n,), generator=stream)]


class Judge:
    """Numbers of a set of moved source images, against target train (agreement) and target test (accuracy, distance).

    `n` images of each side enter the distances; floors compare as many target training images with the same test images.
    """

    def __init__(self, seed, labels, target_train, train_labels, test, test_labels, n, directions):
        self.labels, self.train, self.train_labels, self.test, self.test_labels = (
            labels,
            target_train,
            train_labels,
            test,
            test_labels,
        )
        draw = rng(seed, "judge")
        self.n = min(n, len(labels), len(target_train), len(test))
        self.w = draw.standard_normal((test.shape[1], directions))
        self.w /= np.linalg.norm(self.w, axis=0)
        self.few = test[draw.permutation(len(test))[: self.n]]
        self.chosen = draw.permutation(len(labels))[: self.n]
        own = target_train[draw.permutation(len(target_train))[: self.n]]
        self.floors = {
            "energy_floor": energy_distance(own, self.few),
            "sliced_floor": ad.sliced_w2(own, self.few, self.w),
        }

    def accuracy(self, moved):
        """One-nearest-neighbour accuracy on all of the target's test set."""
        return ad.one_nearest(moved, self.labels, self.test, self.test_labels)

    def __call__(self, moved):
        """Row of one method that moves all source images."""
        few = moved[self.chosen]
        partner = ad.nearest_index(few, self.train)
        return {
            "accuracy": self.accuracy(moved),
            "label_agreement": float((self.train_labels[partner] == self.labels[self.chosen]).mean()),
            "energy": energy_distance(few, self.few),
            "sliced": ad.sliced_w2(few, self.few, self.w),
        }

    def discrete(self, moved, rows, P, columns):
        """Row of a plan between the source images `rows` and the target images `columns`; its own label agreement."""
        few = moved[: self.n]
        return {
            "accuracy": ad.one_nearest(moved, self.labels[rows], self.test, self.test_labels),
            "label_agreement": ad.agreement(P, self.labels[rows], self.train_labels[columns]),
            "energy": energy_distance(few, self.few),
            "sliced": ad.sliced_w2(few, self.few, self.w),
        }


def moved_by(T, start, train_mode):
    """T on all of `start` (n, d), as float64; `train_mode` uses the statistics of this one batch, as the released code does."""
    T = copy.deepcopy(T).train(train_mode)
    with torch.no_grad():
        return T(start).double().numpy()


def run(
    seed,
    progress,
    *,
    source,
    target,
    folder,
    ridge,
    plan_points,
    learned,
    iterations,
    batch,
    lr,
    critic_lr,
    critic_steps,
    persistency,
    eps_w1,
    reg,
    evaluations,
    points,
    directions,
):
    """One direction for one seed.

    Parameters
    ----------
    source, target : {"optdigits", "digits", "usps", "mnist"}
        All 16x16. The last two are read from `folder` (`gwf.data.readers`).
    folder : str
        Absolute, or relative to the repository.
    ridge : float
        Added to both covariances of the Gaussian map.
    plan_points : int
        Images of either side, at most, in exact discrete transport, a random subset for each seed.
    learned : list of str
        Of `LEARNED`, also with " from affine" behind.
    iterations, batch : int
        Outer iterations and batch of every learned method.
    lr, critic_lr, critic_steps, persistency, eps_w1, reg
        Adam's rates of map and critics; critic updates per iteration; regression steps of the flows (the GANs have one);
        Euler step of W1-FE (1 for the others); relative temperature of the Sinkhorn flow.
    evaluations : int
        Points of the curve of accuracy.
    points, directions : int
        Images and lines in the distances.

    Returns
    -------
    dict
        "table": a row per method with accuracy (eval-mode batch norm where there is one), accuracy_train_mode,
        label_agreement, energy and sliced distances with floors, half mean squared displacement or cost of the plan.
        "curve": method, iteration, accuracy.
    """
    in_range(evaluations, 1, iterations, "evaluations")
    methods = [name.removesuffix(FROM_AFFINE) for name in learned]
    for name in methods:
        nearest(name, LEARNED, "learned method")
    S, D = domain(source, folder), domain(target, folder)
    x, y, test = (ad.flat(part) for part in (S.train, D.train, D.test))
    labels, train_labels = S.train_labels, D.train_labels
    judge = Judge(seed, labels, y, train_labels, test, D.test_labels, points, directions)
    affine = ad.per_pixel(x, y)(x)
    rows, curve = [], []
    direction = f"{source} to {target}"

    def add(method, kind, values, cost=np.nan, train_mode=np.nan):
        rows.append(
            {
                "direction": direction,
                "method": method,
                "kind": kind,
                **values,
                "accuracy_train_mode": train_mode,
                "half_squared_cost": cost,
                **judge.floors,
                "n_source": len(x),
                "n_test": len(test),
            }
        )

    closed = {
        "none": x,
        "mean shift": ad.mean_shift(x, y)(x),
        "per-pixel affine": affine,
        "Gaussian map": ad.gaussian(x, y, ridge)(x),
    }
    for name, moved in closed.items():
        add(name, "closed form", judge(moved), np.square(moved - x).sum(1).mean() / 2)

    draw = rng(seed, "plan")
    i, j = (draw.permutation(len(t))[:plan_points] for t in (x, y))
    P, cost = ad.plan(x[i], y[j])
    add("exact transport", "discrete", judge.discrete(ad.barycentric(P, y[j]), i, P, j), cost)
    P, cost = ad.plan_within_classes(x[i], y[j], labels[i], train_labels[j])
    add("class by class", "sees labels", judge.discrete(ad.barycentric(P, y[j]), i, P, j), cost)
    add("target's own images", "sees labels", {"accuracy": ad.one_nearest(y, train_labels, test, D.test_labels)})

    data = batches(torch.tensor(y, dtype=torch.float32))
    marks = {round(iterations * (k + 1) / evaluations) for k in range(evaluations)}
    for index, (name, method) in enumerate(zip(learned, methods, strict=True)):
        start = torch.tensor(affine if name.endswith(FROM_AFFINE) else x, dtype=torch.float32)
        torch.manual_seed(derive(seed, f"adaptation {direction} {name}"))
        stream, T = generator(seed, f"adaptation {direction} {name}"), ad.DigitMap(x.shape[1])
        step = make_step(
            method,
            T,
            lr=lr,
            critic_lr=critic_lr,
            critic_steps=critic_steps,
            persistency=persistency,
            eps_w1=eps_w1,
            reg=reg,
        )
        source_of = batches(start)
        for k in range(1, iterations + 1):
            iterate(step, data, source_of, batch, stream)
            if k in marks:
                curve.append(
                    {
                        "direction": direction,
                        "method": name,
                        "iteration": k,
                        "accuracy": judge.accuracy(moved_by(T, start, False)),
                    }
                )
            progress(index * iterations + k, len(learned) * iterations)
        moved = moved_by(T, start, False)
        add(
            name,
            "learned",
            judge(moved),
            np.square(moved - x).sum(1).mean() / 2,
            judge.accuracy(moved_by(T, start, True)),
        )
    progress(1, 1)
    return {
        "table": pd.DataFrame(rows).round(5),
        "curve": pd.DataFrame(curve, columns=["direction", "method", "iteration", "accuracy"]).round(5),
    }
