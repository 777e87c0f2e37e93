r"""Aggregation-diffusion equations: forward-backward splitting and the fully implicit step, learned from samples.

    F(mu) = eps int mu log mu + (1/2) iint W(x - y) dmu dmu

- W(x) = |x|^2/2 from a Gaussian: laws stay Gaussian and both schemes and the flow have closed forms. The networks are
  an affine increment and a quadratic log-ratio, classes that contain the exact step.
- W(x) = |x|^4/4 - |x|^2/2 on the line from N(0, std^2), not convex: the law first contracts, then splits in two.
  Networks: residual MLP, and an MLP added to the quadratic log-ratio. Exact: the same scheme by Newton's method on
  quantiles, and the equation by finite volumes.

Three distances are told apart: learned law to the exact iterate of its own scheme (the training error), exact iterate
to flow (the error of the time step), learned law to flow (their sum, which a user of the method sees). The paper
(vwgf, appendix C) shows pictures and no numbers of this experiment, and released no code for it.
"""

import math

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from gwf.errors import UsageError, in_range, nearest
from gwf.exact import aggregation as exact
from gwf.nets.mlp import AffineIncrement, ResidualMLP
from gwf.seeding import derive, generator, rng
from gwf.steps.gaussian_study import QuadraticCritic
from gwf.steps.internal import KERNELS, Boltzmann, EntropyDual, Interaction, Push, VariationalFlow, VariationalStep
from gwf.steps.references import MomentGaussian

LEVELS = (np.arange(200) + 0.5) / 200


def run(
    seed,
    progress,
    *,
    kernel,
    scheme,
    std,
    eps,
    tau,
    K,
    particles,
    partners,
    iterations,
    ratio_updates,
    batch,
    width,
    lr_map,
    lr_ratio,
    warm_up,
    half_width,
    cells,
):
    """One learned sequence of K steps from N(0, diag(std^2)).

    Parameters
    ----------
    kernel : {"quadratic", "double_well"}
        "double_well" needs one coordinate.
    scheme : {"split", "unsplit"}
    std : list of float
        Standard deviations of mu_0, one per coordinate.
    eps, tau, K : float, float, int
        Weight of the entropy, step, number of steps.
    particles, partners : int
        Cache, and the part of it over which the explicit push averages.
    width : int
        Width of the networks of the non-Gaussian case (not used by "quadratic").
    half_width, cells : float, int
        Grid of the finite volumes (not used by "quadratic").

    Returns
    -------
    dict with "table": rows k = 0..K with standard deviations (root mean square over coordinates) and W_2 distances
    between the learned law, the exact iterate of the scheme and the flow; and for one coordinate "density": the three
    laws at k = K on a grid.
    """
    nearest(kernel, KERNELS, "kernel")
    nearest(scheme, exact.SCHEMES, "scheme")
    in_range(eps, 0, 1e3, "eps", open_low=True)
    in_range(K, 1, 1000, "K")
    std = np.asarray(std, dtype=np.float64)
    if std.ndim != 1 or not (std > 0).all() or (kernel == "double_well" and len(std) != 1):
        raise UsageError(
            f"std = {std.tolist()!r} must be positive numbers, one for each coordinate"
            " (exactly one with the kernel double_well)"
        )
    d, gaussian = len(std), kernel == "quadratic"

    torch.manual_seed(derive(seed, "networks"))
    W = KERNELS[kernel]
    dual = EntropyDual(Boltzmann(), QuadraticCritic(d, 0 if gaussian else width), MomentGaussian())
    T = AffineIncrement(d) if gaussian else ResidualMLP(d, width, 2)
    step = VariationalStep(dual, T, tau, eps, [] if scheme == "split" else [Interaction(W)])
    x = torch.tensor(_start(std, particles, rng(seed, "particles")), dtype=torch.float32)
    flow = VariationalFlow(
        step,
        x,
        generator(seed, "training"),
        iterations=iterations,
        ratio_updates=ratio_updates,
        batch=batch,
        lr_map=lr_map,
        lr_ratio=lr_ratio,
        warm_up=warm_up,
        push=Push(W, tau, partners) if scheme == "split" else None,
    )
    laws = [flow.x.double().numpy()]
    for k in range(1, K + 1):
        flow.advance()
        laws.append(flow.x.double().numpy())
        if not np.isfinite(laws[-1]).all():
            raise UsageError(f"training diverged at step {k}: lower lr_map = {lr_map} or lr_ratio = {lr_ratio}")
        progress(k, K, std=laws[-1].std())

    t = tau * np.arange(K + 1)
    if gaussian:
        return {"table": _gaussian_table(laws, std, eps, tau, t, scheme)}
    return _line_tables(laws, kernel, std[0], eps, tau, t, scheme, half_width, cells)


