"""Checks of W2-FE's training claims: the identity with W2-GAN, and what the study of the ring measured."""

import numpy as np
import torch

from gwf.claims.checks.learned import mean_of, rename, scale
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import change, check, exact
from gwf.claims.sources import column, table
from gwf.fields.w2 import DualField
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Descent, Euler

RATE = 1e-4
"""Learning rate of the map in w2fe's settings, at which methods are compared unless a claim is about the rate."""
LEVEL = 0.3
"""W1 on the ring (it starts at .94) at which iterations are counted: far above the plateaus .09 to .15 and their noise."""


# The identity.


def trained(form, optimiser, target, updates, **settings):
    """Weights of a small map in float64 after some updates on an untrained field, one vector."""
    torch.manual_seed(derive(0, "w2fe-C4"))
    T = PlaneMap(2, 16, normalise=False).double()
    for w in T.parameters():
        w.data += 0.3 * torch.randn_like(w)
    field = DualField(*(PlanePotential(2, 16, std=0.5).double() for _ in range(2)), target=target)
    step = form(T, field, optimiser(T.parameters()), **settings)
    for z in torch.randn(updates, 64, 2, generator=generator(0, "w2fe-C4"), dtype=torch.float64):
        step.update(z, None)
    return torch.nn.utils.parameters_to_vector(T.parameters()).detach()


def sgd(lr):
    return lambda weights: torch.optim.SGD(weights, lr=lr)


def adam(weights):
    """Its constant as good as 0: with 1e-8 the scale of a gradient, so eps, is seen again."""
    return torch.optim.Adam(weights, lr=1e-3, eps=1e-30)


@check("w2fe-C4", exact(persistency=1, target="theory"), change(target="released"), change(persistency=2))
def persistency_one(evidence):
    """Five updates of W2-FE and of W2-GAN with as many generator steps, SGD with the rates lr and 2 eps lr; Adam at two eps."""
    eps, lr, J, target = 0.3, 1e-2, evidence["persistency"], evidence["target"]
    ours = trained(Euler, sgd(lr), target, 5, eps=eps, persistency=J)
    gan = trained(Descent, sgd(2 * eps * lr), "theory", 5, steps=J)
    under_adam = [trained(Euler, adam, target, 5, eps=e, persistency=J) for e in (1.0, 0.1)]
    return Outcome(
        {
            "largest difference of a weight under SGD": float((ours - gan).abs().max()),
            "largest difference between eps 1 and .1 under Adam": float((under_adam[0] - under_adam[1]).abs().max()),
        },
        f"{len(ours)} weights in float64, which the five updates moved by up to {moved(target, sgd(lr), eps, J, ours):.3f}.",
    )


def moved(target, optimiser, eps, J, now):
    """Largest change of a weight since the start."""
    return float((now - trained(Euler, optimiser, target, 0, eps=eps, persistency=J)).abs().max())


# The ring.


def ring(sources):
    """Rows of the ring at the study's comparison of methods: the narrowest networks, which have all of them."""
    rows = table(sources.study("ring"))
    rows = rows[column(rows, "toy") == "ring"]
    if rows.empty:
        raise NotRun("the study ring has no toy 'ring'")
    return rows[rows["width"] == rows["width"].min()]


def curves(frame, method, persistency, **where):
    """Seed -> rows of one training in the order of the iterations, constant rates; `NotRun` if there are none."""
    where = {"method": method, "persistency": persistency, "schedule": "constant"} | where
    rows = frame
    for name, wanted in where.items():
        rows = rows[column(rows, name) == wanted]
    if rows.empty:
        raise NotRun(f"no training with {', '.join(f'{name} {wanted}' for name, wanted in where.items())}")
    return {seed: part.sort_values("iteration") for seed, part in rows.groupby("seed")}


def iterations_to(frame, level, method, persistency, **where):
    """Mean over seeds of the outer iterations until W1 first falls to `level`, between evaluations linearly.

    A seed that does not get there counts with the iterations that it had: too few, never too many. One that starts
    there counts with 1.
    """
    found = []
    for rows in curves(frame, method, persistency, **where).values():
        i, w = rows["iteration"].to_numpy(), column(rows, "w1").to_numpy()
        below = np.flatnonzero(w <= level)
        if not below.size or below[0] == 0:
            found.append(1.0 if below.size else float(i[-1]))
            continue
        k = below[0]
        found.append(float(i[k - 1] + (i[k] - i[k - 1]) * (w[k - 1] - level) / (w[k - 1] - w[k])))
    return float(np.mean(found))


