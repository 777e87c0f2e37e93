r"""Variational bounds on finite batches, against exact values: mu = N(m, 1), nu = N(0, 1), critics h(x) = a x + b.

Three measurements, each with its exact counterpart:

- *bias*: the mean over many batches of size B of a bound at a fixed critic, minus its value for the laws themselves.
  The classical bounds are averages, so their bias is 0. The Donsker-Varadhan bound is too large by about
  (e^{a^2} - 1) / (2 B) (Jensen; its sign is exact, its size leading order), the tight chi2 bound by
  (m^2 + 2/B) B / (B - 3) - m^2 (exact).
- *ascent*: stochastic gradient ascent in (a, b) on the classical and on the Donsker-Varadhan bound. The map z -> z + m
  receives the gradient h' = a, whose right value is d KL / dm = m: its mean and spread show what the bound does to the
  generator.
- *js*: the gradient the map receives from a discriminator fitted by logistic regression, with the saturating and the
  non-saturating loss; exact: d/dm 2 JS and d/dm (KL - 2 JS).

Sources: gwf, equation 11 and section 5; the expected biases are derived here. Chapter: `unifying`.
"""

import numpy as np
import pandas as pd

from gwf.errors import UsageError, in_range
from gwf.exact import gaussian
from gwf.seeding import rng

BOUNDS = ("KL", "KL-DV", "chi2", "chi2 tight")


def run(
    seed,
    progress,
    *,
    mean,
    slopes,
    batches,
    repetitions,
    ascent_batches,
    ascent_steps,
    rate,
    replicas,
    js_means,
    js_samples,
):
    """One seed of the study.

    Parameters
    ----------
    seed : int
    progress : callable
        `progress(done, total, **shown)`.
    mean : float
        m > 0 of *bias* and *ascent*.
    slopes : list of float
        The a of *bias* for the bounds of KL; those of chi2 use a = 2 m, the best slope with b = 0.
    batches, repetitions : list of int >= 8, int
        Batch sizes B, and batches averaged over for each.
    ascent_batches, ascent_steps, rate, replicas : list of int, int, float, int
        Batch sizes, steps (the first half is discarded) and rate of the ascent, and independent copies of it.
    js_means, js_samples : list of float, int
        Values of m, and samples of either law the discriminator is fitted on.

    Returns
    -------
    dict
        "table": one row per measured number, with columns part, quantity, bound, setting, batch, measured (its mean),
        spread (sd of one batch or one copy), exact.
    """
    in_range(mean, 0, 5, "mean", open_low=True)
    for name, value in (("batches", batches), ("ascent_batches", ascent_batches)):
        if not value or min(value) < 8:
            raise UsageError(f"{name} = {value!r}: at least one batch size is needed, each at least 8")
    for name, value in (("repetitions", repetitions), ("replicas", replicas), ("ascent_steps", ascent_steps)):
        in_range(value, 2, 10**7, name)
    in_range(js_samples, 100, 10**8, "js_samples")
    total, done, rows = len(batches) + len(ascent_batches) * 2 + len(js_means), 0, []
    for B in batches:
        rows += _bias(mean, slopes, B, repetitions, rng(seed, f"bias {B}"))
        done += 1
        progress(done, total, batch=B)
    for B in ascent_batches:
        for bound in ("KL", "KL-DV"):
            rows.append(_ascent(bound, mean, B, ascent_steps, rate, replicas, rng(seed, f"ascent {B}")))
            done += 1
            progress(done, total, batch=B)
    for m in js_means:
        rows += _js(m, js_samples, rng(seed, f"js {m:g}"))
        done += 1
        progress(done, total, mean=m)
    columns = ["part", "quantity", "bound", "setting", "batch", "measured", "spread", "exact"]
    return {"table": pd.DataFrame(rows, columns=columns).round(6)}


def batch_bounds(x, y, a, b):
    """The four bounds at h = a x + b on batches x, y (repetitions, B): dict of arrays (repetitions,)."""
    h_mu, h_nu = a * x + b, a * y + b
    return {
        "KL": h_mu.mean(1) - np.exp(h_nu - 1).mean(1),
        "KL-DV": h_mu.mean(1) - np.log(np.exp(h_nu).mean(1)),
        "chi2": h_mu.mean(1) - (h_nu + h_nu**2 / 4).mean(1),
        "chi2 tight": (h_mu.mean(1) - h_nu.mean(1)) ** 2 / h_nu.var(1),
    }


def exact_bounds(m, a, b):
    """The same four for the laws N(m, 1), N(0, 1) themselves: closed forms, floats."""
    return {
        "KL": m * a + b - np.exp(b - 1 + a**2 / 2),
        "KL-DV": m * a - a**2 / 2,
        "chi2": m * a - (a**2 + b**2) / 4,
        "chi2 tight": m**2,
    }


