r"""Ornstein-Uhlenbeck flows: neural JKO schemes against the exact solution, and what the yardstick decides.

The flow of KL(. | N(M, Sigma)) from mu_0 = N(0, I) has a closed form, and so has every exact JKO step of size tau. The
error of a learned scheme at t = K tau therefore splits into the bias of the JKO scheme itself (the column
`exact JKO`: it needs no network) and what training adds (`log10 SymKL to exact JKO`).

The same clouds are scored three ways: SymKL by a moment fit, SymKL by a kernel density (which is all a particle
method was given in jko-icnn), SymKL by the density of the stored maps, and the energy distance. The rankings differ.
Source: vwgf, section 5.2 and its released settings; jko-icnn, section 5.1.
"""

import math

import numpy as np
import pandas as pd
import torch

from gwf import divergences
from gwf.errors import UsageError, in_range, nearest
from gwf.exact import gaussian
from gwf.exact.covariance import moment_fit_floor, symkl_cov
from gwf.metrics import energy_distance
from gwf.metrics.scores import GaussianMixture, symkl_densities, symkl_kde
from gwf.nets.icnn import DenseICNN, fit_identity
from gwf.nets.mlp import MLP, ResidualMLP
from gwf.nets.residual import AffineResidualMLP, QuadraticMLP
from gwf.seeding import derive, generator, rng
from gwf.steps import references as ref
from gwf.steps.icnn import ExactLogDet, ICNNStep, StochasticLogDet
from gwf.steps.increments import Composition, ParticleCache, VariationalStep, compose, standardised
from gwf.steps.jko import JKO, JKOStep

METHODS = {
    "vwgf": "VWGF",
    "vwgf_nu": "VWGF, R = target",
    "vwgf_wide": "VWGF, R = N(0, 16 I)",
    "vwgf_first": "VWGF, first R = N(0, 1.5 I)",
    "sjko": "S-JKO (whole map)",
    "icnn": "JKO-ICNN, exact log det",
    "icnn_stochastic": "JKO-ICNN, stochastic log det",
}
TARGETS = ("rotation", "spd")


class Problem:
    """Target N(M, Sigma), and from N(0, I) the exact JKO iterate and the exact flow, as (mean, covariance).

    "rotation": random rotation, eigenvalues U[.5, 1] (vwgf). "spd": scikit-learn's `make_spd_matrix` (jko-icnn,
    sjko), written out: A uniform, A^T A = U S V^T, Sigma = U (1 1^T + diag(u)) V^T. M ~ N(0, I) in both.
    """

    def __init__(self, d, seed, target):
        draw = rng(seed, f"ou target {target}")
        self.d, self.M = d, draw.standard_normal(d)
        if target == "rotation":
            eigenvalues = draw.uniform(0.5, 1, d)
            Q = np.linalg.qr(draw.standard_normal((d, d)))[0]
            self.Sigma = (Q * eigenvalues) @ Q.T
        else:
            A = draw.uniform(size=(d, d))
            U, _, V = np.linalg.svd(A.T @ A)
            self.Sigma = U @ (1 + np.diag(draw.uniform(size=d))) @ V
            self.Sigma = (self.Sigma + self.Sigma.T) / 2
        self.eigenvalues, self.axes = np.linalg.eigh(self.Sigma)
        self.nu = ref.GaussianReference(self.M, self.Sigma)

    def _from_axes(self, m, s):
        return self.axes @ m, (self.axes * s**2) @ self.axes.T

    def jko(self, tau, steps):
        """Moments of the exact JKO iterates 0 .. steps (N(0, I) commutes with Sigma: one line per eigenvector)."""
        zero, one = np.zeros(self.d), np.ones(self.d)
        m, s = gaussian.jko_sequence(zero, one, self.axes.T @ self.M, np.sqrt(self.eigenvalues), tau, steps)
        return [self._from_axes(*pair) for pair in zip(m, s, strict=True)]

    def flow(self, t):
        """Moments of the exact flow at time t."""
        zero, one = np.zeros(self.d), np.ones(self.d)
        return self._from_axes(*gaussian.ou_flow(zero, one, self.axes.T @ self.M, np.sqrt(self.eigenvalues), t))


