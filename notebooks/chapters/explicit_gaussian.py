r"""Explicit flows between Gaussians in closed form: W2, its Euler steps on affine maps, Sinkhorn (numpy, float64).

The functional is F(mu) = D(mu, nu) with nu = N(m_1, C_1), and mu_t moves by the steepest descent of F. Three facts are
computed here, each by recomputing maps at every step, so that comparing with the closed form tests the theorem:

- F = W_2^2 / 2: mu_t is the geodesic at parameter 1 - e^{-t}, W_2(t) = e^{-t} W_2(0); a forward Euler step of size eps
  stays on the geodesic and multiplies W_2 by 1 - eps exactly.
- The same step made by J gradient steps of size lr on a frozen regression target, for an affine map of N(0, I), is an
  Euler step of size eps q_J with q_J = 1 - (1 - 2 lr)^J.
- F = the Sinkhorn divergence: entropic plans between Gaussians are Gaussian, the velocity is affine, and the
  covariance obeys an ordinary differential equation.

Sources by key: w2fe (flow, Euler scheme, persistency; the equalities are derived here), proposal (Sinkhorn flow, its 1/t
tail after M. Hardion, T. Lacombe), janati: H. Janati, B. Muzellec, G. Peyre, M. Cuturi, Entropic optimal transport between
unbalanced Gaussian measures has a closed form, NeurIPS 2020. Chapters `w2flow` and `explicit`.
"""

import math

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from gwf.errors import UsageError, in_range
from gwf.exact.gaussian import monge_matrix, power, symmetric


def _steps(value, steps, name):
    """A number, or one for each of `steps` steps, as an array (steps,)."""
    value = np.asarray(value, dtype=np.float64)
    if value.ndim and value.shape != (steps,):
        raise UsageError(f"{name} has shape {value.shape}: give one number, or {steps}, one for each step")
    return np.broadcast_to(value, (steps,))


# W2.


def displacement(m_0, C_0, m_1, C_1):
    r"""The W2 velocity V(x) = A x + b between Gaussians, V = -grad h with h the source's Kantorovich potential.

    .. math:: V(x) = t(x) - x = (T - I)(x - m_0) + m_1 - m_0, \qquad T = \text{monge\_matrix}(C_0, C_1)

    Parameters
    ----------
    m_0, m_1 : array_like (d,)
    C_0 : array_like (d, d), symmetric positive definite, else `UsageError`
    C_1 : array_like (d, d), symmetric positive semi-definite

    Returns
    -------
    A (d, d), b (d,)
    """
    T = monge_matrix(C_0, C_1)
    m_0, m_1 = np.asarray(m_0, dtype=np.float64), np.asarray(m_1, dtype=np.float64)
    return T - np.eye(len(T)), m_1 - T @ m_0


def released_displacement(m_0, C_0, m_1, C_1):
    r"""grad p at generated points, p the *data's* potential, as A x + b: the field of w2fe's released code, p exact.

    .. math:: \nabla p(x) = x - t^{-1}(x) = x - m_0 - T^{-1} (x - m_1)

    the displacement towards x of the data, evaluated off the data. It is V at nu only: on the line a standard deviation s
    goes to s (1 + eps (1 - s / S)) and the gap of the means shrinks by eps s / S. At eps = 1 that is Newton's iteration,
    whose error is squared, from s < 2 S; from s > 2 S it fails. Derived here. Arguments as in `displacement`; C_1 must be
    positive definite.
    """
    inverse = monge_matrix(C_1, C_0)
    m_0, m_1 = np.asarray(m_0, dtype=np.float64), np.asarray(m_1, dtype=np.float64)
    return np.eye(len(inverse)) - inverse, inverse @ m_1 - m_0


def _push(m, C, A, b, eps):
    """Mean and covariance of x + eps (A x + b), x of mean m and covariance C."""
    M = np.eye(len(A)) + eps * A
    C = M @ C @ M.T
    return m + eps * (A @ m + b), (C + C.T) / 2


