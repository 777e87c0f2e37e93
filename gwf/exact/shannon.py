r"""The Jensen-Shannon divergence of product Gaussians by quadratures that resolve both laws (numpy, float64).

Each half is a mean of log 2 - softplus(log-ratio) over one of the laws, in its units, and changes on the scale of either law.
"""

import math

import numpy as np


def jensen_shannon(m, s, M, S):
    """JS of N(m, s^2) and N(M, S^2), arrays (d,), d = 1 or 2, to 1e-11; a float in nats."""
    if m.size == 2 and ((s / S < 2) & (S / s < 2) & (np.abs(m - M) < 3 * np.minimum(s, S))).all():
        # Similar laws: the trapezoidal rule is exact up to e^(-c / spacing), and two spacings that agree say so.
        coarse = math.nan
        for h in (2 / 5, 1 / 3, 1 / 5, 1 / 8):
            fine = _js_on([_evenly(h)] * 2, [_evenly(h)] * 2, m, s, M, S)
            if abs(coarse - fine) < 1e-12:
                return fine
            coarse = fine
    here = [_panels((M[i] - m[i]) / s[i], S[i] / s[i]) for i in range(m.size)]
    there = [_panels((m[i] - M[i]) / S[i], s[i] / S[i]) for i in range(m.size)]
    return _js_on(here, there, m, s, M, S)


def _js_on(here, there, m, s, M, S):
    """JS with (points, weights) of each coordinate for means over the first law, and over the second."""

    def half(rules, m, s, M, S):
        with np.errstate(over="ignore"):  # a narrow law far away: its log-density is minus infinity
            laws = zip(rules, m - M, s, S, strict=True)
            logs = [z**2 / 2 - ((gap + a * z) / b) ** 2 / 2 + np.log(a / b) for (z, _), gap, a, b in laws]
        ratio, weights = logs[0], rules[0][1]
        if len(rules) == 2:
            ratio, weights = np.add.outer(ratio, logs[1]).ravel(), np.outer(weights, rules[1][1]).ravel()
        return weights @ (np.log(2) - np.logaddexp(0, ratio))

    return float(half(here, m, s, M, S) + half(there, M, S, m, s)) / 2


def _evenly(h):
    """Points and weights of the trapezoidal rule of spacing h for means over N(0, 1)."""
    z = h * np.arange(-math.floor(8 / h), math.floor(8 / h) + 1)
    return z, h * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _panels(M, S):
    """Gauss-Legendre panels of half a deviation for means over N(0, 1), and of S / 2 around M, where N(M, S^2) is near.

    Beyond 9 deviations a law has a mass of 1e-19; one narrower by the factor S outweighs the other for sqrt(2 |log S|) more.
    """
    reach = math.ceil(2 * (9 + math.sqrt(2 * abs(math.log(S)))))
    steps = np.arange(-reach, reach + 1) / 2
    edges = np.unique(np.clip(np.concatenate([steps[np.abs(steps) <= 9], M + S * steps]), -9, 9))
    z, w = gauss_legendre(edges, 20)
    return z, w * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def gauss_legendre(edges, n):
    """Points and weights (k n,) of the n-point Gauss-Legendre rule on each of the k panels between k + 1 edges."""
    x, w = np.polynomial.legendre.leggauss(n)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * x).ravel(), (half * w).ravel()
