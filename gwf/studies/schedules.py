r"""Schedules of the learning rates, the Euler step and the temperature, under every velocity field; and persistency with tuned rates.

Ring of eight Gaussians, one residual map, one loop (`gwf.steps.euler.iterate`), equal outer iterations: a schedule costs
nothing, so equal iterations are equal work within a field. Schedules, alone and together, at share s of the run:

    cosine       rates of the map and of the critics times (1 + cos pi s) / 2
    euler        eps times 1 - .9 s
    temperature  reg times 10^(1 - 2 s) in the first half (Sinkhorn fields)
    average      weights averaged over iterations (exponentially), the training unchanged
    all          everything that applies

Scores: W1, W2 to fresh data, KL of the histogram of modes, failures (a mode lost, or W1 above `failure` floors). They are
taken twice: on independent latents, as w2fe does, and on even ones (`gwf.studies.diversity.even`). The floors differ:
w2fe's data have exactly n / 8 points in each mode, and independent points do not, so that a perfect map with independent
latents stays above the distance of two such data sets; with even latents it does not.

Hypotheses (proposal), stated before looking. H3: all schedules together close at least half of the gap between the plateau
of the constant rate and the floor. H2: fields without a critic need less work to W1 < `threshold`. H5: the gain of
persistency > 1 shrinks below 2 once the rate is tuned for each persistency.
"""

import copy
import math
import time

import numpy as np
import pandas as pd
import torch

from gwf import fields, metrics
from gwf.data import toys
from gwf.errors import in_range, nearest
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Euler, iterate
from gwf.studies.diversity import cosine, even, images, modes_of


def euler(step):
    """share -> sets the Euler step."""
    first = step.eps

    def at(share):
        step.eps = first * (1 - 0.9 * share)

    return at


def temperature(step):
    """share -> sets the temperature of a Sinkhorn field."""
    field = step.field
    last = field.reg

    def at(share):
        field.reg = last * 10 ** max(0.0, 1 - 2 * share)

    return at


def rising(step):
    """share -> the opposite of `cosine`: rates grow tenfold. A control: no schedule that helps."""
    first = [group["lr"] for group in step.optimiser.param_groups]

    def at(share):
        for group, lr in zip(step.optimiser.param_groups, first, strict=True):
            group["lr"] = lr * 10**share

    return at


SCHEDULES = {
    "constant": (),
    "cosine": (cosine,),
    "euler": (euler,),
    "temperature": (temperature,),
    "rising": (rising,),
    "all": (cosine, euler, temperature),
}


def scheduled(name, field):
    """The schedules of `name` that apply to a field: no temperature without plans."""
    return [
        s
        for s in SCHEDULES[nearest(name, SCHEDULES, "schedule")]
        if s is not temperature or field.startswith("sinkhorn")
    ]


class Average:
    """Exponential average of a map's weights, `decay` per iteration; the batch norm has no running state to average."""

    def __init__(self, T, decay):
        self.T, self.mean, self.decay = T, copy.deepcopy(T), decay

    @torch.no_grad()
    def update(self):
        """Take in the map's present weights."""
        for mean, now in zip(self.mean.parameters(), self.T.parameters(), strict=True):
            mean.lerp_(now, 1 - self.decay)


class Judge:
    """Scores of maps against `pairs` fresh samples of data, the same samples and latents for every map."""

    def __init__(self, seed, toy, n, pairs, n_modes):
        self.toy = toy
        self.data = [toy.data(n, generator(seed, f"data {i}")).numpy() for i in range(pairs)]
        self.even = [even(n, derive(seed, f"even {i}")) for i in range(pairs)]
        self.independent = [toy.source(n, generator(seed, f"latents {i}")) for i in range(pairs)]
        self.many = even(n_modes, derive(seed, "modes"))

    def w(self, T, latents, p):
        """Mean W_p over the pairs."""
        return float(
            np.mean([metrics.wasserstein(images(T, z).numpy(), y, p) for z, y in zip(latents, self.data, strict=True)])
        )

    def __call__(self, T):
        """All scores, a dict."""
        found, _ = modes_of(images(T, self.many).numpy(), self.toy)
        return {
            "w1": self.w(T, self.independent, 1),
            "w1_even": self.w(T, self.even, 1),
            "w2_even": self.w(T, self.even, 2),
            **{key: found[key] for key in ("modes", "mode_kl", "std_within", "share_3sd")},
        }


def floors(seed, toy, n, pairs):
    """W1 and W2 of two data sets, and of independent points of the same law against a data set: means over `pairs`, a dict."""
    stream, out = generator(seed, "floors"), {}
    for name, first in (
        ("", lambda: toy.data(n, stream)),
        ("_independent", lambda: toys.mixture(n, stream, toy.centres, toy.std)),
    ):
        drawn = [(first().numpy(), toy.data(n, stream).numpy()) for _ in range(pairs)]
        out |= {f"w{p}_floor{name}": float(np.mean([metrics.wasserstein(x, y, p) for x, y in drawn])) for p in (1, 2)}
    return out


def build(seed, field, *, width, lr, eps, persistency, critic_steps, reg, plan_iterations):
    """A new map and its step under the field `field`."""
    torch.manual_seed(derive(seed, "map"))
    T = PlaneMap(width=width)
    V = fields.get(
        field,
        lambda: PlanePotential(width=width),
        critic_steps=critic_steps,
        reg=reg,
        iterations=plan_iterations,
        relative=False,
        directions=32,
    )
    return T, Euler(T, V, torch.optim.Adam(T.parameters(), lr=lr, fused=True), eps=eps, persistency=persistency)


