r"""JKO steps and flows of Gaussians in closed form (numpy, float64).

The functional is F(mu) = D(mu | nu) with nu Gaussian; the JKO step of size tau > 0 from mu_k is

.. math:: \mu_{k+1} = \operatorname{argmin}_\mu \; D(\mu \,|\, \nu) + \frac{1}{2\tau} W_2^2(\mu, \mu_k).

Two forms are given. *Product Gaussians*: arrays `m, s` of means and standard deviations (positive, else `UsageError`),
with target `M, S`; they broadcast together, the last axis has the d independent coordinates, and a scalar is d = 1.
*General Gaussians*: a mean `m (d,)` and a symmetric positive definite covariance `C (d, d)` (else `UsageError`), target
`M, Sigma`; these functions end in `_cov`. `tau` is in (0, inf], in squared units of x per nat; `tau = inf` gives the
target: in this limit the JKO step is the GAN of the functional.

The derivations are in notebooks/chapters/01_jko_gaussian.ipynb. Sources by key:

- jko: Jordan, Kinderlehrer & Otto, SIAM J. Math. Anal. 29 (1998): the step, its Fokker-Planck limit.
- gelbrich: Gelbrich, Math. Nachr. 147 (1990): W_2 between Gaussians, and the lower bound for all other laws.
- ags: Ambrosio, Gigli & Savare, Gradient Flows (2008): energy inequality, contraction.
- gwf: Caucheteux, Bonet & Korba, arXiv 2605.31369 (2026): Proposition 3.1 (equal values) and 3.2 (envelope).
"""

import math

import numpy as np
from scipy.optimize import minimize

from gwf.errors import UsageError, in_range, nearest, real, whole
from gwf.exact.shannon import jensen_shannon


def _tau(tau):
    return float(in_range(tau, 0, math.inf, "tau", open_low=True))


def _std(s, name):
    s = np.asarray(s, dtype=np.float64)
    if not (s > 0).all():
        raise UsageError(f"{name} = {s.tolist()!r} is out of range: standard deviations must be positive")
    return s


def _products(m, s, M, S):
    """The four arrays in float64 with at least one axis, standard deviations checked."""
    m, s, M, S = np.asarray(m, dtype=np.float64), _std(s, "s"), np.asarray(M, dtype=np.float64), _std(S, "S")
    return tuple(np.atleast_1d(a) for a in np.broadcast_arrays(m, s, M, S))


def w2(m_0, s_0, m_1, s_1):
    r"""W_2 of product Gaussians (..., d): :math:`W_2^2 = |m_0 - m_1|^2 + |s_0 - s_1|^2`, of shape (...). Source: gelbrich."""
    m_0, s_0, m_1, s_1 = _products(m_0, s_0, m_1, s_1)
    return np.sqrt(((m_0 - m_1) ** 2 + (s_0 - s_1) ** 2).sum(-1))


def kl(m, s, M, S):
    r"""KL(N(m, s^2) | N(M, S^2)) :math:`= \sum_i \log(S/s) + (s^2 + (m - M)^2) / (2 S^2) - 1/2`, in nats.

    Among all laws with given (m, s) the Gaussian has the smallest KL.
    """
    m, s, M, S = _products(m, s, M, S)
    return (np.log(S / s) + (s**2 + (m - M) ** 2) / (2 * S**2) - 0.5).sum(-1)


def reverse_kl(m, s, M, S):
    """KL(N(M, S^2) | N(m, s^2)), `kl` with the two laws exchanged, in nats."""
    return kl(M, S, m, s)


def chi2(m, s, M, S):
    r"""Pearson :math:`\chi^2(\mu|\nu) = \int (d\mu/d\nu)^2 d\nu - 1` of product Gaussians.

    .. math:: \chi^2 + 1 = \prod_i \frac{S^2}{s\sqrt{2S^2 - s^2}} \exp\frac{(m-M)^2}{2S^2 - s^2}

    and infinity where some s^2 >= 2 S^2; completing the square gives the formula.
    """
    m, s, M, S = _products(m, s, M, S)
    gap = 2 * S**2 - s**2
    safe = np.where(gap > 0, gap, 1.0)
    log = 2 * np.log(S) - np.log(s) - np.log(safe) / 2 + (m - M) ** 2 / safe
    return np.where((gap > 0).all(-1), np.expm1(np.where(gap > 0, log, 0.0).sum(-1)), np.inf)


