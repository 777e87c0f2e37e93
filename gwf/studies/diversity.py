r"""Modes kept and quality of samples, for every velocity field of the explicit family.

Toys of `gwf.data.toys` with known modes (`ring`; `minor_modes`: six of 15 % and two far ones of 5 %). One residual map, one loop
(`gwf.steps.euler.iterate`), equal outer iterations, rates that fall to 0 (shares of rare modes fluctuate with them);
the field alone differs. The single-batch Sinkhorn field, whose
self term compares a batch with itself, is run beside the field with two batches.

Scores: modes hit, share within 3 standard deviations, KL of the histogram of modes to the weights, spread inside modes,
precision and recall, W1, W2, energy distance; each with its value for data against data. Hypothesis H6 (proposal), stated
before looking: on `minor_modes` the two-batch field keeps both minor modes within 20 % of their weight, the
single-batch field does not.

A second question needs no network: particles under either self term at several temperatures `self_regs`.
"""

import math
import time

import numpy as np
import pandas as pd
import torch

from gwf import fields, metrics
from gwf.data import toys
from gwf.errors import in_range
from gwf.fields.sinkhorn import Sinkhorn
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Euler, iterate, particle_flow


def even(n, seed, std=0.05):
    """Latents N(0, std^2 I), (n, 2), from scrambled Sobol points: the law of T without the noise of independent draws.

    Independent latents give each of eight modes n / 8 points only up to its root, and moving the surplus costs more W1
    than all that the map gets wrong.
    """
    u = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed % 2**31).draw(n).clamp(1e-6, 1 - 1e-6)
    return std * 2**0.5 * torch.erfinv(2 * u - 1)


def images(T, z):
    """T(z) with the map's batch norm on the statistics of z, as in training."""
    with torch.no_grad():
        return T(z)


def histogram_kl(masses, weights):
    """KL(masses | weights) = sum_k masses_k log(masses_k / weights_k); 0 log 0 = 0."""
    there = masses > 0
    return float(np.sum(masses[there] * np.log(masses[there] / weights[there])))


def within(x, centres, std, reach=4):
    """Standard deviation per coordinate around the nearest centre, over points within `reach` std of it; NaN for none."""
    gap = np.linalg.norm(x[:, None] - centres[None], axis=2).min(1)
    near = gap[gap <= reach * std]
    return float(np.sqrt(np.mean(near**2) / x.shape[1])) if len(near) else float("nan")


def modes_of(x, toy):
    """Scores of the modes of x (n, 2), a dict of floats; and the share of every mode, an array."""
    centres = toy.centres.numpy()
    weights = np.full(len(centres), 1 / len(centres)) if toy.weights is None else toy.weights.numpy().astype(float)
    found = metrics.mode_statistics(x, centres, toy.std, weights=weights / weights.sum())
    return {
        "modes": found["modes"],
        "modes_all": len(centres),
        "share_3sd": found["share_3sd"],
        "mode_kl": histogram_kl(found["masses"], weights / weights.sum()),
        "std_within": within(x, centres, toy.std),
        "std_true": toy.std,
    }, found["masses"]


def scores(x, data, toy, stream, n):
    """Every score of points x (many, 2): modes from all of them, distances from n of them against n of data."""
    out, masses = modes_of(x, toy)
    fake, real = x[:n], data(n, stream).numpy()
    precision, recall = metrics.precision_recall(real, fake)
    out |= {
        "precision": precision,
        "recall": recall,
        "w1": metrics.wasserstein(fake, real, 1),
        "w2": metrics.wasserstein(fake, real, 2),
        "energy": metrics.energy_distance(fake, real),
    }
    rare = masses[-2:] if toy.weights is not None else [np.nan, np.nan]
    return out | {
        "minor_1": rare[0],
        "minor_2": rare[1],
        "minor_true": np.nan if toy.weights is None else float(toy.weights[-1]),
    }


def cosine(step):
    """share -> sets the rates of the map and of the critics, if any."""
    groups = [
        g for o in (step.optimiser, getattr(step.field, "optimiser", None)) if o is not None for g in o.param_groups
    ]
    first = [group["lr"] for group in groups]

    def at(share):
        for group, lr in zip(groups, first, strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * share)) / 2

    return at


def learn(seed, toy, name, progress, *, width, batch, iterations, persistency, lr, eps, reg, plan_iterations):
    """The map after `iterations` outer iterations under the field `name`, rates falling to 0 by a cosine."""
    torch.manual_seed(derive(seed, "map"))
    T = PlaneMap(width=width)
    field = fields.get(
        name, lambda: PlanePotential(width=width), reg=reg, iterations=plan_iterations, relative=False, directions=32
    )
    step = Euler(T, field, torch.optim.Adam(T.parameters(), lr=lr, fused=True), eps=eps, persistency=persistency)
    stream, rates = generator(seed, "draws"), cosine(step)
    for i in range(iterations):
        rates(i / iterations)
        iterate(step, toy.data, toy.source, batch, stream)
        progress(i + 1)
    return T


