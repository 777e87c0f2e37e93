r"""Exact implicit-Euler (JKO) steps of particles for half the squared MMD with a fixed Gaussian kernel.

For k(x, y) = exp(-|x - y|^2 / (2 s^2)) and particles x_1..x_n, data y_1..y_m, both with equal weights,

.. math:: F(x) = \tfrac12 \mathrm{MMD}_k^2 = \frac{1}{2n^2} \sum_{ij} k(x_i, x_j) - \frac{1}{nm} \sum_{ij} k(x_i, y_j)
          + \frac{1}{2m^2} \sum_{ij} k(y_i, y_j)

and its Wasserstein gradient at x_i is that of the witness f(z) = int k(z, .) dmu - int k(z, .) dnu, which is n times the
gradient of F in x_i. No critic is trained: the witness is known. Source: gwf, section 4 (algorithm 1).
"""

import numpy as np
from scipy.optimize import minimize, root

from gwf.errors import in_range


def _pairs(x, y, bandwidth):
    gap = x[:, None, :] - y[None, :, :]
    return np.exp(-(gap**2).sum(-1) / (2 * bandwidth**2)), gap


def half_mmd2(x, y, bandwidth):
    """F of particles x (n, d) against y (m, d): pairs i = j included, so that F is the exact value of the two empirical laws."""
    in_range(bandwidth, 0, np.inf, "bandwidth", open_low=True)
    return float(
        (_pairs(x, x, bandwidth)[0].mean() + _pairs(y, y, bandwidth)[0].mean()) / 2 - _pairs(x, y, bandwidth)[0].mean()
    )


def witness_gradient(x, y, bandwidth):
    """grad f at the particles, (n, d): n times the gradient of `half_mmd2` in x. The flow is x' = -grad f(x)."""

    def mean_gradient(z):
        kernel, gap = _pairs(x, z, bandwidth)
        return -(kernel[..., None] * gap).mean(1) / bandwidth**2

    return mean_gradient(x) - mean_gradient(y)


def residual(x_next, x, y, tau, bandwidth):
    """(x_next - x)/tau + grad f(x_next), (n, d): zero exactly at an implicit Euler step."""
    return (x_next - x) / tau + witness_gradient(x_next, y, bandwidth)


def jko_step(x, y, tau, bandwidth):
    r"""One implicit step: a minimiser of F(x') + sum_i |x'_i - x_i|^2 / (2 tau n), reached downhill from x.

    F is not convex. The point found satisfies the first-order condition to 1e-8 and the energy inequality (both are checked,
    else `RuntimeError`); for small tau it is the only such point and the particles keep their optimal matching.

    Parameters
    ----------
    x, y : ndarray (n, d), (m, d)
    tau, bandwidth : float > 0

    Returns
    -------
    ndarray (n, d)
    """
    in_range(tau, 0, np.inf, "tau", open_low=True)
    n, shape = len(x), x.shape

    def objective(u):
        u = u.reshape(shape)
        value = n * half_mmd2(u, y, bandwidth) + ((u - x) ** 2).sum() / (2 * tau)
        return value, residual(u, x, y, tau, bandwidth).ravel()

    rough = minimize(
        objective, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-7, "ftol": 1e-15}
    )
    fine = root(lambda u: objective(u)[1], rough.x, tol=1e-12)
    best = fine.x if np.abs(objective(fine.x)[1]).max() < np.abs(objective(rough.x)[1]).max() else rough.x
    value, gradient = objective(best)
    if np.abs(gradient).max() > 1e-8 or value > n * half_mmd2(x, y, bandwidth) + 1e-12:
        raise RuntimeError(f"no step found for tau = {tau}: residual {np.abs(gradient).max():.2g}")
    return best.reshape(shape)
