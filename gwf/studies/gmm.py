r"""Sampling a Gaussian mixture in d = 2, 4, 8: VWGF, JKO-ICNN and plain Langevin particles, scored alike.

The target has 10 spherical unit components with centres uniform in [-half_width, half_width]^d; mu_0 = N(0, 16 I);
tau is halved after `halve_after` steps, as vwgf's released code does (K = 40 steps of .1 and .05 end at time 3, not 4).
Scores: squared kernel Stein discrepancy (the kernel scales of vwgf), SymKL through a fitted mixture of 15 components
(vwgf's estimator), and SymKL by the density of the stored maps, which is no estimator of a density but the density
itself. Langevin particles follow the same flow to the same time without any network. "exact draws" are the floor.
Source: vwgf, section 5.1 and its released settings.
"""

import math

import numpy as np
import pandas as pd
import torch

from gwf.errors import in_range, nearest
from gwf.metrics.scores import GaussianMixture, ksd, ksd_scale, symkl_densities, symkl_mixture
from gwf.nets.icnn import DenseICNN, fit_identity
from gwf.nets.residual import AffineResidualMLP, QuadraticMLP
from gwf.seeding import derive, generator, rng
from gwf.steps.icnn import ICNNStep
from gwf.steps.increments import ParticleCache, VariationalStep, compose
from gwf.steps.references import LOG_2_PI, LOG_RATIO, OUTPUT_OF_ONE, KLThroughReference

METHODS = {"vwgf": "VWGF", "icnn": "JKO-ICNN, exact log det"}
PUBLISHED_SCALE = {2: 0.01392, 4: 0.00674, 8: 0.006, 15: 0.00409, 17: 0.00409, 24: 0.00267, 32: 0.00213, 64: 0.00177}
"""beta of the Stein kernel, 1/(2 median^2) with the median rounded or set by hand: the released values of vwgf."""

START = 4.0


class Target:
    """The mixture as log density for torch, and as `GaussianMixture` for the scores."""

    def __init__(self, d, half_width, components, seed):
        self.law = GaussianMixture.spherical(rng(seed, "gmm centres").uniform(-half_width, half_width, (components, d)))
        self.centres = torch.tensor(self.law.means, dtype=torch.float32)
        self.half_squares = self.centres.square().sum(1) / 2
        self.constant = -math.log(components) - d * LOG_2_PI / 2

    def log_density(self, x):
        """x (n, d) -> (n,), differentiable."""
        parts = x @ self.centres.T - self.half_squares
        return torch.logsumexp(parts, 1) - x.square().sum(1) / 2 + self.constant

    def score(self, x):
        """grad log density, (n, d)."""
        return torch.softmax(x @ self.centres.T - self.half_squares, 1) @ self.centres - x


