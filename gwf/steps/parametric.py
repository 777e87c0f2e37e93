r"""Parametric Wasserstein gradient flow: the JKO step when only the parameters of a map can move.

A map T_theta with p parameters gives the laws mu_theta = (T_theta)# mu_0. The parametric JKO step (gwf, equation 25)

    theta_{k+1} in argmin_theta  F(mu_theta) + (1 / (2 tau)) E_{z ~ mu_0} |T_theta(z) - T_{theta_k}(z)|^2

is, to first order in tau, an implicit Euler step of

    theta' = -G(theta)^{-1} grad_theta F(mu_theta),     G(theta) = E_z (d_theta T_theta(z))^T (d_theta T_theta(z)),

the gradient flow of F in the metric that L2(mu_0) induces on parameters (gwf, proposition 6.3). Training never forms
G; this module does, by automatic differentiation, so that the two can be compared. Chapter: `parametric`.
"""

import torch
from torch.func import functional_call, grad, hessian, jacrev

from gwf.errors import UsageError


def vectorised(module):
    """A `torch.nn.Module` as a map T(theta, z) of one parameter vector, and its present parameters.

    T: (theta (p,), z (n, ...)) -> x (n, d), differentiable in theta, the module's parameters in the order of
    `named_parameters`, flattened, float64.
    """
    module = module.double()
    named = [(name, p.detach()) for name, p in module.named_parameters()]

    def T(theta, z):
        parts = theta.split([p.numel() for _, p in named])
        weights = {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}
        return functional_call(module, weights, (z,))

    return T, torch.cat([p.flatten() for _, p in named])


class ParametricFlow:
    r"""A map with parameters, a functional of its law, and a quadrature of mu_0: all that the steps below need.

    Parameters
    ----------
    T : callable
        (theta (p,), z (n, ...)) -> x (n, d), twice differentiable in theta by `torch.func`.
    F : callable
        theta (p,) -> scalar tensor, F(mu_theta). Often `lambda theta: energy(T(theta, z))`.
    z, weights : torch.Tensor, (n, ...), (n,)
        Draws of mu_0, or nodes of a quadrature of it; positive weights of sum 1 (else `UsageError`), 1/n by default.
    """

    def __init__(self, T, F, z, weights=None):
        self.T, self.F, self.z = T, F, z
        self.weights = (
            torch.full((len(z),), 1 / len(z), dtype=torch.float64, device=z.device) if weights is None else weights
        )
        if len(self.weights) != len(z) or not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1) > 1e-9:
            raise UsageError(f"weights must be {len(z)} positive numbers of sum 1, one per latent")

    def jacobian(self, theta):
        """d_theta T_theta(z_i), shape (n, d, p)."""
        return jacrev(self.T)(theta, self.z)

    def metric(self, theta):
        """G(theta) = sum_i w_i J_i^T J_i, (p, p): symmetric, positive semi-definite."""
        J = self.jacobian(theta)
        return torch.einsum("i,idp,idq->pq", self.weights, J, J)

    def gradient(self, theta):
        """grad_theta F(mu_theta), (p,): the Euclidean gradient, what back-propagation gives."""
        return grad(self.F)(theta)

    def velocity(self, theta, cutoff=1e-12):
        r"""-G(theta)^+ grad F, (p,), with G^+ the pseudo-inverse.

        Eigenvalues of G below `cutoff` times the greatest count as zero: along those directions T does not move, so
        (where F sees theta through T alone) grad F has no component there either, and the flow leaves them alone.
        """
        return -_symmetric_solve(self.metric(theta), self.gradient(theta), cutoff)

    def euler_step(self, theta, tau):
        """theta + tau * velocity(theta): one explicit Euler, or natural-gradient, step."""
        return theta + _positive(tau) * self.velocity(theta)

    def proximal(self, theta, theta_k, tau):
        """(1 / (2 tau)) sum_i w_i |T_theta(z_i) - T_{theta_k}(z_i)|^2, scalar."""
        moved = self.T(theta, self.z) - self.T(theta_k, self.z)
        return (self.weights * moved.square().flatten(1).sum(1)).sum() / (2 * tau)

    def objective(self, theta, theta_k, tau):
        """F(mu_theta) plus `proximal`: what the parametric JKO step minimises."""
        return self.F(theta) + self.proximal(theta, theta_k, tau)

    def jko_step(self, theta_k, tau, tolerance=1e-12, iterations=300):
        """The minimiser of `objective`, from theta_k downhill by a damped Newton method; see `minimise`.

        The objective never increases on the way: F falls by at least the proximal term, at a local minimiser too.
        """
        tau = _positive(tau)
        return minimise(lambda theta: self.objective(theta, theta_k, tau), theta_k, tolerance, iterations)

    def residual(self, theta, theta_k, tau):
        r"""G(theta) (theta - theta_k) / tau + grad F(mu_theta), (p,): how far the pair is from implicit Euler.

        For theta the JKO step it is O(tau): the step satisfies E J(theta)^T (T_theta - T_{theta_k}) / tau + grad F = 0
        exactly, and replacing T_theta - T_{theta_k} by J(theta) (theta - theta_k) costs a second-order remainder.
        """
        return self.metric(theta) @ (theta - theta_k) / _positive(tau) + self.gradient(theta)