def self_term(seed, regs, plan_iterations, n, steps, eps):
    """Particles on the ring under the Sinkhorn field with either self term: a row for each temperature."""
    toy, rows = toys.get("ring"), []
    y = toy.data(n, generator(seed, "cloud"))
    for reg in regs:
        for other, title in (("halves", "two batches"), ("same", "single batch")):
            field = Sinkhorn(reg, plan_iterations, relative=False)
            x = particle_flow(
                field, toy.source(n, generator(seed, "start")), y, eps, steps, generator(seed, "parts"), other=other
            )
            x = x.numpy()
            rows.append(
                {
                    "self_term": title,
                    "reg": reg,
                    "w1": metrics.wasserstein(x, toy.data(n, generator(seed, "held")).numpy(), 1),
                    "std_within": within(x, toy.centres.numpy(), toy.std, 8),
                    "std_true": toy.std,
                }
            )
    return pd.DataFrame(rows)


def run(
    seed,
    progress,
    *,
    toy_names,
    fields,
    regs,
    eps,
    lr,
    width,
    batch,
    iterations,
    persistency,
    plan_iterations,
    n_modes,
    n_distance,
    floors,
    self_regs,
    self_n,
    self_steps,
    self_eps,
    points,
):
    """Learn a map for each toy and field and score it.

    Parameters
    ----------
    toy_names : list of str
        Toys of `gwf.data.toys` that have modes.
    fields : list of str
        Names in `gwf.fields`.
    regs : list of float
        Temperatures of the Sinkhorn fields, in units of the cost |x - y|^2 / 2.
    eps : dict
        Euler step of each field; 1 where it is not named.
    lr, width, batch, iterations, persistency, plan_iterations
        Adam's rate of the map, hidden width, batch, outer iterations, regression steps on one target, updates of a plan.
    n_modes, n_distance : int
        Samples for the shares of the modes, and for the distances, precision and recall.
    floors : int
        Pairs of samples of data, of which the mean score is the floor.
    self_regs, self_n, self_steps, self_eps
        Temperatures, particles, steps and Euler step of the comparison of the two self terms.
    points : int
        Samples kept of each map for the figure.

    Returns
    -------
    dict
        "table": a row per toy and field, and the floor as the field "data"; "self"; "points".
    """
    in_range(points, 0, 2000, "points")
    rows, kept, times, done = [], [], [], 0
    cells = [(name, reg) for name in fields for reg in (regs if name.startswith("sinkhorn") else [float("nan")])]
    total = len(toy_names) * len(cells) * iterations
    for toy_name in toy_names:
        toy = toys.get(toy_name)
        stream = generator(seed, "floor")
        real = pd.DataFrame(
            [scores(toy.data(n_modes, stream).numpy(), toy.data, toy, stream, n_distance) for _ in range(floors)]
        )
        rows.append({"toy": toy_name, "field": "data", **real.mean()})
        kept.append(
            pd.DataFrame(toy.data(points, stream).numpy(), columns=["x", "y"]).assign(toy=toy_name, field="data")
        )
        for name, reg in cells:
            began = time.process_time()
            T = learn(
                seed,
                toy,
                name,
                lambda i, done=done, name=name: progress(done + i, total, field=name),
                width=width,
                batch=batch,
                iterations=iterations,
                persistency=persistency,
                lr=lr,
                eps=eps.get(name, 1.0),
                reg=0.02 if np.isnan(reg) else reg,
                plan_iterations=plan_iterations,
            )
            times.append({"toy": toy_name, "field": name, "reg": reg, "seconds": round(time.process_time() - began, 2)})
            done += iterations
            x = images(T, toy.source(n_modes, generator(seed, "latents"))).numpy()
            rows.append(
                {
                    "toy": toy_name,
                    "field": name,
                    "reg": reg,
                    **scores(x, toy.data, toy, generator(seed, "test"), n_distance),
                }
            )
            kept.append(pd.DataFrame(x[:points], columns=["x", "y"]).assign(toy=toy_name, field=name, reg=reg))
    frames = {"table": pd.DataFrame(rows).round(5), "timing": pd.DataFrame(times)}
    frames["points"] = pd.concat(kept, ignore_index=True).round(3)
    if self_regs:
        frames["self"] = self_term(seed, self_regs, plan_iterations, self_n, self_steps, self_eps).round(5)
    return frames