def js(m, s, M, S):
    r"""Jensen-Shannon divergence :math:`\tfrac12 KL(\mu|\rho) + \tfrac12 KL(\nu|\rho)`, rho = (mu + nu)/2.

    In nats, to 1e-11, for laws of any widths (`gwf.exact.shannon`); d = 1 or 2 (else `UsageError`), no batch axis.
    """
    m, s, M, S = _products(m, s, M, S)
    if m.ndim > 1 or m.size > 2:
        raise UsageError(f"js takes one pair of laws with d = 1 or 2, got shape {m.shape}")
    return jensen_shannon(m, s, M, S)


DIVERGENCES = {"kl": kl, "reverse_kl": reverse_kl, "chi2": chi2, "js": js}


def jko_step(m, s, M, S, tau):
    r"""One exact JKO step for KL(. | N(M, S^2)) from N(m, s^2), coordinate by coordinate: (m', s').

    .. math:: m' = M + g (m - M), \quad s' = \tfrac12 \big( g s + \sqrt{g^2 s^2 + 4 \tau g} \big), \quad
              g = \frac{1}{1 + \tau / S^2}

    The minimiser over *all* laws (it is Gaussian). Source: jko for the step, formula derived here.
    """
    tau = _tau(tau)
    m, s, M, S = np.asarray(m, dtype=np.float64), _std(s, "s"), np.asarray(M, dtype=np.float64), _std(S, "S")
    g, tau_g = 1 / (1 + tau / S**2), 1 / (1 / tau + 1 / S**2)
    return M + g * (m - M), (g * s + np.hypot(g * s, 2 * np.sqrt(tau_g))) / 2


def step_with_latent(m, s, r, M, S, tau, matched=True):
    r"""One exact step (m', s', r') for KL(. | N(M, S^2)) of a generator T(x, z) = m + s x + r z with a latent z.

    x, z ~ N(0, 1) independent; all arguments are floats, s, S > 0, r >= 0. The proximal term is
    E|T(x, z) - T_k(x, z')|^2 / (2 tau) with z' = z (`matched`), or with z' independent of z as in sjko's algorithm.
    Matched: (s, r) are scaled by one factor, so r/s stays for ever, and the deviation sqrt(s^2 + r^2) makes the JKO
    step. Independent: r' = 0, and s alone makes it. Derived here (chapter sjko, section 6).
    """
    now = math.hypot(s, r) if matched else s
    m_next, s_next = jko_step(m, now, M, S, tau)
    ratio = float(s_next) / now
    return float(m_next), ratio * s, ratio * r if matched else 0.0


def jko_sequence(m, s, M, S, tau, steps):
    """The exact JKO sequence mu_0, ..., mu_steps for KL: arrays `m, s` (steps + 1, d); see `jko_step`."""
    m, s, M, S = _products(m, s, M, S)
    sequence = [(m, s)]
    for _ in range(whole(steps, 0, 10_000, "steps")):
        sequence.append(jko_step(*sequence[-1], M, S, tau))
    means, stds = zip(*sequence, strict=True)
    return np.stack(means), np.stack(stds)


def jko_objective(m_next, s_next, m, s, M, S, tau, divergence="kl"):
    """D(mu | nu) + W_2^2(mu, N(m, s^2)) / (2 tau), (...), at mu = N(m_next, s_next^2); D: its name in `DIVERGENCES`."""
    D = DIVERGENCES[nearest(divergence, DIVERGENCES, "divergence")]
    return D(m_next, s_next, M, S) + w2(m_next, s_next, m, s) ** 2 / (2 * _tau(tau))