def w2_flow(m_0, C_0, m_1, C_1, t):
    r"""The law mu_t of the flow of W_2^2(., N(m_1, C_1)) / 2 at time t >= 0 from N(m_0, C_0).

    .. math:: m(t) = e^{-t} m_0 + (1 - e^{-t}) m_1, \qquad C(t) = M C_0 M, \quad M = e^{-t} I + (1 - e^{-t}) T

    the constant-speed geodesic at parameter 1 - e^{-t}; hence W_2(mu_t, nu) = e^{-t} W_2(mu_0, nu). Arguments as in
    `displacement`; returns m(t), C(t). t = inf gives nu.
    """
    in_range(t, 0, math.inf, "t")
    return _push(
        np.asarray(m_0, dtype=np.float64), symmetric(C_0, "C_0"), *displacement(m_0, C_0, m_1, C_1), -math.expm1(-t)
    )


def w2_euler(m_0, C_0, m_1, C_1, eps, steps, velocity=displacement):
    r"""Forward Euler laws mu_0, ..., mu_steps: x <- x + eps_n V_n(x), V_n = `velocity`(mu_n, nu), computed at every step.

    The closed form, for the displacement, is W_2(mu_n, nu) = prod (1 - eps_n) W_2(mu_0, nu).

    Parameters
    ----------
    m_0, C_0, m_1, C_1 : as in `displacement`
    eps : float or array_like (steps,)
        In [0, 1]; 1 lands on nu.
    steps : int

    Returns
    -------
    means (steps + 1, d), covariances (steps + 1, d, d)
    """
    laws = [(np.asarray(m_0, dtype=np.float64), symmetric(C_0, "C_0"))]
    for e in _steps(eps, steps, "eps"):
        in_range(float(e), 0, 1, "eps")
        laws.append(_push(*laws[-1], *velocity(*laws[-1], m_1, C_1), e))
    return tuple(np.stack(part) for part in zip(*laws, strict=True))


def euler_factor(eps, steps):
    """W_2 after `steps` forward Euler steps over W_2 at the start: prod (1 - eps_n), a float; (1 - eps)^n for one eps."""
    return float(np.prod(1 - _steps(eps, steps, "eps")))


def implicit_factor(eps, steps):
    """The same for implicit (JKO) steps, prod 1 / (1 + eps_n): the step stops at eps / (1 + eps) of the geodesic."""
    return float(np.prod(1 / (1 + _steps(eps, steps, "eps"))))


# Persistency: the Euler step as a regression.


def effective_step(lr, persistency):
    """q_J = 1 - (1 - 2 lr)^J: the share of an Euler step that J regression steps of size lr make. An array where given one."""
    return 1 - (1 - 2 * np.asarray(lr, dtype=np.float64)) ** persistency


def persistency_factor(eps, lr, persistency, steps):
    """W_2 after `steps` outer steps over W_2 at the start: prod (1 - eps_n q_n), a float; see `persistent_euler`."""
    q = effective_step(_steps(lr, steps, "lr"), _steps(persistency, steps, "persistency"))
    return float(np.prod(1 - _steps(eps, steps, "eps") * q))


def persistent_euler(A, b, m_1, C_1, eps, lr, persistency, steps, frozen=True):
    r"""W2-FE for an affine map T(z) = A z + b of z ~ N(0, I), with the exact potential and exact expectations.

    In every outer step V is the displacement from N(b, A A^T) to N(m_1, C_1), and J times

    .. math:: (A, b) \leftarrow (A, b) - lr\, \nabla_{(A,b)} E |A z + b - \zeta(z)|^2
              = (A, b) - 2 lr\, (A - A_\zeta, b - b_\zeta)

    with the target zeta = T + eps V(T), an affine function A_zeta z + b_zeta, frozen at the start of the outer step. The
    identity on the right uses E z z^T = I. Hence (A, b) moves by q_J of the way to zeta (`effective_step`), whatever J is:
    the law of `persistency_factor`.

    With `frozen` False the target is taken anew at every inner step, with the *potential* still frozen: the J naive
    generator steps on 2 eps E h(T(z)). Along an eigenvector of the Monge matrix with value T they multiply by
    (1 + 2 lr eps (T - 1))^J, which passes T for large J where T > 1: no bound holds.

    Parameters
    ----------
    A : array_like (d, d)
        Invertible.
    b : array_like (d,)
    m_1, C_1 : array_like (d,), (d, d)
        The data's law.
    eps, lr : float or array_like (steps,)
        Euler step and inner rate, per outer step if arrays.
    persistency : int or array_like (steps,)
    steps : int
    frozen : bool

    Returns
    -------
    list of (A, b)
        steps + 1 of them.
    """
    A, b = np.array(A, dtype=np.float64), np.array(b, dtype=np.float64)
    maps = [(A, b)]
    schedules = (_steps(value, steps, name) for value, name in ((eps, "eps"), (lr, "lr"), (persistency, "persistency")))
    for e, rate, J in zip(*schedules, strict=True):
        slope, offset = displacement(b, A @ A.T, m_1, C_1)
        target = A + e * slope @ A, b + e * (slope @ b + offset)
        for _ in range(int(J)):
            if not frozen:
                target = A + e * slope @ A, b + e * (slope @ b + offset)
            A, b = A - 2 * rate * (A - target[0]), b - 2 * rate * (b - target[1])
        maps.append((A, b))
    return maps