def expected_bias(bound, m, a, B):
    """Bias of a bound on batches of size B: 0, or the leading order (KL-DV), or exact (chi2 tight, B > 3)."""
    if bound == "KL-DV":
        return np.expm1(a**2) / (2 * B)
    if bound == "chi2 tight":
        return (m**2 + 2 / B) * B / (B - 3) - m**2
    return 0.0


def _bias(m, slopes, B, repetitions, random):
    rows = []
    cases = [(("KL", "KL-DV"), a, 1 - a**2 / 2) for a in slopes] + [(("chi2", "chi2 tight"), 2 * m, 0.0)]
    for bounds, a, b in cases:
        x, y = m + random.standard_normal((repetitions, B)), random.standard_normal((repetitions, B))
        measured, exact = batch_bounds(x, y, a, b), exact_bounds(m, a, b)
        for bound in bounds:
            gap = measured[bound] - exact[bound]
            if bound == "KL-DV":
                # Averages of mean zero are taken out, which leaves R - 1 - log R >= 0 with R = mean e^h / E_nu e^h.
                gap = gap - a * (x.mean(1) - m) + np.exp(a * y - a**2 / 2).mean(1) - 1
            rows.append(
                (
                    "bias",
                    "bias of the bound",
                    bound,
                    f"a = {a:g}",
                    B,
                    gap.mean(),
                    measured[bound].std(ddof=1),
                    expected_bias(bound, m, a, B),
                )
            )
    return rows


def _ascent(bound, m, B, steps, rate, replicas, random):
    """Mean and spread of the generator's gradient a along the second half of the ascent."""
    a, b = np.zeros(replicas), np.ones(replicas)
    sums, squares, kept = np.zeros(replicas), np.zeros(replicas), 0
    for step in range(steps):
        x, y = m + random.standard_normal((replicas, B)), random.standard_normal((replicas, B))
        if bound == "KL":
            weights = np.exp(a[:, None] * y + b[:, None] - 1) / B
        else:
            weights = np.exp(a[:, None] * y)
            weights /= weights.sum(1, keepdims=True)
        # The gradient of the bound in (a, b); for Donsker-Varadhan the weights sum to 1 and b never moves.
        a, b = a + rate * (x.mean(1) - (weights * y).sum(1)), b + rate * (1 - weights.sum(1))
        if 2 * step >= steps:
            sums, squares, kept = sums + a, squares + a**2, kept + 1
    mean = sums.mean() / kept
    spread = np.sqrt(max(squares.mean() / kept - mean**2, 0.0))
    return "ascent", "gradient of the map", bound, f"rate = {rate:g}", B, mean, spread, m


def js_gradients(m, nodes=80):
    """(d/dm 2 JS, d/dm (KL - 2 JS)) of N(m, 1) against N(0, 1): the map's gradients at the optimal discriminator.

    The saturating one is E_mu h'(u) u' with u = m x - m^2/2, h' = sigmoid(-u); by Gauss-Hermite quadrature.
    """
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    saturating = m * (w / w.sum()) @ _sigmoid(-(m * (x + m) - m**2 / 2))
    return saturating, m - saturating


def _js(m, n, random):
    x, y = m + random.standard_normal(n), random.standard_normal(n)
    a, b = _logistic(x, y)
    u = a * x + b
    measured = a * _sigmoid(-u), a * _sigmoid(u)
    return [
        ("js", "gradient of the map", f"JS {name}", f"m = {m:g}", n, value.mean(), value.std(ddof=1), exact)
        for name, value, exact in zip(("saturating", "non-saturating"), measured, js_gradients(m), strict=True)
    ]


def _logistic(x, y):
    """The affine logit that best tells x (label 1) from y (label 0): Newton on the discriminator's loss."""
    points = np.stack([np.concatenate([x, y]), np.ones(2 * len(x))], 1)
    label, w = np.repeat([1.0, 0.0], len(x)), np.zeros(2)
    for _ in range(50):
        p = _sigmoid(points @ w)
        step = np.linalg.solve((points * (p * (1 - p))[:, None]).T @ points, points.T @ (label - p))
        w = w + step
        if np.abs(step).max() < 1e-10:
            return w
    raise RuntimeError("logistic regression did not converge: the two samples may be separable")


def _sigmoid(u):
    return 1 / (1 + np.exp(-u))


def gaussian_kl_slope(m):
    """d KL / dm of N(m, 1) against N(0, 1) by differences of the closed form, for the tests: m."""
    step = 1e-4
    return float(gaussian.kl(m + step, 1, 0, 1) - gaussian.kl(m - step, 1, 0, 1)) / (2 * step)
