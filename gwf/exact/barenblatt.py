r"""The porous-medium equation: Barenblatt's solution, its flow, and exact JKO iterates (numpy, float64).

The equation d_t mu = Laplace(mu^m), m > 1, is the Wasserstein gradient flow of the generalised entropy

.. math:: G(\mu) = \int \frac{\mu^m}{m-1} dx.

A *Barenblatt-shaped* law of radius R has density A (R^2 - |x|^2)_+^{1/(m-1)}; with unit mass it is determined by (d, m, R),
and both the flow and every JKO step keep the shape and change R alone. Derivations are in the chapter flows.

Sources by key: vwgf (the experiment, m = 2, d = 3 and 6); formulas derived here from Barenblatt (1952) and the Beta law.
"""

import math

import numpy as np
from scipy.special import betaln, expit, gammaln

from gwf.errors import in_range, real, whole


def _check(d, m, **positive):
    """d in 1, ..., 10,000 and m > 1 (the heat equation has m = 1); further arguments by name: positive numbers or arrays."""
    whole(d, 1, 10_000, "d"), in_range(m, 1, 1e300, "m", open_low=True)
    for name, value in positive.items():
        real(value, name, 0, open_low=True)


def exponents(d, m, **positive):
    r"""alpha = d/(d(m-1)+2), beta = alpha/d, c_B = alpha (m-1)/(2 m d) of Barenblatt's solution; `positive`: see `_check`."""
    _check(d, m, **positive)
    alpha = d / (d * (m - 1) + 2)
    return alpha, alpha / d, alpha * (m - 1) / (2 * m * d)


def log_ball(d):
    """log of the volume of the unit ball of R^d."""
    return d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)


def _log_bump(d, p):
    """log of int (1 - |x|^2)_+^p dx over R^d: the volume of the sphere times a Beta integral."""
    return log_ball(d) + math.log(d / 2) + betaln(d / 2, p + 1)


def density(x, R, d, m):
    """Density at x (n, d) of the unit-mass Barenblatt-shaped law of radius R; (n,). Infinite beyond 1e308."""
    _check(d, m, R=R)
    p = 1 / (m - 1)
    squared = (np.asarray(x, dtype=np.float64).reshape(-1, d) ** 2).sum(1) / R**2
    with np.errstate(divide="ignore", over="ignore"):
        return np.exp(p * np.log(np.maximum(1 - squared, 0.0)) - _log_bump(d, p) - d * math.log(R))


def second_moment(R, d, m):
    r"""E|x|^2 = R^2 d / (d + 2 + 2/(m-1)): |x|^2/R^2 has the law Beta(d/2, 1 + 1/(m-1)). sigma2 is its value at R = 1."""
    _check(d, m, R=R)
    return R**2 * d / (d + 2 + 2 / (m - 1))


def log_entropy(R, d, m):
    r"""log G of the unit-mass law of radius R > 0: in many dimensions G itself leaves the range of floats."""
    _check(d, m, R=R)
    p = 1 / (m - 1)
    # p m = p + 1, so that one ratio is left of the two integrals: as logarithms of Gamma they would cancel as m nears 1.
    at_one = -math.log1p(d / 2 / (p + 1)) - (m - 1) * _log_bump(d, p) - math.log(m - 1)
    return at_one - d * (m - 1.0) * np.log(np.asarray(R, dtype=np.float64))


def entropy(R, d, m):
    r"""G = G_1 R^{-d(m-1)} of the unit-mass law of radius R, with G_1 = int mu^m/(m-1) at R = 1; inf beyond 1e308."""
    with np.errstate(over="ignore"):
        return np.exp(log_entropy(R, d, m))


def sample(n, R, d, m, rng):
    """n points (n, d) of the unit-mass law of radius R: a uniform direction times R sqrt(Beta). No rejection, any d."""
    _check(d, m, R=R), whole(n, 1, 10**9, "n")
    z = rng.standard_normal((n, d))
    radius = R * np.sqrt(rng.beta(d / 2, 1 + 1 / (m - 1), n))
    return z * (radius / np.linalg.norm(z, axis=1))[:, None]


def w2(R_0, R_1, d, m):
    """W_2 between two radii: the dilation is the gradient of a convex function, hence optimal; |R_1 - R_0| sqrt(sigma2)."""
    return np.abs(np.asarray(R_1) - R_0) * math.sqrt(second_moment(1.0, d, m))


def flow_radius(R_0, t, d, m):
    r"""Radius at time t of the exact flow from the unit-mass law of radius R_0.

    .. math:: R^q = R_0^q + q \, d (m-1) \frac{G_1}{\sigma_2} t, \qquad q = d(m-1) + 2

    which integrates sigma2 dR/dt = -dG/dR. `t` may be an array.
    """
    _check(d, m, R_0=R_0)
    q = d * (m - 1) + 2
    log_rate = math.log(q * d * (m - 1) / second_moment(1.0, d, m)) + log_entropy(1.0, d, m)
    with np.errstate(divide="ignore"):  # t = 0
        gain = np.log(real(t, "t", 0, math.inf)) + log_rate - q * np.log(R_0)
    return np.asarray(R_0) * np.exp(np.logaddexp(0.0, gain) / q)


