r"""What the step size and the number of phases do, and what a phase costs.

Sweeps (sjko tables 4 and 5, there on CIFAR-10): step tau for KL and for the non-saturating JSD variant, and the number
of phases K at a fixed total of updates, on the 25 Gaussians. The yardstick is the exact KL sequence: total variation
between the masses of the modes and those of the same tau and k. It has no counterpart for JSD, whose map loss descends
no functional, so that column is empty there. The exact problem gets *easier* to cover with tau; a breakdown is one of training.

Instance noise (sjko's code adds it to the data, s_k = 1 / (32 (k + 1)), its algorithm does not): one step onto a single
mode N(0, .005) in one dimension reads the exact step onto N(0, .005 + s^2). A run with K = 1 keeps s = 1/32 to its end, and
the comparison of many phases with one is confounded by it.

Cost: per update, the composition of increments evaluates the generators 2 (k + 1) times in phase k, the whole map 3
times (2 here: one evaluation of T serves both players). Timed and counted in the frame "timing".
"""

import copy
import math
import time

import numpy as np
import pandas as pd
import torch
from torch import nn

from gwf.errors import in_range, nearest
from gwf.exact import gaussian, mixtures
from gwf.nets.toy import AffineMap, ToyMap, ToyPotential
from gwf.seeding import generator
from gwf.steps import semidual as sd
from gwf.studies import modes

ENTROPIES = ("kl", "jsd")


def passes(K, first, later):
    """Generator passes of a whole run, (composition, whole map), K phases of `first`, then `later` iterations each.

    2 N_0 + N (K - 1)(K + 2) and 3 (N_0 + N (K - 1)); for K = 1 `later` is not used.
    """
    in_range(K, 1, math.inf, "K")
    later = 0 if K == 1 else later
    return 2 * first + later * (K - 1) * (K + 2), 3 * (first + later * (K - 1))