def jko_residual(m_next, s_next, m, s, M, S, tau):
    r"""Gradient of `jko_objective` (KL) in (m', s'), zero exactly at the JKO step.

    .. math:: \frac{m'-m}{\tau} + \frac{m'-M}{S^2}, \qquad \frac{s'-s}{\tau} + \frac{s'}{S^2} - \frac1{s'}
    """
    tau = _tau(tau)
    m_next, s_next, m, s, M, S = (np.asarray(a, dtype=np.float64) for a in (m_next, s_next, m, s, M, S))
    return (m_next - m) / tau + (m_next - M) / S**2, (s_next - s) / tau + s_next / S**2 - 1 / s_next


def jko_step_within(divergence, m, s, M, S, tau):
    """JKO step (m', s') for a divergence in `DIVERGENCES` among product Gaussians (d,), by numerical minimisation.

    For KL this is the exact step; for chi2 and JS ("js" for d <= 2 only) the minimiser over all laws need not be
    Gaussian. BFGS in ((m - M) / S, log s / S), gradients by central differences: about eight digits, in units of S.
    `RuntimeError` if no search ends where the gradient vanishes.
    """
    m, s, M, S = _products(m, s, M, S)
    d = m.size

    def objective(u):
        # A finite ceiling: chi2 can be infinite, and differences of infinities would poison the line search.
        return min(jko_objective(M + S * u[:d], S * np.exp(u[d:]), m, s, M, S, tau, divergence), 1e12)

    # In units of the target, of which the divergence is free; from the source, or where that fails from the target.
    slopes = []
    for start in (np.concatenate([(m - M) / S, np.log(s / S)]), np.zeros(2 * d)):
        if objective(start) < 1e12:
            found = minimize(objective, start, jac="3-point", method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
            slopes.append(np.abs(found.jac).max())
            # A large cost has gradients that round at its own size.
            if slopes[-1] <= 1e-5 * max(1.0, abs(found.fun)):
                return M + S * found.x[:d], S * np.exp(found.x[d:])
    raise RuntimeError(f"no minimiser found for {divergence}, tau = {tau}: gradients {slopes}")


def moreau_envelope(divergence, m, s, M, S, eps):
    r"""Envelope :math:`F_\epsilon(\mu) = \min_\eta W_2^2(\mu, \eta) + \epsilon D(\eta|\nu)`, eta a product Gaussian.

    With eps = 2 tau the value, a float, is 2 tau times that of the JKO step and the minimiser is the same; one explicit
    step :math:`(m, s) - \gamma \nabla F_\epsilon` with gamma = 1/2 lands on it (gwf, Proposition 3.2).
    """
    in_range(eps, 0, math.inf, "eps", open_low=True)
    m_next, s_next = jko_step_within(divergence, m, s, M, S, eps / 2)
    return float(eps * jko_objective(m_next, s_next, m, s, M, S, eps / 2, divergence))


def optimal_critic(m, s, M, S):
    """q = 1/S^2 - 1/s^2 and r = m/s^2 - M/S^2 of the KL critic h = log dmu/dnu = sum_i q_i y_i^2/2 + r_i y_i + const."""
    m, s, M, S = (np.asarray(a, dtype=np.float64) for a in (m, s, M, S))
    return 1 / S**2 - 1 / s**2, m / s**2 - M / S**2


def dual_value(q, r, m, s, M, S, tau):
    r"""The JKO step read as sup over critics of inf over maps, at the critic h(y) = sum q y^2/2 + r y.

    .. math:: \int \min_y \Big[ \frac{|x-y|^2}{2\tau} + h(y) \Big] d\mu_k(x) - \log \int e^h d\nu

    The inner minimiser y = (x - tau r)/(1 + tau q) needs q > -1/tau, the normaliser q < 1/S^2; outside this range the
    value is -inf. At `optimal_critic` of the JKO step it equals the primal value `jko_objective` (gwf, Proposition 3.1,
    in Donsker-Varadhan form); elsewhere it is smaller. Arguments (d,), tau finite, returns a float.
    """
    in_range(tau, 0, 1e300, "tau", open_low=True)
    m, s, M, S = _products(m, s, M, S)
    q, r = np.broadcast_to(q, m.shape), np.broadcast_to(r, m.shape)
    slack = 1 - q * S**2
    if (slack <= 0).any() or (1 + tau * q <= 0).any():
        return -np.inf
    inner = (q * (m**2 + s**2) / 2 + r * m - tau * r**2 / 2) / (1 + tau * q)
    normaliser = -np.log(slack) / 2 + q * M**2 / 2 + r * M + (q * M + r) ** 2 * S**2 / (2 * slack)
    return float((inner - normaliser).sum())


def ou_flow(m, s, M, S, t):
    r"""Exact Wasserstein gradient flow of KL(. | N(M, S^2)) from N(m, s^2), the Ornstein-Uhlenbeck process.

    .. math:: m(t) = M + e^{-t/S^2}(m - M), \qquad s(t)^2 = S^2 + e^{-2t/S^2}(s^2 - S^2)

    the law of dX = -(X - M)/S^2 dt + sqrt(2) dW at time t >= 0, the limit tau -> 0 of the JKO sequence at t/tau (jko).
    """
    m, s, M, S = (np.asarray(a, dtype=np.float64) for a in (m, s, M, S))
    decay = np.exp(-real(t, "t", 0, math.inf) / S**2)
    return M + decay * (m - M), np.sqrt(S**2 + decay**2 * (s**2 - S**2))


def symmetric(C, name):
    """C (d, d) in float64, symmetric to the last bit; `UsageError` if it was not to ten digits."""
    C = np.asarray(C, dtype=np.float64)
    if C.ndim != 2 or C.shape[0] != C.shape[1] or not np.allclose(C, C.T, rtol=1e-10, atol=1e-12):
        raise UsageError(f"{name} must be a symmetric (d, d) matrix, got shape {C.shape}")
    return (C + C.T) / 2


def power(C, exponent, name="covariance"):
    """C ** exponent of a symmetric matrix, through eigh; negative eigenvalues of rounding size count as 0."""
    w, V = np.linalg.eigh(symmetric(C, name))
    if w[0] < -1e-10 * abs(w[-1]) or (exponent < 0 and w[0] <= 0):
        kind = "positive definite" if exponent < 0 else "positive semi-definite"
        raise UsageError(f"{name} must be {kind}, its least eigenvalue is {w[0]:.3g}")
    return (V * np.maximum(w, 0.0) ** exponent) @ V.T


def two_laws(m_0, C_0, m_1, C_1, definite, names):
    """Means (d,), eigenvalues (d,) and eigenvectors (d, d) of two covariances: m_0, w_0, V_0, m_1, w_1, V_1.

    `UsageError` unless all are of one size d >= 1 and the covariances, called `names`, are symmetric and positive definite
    where `definite`, semi-definite elsewhere. There d eps times the greatest eigenvalue, of rounding, counts as 0.
    """
    means, found = [real(m, "means") for m in (m_0, m_1)], []
    for m, C, name, positive in zip(means, (C_0, C_1), names, definite, strict=True):
        C = real(C, name)
        if C.shape != 2 * means[0].shape or m.shape != means[0].shape or m.ndim != 1 or not m.size:
            raise UsageError(
                f"{name} {C.shape} and a mean {m.shape} are of several sizes: they must be (d, d) and (d,)"
            )
        if np.abs(C - C.T).max() > 1e-10 * np.abs(C).max():
            raise UsageError(f"{name} must be symmetric")
        w, V = np.linalg.eigh((C + C.T) / 2)
        if (w[0] <= 0) if positive else (w[0] < -1e-10 * abs(w[-1])):
            kind = "definite" if positive else "semi-definite"
            raise UsageError(f"{name} must be positive {kind}, its least eigenvalue is {w[0]:.3g}")
        found += [m, w if positive else np.where(w > w.size * np.finfo(float).eps * w[-1], w, 0.0), V]
    return found


def w2_cov(m_0, C_0, m_1, C_1):
    r"""Wasserstein distance of Gaussians (Bures), a float; their covariances may be singular. Source: gelbrich.

    .. math:: W_2^2 = |m_0 - m_1|^2 + \operatorname{tr}\big(C_0 + C_1 - 2 (C_0^{1/2} C_1 C_0^{1/2})^{1/2}\big)
              = |m_0 - m_1|^2 + \min_{Q^T Q = I} |L_0 - L_1 Q|^2, \qquad L_i L_i^T = C_i

    in the second form, where nothing cancels: Q = U V^T for the singular vectors of L_1^T L_0 = U s V^T.
    """
    m_0, w_0, V_0, m_1, w_1, V_1 = two_laws(m_0, C_0, m_1, C_1, (False, False), ("C_0", "C_1"))
    L_0, L_1 = V_0 * np.sqrt(w_0), V_1 * np.sqrt(w_1)
    U, _, Vt = np.linalg.svd(L_1.T @ L_0)
    return float(np.hypot(np.linalg.norm(m_0 - m_1), np.linalg.norm(L_0 - L_1 @ (U @ Vt))))


def monge_matrix(C_0, C_1):
    r"""Matrix of the optimal map between Gaussians, x -> m_1 + T (x - m_0); C_1 may be singular.

    .. math:: T = C_0^{-1/2} (C_0^{1/2} C_1 C_0^{1/2})^{1/2} C_0^{-1/2}

    symmetric, positive semi-definite, with T C_0 T = C_1.
    """
    root, inverse = power(C_0, 0.5, "C_0"), power(C_0, -0.5, "C_0")
    return inverse @ power(root @ symmetric(C_1, "C_1") @ root, 0.5) @ inverse


def fitted_map(x, y, ridge=0.0):
    """T(z) = m(y) + M (z - m(x)), the optimal map of the Gaussians with the moments of the samples x, y (n, d).

    `ridge` I is added to both covariances. If it is 0 and y = A x + c with A symmetric positive definite, T is that map.
    """
    in_range(ridge, 0, np.inf, "ridge")
    C_x, C_y = (np.cov(t.T, bias=True) + ridge * np.eye(t.shape[1]) for t in (x, y))
    M, m_x, m_y = monge_matrix(C_x, C_y), x.mean(0), y.mean(0)
    return lambda z: m_y + (z - m_x) @ M


def kl_cov(m, C, M, Sigma):
    r"""KL(N(m, C) | N(M, Sigma)) in nats, a float.

    .. math:: \tfrac12 \big[ \operatorname{tr}(\Sigma^{-1} C) + (m-M)^T \Sigma^{-1} (m-M) - d + \log\det(\Sigma C^{-1}) \big]
    """
    m, w, V, M, S, U = two_laws(m, C, M, Sigma, (True, True), ("C", "Sigma"))
    trace, gap = ((U.T @ V) ** 2 * w / S[:, None]).sum(), ((U.T @ (m - M)) ** 2 / S).sum()
    return float(trace + gap - m.size + np.log(S).sum() - np.log(w).sum()) / 2


def jko_step_cov(m, C, M, Sigma, tau):
    r"""One exact JKO step for KL(. | N(M, Sigma)) from N(m, C), (m', C' = T C T); the covariances need not commute.

    With A = I/tau + Sigma^{-1} the minimiser is the image of N(m, C) under x -> m' + T (x - m), where
    A m' = m/tau + Sigma^{-1} M and T is the positive root of T A T - T/tau - C^{-1} = 0:

    .. math:: T = A^{-1/2} Z A^{-1/2}, \qquad
              Z = \tfrac{1}{2\tau} I + \big(\tfrac{1}{4\tau^2} I + A^{1/2} C^{-1} A^{1/2}\big)^{1/2}

    T is symmetric positive definite, hence the Monge map. When C and Sigma commute this is `jko_step` in their common
    eigenbasis. Derived here (chapter jko_gaussian). No covariance is inverted: with A^{-1/2} C^{1/2} = U p W^T, its singular
    values p, A^{1/2} C' A^{1/2} = U q^2 U^T with q = p/(2 tau) + (p^2/(4 tau^2) + 1)^{1/2}.
    """
    tau = _tau(tau)
    m, w, V, M, S, B = two_laws(m, C, M, Sigma, (True, True), ("C", "Sigma"))
    inverse = 1 / (1 / tau + 1 / S)
    root = (B * np.sqrt(inverse)) @ B.T
    U, p, _ = np.linalg.svd(root @ (V * np.sqrt(w)))
    F = root @ U * (p / tau + np.hypot(p / tau, 2)) / 2
    return M + B @ (B.T @ (m - M) * (inverse / tau)), F @ F.T
