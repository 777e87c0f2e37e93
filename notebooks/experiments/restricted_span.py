r"""The restricted divergence of a span of features, by linear algebra and Newton's method (numpy, float64).

For a class H of critics

    D_f^H(mu, nu) = sup_{h in H} { E_mu h - E_nu f*(h) }  <=  D_f(mu, nu),
    d_H(mu, nu)   = sup_{h in H} (E_mu h - E_nu h) / |h|_{L2(nu)}.

With H the span of features phi = (phi_1, ..., phi_p), and laws given by points and weights, both are finite problems:
D_f^H is a concave maximum in p coefficients, and d_H^2 = Delta^T M^+ Delta with Delta = E_mu phi - E_nu phi and
M = E_nu phi phi^T. What a trained critic can at best report is D_f^H, never D_f. Statements (vwgf, section 4), each
computed in notebooks/experiments/restricted.ipynb:

- constants in H: D_f^H >= 0;
- H closed under h -> c + s h: D_f^H = 0 exactly when all means over H agree (moment matching);
- H closed under h -> c + s h, f alpha-strongly convex and L-smooth on the whole line: (alpha/2) d_H^2 <= D_f^H <= (L/2) d_H^2 (sandwich), with equality for
  f = (u - 1)^2 on the whole line, alpha = L = 2. u log u on (0, inf) is neither, so this and the next do not cover the
  Kullback-Leibler experiments as run; `ClippedKL` has f'' = 1/u clipped to [alpha, L];
- f alpha-strongly convex on the whole line, the best critic f'(dmu/dnu) within delta of H in L2(nu): D_f^H >= D_f - delta^2/(2 alpha);
- particle JKO for Gaussians: `jko_bound`, `jko_particle_error`.
"""

import numpy as np

from gwf.bounds import Generator
from gwf.errors import UsageError, in_range

RANK = 1e-10  # combinations of features whose variance under nu is smaller than this share count as zero


class ClippedKL(Generator):
    """u log u - u + 1 made strongly convex and smooth: f'' = 1/u clipped to [alpha, L], on the whole line.

    f(1) = f'(1) = 0, and f is the Kullback-Leibler generator (up to an affine term) for u in [1/L, 1/alpha].
    Needs alpha < 1 < L.
    """

    def __init__(self, alpha, L):
        self.alpha = in_range(alpha, 1e-9, 1 - 1e-9, "alpha")
        self.L = in_range(L, 1 + 1e-9, 1e9, "L")

    def df(self, u):
        """log u between 1/L and 1/alpha, continued with slopes L and alpha."""
        low, high = 1 / self.L, 1 / self.alpha
        middle = np.log(np.clip(u, low, high))
        return middle + self.alpha * np.maximum(u - high, 0) + self.L * np.minimum(u - low, 0)

    def f(self, u):
        """By f(u) = u f'(u) - f*(f'(u))."""
        s = self.df(u)
        return u * s - self.conjugate(s)

    def conjugate(self, s):
        """exp(s) - 1 in the middle, parabolas outside."""
        e, above, below = self._parts(s)
        return e - 1 + (above * e + above**2 / (2 * self.alpha)) + (below * e + below**2 / (2 * self.L))

    def slope(self, s):
        """exp(s) in the middle, lines outside."""
        e, above, below = self._parts(s)
        return e + above / self.alpha + below / self.L

    def curvature(self, s):
        """exp(s) clipped to [1/L, 1/alpha]."""
        e, above, below = self._parts(s)
        return np.where(above > 0, 1 / self.alpha, np.where(below < 0, 1 / self.L, e))

    def _parts(self, s):
        """exp(s) at the nearest end of the middle, and how far s lies above and below it."""
        bottom, top = -np.log(self.L), -np.log(self.alpha)
        return np.exp(np.clip(s, bottom, top)), np.maximum(s - top, 0), np.minimum(s - bottom, 0)


def _moments(phi_mu, w_mu, phi_nu, w_nu):
    for phi, w, name in [(phi_mu, w_mu, "mu"), (phi_nu, w_nu, "nu")]:
        if phi.ndim != 2 or w.shape != (len(phi),) or abs(w.sum() - 1) > 1e-6:
            raise UsageError(f"features and weights of {name} must be (n, p) and (n,) with weights of sum 1")
    return w_mu @ phi_mu, w_nu @ phi_nu, phi_nu.T @ (w_nu[:, None] * phi_nu)


def _unseen(delta, M):
    """Whether some combination of features is 0 nu-almost everywhere, to rounding, and not in the mean under mu.

    A combination of variance eps under nu has values of 1e-8: means below ten times that do not count.
    """
    eigenvalues, V = np.linalg.eigh(M)
    largest = max(eigenvalues[-1], 0.0)
    null = eigenvalues <= 10 * len(M) * np.finfo(float).eps * largest
    return bool((np.abs(delta @ V[:, null]) > 1e-7 * np.sqrt(largest) + 1e-12 * np.abs(delta).max()).any())