def run(
    seed,
    progress,
    *,
    taus,
    entropies,
    K,
    K_at_fixed_total,
    tau,
    total,
    net,
    noises,
    noise_iterations,
    timed_phases,
    timed_iterations,
    timed_width,
):
    """Run both sweeps for one seed.

    Parameters
    ----------
    taus, entropies : lists
        Steps and entropies ("kl", "jsd") of the first sweep, with `K` phases.
    K_at_fixed_total : list of int
        Phases of the second sweep, KL at `tau`.
    total : int
        Updates of every run, half in the first phase and the rest shared equally (all of them if K = 1).
    net : dict
        Settings of the networks and optimiser, see `gwf.studies.modes.learn`.
    noises, noise_iterations : list of float, int
        Standard deviations of the noise on the data in one step onto a single mode, and its updates.
    timed_phases, timed_iterations, timed_width : int
        Of the timing with the papers' networks at this width; 0 phases for none.

    Returns
    -------
    dict
        "table", and "timing" if asked for.
    """
    for name in entropies:
        nearest(name, ENTROPIES, "entropy")
    runs = [("step", t, name, K) for name in entropies for t in taus]
    runs += [("phases", tau, "kl", k) for k in K_at_fixed_total]
    rows, everything = [], len(runs) * total
    for index, (sweep, step, name, k) in enumerate(runs):
        method = "sjko" if name == "kl" else "jsd"
        phases = [total] if k == 1 else [total // 2] + [total // 2 // (k - 1)] * (k - 1)
        laws, inside, _ = modes.learn(
            seed,
            lambda i, _, **shown: progress(index * total + i, everything, **shown),
            toy="gaussians",
            method=method,
            tau=step,
            phases=phases,
            **net,
        )
        exact = mixtures.grid_of_modes(mixtures.twenty_five_gaussians(step, k)[-1]).ravel()
        rows.append(
            {
                "sweep": sweep,
                "entropy": name,
                "tau": step,
                "K": k,
                "updates": sum(phases),
                "tv_to_exact": np.abs(laws[-1] - exact).sum() / 2 if name == "kl" else np.nan,
                "tv_to_uniform": np.abs(laws[-1] - 1 / 25).sum() / 2,
                "tv_to_uniform_exact": np.abs(exact - 1 / 25).sum() / 2,
                "modes": int((laws[-1] >= 0.1 / 25).sum()),
                "modes_exact": int((exact >= 0.1 / 25).sum()),
                "inside": inside[-1],
                "passes_composition": passes(k, phases[0], phases[-1])[0],
                "passes_whole": passes(k, phases[0], phases[-1])[1],
            }
        )
    rows += [one_mode(seed, s, noise_iterations) for s in noises]
    frames = {"table": pd.DataFrame(rows).round(4)}
    if timed_phases:
        frames["timing"] = timing(timed_phases, timed_iterations, timed_width)
    return frames


def one_mode(seed, noise, iterations, tau=2.0):
    """Row of the deviation learned in one KL step from N(0, 1) onto N(0, .005) with noise on the data, beside the exact ones."""
    in_range(noise, 0, math.inf, "noise")
    S, T, found = math.sqrt(mixtures.VARIANCE), AffineMap([0.0], [0.3], [0.0]), []
    for _ in sd.phases(
        sd.SemiDualStep(sd.entropy("kl_dv"), OneMode(S), sd.Anchor(tau)),
        T,
        lambda n, g: (torch.randn(n, 1, generator=g), 0.0),
        lambda n, g: S * torch.randn(n, 1, generator=g),
        [iterations],
        lr_map=3e-3,
        lr_potential=2e-2,
        batch=512,
        generator=generator(seed, f"one mode {noise}"),
        noise=lambda k: noise,
        schedule=sd.cosine,
    ):
        found.append(abs(T.s.item()))
    exact = float(gaussian.jko_step(0.0, 1.0, 0.0, math.hypot(S, noise), tau)[1])
    return {
        "sweep": "noise",
        "entropy": "kl",
        "tau": tau,
        "K": 1,
        "updates": iterations,
        "noise": noise,
        "sd": found[0],
        "sd_exact": exact,
        "sd_of_data": math.hypot(S, noise),
    }


class OneMode(nn.Module):
    """v(y) = a (y/S)^2 + b y/S + c, y (n, 1) -> (n,)."""

    def __init__(self, S):
        super().__init__()
        self.S, self.a = S, nn.Parameter(torch.zeros(3))

    def forward(self, y):
        y = y / self.S
        return ((self.a[0] * y + self.a[1]) * y + self.a[2]).squeeze(-1)


def timing(phases, iterations, width, batch=100):
    """Milliseconds of an update (median) and stored generators in phase k = 0, 1, ...: whole map and composition.

    The composition draws x ~ mu_k through k frozen increments for each player, as vwgf does.
    """
    data, source = modes.gaussians, modes.source
    rows = []
    for form in ("whole", "composition"):
        T, v = ToyMap(width=width), ToyPotential(width=width)
        step = sd.SemiDualStep(sd.entropy("kl"), v, sd.Anchor(1.0))
        frozen, stream = [], generator(0, "timing")
        for k in range(phases):
            spent = []
            for _ in range(iterations):
                began = time.process_time()
                if form == "whole":
                    gradients(step, T, *source(batch, stream), data(batch, stream))
                else:
                    for player in (0, 1):
                        x, z = source(batch, stream)
                        with torch.no_grad():
                            for increment in frozen:
                                x = increment(x, z)
                        gradients(step, T, x, z, data(batch, stream), player)
                spent.append(time.process_time() - began)
            rows.append(
                {
                    "form": form,
                    "phase": k,
                    "ms": 1e3 * float(np.median(spent)),
                    "generators": 2 if form == "whole" else k + 1,
                    "stored_mb": 4e-6 * sum(p.numel() for p in T.parameters()) * (2 if form == "whole" else k + 1),
                }
            )
            if form == "whole":
                step.anchor.advance(T)
            else:
                frozen.append(copy.deepcopy(T).requires_grad_(False))
    return pd.DataFrame(rows).round(3)


def gradients(step, T, x, z, y, player=None):
    """Gradients of one update without the optimisers; `player` 0: the potential's alone, 1: the map's alone."""
    y_hat, w = sd.images(T, x, z)
    c = step.anchor(y_hat, x, z)
    if player != 1:
        step.potential_loss(*sd.likeliest(y_hat, c, w), y).backward(inputs=list(step.v.parameters()))
    if player != 0:
        step.map_loss(y_hat, c, w).backward(inputs=list(T.parameters()))