def run(
    seed,
    progress,
    *,
    d,
    half_width,
    components,
    tau,
    steps,
    halve_after,
    methods,
    particles,
    dt,
    iterations,
    batch,
    critic_updates,
    map_updates,
    cache,
    width,
    depth,
    ratio,
    lr_map,
    lr_critic,
    icnn_iterations,
    icnn_width,
    icnn_batch,
    icnn_lr,
    n_mixture,
    fit_components,
    n_ksd,
    ksd_repeats,
    n_density,
):
    """One mixture in dimension d, by every method of `methods` and by Langevin clouds of sizes `particles`.

    Returns
    -------
    dict
        "table": a row per method. "curve": dual value of KL and moment spread per step of vwgf. "points": up to 500
        points of each method, their first two coordinates.
    """
    for name, value, low, high in (
        ("d", d, 1, 256),
        ("tau", tau, 1e-4, 10),
        ("steps", steps, 1, 1000),
        ("dt", dt, 1e-5, 1),
        ("n_ksd", n_ksd, 10, 5000),
        ("width", width, 1, 4096),
        ("fit_components", fit_components, 1, 100),
    ):
        in_range(value, low, high, name)
    nearest(ratio, LOG_RATIO, "ratio")
    for method in methods:
        nearest(method, METHODS, "method")
    target = Target(d, half_width, components, seed)
    total, done = len(methods) * (steps + 1) + len(particles) + 1, 0

    def tell(**shown):
        nonlocal done
        done += 1
        progress(min(done, total), total, **shown)

    taus = [tau if k < halve_after else tau / 2 for k in range(steps)]
    rows, curve, points = [], [], []

    def score(name, x, by_density=math.nan):
        draw = rng(seed, f"gmm scores {name}")
        clouds = np.array_split(x[: n_ksd * ksd_repeats], max(1, min(ksd_repeats, len(x) // n_ksd)))
        beta = PUBLISHED_SCALE.get(d) or ksd_scale(target.law.sample(1000, rng(seed, "gmm scale")))
        stein = float(np.mean([ksd(part, target.law.score(part), beta) for part in clouds]))
        symkl = symkl_mixture(x[:n_mixture], target.law, fit_components, n_mixture, draw)
        rows.append(
            {
                "method": name,
                "d": d,
                "time": round(sum(taus), 6),
                "n": min(len(x), n_mixture),
                "log10 KSD": _log10(stein),
                "KSD": float(f"{stein:.4g}"),
                "log10 SymKL, fitted mixture": _log10(symkl),
                "log10 SymKL, map density": by_density,
            }
        )
        points.extend({"method": name, "x_1": round(float(p[0]), 3), "x_2": round(float(p[1 % d]), 3)} for p in x[:300])
        tell()

    score("exact draws", target.law.sample(n_mixture, rng(seed, "gmm exact")))
    for method in methods:
        torch.manual_seed(derive(seed, f"gmm {method}"))
        stream = generator(seed, f"gmm {method}")
        if method == "vwgf":
            T, r = AffineResidualMLP(d, width, depth), QuadraticMLP(d, width, depth)
            torch.nn.init.constant_(r.linear.bias, OUTPUT_OF_ONE[ratio])
            step = VariationalStep(
                KLThroughReference(target.log_density, ratio=ratio),
                T,
                r,
                tau,
                stream,
                lr_map=lr_map,
                lr_critic=lr_critic,
                critic_updates=critic_updates,
                map_updates=map_updates,
                betas=(0.9, 0.99),
            )
        else:
            psi = DenseICNN(d, icnn_width)
            fit_identity(psi, lambda n, g: START * torch.randn(n, d, generator=g), stream, 200, 256)
            step = ICNNStep(psi, target.log_density, tau, lr=icnn_lr)
        own = (iterations, batch) if method == "vwgf" else (icnn_iterations, icnn_batch)
        particle_cache = ParticleCache(START * torch.randn(cache, d, generator=generator(seed, f"gmm cache {method}")))
        start = particle_cache.x

        def before(k, step=step):
            step.tau = taus[k]

        def after(k, maps, loss, step=step, name=METHODS[method], cloud=particle_cache, method=method, stream=stream):
            nonlocal start
            value = (
                step.dual_value(start[:8192], step.functional.sample(8192, stream)) if method == "vwgf" else math.nan
            )
            curve.append(
                {
                    "method": name,
                    "k": k + 1,
                    "t": round(sum(taus[: k + 1]), 6),
                    "dual KL": float(f"{value:.4g}"),
                    "root mean square": float(f"{float(cloud.x.square().mean().sqrt()):.4g}"),
                }
            )
            start = cloud.x
            tell(map_loss=loss)

        maps = compose(
            step,
            particle_cache,
            steps=steps,
            iterations=own[0],
            first=2 * own[0],
            batch=own[1],
            stream=generator(seed, f"gmm batches {method}"),
            before=before,
            after=after,
        )
        z = START * torch.randn(n_mixture, d, generator=generator(seed, "gmm evaluate"))
        score(METHODS[method], maps(z).double().numpy(), _by_density(maps, z[:n_density], target, seed, n_density))
    for n in particles:
        score(f"Langevin {n}", _langevin(target, n, d, sum(taus), dt, generator(seed, f"gmm particles {n}")))
    return {"table": pd.DataFrame(rows), "curve": pd.DataFrame(curve), "points": pd.DataFrame(points)}


def _langevin(target, n, d, t, dt, stream):
    x = START * torch.randn(n, d, generator=stream)
    count = max(1, round(t / dt))
    for _ in range(count):
        x = x + target.score(x) * (t / count) + math.sqrt(2 * t / count) * torch.randn(n, d, generator=stream)
    return x.double().numpy()


def _log_start(z):
    return -z.square().sum(1) / (2 * START**2) - z.shape[1] * (LOG_2_PI / 2 + math.log(START))


def _by_density(maps, z, target, seed, n):
    """log10 SymKL by change of variables; nan where a map cannot be inverted at some point of the target."""
    if not n:
        return math.nan
    x, log_p = maps.with_log_density(z, _log_start(z))
    y = torch.tensor(target.law.sample(n, rng(seed, "gmm density")), dtype=torch.float32)
    back, residual = maps.inverse(y)
    if not residual < 1e-2:
        return math.nan
    y_log_p = maps.with_log_density(back, _log_start(back))[1].double().numpy()
    x, y, log_p = x.double().numpy(), y.double().numpy(), log_p.double().numpy()
    return _log10(symkl_densities(lambda p: log_p if p is x else y_log_p, target.law.log_density, x, y))


def _log10(value):
    return round(math.log10(value), 4) if value > 0 else math.nan
