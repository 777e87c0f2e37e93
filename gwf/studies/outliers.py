r"""Does a relaxed target marginal make the flow robust? The ring of eight Gaussians with outliers among its data.

Of n data points int(c n) are replaced by outliers: "far" at (4, 4), "near" at radius 1.5 to 2.5, "noise" uniform on
[-3, 3]^2. Particles follow the flow of the Sinkhorn divergence with the KL penalty `relaxation` in the place of the
target's marginal; inf is balanced transport, whose exact share of particles at the outliers is c. When all outliers are
refused, the inliers keep n / (n - int(c n)) on average, exactly. The kept mass is scored as a detector of outliers (AUROC).

Generators trained on fresh contaminated batches stand beside the particles: the explicit step with Sinkhorn velocities,
relaxed and balanced; W2's learned potentials, which must serve every point; and uotm, whose cost |x - y|^2 / (2 tau) with
tau = relaxation puts the same price on a refused point. Sources: proposal; uotm.
"""

import math

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from gwf import divergences, metrics
from gwf.data import toys
from gwf.errors import in_range, nearest
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.w2 import DualField
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.nets.toy import ToyMap, ToyPotential
from gwf.seeding import derive, generator
from gwf.steps import semidual as sd
from gwf.steps.euler import Euler, iterate
from gwf.uses.anomaly import robust_flow

KINDS = ("far", "near", "noise")
GENERATORS = ("Sinkhorn, balanced", "Sinkhorn, relaxed", "W2 critic", "UOTM")


def outliers(kind, n, stream):
    """n outliers (n, 2) of a kind in `KINDS`."""
    nearest(kind, KINDS, "kind of outliers")
    if kind == "far":
        return torch.full((n, 2), 4.0)
    u, v = torch.rand(2, n, generator=stream)
    if kind == "near":
        return (1.5 + u)[:, None] * torch.stack([(2 * math.pi * v).cos(), (2 * math.pi * v).sin()], 1)
    return 6 * torch.stack([u, v], 1) - 3


def off_the_ring(x):
    """Share of x (n, 2) farther than four standard deviations from every mode."""
    return float((torch.cdist(x, toys.get("ring").centres).amin(1) > 0.4).float().mean())


def particles(seed, kind, contamination, relaxation, n, steps, iterations):
    """A row of the table for one particle flow, its cloud and the data."""
    clean = toys.ring(n, generator(seed, "data"))
    test = toys.ring(n, generator(seed, "clean sample"))
    bad = int(contamination * n)
    y = torch.cat([outliers(kind, bad, generator(seed, f"outliers {kind}")), clean[bad:]])
    start = toys.normal(n, generator(seed, "source"))
    x, kept = robust_flow(y, start, relaxation=relaxation, steps=steps, iterations=iterations)
    strange = np.arange(n) < bad
    row = {
        "part": "particles",
        "kind": kind if bad else "none",
        "contamination": contamination,
        "relaxation": relaxation,
        "iterations": iterations,
        "W1 to the clean ring": metrics.wasserstein(x, test.numpy(), 1),
        "off the ring": off_the_ring(torch.as_tensor(x)),
        "kept inside": kept[~strange].mean(),
        "kept outside": kept[strange].mean() if bad else math.nan,
        "kept exact": n / (n - bad),
        "mean kept": kept.mean(),
        "AUROC": roc_auc_score(strange, -kept) if bad and math.isfinite(relaxation) else math.nan,
    }
    return row, x, y


