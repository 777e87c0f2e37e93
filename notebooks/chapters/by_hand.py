"""What chapters hold the code against: formulas written out a second time, and definitions by quadrature."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm

from gwf import divergences
from gwf.nets.icnn import DenseICNN
from gwf.steps.icnn import ICNNStep
from gwf.steps.jko import proximal
from gwf.steps.references import GaussianReference, KLThroughReference


def shannon(t):
    """f of twice JS."""
    return xlogy(t, t) - (t + 1) * np.log((t + 1) / 2)


#: Name -> f with f'(1) = 0, its conjugate, its slope at infinity.
WRITTEN_OUT = {
    "kl": (lambda t: xlogy(t, t) - t + 1, np.expm1, math.inf),
    "chi2": (lambda t: (t - 1) ** 2, lambda s: np.where(s > -2, s + s**2 / 4, -1.0), math.inf),
    "js": (shannon, lambda s: -np.log(2 - np.exp(s)), math.log(2)),
}


def values(name, step, C, C_dual, a, b):
    """Primal and dual value of a step of `gwf.exact.atoms`, added up from its plan (cost C) and potential (cost C_dual)."""
    f, conjugate, price = WRITTEN_OUT[name]
    staying = price * step.kept.sum() if math.isfinite(price) else 0.0
    primal = (C * step.plan).sum() + staying + b @ f(step.plan.sum(0) / b)
    return primal, a @ np.minimum((C_dual - step.v).min(1), price) - b @ conjugate(-step.v)


def waste(step, C, price):
    """What a step pays above its dual: 0 if the plan goes where C - v is least, and mass stays only at that price."""
    least = np.minimum((C - step.v).min(1), price)
    kept = (step.kept * (price - least)).sum() if math.isfinite(price) else 0.0
    return kept + (step.plan * (C - step.v - least[:, None])).sum()


def staying(tau):
    """Step for 2 JS from delta_0 to two atoms at +-1: a share s stays, and 1 - s is the ratio at both atoms."""
    value = lambda s: (1 - s) / (2 * tau) + s * np.log(2) + shannon(1 - s)  # noqa: E731
    return minimize_scalar(value, bounds=(0, 1 - 1e-12), method="bounded", options={"xatol": 1e-10}).fun


def swapped_tight(theta):
    """d/dtheta of tight chi2(nu || mu), mu = N(theta, 1), as coded and with the variance detached as released."""
    y = torch.tensor(norm.ppf((np.arange(200_001) + 0.5) / 200_001))
    shift = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    u_mu, u_nu = (torch.exp(-theta * x + theta**2 / 2) for x in (y + shift, y))
    whole = divergences.get("chi2_tight").swapped.map_loss(u_mu, u_nu)
    detached = (u_nu.mean() - u_mu.mean()) ** 2 / u_mu.var(correction=0).detach()
    return [float(torch.autograd.grad(loss, shift, retain_graph=True)[0]) for loss in (whole, detached)]


def kl_through(R, mu, nu, off=0.0):
    """KL(mu | nu) through the Gaussian reference R by the code's losses; laws (mean, deviation) on the line.

    On 200,001 quantiles of mu and of R, log r = log mu - log R, a quadratic, with its slope changed by `off`.
    """

    def log_nu(x):
        return -((x.flatten() - nu[0]) ** 2) / (2 * nu[1] ** 2) - math.log(nu[1] * math.sqrt(2 * math.pi))

    def log_ratio(x):
        q, c = 1 / R[1] ** 2 - 1 / mu[1] ** 2, mu[0] / mu[1] ** 2 - R[0] / R[1] ** 2
        return (
            q * x**2 / 2
            + (c + off) * x
            + math.log(R[1] / mu[1])
            + R[0] ** 2 / (2 * R[1] ** 2)
            - mu[0] ** 2 / (2 * mu[1] ** 2)
        )

    functional = KLThroughReference(log_nu, lambda k, x: GaussianReference([R[0]], [[R[1] ** 2]]))
    functional.begin(0, None)
    levels = torch.tensor(norm.ppf((np.arange(200_001) + 0.5) / 200_001), dtype=torch.float32)[:, None]
    x, z = mu[0] + mu[1] * levels, R[0] + R[1] * levels
    return float(functional.value(log_ratio(x), log_ratio(z), x))


def free_energy(T, levels, Phi):
    """int Phi d rho + int rho log rho for the image rho of N(0, 1) that has T (n,) at `levels`, by its definition.

    The density is that of T's inverse, on a grid of its own.
    """
    grid = np.linspace(T[0], T[-1], 400_001)
    back = np.interp(grid, T, levels)
    rho = norm.pdf(back) * np.gradient(back, grid)
    return np.trapezoid(rho * (Phi(grid) + np.log(np.maximum(rho, 1e-300))), grid)


def convex_network(seed, levels):
    """T (n,) of a random convex network at `levels`, and the loss of `ICNNStep` for Phi = (x - 1)^2 less its proximal term."""
    torch.manual_seed(seed)
    psi = DenseICNN(1, width=8)
    with torch.no_grad():
        for weight in psi.parameters():
            weight += 0.1 * torch.randn_like(weight)
    psi.project()
    z = torch.tensor(levels, dtype=torch.float32)[:, None]
    step = ICNNStep(psi, lambda x: -((x.flatten() - 1) ** 2), 1.0, lr=1e-3)
    pushed = step.push(z)
    loss = step.map_loss(pushed, z) - proximal(pushed[0], z, 1.0)
    return pushed[0].detach().double().numpy().ravel(), loss.item()


class Affine:
    """The gradient A x + b of a convex quadratic, with the interface of the code's convex networks."""

    def __init__(self, A, b):
        self.A, self.b = torch.tensor(A), torch.tensor(b)

    def with_hessian(self, x):
        """T(x) and its Jacobian."""
        return x @ self.A.T + self.b, self.A.expand(len(x), *self.A.shape)


class Distance(torch.nn.Module):
    """h(x) = |x|: a best critic of W1 between any point of the line and the data point 0."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        """|x|."""
        return self.scale * x.abs()