def _start(std, n, rng):
    """(n, d) normal points, stratified in each coordinate: one in each of n cells of equal mass, in random order.

    Moments and quantiles are those of the law to order 1/n, so the learned sequence starts without sampling error.
    """
    levels = (np.stack([rng.permutation(n) for _ in std], 1) + rng.uniform(size=(n, len(std)))) / n
    return std * norm.ppf(levels)


def _gaussian_table(laws, std, eps, tau, t, scheme):
    """Closed forms; the learned law is Gaussian, being an affine image, and is given by its moments."""
    iterates = [std]
    for _ in t[1:]:
        iterates.append(exact.quadratic_step(iterates[-1], eps, tau, scheme))
    rows = []
    for k, (x, s) in enumerate(zip(laws, iterates, strict=True)):
        flow = exact.quadratic_flow(std, eps, t[k])
        learned = x.std(0)
        drift = (x.mean(0) ** 2).sum()  # the exact mean stays at 0
        rows.append(
            {
                "k": k,
                "t": t[k],
                "std_learned": _rms(learned),
                "std_scheme": _rms(s),
                "std_flow": _rms(flow),
                "w2_learned_to_scheme": math.sqrt(drift + ((learned - s) ** 2).sum()),
                "w2_scheme_to_flow": math.sqrt(((s - flow) ** 2).sum()),
                "w2_learned_to_flow": math.sqrt(drift + ((learned - flow) ** 2).sum()),
            }
        )
    return pd.DataFrame(rows)


def _line_tables(laws, kernel, std, eps, tau, t, scheme, half_width, cells):
    W, start = exact.KERNELS[kernel], std * norm.ppf(LEVELS)
    iterates = exact.quantile_steps(start, W, eps, tau, len(t) - 1, scheme)
    grid, mu = exact.finite_volumes(lambda x: norm.pdf(x, 0, std), W, eps, t, half_width, cells)
    rows = []
    for k, x in enumerate(laws):
        learned, flow = np.quantile(x[:, 0], LEVELS), exact.quantiles_of(grid, mu[k], LEVELS)
        rows.append(
            {
                "k": k,
                "t": t[k],
                "std_learned": learned.std(),
                "std_scheme": iterates[k].std(),
                "std_flow": flow.std(),
                "w2_learned_to_scheme": _rms(learned - iterates[k]),
                "w2_scheme_to_flow": _rms(iterates[k] - flow),
                "w2_learned_to_flow": _rms(learned - flow),
            }
        )
    bins = np.linspace(-1.5, 1.5, 61)
    density = pd.DataFrame({"x": (bins[1:] + bins[:-1]) / 2})
    density["learned"] = np.histogram(laws[-1][:, 0], bins)[0] / len(laws[-1]) / np.diff(bins)
    density["flow"] = np.interp(density["x"], grid, mu[-1])
    density["start"] = norm.pdf(density["x"], 0, std)
    return {"table": pd.DataFrame(rows), "density": density}


def _rms(a):
    return float(np.sqrt(np.mean(np.square(a))))
