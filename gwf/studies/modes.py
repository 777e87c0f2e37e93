r"""Masses of the modes that S-JKO, source-fixed UOTM and UOTM learn, against the exact ones.

sjko and uotm show two toys as pictures: 25 tight Gaussians on a lattice and two circles. Here the masses are counted and
held against the exact JKO sequence (`gwf.exact.mixtures`). Cost |x - y|^2 / (2 d tau), d = 2, source N(0, I).

Two map classes are trained. `plain` is the papers' residual network, here smaller: it is continuous and must string
samples between the modes. `experts` may jump (`gwf.nets.toy.ExpertsMap`), so that it contains the solution. A third row
has no network at all: `potential_of_atoms`, stochastic ascent on one number per mode with the inner infimum exact. What
the three share is the scheme, and what separates them is optimisation.
"""

import math

import numpy as np
import pandas as pd
import torch

from gwf.errors import UsageError, in_range, nearest
from gwf.exact import mixtures
from gwf.nets.toy import ExpertsMap, ScaledPotential, ToyMap, ToyPotential, spread
from gwf.seeding import derive, generator
from gwf.steps import semidual as sd

CENTRES = torch.cartesian_prod(*[torch.tensor(mixtures.MODES, dtype=torch.float32)] * 2)
METHODS = ("sjko", "jsd", "uotm", "uotm_released")
NOISES = {"none": sd.no_noise, "released": sd.released_noise}
RADIUS = 0.3
"""A point counts as inside a mode within .3 of its centre: 4.2 standard deviations of a mode, a tenth of their distance."""


def source(n, stream):
    """x ~ N(0, I_2) and the auxiliary latent z, both (n, 2)."""
    return tuple(torch.randn(2, n, 2, generator=stream))


