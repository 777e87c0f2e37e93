r"""Explicit flows and GANs trained on toys of the plane: does the frozen target pay, and which axis shows it?

The networks of w2fe (`gwf.nets.plane`), started alike, on the same draws. Measured every few outer iterations: exact W1
and W2 between T(z) at `n_eval` fixed latents and as many fixed data points, as in w2fe, beside two floors. `floor_w1` is
the distance of two such samples of the data. The ring's have n / 8 points in each mode, which images of independent
latents have not: what a perfect map scores is `floor_w1_independent`, on the ring about half as much again. Every row
counts outer iterations, generator updates and critic updates, so that the same curve can be drawn against each; seconds
go into the frame "timing".

The map normalises by batch: T(z) depends on the batch that z is in. It is scored as it is trained, the `n_eval` latents
being one batch with their own statistics, and so is the map of averaged weights; running statistics are used nowhere.

Sources: w2fe (method, networks, metric), and its sister papers on W1-FE and W2-GAN. Chapter `w2flow`.
"""

import math
import time

import pandas as pd
import torch

from gwf import fields
from gwf.data.toys import get as toy_of
from gwf.data.toys import mixture
from gwf.errors import UsageError, in_range, nearest
from gwf.fields.learned import CriticField
from gwf.fields.w2 import DualField
from gwf.metrics import mode_statistics, two_sample_floor, wasserstein
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Descent, Euler, iterate
from gwf.steps.penalties import two_sided

#: Method -> (name for people, which field, whether the map regresses on a frozen target or descends the potential).
METHODS = {
    "w2fe": ("W2-FE", "dual", Euler),
    "w2fe_released": ("W2-FE, released target", "released", Euler),
    "w2gan": ("W2-GAN", "dual", Descent),
    "naive": ("W2-GAN, repeated steps", "dual", Descent),
    "w1fe_lp": ("W1-FE-LP", "lp", Euler),
    "w1fe_gp": ("W1-FE-GP", "gp", Euler),
    "wgan_lp": ("WGAN-LP", "lp", Descent),
    "wgan_gp": ("WGAN-GP", "gp", Descent),
    "sinkhorn": ("Sinkhorn", "sinkhorn", Euler),
    "sliced": ("sliced W2", "sliced", Euler),
    "mmd": ("MMD", "mmd", Euler),
    "minibatch_ot": ("minibatch OT", "minibatch_ot", Euler),
}
SCHEDULES = {
    "constant": lambda share, floor: 1.0,
    "cosine": lambda share, floor: floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2,
}
"""Name -> factor of both learning rates after a share of the iterations, from 1 to `floor`."""
REPEATS = 8
"""Pairs of samples behind a floor."""
DEFAULTS = {"persistency": 1, "eps": 1.0, "lr": 1e-4, "schedule": "constant", "floor": 0.0, "reg": 0.02}
"""What an entry of `trainings` may leave out; `iterations` is the case's."""


def field_of(kind, width, reg, lr_critic, critic_steps):
    """The velocity field `kind` with networks of w2fe's form."""
    if kind in ("dual", "released"):
        target = "theory" if kind == "dual" else "released"
        return DualField(
            PlanePotential(width=width),
            PlanePotential(width=width),
            lr=lr_critic,
            critic_steps=critic_steps,
            target=target,
        )
    if kind in ("lp", "gp"):
        penalty_of = two_sided if kind == "gp" else None
        return CriticField(
            "w1", PlanePotential(width=width), lr=lr_critic, critic_steps=critic_steps, penalty_of=penalty_of
        )
    # w2fe's ring has reg in units of the cost.
    return fields.get(kind, reg=reg, iterations=40, relative=False)


