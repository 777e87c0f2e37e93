r"""The two toys of sjko and uotm, and S-JKO, its JSD variant and UOTM trained on them; for `modes` and `ablation`.

25 Gaussians: centres {-6, -3, 0, 3, 6}^2, variance .005. Two circles: radii 4 and 8, noise .2. Source N(0, I_2), cost
|x - y|^2 / (2 d tau) with d = 2. The exact masses of the modes are those of `gwf.exact.mixtures`.
"""

import math

import numpy as np
import torch

from gwf import divergences
from gwf.errors import UsageError, in_range, nearest
from gwf.exact import mixtures
from gwf.nets.toy import ExpertsMap, ScaledPotential, ToyMap, ToyPotential, spread
from gwf.seeding import derive, generator
from gwf.steps import semidual as sd

CENTRES = torch.cartesian_prod(*[torch.tensor(mixtures.MODES, dtype=torch.float32)] * 2)
NOISES = {"none": sd.no_noise, "released": sd.released_noise}
RADIUS = 0.3
"""A point counts as inside a mode within .3 of its centre: 4.2 standard deviations of a mode, a tenth of their distance."""


# Samples and masses.


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


def masses_of_gaussians(y):
    """Share of the points y (n, 2) nearest to each centre (25,), and share within `RADIUS` of one."""
    near = torch.cdist(y, CENTRES).min(1)
    counts = torch.bincount(near.indices, minlength=len(CENTRES)).numpy()
    return counts / len(y), float((near.values <= RADIUS).float().mean())


def masses_of_circles(y):
    """Share of the points y (n, 2) inside and outside radius 6 (2,), and share within three standard deviations of a circle."""
    s = y.norm(dim=1)
    inside = (s[:, None] - torch.tensor(mixtures.RADII)).abs().min(1).values <= 3 * mixtures.CIRCLE_STD
    outer = float((s > 6).float().mean())
    return np.array([1 - outer, outer]), float(inside.float().mean())


TOYS = {"gaussians": (gaussians, masses_of_gaussians), "circles": (circles, masses_of_circles)}
"""Toy -> sampler (n, stream) -> (n, 2), and masses of points (n, 2) -> (masses, share inside)."""


def total_variation(p, q):
    """(1/2) sum |p - q| of two laws on the same modes."""
    return np.abs(p - q).sum() / 2


# The schemes, all with KL where relaxed.


def sjko(v, anchor, weight):
    """Source hard: a JKO step."""
    return sd.SemiDualStep(divergences.entropy("kl"), v, anchor, weight)


def jsd(v, anchor, weight):
    """sjko's JSD variant, whose map loss is the non-saturating one and descends no functional."""
    return sd.NonSaturatingStep(v, anchor, weight)


def uotm(v, anchor, weight):
    """Source relaxed too, one cost to each sample."""
    return sd.RelaxedSourceStep(divergences.entropy("kl"), divergences.entropy("kl"), v, anchor, weight)


def uotm_released(v, anchor, weight):
    """Source relaxed, exponentials averaged over all pairs, as the released code does."""
    return sd.AllPairsStep(divergences.entropy("kl"), divergences.entropy("kl"), v, anchor, weight)


STEPS = {"sjko": sjko, "jsd": jsd, "uotm": uotm, "uotm_released": uotm_released}


# Training.


def networks(map, data, stream, width, experts):
    """Map and potential: "plain" (the papers' form at `width`, two blocks of two layers) or "experts" (may jump)."""
    if map == "plain":
        return ToyMap(2, 2, width, 2, 2), ToyPotential(2, width, 2, 2)
    if map != "experts":
        raise UsageError(f"unknown map {map!r}: valid are 'plain' and 'experts'")
    return ExpertsMap(spread(data(500, stream), experts), width), ScaledPotential(2, width)


def learn(
    seed,
    toy,
    method,
    tau,
    phases,
    *,
    map,
    width,
    experts,
    batch,
    lr_map,
    lr_potential,
    weight,
    noise,
    samples=20_000,
    progress=None,
):
    """Train one method and yield T_k(x, z) of `samples` fresh points, (samples, 2), after each phase.

    `phases`: updates of each step; `batch` a multiple of 50; `experts`: their number (ignored by "plain"); `weight` of
    R1; `noise` "none" or "released". Learning rates fall along a cosine in every phase.
    """
    in_range(tau, 0, math.inf, "tau", open_low=True)
    if batch % 50:
        raise UsageError(f"batch = {batch} must be a multiple of 50: the data are stratified")
    name = f"{nearest(toy, TOYS, 'toy')} {nearest(method, STEPS, 'method')} {map}"
    data, stream = TOYS[toy][0], generator(seed, name)
    torch.manual_seed(derive(seed, name))
    T, v = networks(map, data, stream, width, experts)
    scheme = sd.phases(
        STEPS[method](v, sd.Anchor(tau), weight),
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
    )
    for _ in scheme:
        with torch.no_grad():
            yield T(*source(samples, generator(seed, "evaluation")))


def potential_of_atoms(seed, tau, iterations, batch):
    r"""First step without networks: the modes as 25 atoms, v one number each, T(x) = argmin_j c(x, y_j) - v_j exactly.

    Ascent on the concave semi-dual by damped fixed-point steps v <- v - a_i log(25 rho_j e^{v_j}), rho_j the share of the
    batch that T sends to mode j, a_i = 10 / (20 + i); at the fixed point v = -log(d rho / d nu), the condition of
    optimality. Returns the masses (25,) under fresh samples.
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
