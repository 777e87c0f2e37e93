r"""What the experiments on explicit flows of the plane share: one loop with schedules, even latents, floors, a judge.

A schedule is a function `step -> move`, and `move(share)` sets what it governs after a share in [0, 1] of the run:

    cosine       rates of the map and of the critics times (1 + cos pi share) / 2
    euler        eps times 1 - .9 share
    temperature  reg times 10^(1 - 2 share) in the first half (Sinkhorn fields)
    rising       the map's rate times 10^share: a control, no schedule that helps

Experiments `ring`, `schedules`, `initialisation`, `diversity`, `dimension`.
"""

import copy
import math

import numpy as np
import pandas as pd
import torch

from companion.claims import NotRun, together
from gwf import fields, metrics
from gwf.data import toys
from gwf.errors import nearest
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Euler, iterate


def optimisers(step):
    """Those of the map and of the field's networks, if any."""
    return [step.optimiser, *([step.field.optimiser] if step.field.critic_steps else [])]


def cosine(step):
    """share -> sets the rates of the map and of the critics, if any."""
    groups = [group for optimiser in optimisers(step) for group in optimiser.param_groups]
    first = [group["lr"] for group in groups]

    def at(share):
        for group, lr in zip(groups, first, strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * share)) / 2

    return at


def euler(step):
    """share -> sets the Euler step."""
    first = step.eps

    def at(share):
        step.eps = first * (1 - 0.9 * share)

    return at


def temperature(step):
    """share -> sets the temperature of a Sinkhorn field; nothing under a field without plans."""
    last = getattr(step.field, "reg", None)

    def at(share):
        step.field.reg = last * 10 ** max(0.0, 1 - 2 * share)

    return at if last is not None else lambda share: None


def rising(step):
    """share -> sets the rate of the map."""
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


def train(step, toy, batch, stream, iterations, schedule="constant"):
    """Outer iterations of `gwf.steps.euler.iterate` along a schedule; yields how many are done.

    Parameters
    ----------
    step : gwf.steps.euler.Euler or Descent
    toy : anything with samplers `data`, `source`, (n, stream) -> (n, d)
    schedule : str
        A key of `SCHEDULES`.
    """
    moves = [make(step) for make in SCHEDULES[nearest(schedule, SCHEDULES, "schedule")]]
    for i in range(iterations):
        for move in moves:
            move(i / iterations)
        iterate(step, toy.data, toy.source, batch, stream)
        yield i + 1


def build(seed, field, *, width, lr, eps, persistency, critic_steps, reg, plan_iterations):
    """A new map with its Euler step under the field `field`, a name in `gwf.fields`."""
    torch.manual_seed(derive(seed, "map"))
    T = PlaneMap(width=width)
    settings = {"critic_steps": critic_steps, "reg": reg, "iterations": plan_iterations}
    V = fields.get(field, lambda: PlanePotential(width=width), relative=False, directions=32, **settings)
    return Euler(T, V, torch.optim.Adam(T.parameters(), lr=lr, fused=True), eps=eps, persistency=persistency)


class Average:
    """Exponential average of a map's weights, `decay` per iteration; the batch norm has no running state to average."""

    def __init__(self, T, decay):
        self.T, self.mean, self.decay = T, copy.deepcopy(T), decay

    @torch.no_grad()
    def update(self):
        """Take in the map's present weights."""
        for mean, now in zip(self.mean.parameters(), self.T.parameters(), strict=True):
            mean.lerp_(now, 1 - self.decay)


def even(n, seed, std=0.05):
    """Latents N(0, std^2 I), (n, 2), from scrambled Sobol points: the law of T without the noise of independent draws.

    Independent latents give each of eight modes n / 8 points only up to its root, and moving the surplus costs more W1
    than all that the map gets wrong.
    """
    u = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed % 2**31).draw(n).clamp(1e-6, 1 - 1e-6)
    return std * 2**0.5 * torch.erfinv(2 * u - 1)


@torch.no_grad()
def images(T, z):
    """T(z), without graph; the map's batch norm has the statistics of z, as in training."""
    return T(z)


