r"""Aggregation-diffusion equations: closed forms for Gaussians, and solvers on the line (numpy, float64).

    F(mu) = eps int mu log mu + (1/2) iint W(x - y) dmu(x) dmu(y),   d mu/dt = eps Lap mu + div(mu grad W * mu),

for an even interaction potential W. The JKO step of size tau is implicit in all of F; forward-backward splitting
pushes the particles by -tau grad W * mu_k and is implicit in the entropy alone (vwgf, appendix C).

Three references for the learned schemes: `quadratic_*` for W(x) = |x|^2/2 and Gaussian laws, where only the standard
deviations move; `quantile_steps`, either scheme on the line without any network, by Newton's method on quantiles; and
`finite_volumes`, the equation itself on the line. All derived here, the fluxes after Scharfetter and Gummel.
"""

import numpy as np
from scipy.linalg import solve
from scipy.special import exprel

from gwf.errors import UsageError, in_range, nearest

SCHEMES = ("split", "unsplit")


class Quadratic:
    """W(x) = |x|^2 / 2: attraction growing with the distance, convex."""

    def value(self, z):
        """W at displacements z on the line, any shape."""
        return z**2 / 2

    def slope(self, z):
        """W'."""
        return z

    def curvature(self, z):
        """W''."""
        return np.ones_like(z)


class DoubleWell:
    """W(x) = |x|^4/4 - |x|^2/2: attraction from afar, repulsion within distance 1; W'' = -1 at 0."""

    def value(self, z):
        """W at displacements z on the line, any shape."""
        return z**4 / 4 - z**2 / 2

    def slope(self, z):
        """W'."""
        return z**3 - z

    def curvature(self, z):
        """W''."""
        return 3 * z**2 - 1


KERNELS = {"quadratic": Quadratic(), "double_well": DoubleWell()}


def quadratic_step(s, eps, tau, scheme):
    r"""Standard deviation after one step from s, per coordinate, for W = |x|^2/2.

    The interaction energy is half the variance. Split: push s to u = (1 - tau) s, then (s' - u)/tau = eps/s'.
    Unsplit: (s' - s)/tau = eps/s' - s'. Both have the minimiser of F, s^2 = eps, as their fixed point.
    """
    nearest(scheme, SCHEMES, "scheme")
    in_range(tau, 0, np.inf, "tau", open_low=True)
    if scheme == "split":
        in_range(tau, 0, 1, "tau of the explicit push")
        u, a = (1 - tau) * np.asarray(s, dtype=np.float64), 1.0
    else:
        u, a = np.asarray(s, dtype=np.float64), 1 + tau
    return (u + np.sqrt(u**2 + 4 * eps * tau * a)) / (2 * a)


def quadratic_flow(s, eps, t):
    r"""Standard deviation at time t of the flow itself: :math:`s(t)^2 = eps + e^{-2t}(s^2 - eps)`."""
    return np.sqrt(eps + np.exp(-2 * np.asarray(t)) * (np.asarray(s, dtype=np.float64) ** 2 - eps))


def quantile_steps(x, kernel, eps, tau, K, scheme):
    r"""K steps of either scheme on the line, without networks.

    A law is given by its quantiles x_1 < ... < x_n at levels (i - 1/2)/n, in which W_2 is Euclidean, and

        F(x) = -(eps/n) sum_i log(n (x_{i+1} - x_i)) + (1/(2 n^2)) sum_ij W(x_i - x_j).

    Each step is minimised by Newton's method with halving, to moves below 1e-9.

    Parameters
    ----------
    x : array_like (n,), strictly increasing, else `UsageError`
    kernel : Quadratic or DoubleWell
    scheme : {"split", "unsplit"}

    Returns
    -------
    ndarray (K + 1, n)
    """
    nearest(scheme, SCHEMES, "scheme")
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1 or not (np.diff(x) > 0).all():
        raise UsageError("x must be a strictly increasing array of quantiles")
    path = [x]
    for _ in range(K):
        x = path[-1]
        if scheme == "split":
            pushed = x - tau * kernel.slope(x[:, None] - x).mean(1)
            path.append(_newton(pushed, None, eps, tau))
        else:
            path.append(_newton(x, kernel, eps, tau))
    return np.array(path)