def train(name, seed, contamination, relaxation, updates, batch, report):
    """512 samples (512, 2) of a generator trained on fresh batches with far outliers."""
    nearest(name, GENERATORS, "generator")
    toy = toys.get("ring")
    stream = generator(seed, f"training {name} {contamination}")

    def data(n, s):
        strange = torch.rand(n, 1, generator=s) < contamination
        return torch.where(strange, outliers("far", n, s), toy.data(n, s))

    torch.manual_seed(derive(seed, "weights"))
    if name == "UOTM":
        T, v, kl = ToyMap(2, 0, 64, 2, 2), ToyPotential(2, 64, 2, 2), divergences.entropy("kl")
        step = sd.RelaxedSourceStep(kl, kl, v, sd.Anchor(relaxation, per_dimension=False), 0.01)
        sd.train(
            step,
            T,
            lambda n, s: (toy.source(n, s), None),
            data,
            [5 * updates],
            lr_map=1e-3,
            lr_potential=1e-3,
            batch=batch,
            generator=stream,
            schedule=sd.cosine,
            progress=lambda done, total, **shown: report(done / total),
        )
        sample = lambda z: T(z, None)
    else:
        T = PlaneMap(width=64)
        field = {
            "Sinkhorn, balanced": lambda: Sinkhorn(0.02, 20, relative=False),
            "Sinkhorn, relaxed": lambda: Sinkhorn(0.02, 20, relative=False, relaxation=relaxation),
            "W2 critic": lambda: DualField(PlanePotential(width=64), PlanePotential(width=64)),
        }[name]()
        step = Euler(T, field, torch.optim.Adam(T.parameters(), lr=1e-4, fused=True), eps=1.0, persistency=10)
        for i in range(updates):
            iterate(step, data, toy.source, batch, stream)
            if i % 10 == 0:
                report(i / updates)
        sample = T
    with torch.no_grad():
        return sample(toy.source(512, generator(seed, "evaluation latents")))


def run(
    seed,
    progress,
    *,
    contaminations,
    kinds,
    relaxations,
    n,
    steps,
    iterations,
    converged,
    generators,
    trained_contaminations,
    trained_relaxation,
    updates,
    batch,
):
    """One seed.

    Parameters
    ----------
    contaminations, kinds, relaxations : lists
        The grid of the particle flows; a contamination of 0 is run once for all kinds.
    n, steps, iterations : int
        Particles and data points; Euler steps of size .2; Sinkhorn updates per step.
    converged : int
        Updates of one more balanced flow at 5 % "far" outliers, 0 for none: with few, plans are not
        converged and serve outliers too much.
    generators, trained_contaminations, trained_relaxation, updates, batch
        What is trained, on far outliers, for how many outer iterations (UOTM: five times as many updates).

    Returns
    -------
    dict
        "table": a row per flow and generator. "points": the clouds at 5 % far outliers (or the first contamination > 0).
    """
    for value in (*contaminations, *trained_contaminations):
        in_range(value, 0, 0.5, "contamination")
    relaxations = [float(value) for value in relaxations]
    cells = [
        (kind, c, w, iterations) for c in contaminations for kind in (kinds if c else kinds[:1]) for w in relaxations
    ]
    if converged:
        cells += [("far", c, math.inf, converged) for c in contaminations if c == 0.05]
    total, rows, clouds = len(cells) + 3 * len(generators) * len(trained_contaminations), [], []
    shown = 0.05 if 0.05 in contaminations else max(contaminations)
    for kind, c, w, updates_of_plans in cells:
        row, x, y = particles(seed, kind, c, w, n, steps, updates_of_plans)
        rows.append(row)
        if (kind, c) == ("far", shown) and updates_of_plans == iterations:
            clouds.append(pd.DataFrame({"relaxation": w, "x1": x[:, 0], "x2": x[:, 1]}))
            if len(clouds) == 1:
                clouds.insert(0, pd.DataFrame({"relaxation": math.nan, "x1": y[:, 0].numpy(), "x2": y[:, 1].numpy()}))
        progress(len(rows), total, relaxation=w)
    test = toys.ring(512, generator(seed, "clean sample of 512")).numpy()
    for c in trained_contaminations:
        for name in generators:
            done = len(cells) + 3 * (len(rows) - len(cells))
            x = train(
                name,
                seed,
                c,
                trained_relaxation,
                updates,
                batch,
                lambda share, done=done: progress(done + 3 * share, total),
            )
            rows.append(
                {
                    "part": name,
                    "kind": "far" if c else "none",
                    "contamination": c,
                    "relaxation": trained_relaxation if name in ("Sinkhorn, relaxed", "UOTM") else math.inf,
                    "iterations": updates,
                    "W1 to the clean ring": metrics.wasserstein(x.numpy(), test, 1),
                    "off the ring": off_the_ring(x),
                }
            )
    return {"table": pd.DataFrame(rows).round(5), **({"points": pd.concat(clouds).round(3)} if clouds else {})}