def step_of(seed, method, *, width, persistency, eps, lr, reg, lr_critic, critic_steps):
    """A map and its step; every method starts from the same map and the same potentials."""
    _, kind, form = METHODS[nearest(method, METHODS, "method")]
    if method in ("w2gan", "wgan_lp", "wgan_gp") and persistency != 1:
        raise UsageError(
            f"persistency = {persistency} of method {method!r}: it is 1 by definition; repeated steps are 'naive'"
        )
    torch.manual_seed(derive(seed, "ring potentials"))
    field = field_of(kind, width, reg, lr_critic, critic_steps)
    torch.manual_seed(derive(seed, "ring map"))
    T = PlaneMap(width=width)
    optimiser = torch.optim.Adam(T.parameters(), lr=lr, fused=True)
    return (
        Descent(T, field, optimiser, persistency) if form is Descent else Euler(T, field, optimiser, eps, persistency)
    )


def optimisers(step):
    """Those of the map and of the field's networks, if any."""
    return [step.optimiser, *([step.field.optimiser] if step.field.critic_steps else [])]


class Rates:
    """Both learning rates along a schedule."""

    def __init__(self, step, schedule, floor, iterations):
        in_range(floor, 0, 1, "floor")
        self.factor, self.floor, self.iterations = (
            SCHEDULES[nearest(schedule, SCHEDULES, "schedule")],
            floor,
            iterations,
        )
        self.groups = [(group, group["lr"]) for optimiser in optimisers(step) for group in optimiser.param_groups]

    def set(self, iteration):
        """For the iteration that comes, counted from 0."""
        for group, start in self.groups:
            group["lr"] = start * self.factor(iteration / self.iterations, self.floor)


class Score:
    """Distances of a map to fixed data, at fixed latents."""

    def __init__(self, toy, seed, n):
        stream = generator(seed, "ring evaluation")
        self.toy, self.z, self.y = toy, toy.source(n, stream), toy.data(n, stream)
        self.floor = {f"floor_w{p}": two_sample_floor(toy.data, n, p, REPEATS, stream)[0] for p in (1, 2)}
        self.floor |= {f"floor_w{p}_independent": independent_floor(toy, n, p, stream) for p in (1, 2)}

    @torch.no_grad()
    def points(self, T):
        """T at all latents as one batch."""
        return T(self.z)

    def __call__(self, T, average):
        """A dict of columns: W1, W2, those of the averaged map, and what modes the points are in, if there are any."""
        x = self.points(T)
        row = {f"w{p}": wasserstein(x, self.y, p) for p in (1, 2)}
        row |= {f"w{p}_ema": wasserstein(self.points(average), self.y, p) for p in (1, 2)} | self.floor
        if self.toy.centres is not None:
            found = mode_statistics(x, self.toy.centres, self.toy.std, weights=self.toy.weights)
            row |= {
                "modes": found["modes"],
                "share_3sd": found["share_3sd"],
                "mode_tv": found["mode_tv"],
                "spread": spread(x, self.toy.centres, 4 * self.toy.std),
            }
        return row


def independent_floor(toy, n, p, stream):
    """What a perfect map of independent latents scores: W_p of n independent draws of the law and n points of the data."""
    if toy.centres is None:
        return two_sample_floor(toy.data, n, p, REPEATS, stream)[0]
    pairs = [(mixture(n, stream, toy.centres, toy.std, toy.weights), toy.data(n, stream)) for _ in range(REPEATS)]
    return sum(wasserstein(x, y, p) for x, y in pairs) / REPEATS


def spread(x, centres, radius):
    """Standard deviation per coordinate of points x about the centre of their mode, of those within `radius` of one."""
    distance = torch.cdist(x, centres).min(1).values
    return float((distance[distance <= radius].square().mean() / 2).sqrt())


