r"""The smallest game between a map and a critic, with the JKO step's anchor: linear, so that a phase is a matrix.

L(theta, psi) = theta psi - (rho / 2) psi^2 + (theta - theta_k)^2 / (2 tau),
theta' = -dL/dtheta,    psi' = dL/dpsi,    theta_k <- theta at the end of every phase of length s.
"""

import math

import numpy as np
from scipy.linalg import expm


def game(rho):
    """Matrix (2, 2) of the game without an anchor, d(theta, psi)/dt = G (theta, psi)."""
    return np.array([[0.0, -1.0], [1.0, -rho]])


def phase(rho, tau, s):
    """Matrix (2, 2) that one phase of length s applies to (theta, psi); tau = inf is play without a proximal term."""
    if math.isinf(tau):
        return expm(game(rho) * s)
    pull = np.diag([1 / tau, 0.0])
    within = game(rho) - pull  # theta_k enters as a constant force, pull (theta_k, 0)
    return expm(within * s) + np.linalg.solve(within, expm(within * s) - np.eye(2)) @ pull


def rate(rho, tau, s):
    """Exponential rate at which the game approaches its solution (0, 0), per unit of time: -log(spectral radius) / s."""
    return -math.log(abs(np.linalg.eigvals(phase(rho, tau, s))).max()) / s


def played(rho, tau, s, phases, step):
    """(theta, psi) from (1, 0) after so many phases of alternating gradient steps of length `step`, as a loop does them."""
    theta, psi = 1.0, 0.0
    for _ in range(phases):
        anchor = theta
        for _ in range(round(s / step)):
            psi += step * (theta - rho * psi)
            theta -= step * (psi + (theta - anchor) / tau)
    return np.array([theta, psi])