def ipm_squared(phi_mu, w_mu, phi_nu, w_nu):
    r"""d_H^2 = Delta^T M^+ Delta of the span of the features.

    `phi_mu (n, p)`, `phi_nu (m, p)` are the features at the points of the two laws, `w_mu (n,)`, `w_nu (m,)` their
    weights, of sum 1 (else `UsageError`). Infinite where a combination of features vanishes nu-almost everywhere and has
    another mean under mu (`_unseen`).
    """
    b_mu, b_nu, M = _moments(phi_mu, w_mu, phi_nu, w_nu)
    delta = b_mu - b_nu
    if _unseen(delta, M):
        return np.inf
    return float(delta @ np.linalg.lstsq(M, delta, rcond=RANK)[0])


def restricted_divergence(f, phi_mu, w_mu, phi_nu, w_nu):
    r"""D_f^H(mu, nu) for the span of the features, by damped Newton on the coefficients.

    Parameters
    ----------
    f : gwf.bounds.Generator
    phi_mu, w_mu, phi_nu, w_nu
        As in `ipm_squared`.

    Returns
    -------
    value : float
    theta : ndarray (p,)
        Coefficients of the best critic.

    Raises
    ------
    UsageError
        If the supremum is infinite or not attained.
    """
    b_mu, b_nu, M = _moments(phi_mu, w_mu, phi_nu, w_nu)
    unbounded = UsageError("the restricted divergence is not attained: some critic of the class grows without bound")
    if _unseen(b_mu - b_nu, M):
        raise unbounded
    # In features orthonormal in L2(nu) the Hessian is E_nu f*'' phi phi^T, as well conditioned as f itself.
    eigenvalues, V = np.linalg.eigh(M)
    keep = eigenvalues > RANK * eigenvalues[-1]
    whiten = V[:, keep] / np.sqrt(eigenvalues[keep])
    b_mu, phi_nu = b_mu @ whiten, phi_nu @ whiten

    def value(theta):
        with np.errstate(over="ignore"):  # a step too far: minus infinity, and it is halved
            return b_mu @ theta - w_nu @ f.conjugate(phi_nu @ theta)

    theta = np.zeros(len(b_mu))
    for _ in range(500):
        h = phi_nu @ theta
        gradient = b_mu - phi_nu.T @ (w_nu * f.slope(h))
        hessian = phi_nu.T @ ((w_nu * f.curvature(h))[:, None] * phi_nu)
        move = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        decrement = gradient @ move
        # A slope without curvature: the critic runs to where the conjugate has underflowed, and on.
        if np.abs(hessian @ move - gradient).max() > 1e-6 * np.abs(gradient).max() + 1e-10:
            raise unbounded
        if decrement < 1e-12:
            return float(value(theta)), whiten @ theta
        length, now = 1.0, value(theta)
        while not value(theta + length * move) >= now + 0.1 * length * decrement and length > 1e-10:
            length /= 2
        theta = theta + length * move
    raise unbounded


def distance_to_span(h, phi_nu, w_nu):
    """Distance in L2(nu) of the function h (m,) from the span of the features phi_nu (m, p)."""
    root = np.sqrt(w_nu)[:, None]
    theta = np.linalg.lstsq(root * phi_nu, root[:, 0] * h, rcond=RANK**0.5)[0]
    return float(np.sqrt(w_nu @ (h - phi_nu @ theta) ** 2))


def jko_bound(K, tau, d, m_norm, N):
    r"""Bound on the objective error after K particle JKO steps towards N(m, I_d) with N samples each (vwgf, Prop. 4.5).

    .. math:: \Delta_K \sqrt{\xi} + \xi/2, \quad \Delta_K = |m| (1+\tau)^{-K}, \quad
              \xi = \Big(\frac{\tau}{1+\tau}\Big)^2 \frac dN \sum_{j=1}^K (1+\tau)^{-2(K-j)} + \frac dN
    """
    in_range(tau, 0, np.inf, "tau", open_low=True)
    in_range(N, 1, np.inf, "N")
    contraction = (1 + tau) ** -2.0
    xi = (tau / (1 + tau)) ** 2 * d / N * (1 - contraction**K) / (1 - contraction) + d / N
    return m_norm * (1 + tau) ** -K * np.sqrt(xi) + xi / 2


def jko_particle_error(K, tau, m, N, repeats, rng):
    r"""Mean error of the objective |a - m|^2/2 of K particle JKO steps, by simulation.

    Each step fits the mean with N fresh target samples, a_j = (a_{j-1} + tau mhat_j)/(1 + tau), a_0 = 0; the final law is
    represented by N more samples of its own. Without sampling the error would be Delta_K^2/2; the mean over repeats of the
    absolute difference is returned, and its standard error.
    """
    m = np.asarray(m, dtype=np.float64)
    a = np.zeros((repeats, m.size))
    for _ in range(K):
        a = (a + tau * (m + rng.standard_normal(a.shape) / np.sqrt(N))) / (1 + tau)
    a += rng.standard_normal(a.shape) / np.sqrt(N)
    exact = m @ m * (1 + tau) ** (-2.0 * K) / 2
    error = np.abs(((a - m) ** 2).sum(1) / 2 - exact)
    return float(error.mean()), float(error.std() / np.sqrt(repeats))
