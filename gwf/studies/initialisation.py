r"""Does a Wasserstein gradient flow as initialisation pay, at equal work?

The whole recipe of the proposal on the ring: particles x_i, started at latents z_i, follow the Sinkhorn flow; the map is
regressed on the pairs (z_i, x_i); then the Euler steps of `gwf.steps.euler` go on from there, with the velocity field
`field`. Initialisations:

    none              a cold start near the identity
    flow              `flow_steps` Sinkhorn steps, then the regression
    flow, straight    `short_steps` of them, then each particle goes straight to the data point assigned to it (optimal
                      assignment), then the regression: the one-step form of NSGF++, whose second half is a straight flow

All have the same total work, phase 1 and regression included, so that an initialised run takes fewer Euler steps. Work is
counted, not clocked (`gwf.fields.base.Field.work`); the frame "timing" has the seconds beside it.

Hypothesis H1 (proposal), stated before looking: initialisation shortens the work to W1 < `threshold` and does not change
the final W1. A third kind of row, "other flow", is the control: a flow to another target (four Gaussians at radius 1).

The second table, "particles", needs no map: particle flows with the full batch and with minibatches, exact minibatch
transport and Sinkhorn. Measured bars of w2fe (7.5), exact transport: held-out W1 .037 for the full batch of 512, .073 for
batches of 128, whose modes are inflated to .132 from .1.
"""

import math
import time

import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from gwf import metrics
from gwf.data import toys
from gwf.errors import UsageError, nearest
from gwf.fields import get
from gwf.fields.minibatch_ot import MinibatchOT
from gwf.fields.sinkhorn import Sinkhorn
from gwf.nets.plane import PlanePotential
from gwf.seeding import generator
from gwf.steps.euler import iterate, particle_flow
from gwf.studies.diversity import within
from gwf.studies.schedules import Judge, build, floors

INITS = ("none", "flow", "flow, straight", "other flow")


def pairs_of(init, seed, toy, *, particles, flow_steps, short_steps, flow_eps, reg, plan_iterations, unit):
    """Latents z, particles x where the flow took them (both (particles, 2)), and the work of it.

    Every step compares either half of the cloud with all data and with the other half: two plans of particles / 2 by
    particles and two of half that size. Large matrices cost less per entry than those of a batch: factor "cloud".
    """
    z = toy.source(particles, generator(seed, "start"))
    target = toys.get("four_gaussians") if init == "other flow" else toy
    y = target.data(particles, generator(seed, "cloud"))
    steps = short_steps if init == "flow, straight" else flow_steps
    field = Sinkhorn(reg, plan_iterations, relative=False)
    x = particle_flow(field, z, y, flow_eps, steps, generator(seed, "halves"))
    entries = steps * 1.5 * particles**2 / 1e6
    cost = 2 * (plan_iterations + 1) * entries * unit["cloud"]
    if init == "flow, straight":
        distances = torch.cdist(x.double(), y.double()).square().numpy()
        x, cost = (
            y[torch.from_numpy(linear_sum_assignment(distances)[1])],
            cost + particles**2 / 1e6 * unit["assignment"],
        )
    return z, x, cost


def regress(T, z, x, steps, lr, batch, stream):
    """Adam steps of T on mean |T(z_i) - x_i|^2 over random pairs."""
    optimiser = torch.optim.Adam(T.parameters(), lr=lr, fused=True)
    for _ in range(steps):
        chosen = torch.randperm(len(z), generator=stream)[:batch]
        loss = (T(z[chosen]) - x[chosen]).square().sum() / len(chosen)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def particle_bars(seed, toy, n, batch, steps, eps, reg, plan_iterations):
    """Rows of particle flows against fresh data: held-out W1 and spread inside modes, full batch and minibatches."""
    rows = []
    held = toy.data(n, generator(seed, "held")).numpy()
    for name, field in (("minibatch OT", MinibatchOT()), ("Sinkhorn", Sinkhorn(reg, plan_iterations, relative=False))):
        for size in (n, batch):
            x = particle_flow(
                field,
                toy.source(n, generator(seed, "start")),
                toy.data,
                eps,
                steps,
                generator(seed, "parts"),
                batch=size,
            ).numpy()
            rows.append(
                {
                    "field": name,
                    "n": n,
                    "batch": size,
                    "steps": steps,
                    "w1": metrics.wasserstein(x, held, 1),
                    "std_within": within(x, toy.centres.numpy(), toy.std, 8),
                    "std_true": toy.std,
                }
            )
    return pd.DataFrame(rows)


