r"""Bayesian logistic regression: VWGF beside the mode, Metropolis-adjusted Langevin and SVGD, under two priors.

Data are drawn from their exact definitions (`gwf.data.breiman`), so that every seed has its own training and test rows and
the spread over seeds is that of the benchmark itself. For every method: accuracy and mean log predictive on the test
rows; the law of log alpha, the coordinate in which the two priors of `gwf.steps.posterior` differ; and how far the
weights are from Langevin's. Exact values beside them: the best that any linear model without intercept can reach on
infinite data (`gwf.data.breiman.limit`), and the mean of log alpha given the method's own weights, by quadrature.

"mode, made wide" is no posterior: draws of N(c w_map, v I), with c and v chosen for the best log predictive on the
training rows. It shows what a law that has *not* contracted to the posterior may score.

Source: vwgf, Section 5.4 and Tables 2 and 5 (there: covtype and eight of Raetsch's data sets), jko-icnn, Table 2.
Deviations: w starts at N(0, I), not at the prior, whose draws have a scale of 10 and more; the reference follows the
map (`gwf.steps.posterior.FollowingReference`).
"""

import math

import numpy as np
import pandas as pd
import torch

from gwf.data import breiman
from gwf.errors import in_range, nearest
from gwf.seeding import derive, generator, rng
from gwf.steps.increments import ParticleCache, compose
from gwf.steps.posterior import PRIORS, FollowingReference, LogisticPosterior, draw_prior, predictive
from notebooks.experiments.bayes_langevin import mala, svgd

MODE, WIDE, LANGEVIN, SVGD, VWGF = "mode (MAP)", "mode, made wide", "Langevin (MALA)", "SVGD", "VWGF"
METHODS = (MODE, WIDE, LANGEVIN, SVGD, VWGF)


def run(
    seed,
    progress,
    *,
    data,
    rows,
    priors,
    chains,
    langevin_steps,
    particles,
    svgd_steps,
    tau,
    steps,
    iterations,
    batch,
    data_batch,
    cache,
    width,
    depth,
    lr_map,
    lr_critic,
    decay,
):
    """All methods on one data set, for every prior.

    Parameters
    ----------
    data : {"twonorm", "ringnorm", "waveform"}
    rows : int or None
        Rows in all, 80 % of them for training; None is the benchmark's number.
    priors : list of {"stated", "released"}
    chains, langevin_steps : int
        MALA in Laplace's coordinates from Laplace's Gaussian; the first third of the steps is dropped.
    particles, svgd_steps : int
    tau, steps, iterations, batch, data_batch, cache, width, depth, lr_map, lr_critic, decay
        VWGF: JKO step, number of steps, batches per step, particles and data rows in a batch, particles kept, hidden
        layers of both networks, Adam's rates in the first step and their factor per step, in (0, 1].

    Returns
    -------
    dict
        "table": one row per prior and method. "curve": VWGF after every step, Langevin's values in the row `step` -1.
    """
    nearest(data, breiman.ROWS, "data set")
    for prior in priors:
        nearest(prior, PRIORS, "prior")
    in_range(chains, 2, 10_000, "chains")
    in_range(langevin_steps, 3, 10**6, "langevin_steps")
    in_range(particles, 2, 10_000, "particles")
    in_range(decay, 0, 1, "decay", open_low=True)
    in_range(cache, batch, 10**7, "cache")
    x, y = breiman.draw(data, rng(seed, f"data {data}"), rows)
    train, test = breiman.split(x, y, rng(seed, f"split {data}"))
    total, done = len(priors) * (langevin_steps + svgd_steps + steps * iterations), 0

    def tick(amount=1, **shown):
        nonlocal done
        done += amount
        if amount > 1 or done % 20 == 0:
            progress(min(done, total), total, **shown)

    table, curve = [], []
    for prior in priors:
        target = LogisticPosterior(*train, prior)
        centre, root = target.laplace()
        draws = {MODE: target.mode()[None], WIDE: widened(target.mode(), train, generator(seed, f"wide {data}"))}
        draws[LANGEVIN], accepted = langevin(
            target, centre, root, chains, langevin_steps, generator(seed, f"langevin {data} {prior}"), tick
        )
        start = torch.randn(particles, target.d_w + 1, generator=generator(seed, f"svgd {data}"), dtype=torch.float64)
        start[:, -1] += centre[-1]
        draws[SVGD] = svgd(target, start, 0.05, svgd_steps, after=lambda i, x: tick())

        def after(k, theta, prior=prior):
            accuracy, log_predictive = predictive(theta[:2048], *test)
            tick(iterations, vwgf=log_predictive)
            curve.append(
                {"prior": prior, "step": k, "time": k * tau, "accuracy": accuracy, "log_predictive": log_predictive}
                | spread(theta)
            )

        draws[VWGF] = vwgf(
            seed,
            train,
            prior,
            tau=tau,
            steps=steps,
            iterations=iterations,
            batch=batch,
            data_batch=data_batch,
            cache=cache,
            width=width,
            depth=depth,
            lr_map=lr_map,
            lr_critic=lr_critic,
            decay=decay,
            after=after,
        )
        for method in METHODS:
            theta = draws[method].double()
            accuracy, log_predictive = predictive(theta[:4096], *test)
            limits = breiman.limit(data)
            row = {
                "data": data,
                "prior": prior,
                "method": method,
                "accuracy": accuracy,
                "accuracy_limit": limits[0],
                "log_predictive": log_predictive,
                "log_predictive_limit": limits[1],
            }
            if method != WIDE:
                row |= spread(theta) | {"log_alpha_exact": target.log_alpha_given(theta[:4096, :-1].numpy())[0].mean()}
                row["w_mean_error"] = distance_of_means(theta, draws[LANGEVIN])
            table.append(row | {"accepted": accepted if method == LANGEVIN else math.nan})
        curve.append(
            {
                "prior": prior,
                "step": -1,
                "time": math.nan,
                "accuracy": table[-3]["accuracy"],
                "log_predictive": table[-3]["log_predictive"],
            }
            | spread(draws[LANGEVIN])
        )
    return {"table": rounded(pd.DataFrame(table)), "curve": rounded(pd.DataFrame(curve))}