def jko_growth(R, tau, d, m):
    r"""Relative growth e = R'/R - 1 of the radius in the exact JKO step, to rounding; see `jko_radius`.

    With K = tau d (m-1) G_1 R^{-q} / sigma2, q = d (m-1) + 2, the equation is e (1 + e)^{q-1} = K, in y = log e

    .. math:: y + (q - 1) \log(1 + e^y) = \log K,

    convex and increasing, of slopes 1 to q: Newton's steps decrease to the root from log K and log K / q, both above it.
    """
    _check(d, m), in_range(tau, 0, math.inf, "tau", open_low=True), in_range(R, 0, 1e300, "R", open_low=True)
    q = d * (m - 1) + 2
    log_K = math.log(tau * d * (m - 1) / second_moment(1.0, d, m)) + float(log_entropy(1.0, d, m)) - q * math.log(R)
    if math.isinf(log_K):
        return math.inf
    y = min(log_K, log_K / q)
    for _ in range(200):
        move = (y + (q - 1) * float(np.logaddexp(0.0, y)) - log_K) / (1 + (q - 1) * float(expit(y)))
        y -= move
        if abs(move) <= 1e-14 * max(1.0, abs(y)):
            return math.exp(y)
    raise RuntimeError(f"no radius for R = {R}, tau = {tau}, d = {d}, m = {m}")


def jko_radius(R, tau, d, m):
    r"""Radius R' of the exact JKO step of size tau from the unit-mass law of radius R.

    .. math:: \sigma_2 \frac{R' - R}{\tau} = d (m-1) G_1 R'^{-d(m-1)-1}

    the stationary point of sigma2 (R' - R)^2/(2 tau) + G_1 R'^{-d(m-1)}. That no other law does better is proved in the
    chapter flows: the optimality condition of the step holds with this dilation, and G is displacement convex.
    """
    return R + R * jko_growth(R, tau, d, m)


def jko_radii(R_0, tau, steps, d, m):
    """Radii (steps + 1,) of the exact JKO sequence."""
    radii = [R_0]
    for _ in range(whole(steps, 0, 1_000_000, "steps")):
        radii.append(jko_radius(radii[-1], tau, d, m))
    return np.array(radii, dtype=np.float64)


def profile(x, t, C, d, m):
    r"""U(t, x) = t^{-alpha} (C - c_B |x|^2 t^{-2 beta})_+^{1/(m-1)} at x (n, d), (n,). Its mass is `profile_mass(C)`."""
    alpha, beta, c = exponents(d, m, t=t, C=C)
    squared = (np.asarray(x, dtype=np.float64).reshape(-1, d) ** 2).sum(1)
    return t**-alpha * np.maximum(C - c * squared * t ** (-2 * beta), 0.0) ** (1 / (m - 1))


def profile_mass(C, d, m):
    r"""Mass int U dx = C^{1/(m-1) + d/2} c_B^{-d/2} int (1 - |x|^2)_+^{1/(m-1)} dx, the same at all times."""
    _, _, c = exponents(d, m, C=C)
    p = 1 / (m - 1)
    return float(np.exp((p + d / 2) * math.log(C) - d / 2 * math.log(c) + _log_bump(d, p)))


def constant_from_radius(R, t, d, m):
    """The C whose support has radius R at time t: C = c_B (R t^-beta)^2. Its mass is *not* 1 in general."""
    _, beta, c = exponents(d, m, R=R, t=t)
    return c * (R * t**-beta) ** 2


def profile_radius(t, C, d, m):
    """Radius sqrt(C/c_B) t^beta of the support of U at time t."""
    _, beta, c = exponents(d, m, t=t, C=C)
    return math.sqrt(C / c) * np.asarray(t) ** beta


def released_wrong_entropy(t, R_0, t_0, d, m=2):
    r"""The "exact" G curve of vwgf's released code, which is wrong: a profile of mass other than 1. Not for use as a truth.

    The code sets C from the radius R_0 at time t_0, not from the mass, and reports the mean of U^{m-1}/(m-1) under U/mass:
    int U^m/((m-1) mass). Its particles start from the *normalised* profile, of another speed and, at t_0, 1/mass^{m-1} the G.
    """
    C = constant_from_radius(R_0, t_0, d, m)
    mass = profile_mass(C, d, m)
    # U = mass * (the unit-mass law of the same radius), so int U^m = mass^m int mu^m.
    return mass ** (m - 1) * entropy(profile_radius(t, C, d, m), d, m)