def minimise(f, theta, tolerance=1e-12, iterations=300):
    r"""A local minimiser of a smooth f, by a damped Newton method that only goes downhill from theta (p,).

    The step is -(|H| + lam)^{-1} g, with |H| the Hessian with its eigenvalues replaced by their absolute values:
    downhill also where f is not convex, Newton's own where it is and lam is small. lam falls after a step that was good
    and rises until one is. It ends when max |g| <= tolerance * (1 + max |H|), about rounding for the default, or when
    rounding stops the progress within 10^4 times that; `RuntimeError` if it does not in `iterations` steps. f is a
    scalar, twice differentiable by `torch.func`; p up to a few hundred.
    """
    slope, curvature = grad(f), hessian(f)
    lam = None
    for _ in range(iterations):
        value, g, H = f(theta), slope(theta), curvature(theta)
        goal = tolerance * (1 + H.abs().max())
        if g.abs().max() <= goal:
            return theta
        eigenvalues, V = torch.linalg.eigh((H + H.T) / 2)
        size = eigenvalues.abs()
        least, lam = 1e-14 * size.max(), 1e-6 * size.max() if lam is None else lam
        while True:
            step = -(V / (size + lam)) @ (V.T @ g)
            if _better(f, slope, theta + step, value + 1e-4 * (g @ step), value, g):
                break
            lam = 10 * lam
            if lam > 1e12 * size.max():
                if g.abs().max() <= 1e4 * goal:
                    return theta
                raise RuntimeError(f"no descent from a point with gradient {float(g.abs().max()):.2g}")
        theta, lam = theta + step, torch.maximum(lam / 30, least)
    raise RuntimeError(f"no minimiser after {iterations} steps: gradient {float(g.abs().max()):.2g}, goal {goal:.2g}")


def _better(f, slope, new, enough, value, g):
    """Enough descent of f; near the minimum, where differences of f drown in rounding, of its gradient."""
    at_new = f(new)
    if at_new <= enough and at_new < value:
        return True
    rounding = 1e-13 * (1 + value.abs())
    return at_new <= value + rounding and slope(new).norm() <= 0.5 * g.norm()


def _symmetric_solve(G, g, cutoff):
    """G^+ g for a symmetric positive semi-definite G."""
    eigenvalues, V = torch.linalg.eigh(G)
    keep = eigenvalues > cutoff * eigenvalues[-1].clamp_min(1e-300)
    return (V[:, keep] / eigenvalues[keep]) @ (V[:, keep].T @ g)


def _positive(tau):
    if not tau > 0:
        raise UsageError(f"tau = {tau!r} is out of range: it must be positive")
    return float(tau)


def gaussian_kernel(x, y, bandwidth):
    """exp(-|x_i - y_j|^2 / (2 bandwidth^2)), (n, m), for x (n, d), y (m, d) and bandwidth > 0."""
    return (-(x[:, None] - y[None]).square().sum(-1) / (2 * bandwidth**2)).exp()


def half_mmd2(x, y, bandwidth):
    """(1/2) MMD^2 of the empirical laws of x (n, d) and y (m, d), Gaussian kernel, diagonals kept; scalar >= 0."""
    of_y = gaussian_kernel(y, y, bandwidth).mean()
    return (gaussian_kernel(x, x, bandwidth).mean() + of_y) / 2 - gaussian_kernel(x, y, bandwidth).mean()


def mmd2(x, y, bandwidth):
    r"""Unbiased MMD^2 of two samples (diagonals left out), Gaussian kernel; scalar, 0 in the mean where mu = nu.

    As a yardstick: `bandwidth` stays fixed over all that is compared, unlike the kernel a training may have learned.
    """
    n, m = len(x), len(y)
    within_x = (gaussian_kernel(x, x, bandwidth).sum() - n) / (n * (n - 1))
    within_y = (gaussian_kernel(y, y, bandwidth).sum() - m) / (m * (m - 1))
    return within_x + within_y - 2 * gaussian_kernel(x, y, bandwidth).mean()
