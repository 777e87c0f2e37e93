r"""One JKO scheme, four ways to train it: eight Gaussians, KL-DV, small perceptrons.

    inf-sup      many critic updates for each map update: inf_T sup_h, the way of vwgf
    sup-inf      many map updates for each critic update: sup_h inf_T, the way of sjko
    alternating  one to one, as in the released codes
    increments   one to one, T_{k+1} = S_k o T_k with a new S_k at each step, in place of a whole map

For the problem over all maps and critics the first two have one value (gwf, proposition 3.1) and whole maps lose
nothing (equation 25), so with enough updates the distances to the data should agree within the spread of the seeds. All
four make the same number of updates in total. Yardsticks: exact W_2 and a fixed-kernel MMD^2 of fresh points against true
ones, and the floor, the same numbers between two true samples. Chapter: `unifying`.
"""

import pandas as pd
import torch

from gwf import metrics
from gwf.data.embedded import eight_gaussians
from gwf.errors import UsageError, in_range, nearest
from gwf.nets.mlp import MLP, ResidualMLP
from gwf.seeding import derive, generator
from gwf.steps.jko import Alternation, Increments
from gwf.steps.parametric import mmd2

ARRANGEMENTS = ("inf-sup", "sup-inf", "alternating", "increments")


def latent(n, stream):
    """z ~ U([-1, 1]^2), (n, 2)."""
    return torch.rand(n, 2, generator=stream) * 2 - 1


def run(
    seed,
    progress,
    *,
    functional,
    arrangements,
    tau,
    steps,
    updates,
    ratio,
    batch,
    width,
    depth,
    lr_map,
    lr_critic,
    penalty,
    evaluations,
    points,
    bandwidth,
):
    """One seed of the study.

    Parameters
    ----------
    functional : str
        Name in `gwf.divergences`.
    arrangements : list of str
        From `ARRANGEMENTS`.
    tau : float
        Of the cost per dimension (the Euclidean step is 2 tau), in (0, inf].
    steps, updates : int
        JKO steps, and updates of map and critic together in each: a multiple of 2 and of ratio + 1.
    ratio : int
        Updates of one player for one of the other, in the first two arrangements.
    batch, width, depth, lr_map, lr_critic, penalty
        Of both players; see `gwf.steps.jko.Alternation`.
    evaluations : int
        Times the map is measured, evenly over the JKO steps, at least 1.
    points, bandwidth : int, float
        Size of the samples compared, and of the Gaussian kernel of the MMD.

    Returns
    -------
    dict
        "table": a row per arrangement, w2, mmd2 and their floors (two true samples); "curve": arrangement, updates, w2.
    """
    for name in arrangements:
        nearest(name, ARRANGEMENTS, "arrangement")
    if updates % 2 or updates % (ratio + 1):
        raise UsageError(f"updates = {updates} must be a multiple of 2 and of ratio + 1 = {ratio + 1}")
    in_range(evaluations, 1, steps, "evaluations")
    true, second = (eight_gaussians(points, generator(seed, f"evaluation {name}")) for name in ("data", "floor"))
    rows, curve = [], []
    for arrangement in arrangements:
        scheme = _scheme(
            arrangement,
            seed,
            functional=functional,
            tau=tau,
            batch=batch,
            width=width,
            depth=depth,
            lr_map=lr_map,
            lr_critic=lr_critic,
            penalty=penalty,
        )
        cycle = {"inf-sup": (ratio, 1), "sup-inf": (1, ratio)}.get(arrangement, (1, 1))
        for k in range(steps):
            for i in range(updates // sum(cycle)):
                scheme.cycle(*cycle)
                if i % 20 == 0:
                    progress(len(rows) * steps + k, len(arrangements) * steps, arrangement=arrangement)
            scheme.advance()
            if (k + 1) % (steps // evaluations) == 0 or k + 1 == steps:
                with torch.no_grad():
                    x = scheme.T(latent(points, generator(seed, "evaluation latents")))
                w2 = metrics.wasserstein(x.numpy(), true.numpy(), 2)
                curve.append((arrangement, (k + 1) * updates, w2))
        rows.append(
            (
                arrangement,
                w2,
                metrics.wasserstein(second.numpy(), true.numpy(), 2),
                float(mmd2(x, true, bandwidth)),
                float(mmd2(second, true, bandwidth)),
            )
        )
        progress(len(rows) * steps, len(arrangements) * steps, arrangement=arrangement, w2=w2)
    table = pd.DataFrame(rows, columns=["arrangement", "w2", "w2_floor", "mmd2", "mmd2_floor"])
    return {"table": table.round(6), "curve": pd.DataFrame(curve, columns=["arrangement", "updates", "w2"]).round(5)}


def _scheme(arrangement, seed, *, functional, tau, batch, width, depth, lr_map, lr_critic, penalty):
    # The same first weights in every arrangement: only the order of updates, or the kind of map, differs.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        h, first = MLP(2, 1, width, depth), ResidualMLP(2, width, depth)
    made = iter([first])

    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights of the increments"))
            return next(made, None) or ResidualMLP(2, width, depth)

    common = {
        "functional": functional,
        "h": h,
        "latent": latent,
        "data": eight_gaussians,
        "tau": tau,
        "per_dimension": True,
        "penalty": penalty,
        "lr_map": lr_map,
        "lr_critic": lr_critic,
        "batch": batch,
        "seed": seed,
    }
    return Increments(make, **common) if arrangement == "increments" else Alternation(T=make(), **common)