def run(
    seed,
    progress,
    *,
    inits,
    fields,
    eps,
    iterations,
    width,
    batch,
    persistency,
    lr,
    critic_steps,
    reg,
    plan_iterations,
    particles,
    flow_steps,
    short_steps,
    flow_eps,
    regression_steps,
    regression_lr,
    every,
    n,
    pairs,
    n_modes,
    n_curve,
    threshold,
    unit,
    bar_particles,
    bar_batch,
    bar_steps,
    bar_eps,
):
    """Train from every initialisation under every field for one seed, all with the work of the cold start.

    Parameters
    ----------
    inits : list of str
        Of `INITS`.
    fields, eps, width, batch, persistency, lr, critic_steps, reg, plan_iterations
        As in `gwf.studies.schedules.run`.
    iterations : dict
        Field -> outer iterations of the cold start, which set the work of all.
    particles, flow_steps, short_steps, flow_eps
        Particles of phase 1, Sinkhorn steps (before the straight part: `short_steps`) and their size.
    regression_steps, regression_lr : int, float
    every, n, pairs, n_modes, n_curve, threshold, unit
        As in `gwf.studies.schedules.run`; `unit` has a further factor "cloud", for a million entries of the particles' plans.
    bar_particles, bar_batch, bar_steps, bar_eps
        Of the table "particles"; 0 particles for none.

    Returns
    -------
    dict
        "table", "curve", "particles" if asked for, "timing".
    """
    for init in inits:
        nearest(init, INITS, "initialisation")
    toy = toys.get("ring")
    judge, quick = Judge(seed, toy, n, pairs, n_modes), Judge(seed, toy, n_curve, 1, 8)
    floor = floors(seed, toy, n, 2 * pairs)
    rows, curves, times, done = [], [], [], 0
    total = len(inits) * sum(iterations[field] for field in fields)
    for field in fields:
        V = get(field, lambda: PlanePotential(width=width), critic_steps=critic_steps, iterations=plan_iterations)
        cost = persistency + V.work(batch, unit)
        budget = iterations[field] * cost
        for init in inits:
            T, step = build(
                seed,
                field,
                width=width,
                lr=lr,
                eps=eps.get(field, 1.0),
                persistency=persistency,
                critic_steps=critic_steps,
                reg=reg,
                plan_iterations=plan_iterations,
            )
            began, spent = time.process_time(), 0.0
            if init != "none":
                z, x, spent = pairs_of(
                    init,
                    seed,
                    toy,
                    particles=particles,
                    flow_steps=flow_steps,
                    short_steps=short_steps,
                    flow_eps=flow_eps,
                    reg=reg,
                    plan_iterations=plan_iterations,
                    unit=unit,
                )
                regress(T, z, x, regression_steps, regression_lr, batch, generator(seed, "regression"))
                spent += regression_steps
                if spent > budget:
                    raise UsageError(
                        f"iterations = {iterations[field]} of {field} are {budget:.0f} units of work, less than the {spent:.0f} "
                        f"of the initialisation {init!r}: take more"
                    )
            first_seconds, first_work = time.process_time() - began, spent
            value = quick.w(T, quick.even, 1)
            about = {"field": field, "init": init}
            curves.append({**about, "iteration": 0, "work": spent, "w1_even": value})
            reached, start = (spent if value < threshold else math.inf), value
            stream, i, seconds = generator(seed, "draws"), 0, 0.0
            while spent + cost <= budget + 1e-9:
                began = time.process_time()
                iterate(step, toy.data, toy.source, batch, stream)
                seconds += time.process_time() - began
                spent, i = spent + cost, i + 1
                if i % every == 0:
                    value = quick.w(T, quick.even, 1)
                    curves.append({**about, "iteration": i, "work": spent, "w1_even": value})
                    reached = min(reached, spent) if value < threshold else reached
                progress(done + i, total, field=field)
            done += iterations[field]
            rows.append(
                {
                    **about,
                    "work": budget,
                    "work_before": first_work,
                    "iterations": i,
                    "w1_after_init": start,
                    "work_to_threshold": reached,
                    "threshold": threshold,
                    **judge(T),
                    **floor,
                }
            )
            times.append({**about, "part": "initialisation", "work": first_work, "seconds": round(first_seconds, 2)})
            times.append({**about, "part": "Euler steps", "work": i * cost, "seconds": round(seconds, 2)})
    frames = {
        "table": pd.DataFrame(rows).round(5),
        "curve": pd.DataFrame(curves).round(5),
        "timing": pd.DataFrame(times),
    }
    if bar_particles:
        frames["particles"] = particle_bars(
            seed, toy, bar_particles, bar_batch, bar_steps, bar_eps, reg, plan_iterations
        ).round(5)
    return frames
