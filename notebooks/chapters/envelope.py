r"""The JKO step as an explicit step on a smoother functional, the W_2-Moreau envelope.

    F_eps(mu) = min_eta W_2^2(mu, eta) + eps D(eta | nu),           eps > 0.

Its Wasserstein gradient at mu is eps grad phi, with phi the Kantorovich potential from mu to the minimiser eta* for
the cost |x - y|^2 / eps, and the optimal map is x -> x - (eps / 2) grad phi(x). So the explicit step

    x  ->  x - gamma * (Wasserstein gradient of F_eps at mu)(x)

with gamma = 1/2 and eps = 2 tau carries mu onto eta*, the JKO step, and with no other gamma it does (gwf, lemma F.2
and proposition 3.2). Three settings in which this can be computed: Gaussians, laws on the line by their quantiles, and
laws on a grid through the linear programme of transport. Chapter: `unifying`.
"""

import numpy as np
from scipy.linalg import solveh_banded

from gwf.errors import UsageError, in_range
from gwf.exact import gaussian


def gaussian_step(divergence, m, s, M, S, eps, gamma=0.5, delta=2e-4):
    r"""Explicit step on F_eps among product Gaussians, in the coordinates (m, s) where W_2 is Euclidean.

    The gradient is taken by central differences of the envelope's *value*, so nothing is assumed about it.

    Parameters
    ----------
    divergence : str
        A name in `gwf.exact.gaussian.DIVERGENCES`.
    m, s, M, S : array_like (d,)
        Means and standard deviations of mu and nu.
    eps, gamma, delta : float
        eps = 2 tau; step of the descent; half width of the differences.

    Returns
    -------
    m', s' : ndarrays (d,)
        (m, s) - gamma * gradient; at gamma = 1/2 the minimiser of the envelope, up to about 1e-7.
    """
    u = np.concatenate([np.atleast_1d(m), np.atleast_1d(s)]).astype(float)
    d = u.size // 2

    def envelope(v):
        return gaussian.moreau_envelope(divergence, v[:d], v[d:], M, S, eps)

    gradient = np.array([(envelope(u + e) - envelope(u - e)) / (2 * delta) for e in delta * np.eye(2 * d)])
    u = u - gamma * gradient
    return u[:d], u[d:]


class KLOnQuantiles:
    r"""KL(. | nu) on laws of the line, each given by n values of its quantile function.

    q_i is the quantile at level (i - 1/2) / n. On the line W_2^2(q, q') = (1/n) sum_i (q_i - q_i')^2, so that the space of
    laws is flat and a JKO step is a proximal step in R^n. For nu with density proportional to e^{-V},

        KL(q) = (1/n) sum_i V(q_i) - (1/n) sum_i log( n (q_{i+1} - q_i) ) + const,

    the entropy written with the differences of quantiles (n - 1 of them).

    Parameters
    ----------
    V, dV, ddV : callables
        The potential and its first two derivatives, elementwise on arrays.
    """

    def __init__(self, V, dV, ddV):
        self.V, self.dV, self.ddV = V, dV, ddV

    def value(self, q):
        """KL up to the constant, or infinity if q is not increasing."""
        gaps = np.diff(q)
        if (gaps <= 0).any():
            return np.inf
        return (self.V(q).sum() - np.log(len(q) * gaps).sum()) / len(q)

    def prox(self, q, eps, iterations=200):
        r"""(eta*, F_eps(q)): the minimiser of (1/n) |q - q'|^2 + eps KL(q') and the value there.

        Damped Newton; the Hessian is tridiagonal. Where V is not convex the minimiser is a local one, reached downhill
        from q. Raises `UsageError` for q that is not increasing, `RuntimeError` if Newton does not converge.
        """
        q, eps = np.asarray(q, dtype=float), in_range(eps, 0, np.inf, "eps", open_low=True)
        n, eta = len(q), np.array(q, dtype=float)
        if (np.diff(q) <= 0).any():
            raise UsageError("q must be increasing: it holds the values of a quantile function")

        def objective(eta):
            return ((eta - q) ** 2).sum() / n + eps * self.value(eta)

        for _ in range(iterations):
            pull = 1 / np.diff(eta)
            g = 2 * (eta - q) + eps * self.dV(eta)
            g[:-1] += eps * pull
            g[1:] -= eps * pull
            if np.abs(g).max() <= 1e-12 * (1 + eps * pull.max()):
                return eta, objective(eta)
            step, length = -_newton(g, eps * self.ddV(eta), eps * pull**2), 1.0
            slack = 1e-15 * (1 + abs(objective(eta)))
            while objective(eta + length * step) > objective(eta) + 1e-4 * length * (g @ step) / n + slack:
                length /= 2
                if length < 1e-10:
                    raise RuntimeError(f"no descent: gradient {np.abs(g).max():.2g}")
            eta = eta + length * step
        raise RuntimeError(f"no minimiser after {iterations} Newton steps: gradient {np.abs(g).max():.2g}")

    def explicit_step(self, q, eps, gamma=0.5, delta=1e-5):
        """q - gamma * gradient of F_eps in L2(0, 1), by central differences of the value; (n,)."""
        q = np.asarray(q, dtype=float)
        moved = delta * np.eye(len(q))
        slopes = [(self.prox(q + e, eps)[1] - self.prox(q - e, eps)[1]) / (2 * delta) for e in moved]
        # A partial derivative is 1/n of the L2(0, 1) gradient, whose inner product is the mean over levels.
        return q - gamma * len(q) * np.array(slopes)


def _newton(g, bend, pull2):
    """H^-1 g for the tridiagonal Hessian of the prox; `bend` = eps V'' is cut at 0 where H would not be positive."""
    bands = np.zeros((2, len(g)))
    bands[0, 1:] = -pull2
    for curvature in (bend, np.maximum(bend, 0)):
        bands[1] = 2 + curvature
        bands[1, :-1] += pull2
        bands[1, 1:] += pull2
        try:
            return solveh_banded(bands, g)
        except np.linalg.LinAlgError:
            continue
    raise RuntimeError("the Hessian of the prox has no Cholesky factor")


def potential(x, a, y, b, eps):
    r"""Kantorovich potential phi on x for the cost |x - y|^2 / eps, from the linear programme of transport (d = 1).

    The dual variables of POT's network simplex are unique only up to slack at the atoms; phi is made regular by one
    c-transform, phi(x) = min_y |x - y|^2 / eps - psi(y), which keeps it optimal and extends it to every x.

    Parameters
    ----------
    x, a : array_like (n,)
        Points and weights (positive, sum 1) of mu.
    y, b : array_like (m,)
        Points and weights of eta.
    eps : float
        Positive.

    Returns
    -------
    callable
        phi, from an array of points to an array of values.
    """
    import ot

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    eps = in_range(eps, 0, np.inf, "eps", open_low=True)
    _, log = ot.emd(np.asarray(a), np.asarray(b), (x[:, None] - y) ** 2 / eps, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the network simplex did not reach the optimum: {log['warning']}")

    def phi(at):
        return ((np.asarray(at)[:, None] - y) ** 2 / eps - log["v"]).min(1)

    return phi


def potential_step(x, phi, eps, gamma=0.5, delta=0.05):
    """x - gamma eps phi'(x), (n,): the explicit step on F_eps by the potential phi, differences of half width delta."""
    x = np.asarray(x, dtype=float)
    return x - gamma * eps * (phi(x + delta) - phi(x - delta)) / (2 * delta)