def langevin(target, centre, root, chains, steps, stream, tick):
    """Draws of MALA in the box |log alpha| <= 8, every fifth step after the first third, and the share accepted."""
    theta = centre + torch.randn(chains, len(centre), generator=stream, dtype=centre.dtype) @ root.T
    theta[:, -1].clamp_(-7.9, 7.9)
    kept = []

    def after(i, x):
        tick()
        if i >= steps // 3 and (i % 5 == 0 or i == steps - 1):
            kept.append(x)

    # Step .3 in 20 whitened dimensions: about .8 accepted, and the whole law crossed in ten steps.
    _, accepted = mala(target.in_box, theta, 0.3, steps, stream, root, after)
    # Shuffled, for the predictive takes the first few thousand draws.
    theta = torch.cat(kept)
    return theta[torch.randperm(len(theta), generator=stream)], accepted


def vwgf(
    seed,
    train,
    prior,
    *,
    tau,
    steps,
    iterations,
    batch,
    data_batch,
    cache,
    width,
    depth,
    lr_map,
    lr_critic,
    decay,
    after,
):
    """Particles (cache, d) of mu_K; `after(k, particles)` is called for k = 0 (the start), ..., K."""
    target = LogisticPosterior(
        *train, prior, torch.float32, min(data_batch, len(train[1])), generator(seed, f"data batch {prior}")
    )
    torch.manual_seed(derive(seed, f"weights {prior}"))
    step = FollowingReference(
        target,
        target.d_w + 1,
        tau,
        generator(seed, f"reference {prior}"),
        width=width,
        depth=depth,
        lr_map=lr_map,
        lr_critic=lr_critic,
    )
    rates = step.rates
    stream = generator(seed, f"start {prior}")
    theta = draw_prior(cache, target.d_w, stream)
    theta[:, :-1] = torch.randn(cache, target.d_w, generator=stream)
    kept = ParticleCache(theta)
    after(0, theta)

    def before(k):
        step.rates = tuple(rate * decay**k for rate in rates)

    compose(
        step,
        kept,
        steps=steps,
        iterations=iterations,
        batch=batch,
        stream=stream,
        before=before,
        after=lambda k, maps, loss: after(k + 1, kept.x),
    )
    return kept.x


def widened(mode, train, stream, draws=256):
    """Draws of N(c w_map, v I), log alpha as in the mode, with the best log predictive on the training rows."""
    xi = torch.randn(draws, len(mode) - 1, generator=stream, dtype=mode.dtype)
    best = (-math.inf, None)
    scale = float(mode[:-1].norm())
    for c in (1.0, 2.0, 4.0, 8.0):
        for v in (0.0, 0.3, 1.0, 3.0):
            theta = torch.cat([c * mode[:-1] + v * scale * xi, mode[-1].expand(draws, 1)], 1)
            score = predictive(theta, *train)[1]
            best = max(best, (score, theta), key=lambda pair: pair[0])
    return best[1]


def spread(theta):
    """Mean and standard deviation of log alpha, root mean square standard deviation of w."""
    theta = theta.double()
    deviation = theta.std(0, correction=0)
    return {
        "log_alpha": float(theta[:, -1].mean()),
        "log_alpha_sd": float(deviation[-1]),
        "w_sd": float(deviation[:-1].square().mean().sqrt()),
    }


def distance_of_means(theta, reference):
    """|mean w - reference's mean w| / |reference's standard deviations of w|: 1 is a posterior's own width."""
    gap = theta[:, :-1].double().mean(0) - reference[:, :-1].mean(0)
    return float(gap.norm() / reference[:, :-1].std(0).norm())


def rounded(frame):
    """The frame with its numbers at four significant digits: training in float32 agrees to that on one machine."""
    return frame.map(lambda value: float(f"{value:.4g}") if isinstance(value, (float, np.floating)) else value)
