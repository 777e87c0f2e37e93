r"""Gaussian flows and JKO steps in d dimensions: sequences, discretisation floors, Crank-Nicolson (numpy, float64).

The functional is KL(. | N(M, Sigma)) and the laws are N(m, C) with full covariance; nothing need commute. The step itself is
`gwf.exact.gaussian.jko_step_cov`; here is a second closed form of it, derived independently (`jko_step_by_square_root`),
and what the studies of Ornstein-Uhlenbeck processes need. Derivations are in the chapter flows.
Sources by key: vwgf (the OU recipe, the Crank-Nicolson variant, moment fits), sjko (an OU recipe), gwf (order).
"""

import numpy as np

from gwf.errors import UsageError, in_range, nearest, real, whole
from gwf.exact.gaussian import jko_step, jko_step_cov, kl_cov, two_laws, w2_cov


def jko_step_by_square_root(m, C, M, Sigma, tau):
    r"""The JKO step for KL by the equation of the *inverse* map, which stays regular where C degenerates: (m', C').

    With B = I + tau Sigma^{-1} the optimal map sends x' back to x = (B - tau C'^{-1}) x', so that

    .. math:: C = B C' B - 2 \tau B + \tau^2 C'^{-1}

    which D = B^{1/2} C' B^{1/2} and E = B^{-1/2} C B^{-1/2} + 2 tau I turn into D + tau^2 D^{-1} = E. Hence

    .. math:: D = \tfrac12 \big( E + (E^2 - 4 \tau^2 I)^{1/2} \big), \quad C' = B^{-1/2} D B^{-1/2}, \quad
              m' = B^{-1} (m + \tau \Sigma^{-1} M)

    the root with D >= tau I, for which the map is positive. Derived here. C may be singular (a Dirac has a step too),
    tau is finite; `UsageError` unless C is positive semi-definite and Sigma positive definite.
    """
    in_range(tau, 0, 1e300, "tau", open_low=True)
    m, c, U, M, S, V = two_laws(m, C, M, Sigma, (False, True), ("C", "Sigma"))
    shrink = S / (S + tau)  # the eigenvalues of B^{-1}
    inverse_root = (V * np.sqrt(shrink)) @ V.T
    e, W = np.linalg.eigh(inverse_root @ (U * c) @ U.T @ inverse_root)  # of E - 2 tau I
    e = np.maximum(e, 0.0)
    F = inverse_root @ W * np.sqrt(e / 2 + tau + np.sqrt(e * (e + 4 * tau)) / 2)
    return M + V @ (V.T @ (m - M) * shrink), F @ F.T


def jko_sequence_cov(m, C, M, Sigma, tau, steps):
    """The exact JKO laws mu_0, ..., mu_steps for KL(. | N(M, Sigma)): means (steps + 1, d), covariances (steps + 1, d, d)."""
    sequence = [(np.asarray(m, dtype=np.float64), np.asarray(C, dtype=np.float64))]
    for _ in range(whole(steps, 0, 1_000_000, "steps")):
        sequence.append(jko_step_cov(*sequence[-1], M, Sigma, tau))
    means, covariances = zip(*sequence, strict=True)
    return np.stack(means), np.stack(covariances)


def jko_objective_cov(m_next, C_next, m, C, M, Sigma, tau):
    """KL(N(m_next, C_next) | N(M, Sigma)) + W_2^2 / (2 tau), the value the step makes least; a float."""
    in_range(tau, 0, np.inf, "tau", open_low=True)
    return kl_cov(m_next, C_next, M, Sigma) + w2_cov(m_next, C_next, m, C) ** 2 / (2 * tau)


def ou_flow_cov(m, C, M, Sigma, t):
    r"""Exact flow of KL(. | N(M, Sigma)): the law at time t >= 0 of dX = -Sigma^{-1} (X - M) dt + sqrt(2) dW.

    .. math:: m(t) = M + P (m - M), \qquad C(t) = \Sigma + P (C - \Sigma) P, \qquad P = e^{-t \Sigma^{-1}}

    Arguments as in `jko_step_by_square_root`; returns m(t), C(t), with dC/dt = 2 I - Sigma^{-1} C - C Sigma^{-1}.
    """
    in_range(t, 0, np.inf, "t")
    m, c, U, M, S, V = two_laws(m, C, M, Sigma, (False, True), ("C", "Sigma"))
    F = (V * np.exp(-t / S)) @ V.T @ (U * np.sqrt(c))
    return M + V @ (V.T @ (m - M) * np.exp(-t / S)), F @ F.T - (V * S * np.expm1(-2 * t / S)) @ V.T


