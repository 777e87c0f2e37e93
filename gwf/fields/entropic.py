r"""Entropic transport plans between two point clouds, balanced or with a relaxed target: the engine of Sinkhorn flows.

For uniform weights a_i = 1/n, b_j = 1/m and a cost matrix C (n, m),

    min over P >= 0 with P 1 = a of   <P, C> + reg KL(P | a b^T) + relaxation KL(P^T 1 | b),

where relaxation = infinity keeps the target marginal P^T 1 = b as well. The plan is

    P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg),

and block ascent on the dual alternates two closed-form updates (`potentials`). Everything is done on logarithms, so no
`reg` underflows. Sources: M. Cuturi. Sinkhorn distances. NeurIPS 2013; L. Chizat, G. Peyre, B. Schmitzer, F.-X. Vialard.
Scaling algorithms for unbalanced optimal transport problems. Math. Comp. 87 (2018). Chapter `explicit`.
"""

import math
import warnings

import torch

from gwf.errors import UsageError, in_range


def half_squared(x, y):
    """C_ij = |x_i - y_j|^2 / 2 for x (n, ...), y (m, ...), all trailing axes as one; (n, m).

    From squared norms and one matrix product; cancellation is kept small by centring both clouds on the mean of y.
    """
    y = y.flatten(1)
    centre = y.mean(0)
    x, y = x.flatten(1) - centre, y - centre
    return torch.addmm(x.square().sum(1, keepdim=True) + y.square().sum(1), x, y.T, alpha=-2).clamp_min_(0) / 2


def potentials(C, reg, iterations, relaxation=math.inf, g=None):
    r"""The dual potentials f (n,), g (m,) after `iterations` Sinkhorn updates of both,

        g_j = -s reg log sum_i a_i exp((f_i - C_ij) / reg),        s = relaxation / (relaxation + reg), or 1 if infinite,
        f_i =   -reg log sum_j b_j exp((g_j - C_ij) / reg).

    The source's update comes last, so P 1 = a holds exactly: an unconverged plan that ends on the target's update lets
    source points ignore their weight, and looks like sensitivity to outliers.

    Parameters
    ----------
    C : Tensor (n, m)
    reg, relaxation : float or Tensor ()
        Entropic temperature, > 0, and weight in (0, inf], of which small values let data points go unserved: in units
        of the cost. A tensor is not looked at, which would wait for a GPU.
    iterations : int
        At least 1. `UsageError` for a parameter out of range.
    g : Tensor (m,), optional
        Where to start, e.g. the potential of the step before.
    """
    for name, value in (("reg", reg), ("relaxation", relaxation)):
        if not isinstance(value, torch.Tensor):
            in_range(value, 0, math.inf, name, open_low=True)
    if not (isinstance(iterations, int) and iterations >= 1):
        raise UsageError(f"iterations = {iterations!r}: it must be a whole number, at least 1")
    n, m = C.shape
    balanced = not isinstance(relaxation, torch.Tensor) and math.isinf(relaxation)
    damping = 1.0 if balanced else relaxation / (relaxation + reg)
    scaled, g = C / -reg, C.new_zeros(m) if g is None else g / reg
    log_n, log_m = math.log(n), math.log(m)
    f = log_m - _log_sum_exp(scaled + g, 1)
    for _ in range(iterations):
        g = damping * (log_n - _log_sum_exp(scaled + f[:, None], 0))
        f = log_m - _log_sum_exp(scaled + g, 1)
    return f * reg, g * reg


def _log_sum_exp(a, dim):
    """log sum exp(a) along `dim`; `a` is overwritten. Terms below e^-80 of the largest count as e^-80 of it.

    A cost of many times reg would make exp fall into the subnormal numbers, where a CPU takes ten times as long; the
    sum is off by at most its number of terms times e^-80, far below rounding.
    """
    top = a.detach().amax(dim, keepdim=True)
    return a.sub_(top).clamp_min_(-80).exp_().sum(dim).log_().add_(top.squeeze(dim))


def plan(C, f, g, reg):
    """P (n, m) of the potentials; its entries sum to 1 where P 1 = a holds."""
    return torch.exp((f[:, None] + g - C) / reg) / C.numel()


def barycentre(C, g, y, reg):
    """B(x_i) = sum_j P_ij y_j / sum_j P_ij, shaped as y is; it needs no f, which the quotient cancels."""
    weights = torch.softmax((g - C) / reg, 1)
    return (weights @ y.flatten(1)).reshape(len(C), *y.shape[1:])


def kept_mass(C, f, g, reg):
    """m sum_i P_ij (m,): the share of its due that data point j receives; 1 each if balanced, exp(-g_j / relaxation) if relaxed.

    The mean over j is 1 in every case, since the source gives all it has: if n_out points are refused altogether, the
    others keep m / (m - n_out) on average.
    """
    return plan(C, f, g, reg).sum(0) * C.shape[1]


def cost(C, f, g, reg, relaxation=math.inf):
    """The value of the problem at a plan with P 1 = a, by duality: <a, f> + <b, g> in the balanced case; a scalar.

    With a relaxed target the second term is relaxation <b, 1 - exp(-g / relaxation)>.
    """
    second = g if math.isinf(relaxation) else relaxation * -torch.expm1(-g / relaxation)
    return f.mean() + second.mean()


def divergence(x, y, reg, iterations, tolerance=0.01):
    """S(mu, nu) = OT_reg(mu, nu) - OT_reg(mu, mu) / 2 - OT_reg(nu, nu) / 2 of two samples; at least 0, 0 if x = y.

    In float64. `RuntimeWarning` where one of the three plans has not converged: it misses the masses of its target by
    more than the share `tolerance`. `UsageError` for `reg` or points that are not finite. Source: J. Feydy et al.
    Interpolating between optimal transport and MMD using Sinkhorn divergences. AISTATS 2019.
    """
    in_range(reg, 0, 1e300, "reg", open_low=True)
    x, y = x.double(), y.double()
    reg = min(reg, 1e8 * float(half_squared(x, y).detach().max()) or 1.0)  # beyond it 1e-8 is missing, and digits are
    if not (x.isfinite().all() and y.isfinite().all()):
        raise UsageError("the points must be finite")

    def value(p, q):
        C = half_squared(p, q)
        f, g = potentials(C, reg, iterations)
        with torch.no_grad():
            missed = float((kept_mass(C, f, g, reg) - 1).abs().mean() / 2)
        if missed > tolerance:
            found = f"{iterations} iterations at reg = {reg:g} leave {missed:.1%} of the mass in the wrong place"
            warnings.warn(f"{found}: take more", RuntimeWarning, stacklevel=3)
        return cost(C, f, g, reg)

    return value(x, y) - value(x, x) / 2 - value(y, y) / 2