def late(frame, method, persistency, share=0.5, **where):
    """Mean W1 over seeds and the evaluations in the last `share` of a training."""
    found = [
        rows.loc[rows["iteration"] >= (1 - share) * rows["iteration"].max(), "w1"].mean()
        for rows in curves(frame, method, persistency, **where).values()
    ]
    return float(np.mean(found))


def rates(frame, method, persistency):
    """Learning rates that were tried."""
    rows = frame[
        (column(frame, "method") == method)
        & (column(frame, "persistency") == persistency)
        & (frame["schedule"] == "constant")
    ]
    if rows.empty:
        raise NotRun(f"no training with method {method}, persistency {persistency}")
    return sorted(rows["lr"].unique())


def best(frame, method, persistency, number, **where):
    """(least value, its rate) of `number(frame, method, persistency, lr=...)` over the rates that were tried."""
    return min((number(frame, method, persistency, lr=lr, **where), lr) for lr in rates(frame, method, persistency))


@check("w2fe-C5", ring, rename("persistency", 1, 10))
def speed_of_persistency(frame):
    """Outer iterations to W1 = .3 at persistency 1, over those at 3 and 10, one learning rate."""
    took = {J: iterations_to(frame, LEVEL, "w2fe", J, lr=RATE) for J in (1, 10)}
    values = {"iterations at persistency 1 over those at 10": took[1] / took[10]}
    try:
        took[3] = iterations_to(frame, LEVEL, "w2fe", 3, lr=RATE)
        values["iterations at persistency 1 over those at 3"] = took[1] / took[3]
    except NotRun:
        pass
    return Outcome(
        values,
        f"Outer iterations to W1 = {LEVEL}: "
        + ", ".join(f"{took[J]:.0f} (persistency {J})" for J in sorted(took))
        + ".",
    )


def both(sources):
    """The ring, and the adaptation of digits where it has been run."""
    cases = sources.study_if_any("adaptation")
    return {"ring": ring(sources), "adaptation": table(cases) if cases else None}


def on_ring(control):
    """A control of the ring's frame, for evidence of two frames."""
    return lambda evidence: {**evidence, "ring": control(evidence["ring"])}


@check("w2fe-C6", both, on_ring(scale("w1", 4, method="w2fe")), on_ring(scale("w1", 0.25, method="w2fe")))
def against_wgan(evidence):
    """Best rate of either method: late W1 and iterations to W1 = .3 on the ring; accuracy of the adaptation by direction."""
    frame = evidence["ring"]
    wgans = [name for name in ("wgan_lp", "wgan_gp") if name in set(column(frame, "method"))]
    if not wgans:
        raise NotRun("no training with WGAN")
    number = {"w2fe": best(frame, "w2fe", 10, late)[0], "wgan": min(best(frame, name, 1, late)[0] for name in wgans)}
    took = {
        "w2fe": best(frame, "w2fe", 10, to_level)[0],
        "wgan": min(best(frame, name, 1, to_level)[0] for name in wgans),
    }
    values = {
        "late W1 of WGAN over that of W2-FE": number["wgan"] / number["w2fe"],
        "iterations of WGAN over those of W2-FE": took["wgan"] / took["w2fe"],
    }
    said = f"Ring, best rates: W1 over the second half {number['w2fe']:.3f} (W2-FE) and {number['wgan']:.3f} (WGAN)"
    gaps = accuracy_gaps(evidence["adaptation"])
    if gaps:
        values["smallest accuracy minus WGAN-LP's"] = min(gaps.values())
        said += "; accuracy minus WGAN-LP's: " + ", ".join(f"{way} {gap:+.3f}" for way, gap in gaps.items())
    return Outcome(values, said + ".")