def gaussians(n, stream):
    """y of the 25 Gaussians (n, 2), stratified as in the released code: n / 25 points of each (n a multiple of 25)."""
    return CENTRES.repeat_interleave(n // 25, 0) + math.sqrt(mixtures.VARIANCE) * torch.randn(n, 2, generator=stream)


def circles(n, stream):
    """y of the two circles (n, 2), n / 2 points of each."""
    angle = 2 * math.pi * torch.rand(n, generator=stream)
    radius = torch.tensor(mixtures.RADII).repeat_interleave(n // 2)
    y = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return y + mixtures.CIRCLE_STD * torch.randn(n, 2, generator=stream)


TOYS = {"gaussians": gaussians, "circles": circles}


def law(toy, y):
    """(masses, share inside) of points y (n, 2): per nearest centre (25,), or inside and outside radius 6 (2,)."""
    if toy == "circles":
        s = y.norm(dim=1)
        inside = (s[:, None] - torch.tensor(mixtures.RADII)).abs().min(1).values <= 3 * mixtures.CIRCLE_STD
        outer = float((s > 6).float().mean())
        return np.array([1 - outer, outer]), float(inside.float().mean())
    near = torch.cdist(y, CENTRES).min(1)
    counts = torch.bincount(near.indices, minlength=len(CENTRES)).numpy()
    return counts / len(y), float((near.values <= RADIUS).float().mean())


def exact_law(toy, method, tau, k):
    """Exact masses after k steps, as `law` counts them; nan for the JSD variant, which descends no functional."""
    if method == "jsd":
        return np.full(2 if toy == "circles" else 25, np.nan)
    if toy == "circles":
        if method == "uotm":
            return np.full(2, np.nan)
        outer = mixtures.two_circles(tau / 2 if method == "uotm_released" else tau, k)[-1]
        return np.array([1 - outer, outer])
    name = "jko" if method == "sjko" else method
    return mixtures.grid_of_modes(mixtures.twenty_five_gaussians(tau, k, name)[-1]).ravel()


def make_step(method, v, tau, weight):
    """The step of `method` with KL (or the JSD variant) for potential v and step tau."""
    kl, anchor = sd.entropy("kl"), sd.Anchor(tau)
    return {
        "sjko": lambda: sd.SemiDualStep(kl, v, anchor, weight),
        "jsd": lambda: sd.NonSaturatingStep(v, anchor, weight),
        "uotm": lambda: sd.RelaxedSourceStep(kl, kl, v, anchor, weight),
        "uotm_released": lambda: sd.AllPairsStep(kl, kl, v, anchor, weight),
    }[nearest(method, METHODS, "method")]()


def networks(map, data, stream, width, experts):
    """Map and potential: "plain" (the papers' form at `width`, two blocks of two layers) or "experts"."""
    if map == "plain":
        return ToyMap(2, 2, width, 2, 2), ToyPotential(2, width, 2, 2)
    if map != "experts":
        raise UsageError(f"unknown map {map!r}: valid are 'plain' and 'experts'")
    return ExpertsMap(spread(data(500, stream), experts), width), ScaledPotential(2, width)


def learn(
    seed,
    progress,
    *,
    toy,
    method,
    tau,
    phases,
    map,
    width,
    experts,
    batch,
    lr_map,
    lr_potential,
    weight,
    noise,
    samples=20_000,
):
    """Train one method. Returns laws (K, modes), shares inside (K,), and 1000 points of the last law.

    `phases`: iterations of each step; `batch` a multiple of 50; `experts`: their number (ignored by "plain");
    `weight` of R1; `noise` "none" or "released". Learning rates fall along a cosine in every phase.
    """
    in_range(tau, 0, math.inf, "tau", open_low=True)
    if batch % 50:
        raise UsageError(f"batch = {batch} must be a multiple of 50: the data are stratified")
    data, stream = TOYS[nearest(toy, TOYS, "toy")], generator(seed, f"{toy} {method} {map}")
    torch.manual_seed(derive(seed, f"{toy} {method} {map}"))
    T, v = networks(map, data, stream, width, experts)
    laws, inside, points = [], [], None

    def after(k, T):
        nonlocal points
        with torch.no_grad():
            y = T(*source(samples, generator(seed, "evaluation")))
        masses, share = law(toy, y)
        laws.append(masses)
        inside.append(share)
        points = y[:1000].numpy()

    for k in sd.phases(
        make_step(method, v, tau, weight),
        T,
        source,
        data,
        phases,
        lr_map=lr_map,
        lr_potential=lr_potential,
        batch=batch,
        generator=stream,
        noise=NOISES[nearest(noise, NOISES, "noise")],
        schedule=sd.cosine,
        betas=(0.5, 0.99),
        progress=progress,
    ):
        after(k, T)
    return np.array(laws), np.array(inside), points


def potential_of_atoms(seed, tau, iterations, batch):
    r"""First step without networks: the modes as 25 atoms, v one number each, T(x) = argmin_j c(x, y_j) - v_j exactly.

    Ascent on the concave semi-dual by damped fixed-point steps v <- v - a_i log(25 rho_j e^{v_j}), rho_j the share of the
    batch that T sends to mode j, a_i = 10 / (20 + i); at the fixed point v = -log(d rho / d nu), the condition of optimality.
    Returns the masses (25,) under fresh samples.
    """
    stream, v = generator(seed, "atoms"), torch.zeros(len(CENTRES))

    def shares(n):
        x = torch.randn(n, 2, generator=stream)
        j = (torch.cdist(x, CENTRES).square() / (4 * tau) - v).argmin(1)
        return torch.bincount(j, minlength=len(CENTRES)) / n

    for i in range(iterations):
        rho = shares(batch).clamp_min(0.5 / batch)
        v -= 10 / (20 + i) * ((len(CENTRES) * rho).log() + v)
    return shares(100_000).numpy()


def run(seed, progress, *, toy, method, tau, phases, map, width, experts, batch, lr_map, lr_potential, weight, noise):
    """One training (or, with map "atoms", the converged control of its first step), read after every phase.

    Settings as in `learn`; with "atoms", `phases` is one number of iterations, and the networks' settings are not used.

    Returns
    -------
    dict
        "table": a row per phase k with the total variations to the exact law and to uniform, the masses per coordinate
        (25 Gaussians) or the outer circle's mass beside the exact ones. "points": up to 1000 points of the last law.
    """
    if map == "atoms":
        if toy != "gaussians" or method != "sjko" or len(phases) != 1:
            raise UsageError("map 'atoms' is for toy 'gaussians', method 'sjko' and one phase")
        laws, inside, points = [potential_of_atoms(seed, tau, phases[0], batch)], [1.0], np.zeros((0, 2))
        progress(phases[0], phases[0])
    else:
        laws, inside, points = learn(
            seed,
            progress,
            toy=toy,
            method=method,
            tau=tau,
            phases=phases,
            map=map,
            width=width,
            experts=experts,
            batch=batch,
            lr_map=lr_map,
            lr_potential=lr_potential,
            weight=weight,
            noise=noise,
        )
    rows, updates = [], np.cumsum(phases)
    for k, masses in enumerate(laws, 1):
        exact = exact_law(toy, method, tau, k)
        row = {
            "toy": toy,
            "method": method,
            "map": map,
            "tau": tau,
            "k": k,
            "updates": updates[k - 1],
            "inside": inside[k - 1],
            "tv_to_exact": np.abs(masses - exact).sum() / 2,
            "tv_to_uniform": np.abs(masses - 1 / masses.size).sum() / 2,
            "tv_to_uniform_exact": np.abs(exact - 1 / masses.size).sum() / 2,
        }
        row |= columns(toy, masses, "") | columns(toy, exact, "_exact")
        rows.append(row)
    return {"table": pd.DataFrame(rows).round(5), "points": pd.DataFrame(points, columns=["x", "y"]).round(4)}


def columns(toy, masses, suffix):
    """Readable masses: of the outer circle, or per coordinate (each outer, each middle, centre) and modes found."""
    if toy == "circles":
        return {f"outer_circle{suffix}": masses[1]}
    grid = masses.reshape(5, 5)
    w = (grid.sum(0) + grid.sum(1)) / 2
    found = float((masses >= 0.1 / 25).sum()) if np.isfinite(masses).all() else np.nan
    return {
        f"outer{suffix}": (w[0] + w[4]) / 2,
        f"middle{suffix}": (w[1] + w[3]) / 2,
        f"centre{suffix}": w[2],
        f"modes{suffix}": found,
    }