def networks(d, width, gaussian_part, ratio):
    """(T, r): with an affine and a quadratic part beside the MLPs, or vwgf's residual MLP and MLP alone."""
    if gaussian_part:
        T, r = AffineResidualMLP(d, width), QuadraticMLP(d, width)
        last = r.linear
    else:
        T, r = ResidualMLP(d, width, 2), MLP(d, 1, width, 1)
        last = r[-1]
        torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, ref.OUTPUT_OF_ONE[ratio])
    return T, r


def run(
    seed,
    progress,
    *,
    d,
    tau,
    steps,
    target,
    methods,
    particles,
    dt,
    iterations,
    first_iterations,
    batch,
    critic_updates,
    cache,
    standardise,
    resimulate,
    width,
    gaussian_part,
    ratio,
    lr_map,
    lr_critic,
    sjko_iterations,
    sjko_lr_map,
    sjko_lr_critic,
    icnn_iterations,
    icnn_width,
    icnn_batch,
    icnn_lr,
    n_evaluate,
    n_energy,
    n_kde,
    n_density,
):
    """One target of dimension d, every method of `methods` and every number of Euler-Maruyama `particles`.

    Parameters
    ----------
    d, tau, steps, target
        Dimension, JKO step, K (evaluated at t = K tau), "rotation" or "spd".
    methods : list of str
        Keys of `METHODS`; may be empty.
    particles, dt : list of int, float
        Euler-Maruyama clouds and their time step (rounded so that it divides t).
    iterations, first_iterations, batch, critic_updates, lr_map, lr_critic
        VWGF, see `gwf.steps.increments`.
    cache, standardise, resimulate : int, bool, bool
        Particles in the cache; exact first moments of mu_0; re-simulation from fresh particles after every step.
    width, gaussian_part, ratio
        Networks, see `networks`; width 0 leaves the Gaussian part alone.
    sjko_*, icnn_* : settings of the other two; S-JKO shares batch, width and critic_updates.
    n_evaluate, n_energy, n_kde, n_density : int
        Particles for moments, energy distance, kernel density, and density of the maps (0: leave it out).

    Returns
    -------
    dict
        "table": a row per method, exact laws included. "curve": a row per method and step.
    """
    for name, value, low, high in (
        ("d", d, 1, 256),
        ("tau", tau, 1e-4, 10),
        ("steps", steps, 1, 1000),
        ("dt", dt, 1e-5, 1),
        ("cache", cache, batch, 10**7),
        ("width", width, 0, 4096),
        ("n_evaluate", n_evaluate, 2 * d + 2, 10**7),
    ):
        in_range(value, low, high, name)
    nearest(target, TARGETS, "target")
    nearest(ratio, ref.LOG_RATIO, "ratio")
    for method in methods:
        nearest(method, METHODS, "method")
    if not gaussian_part and width == 0:
        raise UsageError("width = 0 leaves no network: set gaussian_part to true or width to at least 1")
    study = _Study(locals())
    return study.run(methods, particles)


