r"""Nonlinear filtering: how good is a plain particle filter where JKO-ICNN needs hours?

A state in the potential Phi(x) = sin(2 pi x) / pi + x^2 / 4 is seen through unit noise every half unit of time, nine
times; wanted is its law at t = 5. The truth is a Chang-Cooper grid (`gwf.exact.filtering`). Measured are bootstrap
filters of several sizes, each on independent hidden paths, by log10 SymKL of a kernel density estimate (the published
score) and by W_1, which needs no density estimate.

Two floors stand beside every value. "exact draws": as many independent draws from the truth itself, so what the score
shows of no filter at all; "smoothed truth": the truth convolved with the same kernel, the score at infinitely many
particles and this bandwidth. Source: jko-icnn, Section 5 (filtering); the inverse temperature beta = 1 and the start
N(0, 1) are our reading, and give the published medians.
"""

import pandas as pd

from gwf.errors import UsageError, in_range
from gwf.exact.filtering import ChangCooper, Problem, bootstrap_filter, grid_filter, potential
from gwf.metrics.filter_scores import draw_from_grid, kernel_density, scott, smooth, sym_kl, w1_to_grid
from gwf.seeding import rng

FILTER, DRAWS, SMOOTHED = "bootstrap filter", "exact draws", "smoothed truth"


def run(seed, progress, *, paths, particles, dt, dx, low, high, beta, sigma, interval, observations, end, start):
    """Filter `paths` hidden paths of one seed with every number of `particles`.

    Parameters
    ----------
    paths : int
        Independent hidden paths with their observations.
    particles : list of int
        Sizes of the bootstrap filter, each >= 2.
    dt : float
        Time step of the grid, of the particles and of the hidden path.
    dx, low, high : float
        The grid.
    beta, sigma, interval, observations, end, start
        The problem, see `gwf.exact.filtering.Problem`.

    Returns
    -------
    dict
        "table": one row per path, size and law (filter or floor) with `sym_kl` (nats), `w1` (nan for the smoothed
        truth, which has no particles) and `bandwidth`. "curve": the truth and the estimates of path 0 on a coarse grid.
    """
    in_range(paths, 1, 1000, "paths")
    for n in particles or [0]:
        if not (isinstance(n, int) and n >= 2):
            raise UsageError(f"particles = {particles!r}: a list of whole numbers, 2 or more, is needed")
    problem = Problem(beta, sigma, interval, observations, end, start)
    grid = ChangCooper(potential, low, high, dx, beta, dt)
    total = paths * len(particles) + 1
    progress(0, total)
    y = problem.simulate(paths, dt, rng(seed, "hidden path"))
    truth = grid_filter(problem, y, grid)
    progress(1, total)

    rows, estimates = [], {"truth": truth[:, 0]}
    for path in range(paths):
        p = truth[:, path]
        for n in particles:
            x = bootstrap_filter(problem, y[:, path], n, dt, rng(seed, f"filter {path} {n}"))
            exact = draw_from_grid(p, grid.x, n, rng(seed, f"exact draws {path} {n}"))
            for law, points in ((FILTER, x), (DRAWS, exact)):
                rows.append(
                    {
                        "path": path,
                        "particles": n,
                        "law": law,
                        "bandwidth": scott(points),
                        "sym_kl": sym_kl(p, kernel_density(points, grid.x), grid.dx),
                        "w1": w1_to_grid(points, p, grid.x),
                    }
                )
            rows.append(
                {
                    "path": path,
                    "particles": n,
                    "law": SMOOTHED,
                    "bandwidth": scott(x),
                    "sym_kl": sym_kl(p, smooth(p, scott(x), grid.dx), grid.dx),
                }
            )
            if path == 0:
                estimates[f"{n}"] = kernel_density(x, grid.x)
            progress(2 + path * len(particles) + list(particles).index(n), total, particles=n)

    every = max(1, len(grid.x) // 400)
    curve = pd.DataFrame({"x": grid.x} | estimates).iloc[::every].reset_index(drop=True)
    return {"table": rounded(pd.DataFrame(rows)), "curve": rounded(curve)}


def rounded(frame):
    """The frame with its numbers at five significant digits, so that a re-run on another machine agrees."""
    return frame.map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value)