def learn(
    seed,
    after,
    *,
    toy,
    method,
    persistency,
    eps,
    lr,
    schedule,
    floor,
    reg,
    iterations,
    width,
    batch,
    lr_critic,
    critic_steps,
    evaluate_every,
    ema,
    score,
):
    """Train one method; `after(row, seconds)` gets the scores at the start and after every `evaluate_every` iterations.

    Returns the map. Seconds are processor time of the training alone.
    """
    step = step_of(
        seed,
        method,
        width=width,
        persistency=persistency,
        eps=eps,
        lr=lr,
        reg=reg,
        lr_critic=lr_critic,
        critic_steps=critic_steps,
    )
    average = torch.optim.swa_utils.AveragedModel(step.T, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema))
    rates, stream, seconds = Rates(step, schedule, floor, iterations), generator(seed, "ring training"), 0.0
    for i in range(iterations + 1):
        if i % evaluate_every == 0 or i == iterations:
            counts = {
                "iteration": i,
                "generator_updates": i * persistency,
                "critic_updates": i * step.field.critic_steps,
            }
            after(counts | score(step.T, average), seconds)
        if i < iterations:
            began = time.process_time()
            rates.set(i)
            iterate(step, toy.data, toy.source, batch, stream)
            average.update_parameters(step.T)
            seconds += time.process_time() - began
    return step.T


def settings_of(training, iterations):
    """One entry of `trainings` with its defaults; `UsageError` names what is unknown."""
    for name in training:
        nearest(name, {*DEFAULTS, "method", "iterations"}, "setting of a training")
    return DEFAULTS | {"iterations": iterations} | training


def run(
    seed,
    progress,
    *,
    toys,
    trainings,
    width,
    batch,
    iterations,
    lr_critic=5e-4,
    critic_steps=5,
    evaluate_every=50,
    ema=0.98,
    n_eval=512,
    points=0,
):
    """Train every entry of `trainings` on every toy.

    Parameters
    ----------
    toys : list of str
        Names in `gwf.data.toys`.
    trainings : list of dict
        `method` (a key of `METHODS`), and where they differ from `DEFAULTS` persistency, eps, lr (the map's rate), schedule
        ("constant", "cosine": of both networks' rates, down to `floor` times the start), reg, iterations.
    width, batch : int
        w2fe: 128 and 512.
    iterations : int
        Outer ones.
    lr_critic, critic_steps :
        Of the potentials, per outer iteration.
    evaluate_every : int
    ema : float
        Of the averaged weights, per outer iteration, in [0, .9999].
    points : int
        How many points of every final map to keep, of `n_eval`.

    Returns
    -------
    dict
        "table": a row per toy, training and evaluation. "points": toy, label, x, y. "timing": seconds of each row.
    """
    in_range(ema, 0, 0.9999, "ema")
    plan = [(toy, settings_of(training, iterations)) for toy in toys for training in trainings]
    rows, times, kept, done = [], [], [], 0
    total = sum(settings["iterations"] for _, settings in plan)
    scores = {name: Score(toy_of(name), seed, n_eval) for name in toys}
    for name, settings in plan:
        about = {
            "toy": name,
            "label": METHODS[nearest(settings["method"], METHODS, "method")][0],
            "width": width,
            "batch": batch,
            **{key: settings[key] for key in ("method", "persistency", "eps", "lr", "schedule", "iterations")},
        }

        def after(row, seconds, about=about, done=done):
            rows.append(about | row)
            times.append(about | {"iteration": row["iteration"], "seconds": round(seconds, 3)})
            progress(done + row["iteration"], total, w1=row["w1"])

        T = learn(
            seed,
            after,
            toy=scores[name].toy,
            score=scores[name],
            width=width,
            batch=batch,
            lr_critic=lr_critic,
            critic_steps=critic_steps,
            evaluate_every=evaluate_every,
            ema=ema,
            **settings,
        )
        done += settings["iterations"]
        x = scores[name].points(T)[:points]
        kept.append(
            pd.DataFrame(x.numpy(), columns=["x", "y"]).assign(
                toy=name, label=about["label"], persistency=about["persistency"]
            )
        )
    tables = {"table": pd.DataFrame(rows).round(5), "timing": pd.DataFrame(times)}
    return tables | ({"points": pd.concat(kept, ignore_index=True).round(4)} if points else {})