def _newton(anchor, kernel, eps, tau):
    """argmin of |x - anchor|^2/(2 tau n) + F(x), times n, started at the sorted anchor."""
    n = len(anchor)

    def objective(x):
        gaps = np.diff(x)
        if gaps.min() <= 0:
            return np.inf
        pairs = 0 if kernel is None else kernel.value(x[:, None] - x).sum() / (2 * n)
        return ((x - anchor) ** 2).sum() / (2 * tau) - eps * np.log(gaps).sum() + pairs

    x = np.sort(anchor)
    for _ in range(100):
        inverse = 1 / np.diff(x)
        gradient = (x - anchor) / tau
        gradient[:-1] += eps * inverse
        gradient[1:] -= eps * inverse
        square = eps * inverse**2
        hessian = np.diag(1 / tau + np.append(square, 0) + np.insert(square, 0, 0))
        hessian -= np.diag(square, 1) + np.diag(square, -1)
        if kernel is not None:
            z = x[:, None] - x
            gradient += kernel.slope(z).mean(1)
            bend = kernel.curvature(z) / n
            hessian += np.diag(bend.sum(1)) - bend
        move, length, before = solve(hessian, gradient, assume_a="sym"), 1.0, objective(x)
        if np.abs(move).max() < 1e-9:
            return x
        while objective(x - length * move) > before + 1e-12 * abs(before) and length > 1e-8:
            length /= 2
        x = x - length * move
    raise UsageError(f"Newton's method did not converge for tau = {tau}: the step is too long for this kernel")


def finite_volumes(density, kernel, eps, times, half_width, cells):
    r"""The equation on [-half_width, half_width] with no flux at the ends, from a density function.

    Explicit, conservative and positive: Scharfetter-Gummel fluxes eps/dx [B(-q) mu_i - B(q) mu_{i+1}] with
    q = v dx/eps, B(q) = q/(e^q - 1) and v = -(W' * mu) at the interface, exact where v is constant; second order in
    dx, first in dt, which is kept under half the stability limit.

    Parameters
    ----------
    density : callable, x (cells,) -> (cells,)
    times : array_like, increasing, starting at 0
    half_width, cells : float, int

    Returns
    -------
    x (cells,), mu (len(times), cells) with sum(mu) dx = 1
    """
    in_range(eps, 0, np.inf, "eps", open_low=True)
    edges = np.linspace(-half_width, half_width, cells + 1)
    x, dx = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    mu = density(x)
    mu = mu / (mu.sum() * dx)
    slope = kernel.slope(edges[1:-1, None] - x) * dx
    path, now = [], 0.0
    for time in times:
        while now < time:
            q = -(slope @ mu) * dx / eps
            dt = min(0.5 * dx**2 / (eps * (2 + np.abs(q).max())), time - now)
            flux = eps / dx * (mu[:-1] / exprel(-q) - mu[1:] / exprel(q))
            mu = mu - dt / dx * np.diff(flux, prepend=0, append=0)
            now = time if time - now <= dt else now + dt
        path.append(mu)
    return x, np.array(path)


def quantiles_of(x, mu, levels):
    """Quantiles at `levels` of a density mu (cells,) on a uniform grid x, linear inside the cells."""
    dx = x[1] - x[0]
    cumulative = np.concatenate([[0], np.cumsum(mu) * dx])
    cumulative /= cumulative[-1]
    keep = np.insert(np.diff(cumulative) > 1e-15, 0, True)
    return np.interp(levels, cumulative[keep], np.append(x - dx / 2, x[-1] + dx / 2)[keep])