def symkl_cov(m_0, C_0, m_1, C_1):
    """SymKL = KL(p|q) + KL(q|p) of two Gaussians: the *sum*, not half of it, in nats, as vwgf, jko-icnn and sjko use it."""
    return kl_cov(m_0, C_0, m_1, C_1) + kl_cov(m_1, C_1, m_0, C_0)


def moment_fit_floor(d, n):
    r"""Expected SymKL, :math:`d(d+3)/(2n)` to leading order, of the Gaussian fitted to n samples of a Gaussian in R^d.

    No method judged by moments of n samples can be seen to do better. The mean contributes d/n, the covariance d(d+1)/(2n).
    """
    whole(d, 1, 10**9, "d"), whole(n, 1, 10**15, "n")
    return d * (d + 3) / (2 * n)


def target_vwgf(d, rng):
    """Target of vwgf's OU experiment: M ~ N(0, I), Sigma a random rotation of eigenvalues uniform in [.5, 1]."""
    M, eigenvalues = rng.standard_normal(d), rng.uniform(0.5, 1, d)
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return M, (V * eigenvalues) @ V.T


def target_sjko(d, rng):
    r"""Target of jko-icnn's OU experiment, used by sjko: M ~ N(0, I) and the covariance of scikit-learn's make_spd_matrix.

    A uniform in [0, 1]^{d x d}, A^T A = U . V^T its singular value decomposition,
    Sigma = U (1 1^T + diag(u)) V^T with u uniform: the 1 is added to *every* entry, so one eigenvalue is about d + 1/2.
    """
    M = rng.standard_normal(d)
    A = rng.uniform(size=(d, d))
    U, _, Vt = np.linalg.svd(A.T @ A)
    Sigma = U @ (1.0 + np.diag(rng.uniform(size=d))) @ Vt
    return M, (Sigma + Sigma.T) / 2


TARGETS = {"vwgf": target_vwgf, "sjko": target_sjko}


def jko_error(M, eigenvalues, tau, t):
    r"""log10 SymKL between t/tau exact JKO steps and the exact OU law at t, from N(0, I) to N(M, diag(eigenvalues)).

    M and the eigenvalues (n, d) are means and variances of n targets, each in the eigenbasis of its covariance, where
    everything is a product; t must be a multiple of tau, by 10^6 at most (else `UsageError`).

    No close numbers are subtracted. With a = tau / eigenvalue a step from s to s' divides m - M by 1 + a and s^2 - S^2 by
    1 + a (1 + s / s'), the flow by e^a and e^{2a}; and in SymKL the logarithms cancel:

    .. math:: \tfrac12 \sum \frac{(s^2 - v)^2}{s^2 v} + (m - m(t))^2 \Big( \frac1{s^2} + \frac1v \Big), \qquad v = s(t)^2
    """
    in_range(tau, 0, 1e300, "tau", open_low=True), in_range(t, 0, 1e300, "t", open_low=True)
    steps = round(min(t / tau, 1e6))
    if steps < 1 or abs(steps * tau - t) > 1e-9 * t:
        raise UsageError(f"t = {t} must be a positive multiple of tau = {tau}, by 1,000,000 at most")
    M, v = real(M, "M"), real(eigenvalues, "eigenvalues", 0, open_low=True)
    s, S, a, shrunk = np.ones_like(v), np.sqrt(v), tau / v, np.zeros_like(v)
    for _ in range(steps):
        before, s = s, jko_step(0.0, s, 0.0, S, tau)[1]
        shrunk += np.log1p(a * (1 + before / s))
    behind = lambda log, flow: np.exp(-log) * np.expm1(log - flow)
    gap, excess = M * behind(steps * np.log1p(a), steps * a), (1 - v) * behind(shrunk, 2 * steps * a)
    v = v + np.exp(-2 * steps * a) * (1 - v)
    return np.log10((excess**2 / (s**2 * v) + gap**2 * (1 / s**2 + 1 / v)).sum(1) / 2)


