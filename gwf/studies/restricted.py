r"""What a restricted class of critics sees of a divergence: the statements of vwgf, section 4, computed.

Laws on the line by quadrature, critics from the span of given features, so that D_f^H is a finite concave maximum with
no training (`gwf.exact.restricted`):

- *moment matching*: H = span{1, x, x^2} does not see the difference between N(0, 1) and a law of two bumps, or a skewed
  one, with mean 0 and variance 1; two more features do;
- *sandwich*: (alpha/2) d_H^2 <= D_f^H <= (L/2) d_H^2, equality for chi2, strictly between for the clipped KL;
- *approximation*: random features of growing width; D_f - D_f^H against delta^2/(2 alpha), equal for chi2;
- *particles*: the error of particle JKO towards N(m, I) against the bound of Proposition 4.5, for growing N.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from gwf.errors import in_range
from gwf.exact.restricted import (
    KL,
    Chi2,
    ClippedKL,
    distance_to_span,
    ipm_squared,
    jko_bound,
    jko_particle_error,
    restricted_divergence,
)
from gwf.seeding import rng

X, DX = np.linspace(-9, 9, 1801, retstep=True)
NU = norm.pdf(X) * DX / (norm.pdf(X) * DX).sum()


def quadratics(x):
    """1, x, x^2 at points x (n,): (n, 3)."""
    return np.stack([np.ones_like(x), x, x**2], 1)


def with_cosines(x):
    """1, x, x^2 and two bounded features, cos 2x and sin 2x: (n, 5)."""
    return np.column_stack([quadratics(x), np.cos(2 * x), np.sin(2 * x)])


def matched_laws():
    """Laws with mean 0 and variance 1 that are not N(0, 1), as weights on the grid `X`: name -> (n,).

    Two-point laws shrunk to variance .81, with N(0, .19) added. (With the atoms themselves the restricted KL grows
    without bound as soon as some critic of the class peaks exactly there.)
    """
    bumps = {"two bumps": ((-0.9, 0.5), (0.9, 0.5)), "skewed": ((-0.45, 0.8), (1.8, 0.2))}
    return {name: sum(share * gaussian(mean, 0.19**0.5) for mean, share in law) for name, law in bumps.items()}


def random_features(width, rng):
    """x -> (n, width + 3): 1, x, x^2 and `width` features cos(w x + b) with w ~ N(0, 1), b uniform; nested in width."""
    draws = rng.standard_normal((width, 2))
    return lambda x: np.column_stack([quadratics(x), np.cos(x[:, None] * draws[:, 0] + np.pi * draws[:, 1])])


def gaussian(mean, std):
    """Weights of N(mean, std^2) on the grid `X`."""
    weights = norm.pdf(X, mean, std) * DX
    return weights / weights.sum()


def run(seed, progress, *, mean, std, alpha, L, widths, K, tau, d, samples, repeats):
    """All four checks.

    Parameters
    ----------
    mean, std : float
        mu = N(mean, std^2) against nu = N(0, 1) in the sandwich and approximation checks; std < sqrt(2).
    alpha, L : float
        Clipping of the KL generator's curvature.
    widths : list of int
        Numbers of random features.
    K, tau, d, samples, repeats : int, float, int, list of int, int
        Particle JKO: steps, step, dimension (|m|^2 = d), samples per step, repeats of the simulation.

    Returns
    -------
    dict with "table": columns check, case, value, lower, upper (the bounds of the statement; nan where there is none).
    """
    in_range(std, 0.05, 1.4, "std")
    in_range(repeats, 2, 10**6, "repeats")
    total = 3 + len(samples)
    rows = _moment_matching()
    progress(1, total)
    mu, clipped = gaussian(mean, std), ClippedKL(alpha, L)
    rows += _sandwich(mu, clipped)
    progress(2, total)
    rows += _approximation(mu, clipped, widths, rng(seed, "features"))
    progress(3, total)
    stream = rng(seed, "particles")
    for i, N in enumerate(samples):
        error, _ = jko_particle_error(K, tau, np.ones(d), N, repeats, stream)
        rows.append(("particles", f"N = {N}", error, 0.0, jko_bound(K, tau, d, np.sqrt(d), N)))
        progress(4 + i, total)
    return {"table": pd.DataFrame(rows, columns=["check", "case", "value", "lower", "upper"])}


def _moment_matching():
    rows = []
    for law, mu in matched_laws().items():
        for features, phi in [("1, x, x^2", quadratics), ("1, x, x^2, cos 2x, sin 2x", with_cosines)]:
            for name, f in [("chi2", Chi2()), ("KL", KL())]:
                value, _ = restricted_divergence(f, phi(X), mu, phi(X), NU)
                bounds = (0.0, 0.0) if phi is quadratics else (0.0, np.inf)
                rows.append(("moment matching", f"{name}, {law}, {features}", value, *bounds))
    return rows


def _sandwich(mu, clipped):
    rows = []
    for features, phi in [
        ("1, x", quadratics(X)[:, :2]),
        ("1, x, x^2", quadratics(X)),
        ("with cosines", with_cosines(X)),
    ]:
        squared = ipm_squared(phi, mu, phi, NU)
        for name, f in [("chi2", Chi2()), ("clipped KL", clipped)]:
            value, _ = restricted_divergence(f, phi, mu, phi, NU)
            rows.append(("sandwich", f"{name}, {features}", value, f.alpha / 2 * squared, f.L / 2 * squared))
    return rows


def _approximation(mu, clipped, widths, rng):
    """D_f - D_f^H between 0 and delta^2/(2 alpha); one draw of features, each class inside the next."""
    phi, ratio = random_features(max(widths), rng)(X), mu / NU
    rows = []
    for width in widths:
        features = phi[:, : width + 3]
        for name, f in [("chi2", Chi2()), ("clipped KL", clipped)]:
            value, _ = restricted_divergence(f, features, mu, features, NU)
            delta = distance_to_span(f.df(ratio), features, NU)
            gap = float(NU @ f.f(ratio)) - value
            rows.append(("approximation", f"{name}, {width} features", gap, 0.0, delta**2 / (2 * f.alpha)))
    return rows