# How good a learned field is.


def cosine(learned, exact):
    """E <u, v> / sqrt(E |u|^2 E |v|^2) of two velocities (n, d): the direction of a field, whatever its length; in [-1, 1]."""
    u, v = np.asarray(learned, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    return float((u * v).sum() / np.sqrt((u**2).sum() * (v**2).sum()))


# Entropic transport and the Sinkhorn divergence.


def _cross_root(C_0, C_1, reg):
    """D = (C_0^{1/2} C_1 C_0^{1/2} + reg^2 / 4 I)^{1/2} with the root of C_0; `UsageError` unless reg > 0."""
    in_range(reg, 0, math.inf, "reg", open_low=True)
    root = power(C_0, 0.5, "C_0")
    inner = root @ symmetric(C_1, "C_1") @ root
    return power((inner + inner.T) / 2 + reg**2 / 4 * np.eye(len(root)), 0.5)


def entropic_map(C_0, C_1, reg):
    r"""Matrix L of the barycentric map B(x) = m_1 + L (x - m_0) of the entropic plan between Gaussians.

    The plan minimises :math:`E|x-y|^2/2 + reg\,KL(P\,|\,\mu \otimes \nu)`; it is Gaussian, since for a given
    cross-covariance K no other law has less KL. Stationarity in K gives, with
    D = :math:`(C_0^{1/2} C_1 C_0^{1/2} + \tfrac{reg^2}{4} I)^{1/2}`,

    .. math:: L = K^T C_0^{-1} = C_0^{-1/2} \big( D - \tfrac{reg}{2} I \big) C_0^{-1/2}

    symmetric, as the gradient of a potential must be; on the line K solves K^2 + reg K = C_0 C_1. reg -> 0 gives
    `monge_matrix`, reg -> inf gives 0. Source: janati; derived in the chapter `explicit`.

    Parameters
    ----------
    C_0 : array_like (d, d), symmetric positive definite
    C_1 : array_like (d, d), symmetric positive semi-definite
    reg : float
        Entropic temperature, > 0, in units of the cost.

    Returns
    -------
    ndarray (d, d)
    """
    D, inverse = _cross_root(C_0, C_1, reg), power(C_0, -0.5, "C_0")
    L = inverse @ (D - reg / 2 * np.eye(len(D))) @ inverse
    return (L + L.T) / 2


def entropic_cost(m_0, C_0, m_1, C_1, reg):
    r"""OT_reg between Gaussians: min of :math:`E|x-y|^2/2 + reg\,KL(P\,|\,\mu \otimes \nu)`, a float.

    .. math:: \tfrac12 |m_0 - m_1|^2 + \tfrac12 \operatorname{tr}(C_0 + C_1) - \operatorname{tr}(D - r I)
              + r \log\det\big((D + r I) / (2 r)\big), \qquad r = reg/2

    with D of `entropic_map`; covariances may be singular.
    """
    D, r = np.linalg.eigvalsh(_cross_root(C_0, C_1, reg)), reg / 2
    gap = np.asarray(m_0, dtype=np.float64) - np.asarray(m_1, dtype=np.float64)
    return float((gap @ gap + np.trace(C_0) + np.trace(C_1)) / 2 - (D - r).sum() + r * np.log((D + r) / (2 * r)).sum())


def sinkhorn_divergence(m_0, C_0, m_1, C_1, reg):
    """S = OT_reg(mu, nu) - OT_reg(mu, mu) / 2 - OT_reg(nu, nu) / 2 of Gaussians; at least 0, 0 if they are equal. A float."""
    own = entropic_cost(m_0, C_0, m_0, C_0, reg) + entropic_cost(m_1, C_1, m_1, C_1, reg)
    return entropic_cost(m_0, C_0, m_1, C_1, reg) - own / 2


def sinkhorn_velocity(m_0, C_0, m_1, C_1, reg):
    r"""The velocity V(x) = A x + b of the Sinkhorn divergence at N(m_0, C_0): the difference of two barycentric maps.

    .. math:: V(x) = B_{\mu\nu}(x) - B_{\mu\mu}(x) = m_1 - m_0 + (L_{\mu\nu} - L_{\mu\mu})(x - m_0)

    Arguments as in `entropic_map`; returns A (d, d), b (d,).
    """
    A = entropic_map(C_0, C_1, reg) - entropic_map(C_0, C_0, reg)
    m_0, m_1 = np.asarray(m_0, dtype=np.float64), np.asarray(m_1, dtype=np.float64)
    return A, m_1 - m_0 - A @ m_0


def sinkhorn_flow(m_0, C_0, m_1, C_1, reg, times):
    r"""The flow of the Sinkhorn divergence to N(m_1, C_1) from N(m_0, C_0): it stays Gaussian.

    .. math:: m' = m_1 - m, \qquad C' = A C + C A, \quad A = L_{\mu\nu} - L_{\mu\mu}

    so m(t) = m_1 + e^{-t} (m_0 - m_1) whatever reg is. Where covariances commute each variance a obeys

    .. math:: a' = 2 \sqrt{a b + r^2} - 2 \sqrt{a^2 + r^2}, \qquad r = reg/2

    with b the target's: exponential with rate :math:`b/\sqrt{b^2+r^2}` near b > 0, and :math:`a \sim r/t` if b = 0.

    Parameters
    ----------
    m_0, C_0, m_1, C_1, reg : as in `sinkhorn_velocity`
    times : array_like (k,)
        Increasing, >= 0.

    Returns
    -------
    means (k, d), covariances (k, d, d)
        Runge-Kutta of order 8, relative tolerance 1e-11.
    """
    m_0, m_1, C_0 = np.asarray(m_0, dtype=np.float64), np.asarray(m_1, dtype=np.float64), symmetric(C_0, "C_0")
    times, d = np.atleast_1d(np.asarray(times, dtype=np.float64)), len(m_0)
    if not times.size or times[0] < 0 or (np.diff(times) < 0).any():
        raise UsageError(f"times = {times.tolist()}: they must be increasing, from 0 on")

    def rate(t, flat):
        C = flat.reshape(d, d)
        A = entropic_map((C + C.T) / 2, C_1, reg) - entropic_map((C + C.T) / 2, (C + C.T) / 2, reg)
        return (A @ C + C @ A).ravel()

    in_range(reg, 0, math.inf, "reg", open_low=True)
    if times[-1] == 0:
        return np.tile(m_0, (times.size, 1)), np.tile(C_0, (times.size, 1, 1))
    found = solve_ivp(rate, (0, times[-1]), C_0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-14)
    return m_1 + np.exp(-times)[:, None] * (m_0 - m_1), found.y.T.reshape(-1, d, d)


def degenerate_variance(a_0, reg, t):
    r"""Variance at time t of the Sinkhorn flow towards a point mass (b = 0), in closed form; a float.

    :math:`a' = 2 r - 2 \sqrt{a^2 + r^2}` integrates to G(a(t)) = G(a_0) + 2 t with

    .. math:: G(a) = \frac{\sqrt{a^2 + r^2} + r}{a} - \operatorname{arsinh}\frac{a}{r}, \qquad r = reg/2

    so that a(t) t -> r: a tail of 1/t where W2's flow falls like e^{-2 t}. Derived here; the rate is in proposal.
    """
    in_range(a_0, 0, 1e300, "a_0", open_low=True)
    in_range(t, 0, 1e300, "t")
    in_range(reg, 0, 1e300, "reg", open_low=True)
    r = reg / 2

    def G(log_a):
        # asinh grows where the quotient tends to 1: both are of the size of the answer.
        a = math.exp(log_a)
        return (math.hypot(a, r) + r) / a - math.asinh(a / r)

    high = math.log(a_0)
    low, goal = high - 1.0, G(high) + 2 * t
    while G(low) < goal:
        low -= high - low
    return a_0 if t == 0 else math.exp(brentq(lambda log_a: G(log_a) - goal, low, high, xtol=1e-14, rtol=1e-14))