def accuracy_gaps(digits):
    """Direction -> accuracy of W2-FE minus that of WGAN-LP, where both have been trained."""
    gaps = {}
    for way in [] if digits is None else column(digits, "direction").unique():
        try:
            gaps[way] = mean_of(digits, "accuracy", direction=way, method="W2-FE") - mean_of(
                digits, "accuracy", direction=way, method="WGAN-LP"
            )
        except NotRun:
            continue
    return gaps


def to_level(frame, method, persistency, **where):
    """`iterations_to` the level of this module."""
    return iterations_to(frame, LEVEL, method, persistency, **where)


@check("w2fe-C7", ring, rename("method", "w2fe", "naive"), scale("w1", 3, method="naive"))
def frozen_target(frame):
    """Mean W1 over the second half of the training: repeated steps over steps on a frozen target, persistency 10."""
    naive, frozen = (late(frame, name, 10, lr=RATE) for name in ("naive", "w2fe"))
    return Outcome(
        {"W1 of repeated steps over that of the frozen target": naive / frozen},
        f"Ten generator steps, mean W1 over the second half: {naive:.3f} without and {frozen:.3f} with a frozen target.",
    )


@check("w2fe-C8", ring, rename("persistency", 1, 10), scale("w1", 0.3, persistency=1), scale("w1", 0.3, persistency=10))
def not_a_rate(frame):
    """Outer iterations to W1 = .3, the fastest rate of each persistency; critic updates are five times as many in both."""
    took = {J: best(frame, "w2fe", J, to_level) for J in (1, 10)}
    one_rate = iterations_to(frame, LEVEL, "w2fe", 1, lr=RATE) / iterations_to(frame, LEVEL, "w2fe", 10, lr=RATE)
    plateau = {J: best(frame, "w2fe", J, late) for J in (1, 10)}
    said = "; ".join(
        f"persistency {J}: {n:.0f} outer iterations, {n * J:.0f} generator updates (rate {lr:g}), best W1 over the second half "
        f"{plateau[J][0]:.3f} (rate {plateau[J][1]:g})"
        for J, (n, lr) in took.items()
    )
    plateau_level = {J: best(frame, "w2fe", J, to_plateau)[0] for J in (1, 10)}
    return Outcome(
        {
            "iterations at persistency 1 over those at 10, each at its best rate": took[1][0] / took[10][0],
            "the same to W1 = .15": plateau_level[1] / plateau_level[10],
        },
        f"To W1 = {LEVEL} at the best rate: {said}. At one rate the ratio is {one_rate:.1f}.",
    )


def to_plateau(frame, method, persistency, **where):
    """`iterations_to` W1 = .15, the upper end of the plateaus."""
    return iterations_to(frame, 0.15, method, persistency, **where)


@check("w2fe-S1", ring, scale("w1", 0.2, method="wgan_lp"), scale("w1", 0.2, method="w1fe_lp"))
def sister(frame):
    """Iterations to W1 = .3 of WGAN-LP over W1-FE-LP with persistency 10 and a small eps; late W1; overshoot at eps = 1."""
    J = column(frame[column(frame, "method") == "w1fe_lp"], "persistency").max()
    steps = sorted(frame.loc[frame["method"] == "w1fe_lp", "eps"].unique())
    if not steps:
        raise NotRun("no training with W1-FE-LP")
    small = {"eps": steps[0], "lr": RATE}
    gan = iterations_to(frame, LEVEL, "wgan_lp", 1, lr=RATE)
    ours = iterations_to(frame, LEVEL, "w1fe_lp", J, **small)
    values = {
        "iterations of WGAN-LP over those of W1-FE-LP": gan / ours,
        "late W1 of WGAN-LP over that of W1-FE-LP": late(frame, "wgan_lp", 1, 0.25, lr=RATE)
        / late(frame, "w1fe_lp", J, 0.25, **small),
    }
    said = f"Outer iterations to W1 = {LEVEL}: {gan:.0f} (WGAN-LP), {ours:.0f} (W1-FE-LP, persistency {J}, eps {steps[0]:g})"
    if steps[-1] > steps[0]:
        values["late W1 at the large step over that at the small one"] = late(
            frame, "w1fe_lp", J, eps=steps[-1], lr=RATE
        ) / late(frame, "w1fe_lp", J, **small)
        said += f"; the large step is eps {steps[-1]:g}"
    return Outcome(values, said + ".")