def ou_floor(d, tau, t, targets, recipe="vwgf", seed=0):
    r"""`jko_error` of random `targets`, drawn by a paper's `recipe`, a key of `TARGETS`: the floor of any solver.

    The targets in R^d are drawn from `seed`, and equal for all tau and t.
    """
    draw, d = TARGETS[nearest(recipe, TARGETS, "recipe")], whole(d, 1, 10_000, "d")
    rng = np.random.default_rng([whole(seed, 0, 2**63, "seed"), d])
    drawn = [draw(d, rng) for _ in range(whole(targets, 1, 1_000_000, "targets"))]
    eigenvalues, V = np.linalg.eigh(np.stack([Sigma for _, Sigma in drawn]))
    return jko_error(np.einsum("nij,ni->nj", V, np.stack([M for M, _ in drawn])), eigenvalues, tau, t)


def crank_nicolson_step(a, s, m, lam, tau):
    r"""One step of vwgf's Crank-Nicolson variant for KL(. | N(m, lam)), from N(a, s^2), lam a variance.

    Half of the first variation is taken at the new law, half frozen at the old one, *both at the new position*:

    .. math:: (a' - a) \Big(\frac1\tau - \frac1{2 s^2}\Big) = -\frac{a' - m}{\lambda}, \qquad
              \frac{s' - s}{\tau} = \frac12 \Big(\frac1{s'} - \frac{s'}{\lambda}\Big)
              + \frac12 \Big(\frac{s'}{s^2} - \frac{s'}{\lambda}\Big)

    First order in tau all the same (chapter flows). Needs 1/tau > 1/(2 s^2) - 1/lam: else the frozen half is more concave
    than the proximal term is convex, and there is no step (`UsageError`).
    """
    in_range(tau, 0, 1e300, "tau", open_low=True)
    frozen = 1 / tau - 1 / (2 * np.square(s))
    if not (np.asarray(frozen + 1 / lam) > 0).all():
        raise UsageError(f"tau = {tau!r} is out of range: Crank-Nicolson needs 1/tau > 1/(2 s^2) - 1/lam")
    a_next = (a * frozen + m / lam) / (frozen + 1 / lam)
    # Multiplied by s': A s'^2 - (s/tau) s' - 1/2 = 0.
    A = frozen + 1 / lam
    return a_next, (s / tau + np.sqrt((s / tau) ** 2 + 2 * A)) / (2 * A)


def trapezoid_step(a, s, m, lam, tau):
    r"""One step of the true trapezoidal rule for the ordinary differential equations of (a, s): second order in tau.

    .. math:: \frac{a' - a}{\tau} = -\frac{(a - m) + (a' - m)}{2 \lambda}, \qquad
              \frac{s' - s}{\tau} = \frac12 \Big(\frac1s - \frac s\lambda + \frac1{s'} - \frac{s'}\lambda\Big)

    The old velocity stays at the *old* position. For comparison only: it is not the minimiser of any JKO-like problem.
    """
    in_range(tau, 0, 1e300, "tau", open_low=True)
    half = tau / (2 * lam)
    a_next = (a * (1 - half) + 2 * half * m) / (1 + half)
    A, known = 1 / tau + 1 / (2 * lam), s / tau + (1 / s - s / lam) / 2
    return a_next, (known + np.sqrt(known**2 + 2 * A)) / (2 * A)


SCHEMES = {
    "jko": lambda a, s, m, lam, tau: jko_step(a, s, m, np.sqrt(lam), tau),
    "crank_nicolson": crank_nicolson_step,
    "trapezoid": trapezoid_step,
}


def scheme_error(scheme, steps, m=1.0, lam=0.5, a=0.0, s=1.0, t=0.8):
    """|error| of the mean and of the standard deviation at time t after `steps` steps of a scheme in `SCHEMES`."""
    step = SCHEMES[nearest(scheme, SCHEMES, "scheme")]
    a_k, s_k = a, s
    for _ in range(whole(steps, 1, 1_000_000, "steps")):
        a_k, s_k = step(a_k, s_k, m, lam, t / steps)
    decay = np.exp(-t / lam)
    return abs(a_k - m - decay * (a - m)), abs(s_k - np.sqrt(lam + decay**2 * (s**2 - lam)))