def within(x, centres, std, reach=4):
    """Standard deviation per coordinate around the nearest centre, over points within `reach` std of it; NaN for none."""
    gap = np.linalg.norm(x[:, None] - centres[None], axis=2).min(1)
    near = gap[gap <= reach * std]
    return float(np.sqrt(np.mean(near**2) / x.shape[1])) if len(near) else float("nan")


def kl(masses, weights):
    """KL(masses | weights) = sum_k masses_k log(masses_k / weights_k); 0 log 0 = 0."""
    there = masses > 0
    return float(np.sum(masses[there] * np.log(masses[there] / weights[there])))


def modes_of(x, toy):
    """Scores of the modes of x (n, 2), a dict of floats; and the share of every mode, an array."""
    centres = toy.centres.numpy()
    weights = np.full(len(centres), 1 / len(centres)) if toy.weights is None else toy.weights.numpy().astype(float)
    found = metrics.mode_statistics(x, centres, toy.std, weights=weights / weights.sum())
    return {
        "modes": found["modes"],
        "modes_all": len(centres),
        "share_3sd": found["share_3sd"],
        "mode_kl": kl(found["masses"], weights / weights.sum()),
        "std_within": within(x, centres, toy.std),
        "std_true": toy.std,
    }, found["masses"]


class Judge:
    """Scores of maps against `pairs` fresh samples of data, the same samples and latents for every map."""

    def __init__(self, seed, toy, n, pairs, n_modes):
        self.toy = toy
        self.data = [toy.data(n, generator(seed, f"data {i}")).numpy() for i in range(pairs)]
        self.even = [even(n, derive(seed, f"even {i}")) for i in range(pairs)]
        self.independent = [toy.source(n, generator(seed, f"latents {i}")) for i in range(pairs)]
        self.many = even(n_modes, derive(seed, "modes"))

    def w(self, T, latents, p=1):
        """Mean W_p over the pairs."""
        distances = [metrics.wasserstein(images(T, z).numpy(), y, p) for z, y in zip(latents, self.data, strict=True)]
        return float(np.mean(distances))

    def __call__(self, T):
        """All scores, a dict."""
        found, _ = modes_of(images(T, self.many).numpy(), self.toy)
        return {
            "w1": self.w(T, self.independent),
            "w1_even": self.w(T, self.even),
            "w2_even": self.w(T, self.even, 2),
            **{key: found[key] for key in ("modes", "mode_kl", "std_within", "share_3sd")},
        }


def floors(seed, toy, n, pairs):
    """W1 and W2 of two data sets, and of independent points of the same law against a data set: means over `pairs`, a dict."""
    stream, out = generator(seed, "floors"), {}
    firsts = {"": toy.data, "_independent": lambda n, s: toys.mixture(n, s, toy.centres, toy.std)}
    for name, first in firsts.items():
        drawn = [(first(n, stream).numpy(), toy.data(n, stream).numpy()) for _ in range(pairs)]
        out |= {f"w{p}_floor{name}": float(np.mean([metrics.wasserstein(x, y, p) for x, y in drawn])) for p in (1, 2)}
    return out


def joined(cases, name):
    """The tables `name` of the cases that have one, in one frame; empty if none has."""
    having = {case: tables for case, tables in cases.items() if name in tables}
    return together(having, name) if having else pd.DataFrame()


def instead(name, lost, given):
    """A control: the runs with `given` in the column `name` stand in the place of those with `lost`, and in their own."""

    def exchanged(frame):
        rest = frame[frame[name] != lost]
        return pd.concat([rest, rest[rest[name] == given].assign(**{name: lost})])

    return exchanged


def within_fields(frame, first, second, name):
    """Rows of either value of the column `name`, by field, for the fields that have both: field -> (rows, rows)."""
    found = {}
    for field, part in frame.groupby("field", sort=False):
        pair = [part[part[name] == value] for value in (first, second)]
        if not any(rows.empty for rows in pair):
            found[field] = pair
    if not found:
        raise NotRun(f"no field with both {name} = {first} and {second}")
    return found