def run(
    seed,
    progress,
    *,
    schedules,
    only_constant,
    width,
    batch,
    iterations,
    persistency,
    lr,
    eps,
    critic_steps,
    reg,
    plan_iterations,
    decay,
    every,
    n,
    pairs,
    n_modes,
    n_curve,
    threshold,
    failure,
    unit,
    persistencies,
    rates,
    persistency_iterations,
):
    """Run the factorial of fields and schedules for one seed, and persistency against rate for the Sinkhorn field.

    Parameters
    ----------
    schedules : dict
        Field -> names of `SCHEDULES`; "temperature" for Sinkhorn fields only. "constant" also gives "average".
    only_constant : list of str
        Further fields, run with constant rates.
    width, batch, iterations, persistency, lr, critic_steps, reg, plan_iterations
        As in `gwf.studies.diversity.run`.
    eps : dict
        Euler step of each field; 1 where it is not named.
    decay : float
        Of the average per outer iteration, in [0, 1).
    every : int
        Iterations between points of a curve.
    n, pairs, n_modes, n_curve : int
        Samples of a distance and pairs that are averaged; samples for the modes; samples of a point of a curve.
    threshold : float
        W1 (even latents, n_curve) that counts as trained.
    failure : float
        W1 in floors above which a run has failed.
    unit : dict
        Factors of `gwf.fields.base.Field.work`.
    persistencies, rates, persistency_iterations : list of int, list of float, int
        Grid of the second part, and its cap of outer iterations.

    Returns
    -------
    dict
        "table": a row per field and schedule. "curve": W1 by iteration. "persistency": iterations to the threshold.
        "timing": seconds beside work.
    """
    in_range(decay, 0, 0.9999, "decay")
    toy = toys.get("ring")
    judge, quick = Judge(seed, toy, n, pairs, n_modes), Judge(seed, toy, n_curve, 1, 8)
    floor = floors(seed, toy, n, 2 * pairs)
    cells = [(field, name) for field, names in schedules.items() for name in names] + [
        (field, "constant") for field in only_constant
    ]
    grid = [(J, g) for J in persistencies for g in rates]
    total = len(cells) * iterations + len(grid) * persistency_iterations
    rows, curves, times, ready, done = [], [], [], [], 0
    shared = {"width": width, "critic_steps": critic_steps, "reg": reg, "plan_iterations": plan_iterations}
    for field, name in cells:
        T, step = build(seed, field, lr=lr, eps=eps.get(field, 1.0), persistency=persistency, **shared)
        moves, average, stream = [s(step) for s in scheduled(name, field)], Average(T, decay), generator(seed, "draws")
        cost = persistency + step.field.work(batch, unit)
        plateau, spent, reached = [], 0.0, math.inf
        for i in range(iterations):
            began = time.process_time()
            for move in moves:
                move(i / iterations)
            iterate(step, toy.data, toy.source, batch, stream)
            average.update()
            spent += time.process_time() - began
            if name in ("constant", "all") and (i + 1) % every == 0:
                value = quick.w(T, quick.even, 1)
                curves.append(
                    {"field": field, "schedule": name, "iteration": i + 1, "work": (i + 1) * cost, "w1_even": value}
                )
                if value < threshold and math.isinf(reached):
                    reached = i + 1
                if i + 1 > 0.75 * iterations:
                    plateau.append(value)
            progress(done + i + 1, total, field=field)
        done += iterations
        about = {"field": field, "work": cost * iterations, "reached": reached, "work_to_threshold": cost * reached}
        found = {name: judge(average.mean if name == "all" else T)}
        if name == "constant":
            found["average"] = judge(average.mean)
            found["constant"]["plateau_curve"] = float(np.mean(plateau)) if plateau else math.nan
        for schedule, scores in found.items():
            lost = scores["modes"] < len(toy.centres) or not scores["w1_even"] <= failure * floor["w1_floor"]
            rows.append({**about, "schedule": schedule, **scores, **floor, "failed": int(lost)})
        times.append({"field": field, "schedule": name, "work": cost * iterations, "seconds": round(spent, 2)})
    for J, g in grid:
        T, step = build(seed, "sinkhorn", lr=g, eps=1.0, persistency=J, **shared)
        stream, reached = generator(seed, "draws"), math.inf
        for i in range(persistency_iterations):
            iterate(step, toy.data, toy.source, batch, stream)
            if (i + 1) % 5 == 0 and quick.w(T, quick.even, 1) < threshold:
                reached = i + 1
                break
            progress(done + i + 1, total, J=J)
        done += persistency_iterations
        cost = J + step.field.work(batch, unit)
        ready.append(
            {
                "field": "sinkhorn",
                "persistency": J,
                "lr": g,
                "reached": reached,
                "work_to_threshold": cost * reached,
                "cap": persistency_iterations,
            }
        )
    frames = {
        "table": pd.DataFrame(rows).round(5),
        "curve": pd.DataFrame(curves).round(5),
        "timing": pd.DataFrame(times),
    }
    return frames | ({"persistency": pd.DataFrame(ready).round(5)} if ready else {})