class _Study:
    def __init__(self, settings):
        self.__dict__.update(settings)
        self.problem = Problem(self.d, self.seed, self.target)
        self.jko = self.problem.jko(self.tau, self.steps)
        self.end = self.problem.flow(self.steps * self.tau)
        self.law = GaussianMixture([1.0], self.end[0][None], self.end[1][None])
        self.rows, self.curve, self.done = [], [], 0
        self.reference_cloud = self.law.sample(self.n_energy, rng(self.seed, "ou energy reference"))

    def run(self, methods, particles):
        self.total = len(methods) * (self.steps + 1) + len(particles) + 2
        self._score("exact flow", self.law.sample(self.n_kde, rng(self.seed, "ou exact flow")), moments=self.end)
        last = self.jko[-1]
        cloud = GaussianMixture([1.0], last[0][None], last[1][None]).sample(self.n_kde, rng(self.seed, "ou exact jko"))
        self._score("exact JKO", cloud, moments=last)
        for method in methods:
            torch.manual_seed(derive(self.seed, f"ou {method}"))
            train = {"s": self._sjko, "i": self._icnn, "v": self._vwgf}[method[0]]
            try:
                maps = train(method)
            except FloatingPointError:
                self._score(METHODS[method], None)
                continue
            self._score(METHODS[method], maps=maps, composed=method != "sjko")
        for n in particles:
            self._score(f"Euler-Maruyama {n}", self._particles(n))
        return {"table": pd.DataFrame(self.rows), "curve": pd.DataFrame(self.curve)}

    def _tell(self, **shown):
        self.done = min(self.done + 1, self.total)
        self.progress(self.done, self.total, **shown)

    def _latents(self, n, purpose):
        z = torch.randn(n, self.d, generator=generator(self.seed, f"ou {purpose}"))
        return standardised(z) if self.standardise else z

    # Methods: each returns a map from N(0, I) to mu_K.

    def _vwgf(self, method):
        nu = self.problem.nu
        functional = {
            "vwgf": lambda: ref.KLThroughReference(nu.log_density, ref.moment_matched, self.ratio),
            "vwgf_nu": lambda: ref.AgainstSamples(divergences.get("kl"), nu.sample),
            "vwgf_wide": lambda: ref.KLThroughReference(
                nu.log_density, ref.always(ref.GaussianReference.isotropic(self.d, 16.0)), self.ratio
            ),
            "vwgf_first": lambda: ref.KLThroughReference(
                nu.log_density, ref.first_then_matched(ref.GaussianReference.isotropic(self.d, 1.5)), self.ratio
            ),
        }[method]()
        T, r = networks(self.d, self.width, self.gaussian_part, "log" if method == "vwgf_nu" else self.ratio)
        stream = generator(self.seed, f"ou reference {method}")
        step = VariationalStep(
            functional,
            T,
            r,
            self.tau,
            stream,
            lr_map=self.lr_map,
            lr_critic=self.lr_critic,
            critic_updates=self.critic_updates,
            betas=(0.9, 0.99),
        )

        def dual(y):
            return step.dual_value(y, functional.sample(len(y), stream))

        return self._descend(step, method, self.iterations, self.first_iterations, self.batch, dual)

    def _icnn(self, method):
        psi = DenseICNN(self.d, self.icnn_width)
        stream = generator(self.seed, f"ou {method}")
        fit_identity(psi, lambda n, g: 1.5 * torch.randn(n, self.d, generator=g), stream, 200, 256)
        log_det_of = ExactLogDet() if method == "icnn" else StochasticLogDet(stream, min(self.d, 20))
        step = ICNNStep(psi, self.problem.nu.log_density, self.tau, lr=self.icnn_lr, log_det_of=log_det_of)
        return self._descend(step, method, self.icnn_iterations, self.icnn_iterations, self.icnn_batch)

    def _descend(self, step, method, iterations, first, batch, dual=None):
        fresh = (lambda: self._latents(self.cache, f"{method} again")) if self.resimulate else None
        cache = ParticleCache(self._latents(self.cache, method), fresh)
        before = cache.x

        def after(k, maps, loss):
            nonlocal before
            y = before[: min(8192, len(before))]
            self._trace(METHODS[method], k + 1, ref.moments(cache.x), dual(y) if dual else math.nan)
            before = cache.x
            self._tell(map_loss=loss)

        return compose(
            step,
            cache,
            steps=self.steps,
            iterations=iterations,
            first=first,
            batch=batch,
            stream=generator(self.seed, f"ou batches {method}"),
            after=after,
        )

    def _sjko(self, method):
        T, h = AffineResidualMLP(self.d, self.width), QuadraticMLP(self.d, self.width)
        step = JKOStep(divergences.get("kl_dv"), h, JKO(T, self.tau))
        stream = generator(self.seed, "ou sjko")
        adam_T = torch.optim.Adam(T.parameters(), self.sjko_lr_map, betas=(0.5, 0.9), fused=True)
        adam_h = torch.optim.Adam(h.parameters(), self.sjko_lr_critic, betas=(0.5, 0.9), fused=True)
        for k in range(self.steps):
            for i in range(self.sjko_iterations):
                fall = (1 + math.cos(math.pi * i / self.sjko_iterations)) / 2
                adam_T.param_groups[0]["lr"], adam_h.param_groups[0]["lr"] = (
                    fall * self.sjko_lr_map,
                    fall * self.sjko_lr_critic,
                )
                z = torch.randn(self.batch, self.d, generator=stream)
                x = T(z)
                for _ in range(self.critic_updates):
                    _descend(adam_h, step.critic_loss(x, self.problem.nu.sample(self.batch, stream)))
                of_functional, proximal = step.map_loss(x, z, None)
                _descend(adam_T, of_functional + proximal)
            step.prox.advance()
            maps = Composition([step.prox.T_k])
            self._trace(METHODS[method], k + 1, ref.moments(maps(self._latents(8192, "sjko trace"))), math.nan)
            self._tell(map_loss=float((of_functional + proximal).detach()))
        return maps

    def _particles(self, n):
        """dX = -Sigma^-1 (X - M) dt + sqrt 2 dW by Euler-Maruyama."""
        stream, t = generator(self.seed, f"ou particles {n}"), self.steps * self.tau
        count = max(1, round(t / self.dt))
        drift = torch.tensor(np.linalg.inv(self.problem.Sigma) * t / count, dtype=torch.float32)
        M = torch.tensor(self.problem.M, dtype=torch.float32)
        x = torch.randn(n, self.d, generator=stream)
        for _ in range(count):
            x = x - (x - M) @ drift + math.sqrt(2 * t / count) * torch.randn(n, self.d, generator=stream)
        return x.double().numpy()

    # Scores.

    def _trace(self, name, k, law, dual):
        flow = self.problem.flow(k * self.tau)
        M, Sigma = self.problem.M, self.problem.Sigma
        self.curve.append(
            {
                "method": name,
                "k": k,
                "t": round(k * self.tau, 6),
                "log10 SymKL": _log10(symkl_cov(*law, *flow)),
                "exact JKO": _log10(symkl_cov(*self.jko[k], *flow)),
                "KL of moments": _short(gaussian.kl_cov(*law, M, Sigma)),
                "dual KL": _short(dual),
                "exact KL": _short(gaussian.kl_cov(*self.jko[k], M, Sigma)),
            }
        )

    def _score(self, name, cloud=None, moments=None, maps=None, composed=False):
        """One row. A cloud of a map is its image of fresh latents; `composed`: its density can be followed."""
        if maps is not None:
            cloud = maps(self._latents(max(self.n_evaluate, self.n_kde), "evaluate")).double().numpy()
        row = {"method": name, "d": self.d, "tau": self.tau, "t": round(self.steps * self.tau, 6)}
        lost = dict.fromkeys(
            (
                "log10 SymKL",
                "log10 SymKL to exact JKO",
                "log10 SymKL, kernel density",
                "log10 SymKL, map density",
                "energy distance",
            ),
            math.nan,
        )
        row |= lost
        if cloud is not None and np.isfinite(cloud).all():
            law = moments or ref.moments(cloud)
            if name != "exact flow":
                row["log10 SymKL"] = _log10(symkl_cov(*law, *self.end))
            if name not in ("exact flow", "exact JKO"):
                row["log10 SymKL to exact JKO"] = _log10(symkl_cov(*law, *self.jko[-1]))
            draw = rng(self.seed, f"ou scores {name}")
            # Standardised latents come in the order drawn, so the first ones are as random as any.
            kept = cloud if maps is None else cloud[: self.n_kde]
            row["log10 SymKL, kernel density"] = _log10(symkl_kde(kept, self.law, 2000, draw))
            row["energy distance"] = _short(energy_distance(cloud[: self.n_energy], self.reference_cloud))
            if composed and self.n_density:
                row["log10 SymKL, map density"] = self._by_density(maps)
        row["exact JKO"] = _log10(symkl_cov(*self.jko[-1], *self.end))
        n = len(cloud) if maps is None and cloud is not None and moments is None else math.nan
        row["floor of a moment fit"] = _log10(moment_fit_floor(self.d, n)) if n == n else math.nan
        self.rows.append(row)
        self._tell(symkl=row["log10 SymKL"])

    def _by_density(self, maps):
        """SymKL with the density of mu_K by change of variables through the stored increments."""
        z = torch.randn(self.n_density, self.d, generator=generator(self.seed, "ou density"))
        x, log_p = maps.with_log_density(z, _log_standard(z))
        y = self.law.sample(self.n_density, rng(self.seed, "ou density"))
        values = {True: log_p.double().numpy()}
        y_log_p = maps.log_density(torch.tensor(y, dtype=torch.float32), _log_standard).double().numpy()
        x = x.double().numpy()
        return _log10(symkl_densities(lambda p: values[True] if p is x else y_log_p, self.law.log_density, x, y))


def _log_standard(z):
    return -z.square().sum(1) / 2 - z.shape[1] * ref.LOG_2_PI / 2


def _descend(adam, loss):
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()


def _log10(value):
    return round(math.log10(value), 4) if value > 0 else math.nan


def _short(value):
    return float(f"{value:.5g}")
