"""Ornstein-Uhlenbeck processes: the error that exact JKO steps make, and the published targets."""

import numpy as np

from gwf.exact import gaussian


def spd_targets(d, n, draw):
    """n targets N(b, Sigma) of JKO-ICNN: offsets -U^T b (n, d) and eigenvalues (n, d) of Sigma in its eigenbasis.

    Sigma as scikit-learn's `make_spd_matrix`: A uniform, A^T A = U . V^T, Sigma = U (1 1^T + diag(u)) V^T with u uniform.
    """
    A = draw.random((n, d, d))
    U, _, V = np.linalg.svd(np.swapaxes(A, 1, 2) @ A)
    Sigma = U @ (1 + np.eye(d) * draw.random((n, 1, d))) @ V
    eigenvalues, basis = np.linalg.eigh((Sigma + np.swapaxes(Sigma, 1, 2)) / 2)
    return -np.einsum("nij,ni->nj", basis, draw.normal(size=(n, d))), eigenvalues


def rotated_targets(d, n, draw):
    """n targets of VWGF: means N(0, I), eigenvalues uniform on [.5, 1]; rotations do not matter from N(0, I)."""
    return -draw.normal(size=(n, d)), draw.uniform(0.5, 1, (n, d))


def floor(offset, eigenvalues, tau, t):
    """Mean over targets of log10 SymKL between t/tau exact JKO steps and the exact law at t, both from N(offset, I) to 0.

    offset, eigenvalues (n, d); SymKL is the sum of both directions, in nats.
    """
    S = np.sqrt(eigenvalues)
    m, s = offset, np.ones_like(S)
    for _ in range(round(t / tau)):
        m, s = gaussian.jko_step(m, s, 0.0, S, tau)
    exact = gaussian.ou_flow(offset, 1.0, 0.0, S, t)
    return float(np.log10(gaussian.kl(m, s, *exact) + gaussian.kl(*exact, m, s)).mean())
