r"""Does the proximal term help? {no JKO, tau = .01, 1, 100} for several functionals, paired by seed, eight Gaussians.

gwf compares these four columns on CIFAR-10 (main table and a second one with other seeds). As reported: for f-divergences
the gain is moderate and consistent, squared-MMD and W_1 objectives are rescued, a step of .01 under-trains all but W_1.
Our reading of the two tables: the f-divergence rows are ties. Here the same grid runs on a toy with small networks.

A run is one seed and trains every cell from the same weights on the same batches, so that cells may be compared in
pairs. Loops, updates and penalties are the same in all cells of a functional; only the proximal weight differs.
Yardsticks: exact W_2 and a fixed-kernel MMD^2 against true points, with the floor of two true samples.
"""

import math

import pandas as pd
import torch

from gwf import divergences, metrics
from gwf.data.embedded import eight_gaussians
from gwf.errors import UsageError, in_range
from gwf.nets.mlp import MLP
from gwf.seeding import derive, generator
from gwf.steps.jko import Alternation
from gwf.steps.parametric import mmd2


def latent(n, stream):
    """z ~ U([-1, 1]^2), (n, 2)."""
    return torch.rand(n, 2, generator=stream) * 2 - 1


def run(
    seed,
    progress,
    *,
    names,
    taus,
    steps,
    iterations,
    batch,
    width,
    depth,
    lr_map,
    lr_critic,
    r1,
    lipschitz,
    points,
    bandwidth,
):
    """One seed of the study.

    Parameters
    ----------
    names : list of str
        Functionals, names in `gwf.divergences`.
    taus : list of float
        Steps of the cost per dimension, positive; `inf` (no JKO) is added if missing.
    steps, iterations : int
        JKO steps, and iterations (one critic and one map update) of each; without JKO simply their product.
    batch, width, depth, lr_map, lr_critic
        Of map and critic.
    r1, lipschitz : float
        Weight of the critic's penalty, by the kind the functional asks for.
    points, bandwidth : int, float
        Size of the samples compared, and of the Gaussian kernel of the MMD.

    Returns
    -------
    dict
        "table": functional, tau (inf: no JKO), w2, mmd2, w2_floor, mmd2_floor.
    """
    for name in names:
        divergences.get(name)
    taus = [float(tau) for tau in taus]
    if not all(tau > 0 for tau in taus):
        raise UsageError(f"taus = {taus!r}: every step must be positive")
    taus = ([] if math.inf in taus else [math.inf]) + taus
    for name, value in (("steps", steps), ("iterations", iterations), ("batch", batch), ("points", points)):
        in_range(value, 1, 10**7, name)
    true, second = (eight_gaussians(points, generator(seed, f"evaluation {name}")) for name in ("data", "floor"))
    floors = metrics.wasserstein(second.numpy(), true.numpy(), 2), float(mmd2(second, true, bandwidth))
    rows, total = [], len(names) * len(taus) * steps
    for name in names:
        weight = {"r1": r1, "lipschitz": lipschitz}[divergences.get(name).penalty]
        for tau in taus:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(seed, "weights"))
                T, h = MLP(2, 2, width, depth), MLP(2, 1, width, depth)
            game = Alternation(
                name,
                T,
                h,
                latent,
                eight_gaussians,
                tau,
                per_dimension=True,
                penalty=weight,
                lr_map=lr_map,
                lr_critic=lr_critic,
                batch=batch,
                seed=seed,
            )
            for k in range(steps):
                for i in range(iterations):
                    game.cycle(1, 1)
                    if i % 20 == 0:
                        progress(len(rows) * steps + k, total, functional=name, tau=tau)
                game.advance()
            with torch.no_grad():
                x = T(latent(points, generator(seed, "evaluation latents")))
            if not bool(x.isfinite().all()):
                raise RuntimeError(f"{name} with tau = {tau:g}, seed {seed}: the map's values are not finite")
            w2 = metrics.wasserstein(x.numpy(), true.numpy(), 2)
            rows.append((name, tau, w2, float(mmd2(x, true, bandwidth)), *floors))
            progress(len(rows) * steps, total, functional=name, tau=tau)
    columns = ["functional", "tau", "w2", "mmd2", "w2_floor", "mmd2_floor"]
    return {"table": pd.DataFrame(rows, columns=columns).round(6)}
