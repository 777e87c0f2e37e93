"""The Sinkhorn divergence of two clouds with its value and plan, and the entropic kernel that kernel densities share."""

import math
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning

from gwf import fields
from gwf.errors import whole
from gwf.flows.clouds import positive
from gwf.validation import number


def kernel(z, y, g, reg):
    """E (n, m), a (n,) with exp((g_j - |z_i - y_j|^2 / 2) / reg) = E_ij exp(a_i), where rows of E have maximum 1.

    Entries below e^-69 count as that much, 1e-30, so that no column vanishes.
    """
    centre = y.mean(0)
    z, y = z - centre, y - centre
    E = torch.addmm((g - y.square().sum(1) / 2) / reg, z, y.T, alpha=1 / reg)
    top = E.detach().amax(1)
    return E.sub_(top[:, None]).clamp_min_(-69).exp_(), top - z.square().sum(1) / (2 * reg)


class Sinkhorn(fields.Sinkhorn):
    r"""S(mu, nu) = OT_reg(mu, nu) - OT_reg(mu, mu) / 2 - OT_reg(nu, nu) / 2, potentials starting from those of the step before.

    Within a step they are scalings of one kernel matrix, so that an update is a matrix times a vector (B. Schmitzer. SIAM
    J. Sci. Comput. 41, 2019), at whose size the host looks; the self plan takes geometric means of old and new. Memory n m.

    Parameters
    ----------
    reg, relaxation : float
        As in `gwf.fields.sinkhorn`, if `relative` in units of the mean of |y - y'|^2 / 2 over all data, reg at most 1e6.
    iterations : int
        Updates per step; more at the start. A `ConvergenceWarning` says where they are too few for the temperature.
    debias : bool
        False leaves the self terms out: V = B(x) - x, the displacement of the entropic plan.
    """

    natural_step = 0.5

    def __init__(self, reg=0.05, iterations=10, relative=True, relaxation=math.inf, debias=True):
        super().__init__(positive(reg, "reg"), whole(iterations, 1, 10**6, "iterations"), relative, relaxation)
        positive(relaxation, "relaxation")
        self.debias, self.of_data, self.warm = debias, 0.0, {}

    def prepare(self, y):
        unit = float(y.detach().var(0, correction=0).sum())
        if unit:
            number(self.reg if self.relative else self.reg / unit, 0, 1e6, "reg, in units of the variance of y,")
        if self.relative:
            positive(unit, "the variance of y")
            self.reg, self.relaxation, self.relative = self.reg * unit, self.relaxation * unit, False
        if self.debias:
            self.of_data = self._self(y.detach())[0]
        self.forget()

    def forget(self):
        """Start afresh at the next evaluation."""
        self.warm = {}

    def velocity(self, x, y, other=None, generator=None):
        return self._across(x, y)[1] - (self._self(x, "x")[1] if self.debias else x)

    def value(self, x, y, generator=None):
        """S; with a relaxed target up to a constant."""
        return self._across(x, y)[0] - ((self._self(x, "x")[0] + self.of_data) / 2 if self.debias else 0)

    def plan(self, x, y):
        """The entropic plan, rows of sum 1 / n."""
        _, _, E, v = self._across(x, y, last=True)
        return E * v / ((E @ v)[:, None] * len(x))

    def _start(self, name, x, y):
        """Potential, and temperatures with numbers of updates: falling from a typical cost to `reg` at the start."""
        g, n = self.warm.get(name), self.iterations
        if g is not None and len(g) == len(y):
            return g, [(self.reg, n)]
        unit = float((x - y.mean(0)).detach().square().sum(1).mean()) / 2
        depth = max(int(math.log(max(unit / self.reg, 1), 4)), 4)
        return y.new_zeros(len(y)), [*((self.reg * 4.0**k, n) for k in range(depth, 0, -1)), (self.reg, 3 * n)]

    def _across(self, x, y, last=False):
        """OT_reg(mu, nu), B at x, and the plan's factors; at the start and at the end they are to have converged."""
        last = last or "y" not in self.warm
        (g, rounds), ratio = self._start("y", x, y), len(x) / len(y)
        for reg, iterations in rounds:
            damping = 1.0 if math.isinf(self.relaxation) else self.relaxation / (self.relaxation + reg)
            E, a = kernel(x, y, g, reg)
            v = torch.ones_like(g)
            for _ in range(iterations):
                mass = E @ v
                new = (ratio / (E.T @ (1 / mass))) ** damping * torch.exp(g * ((damping - 1) / reg))
                change = (v / new).detach()
                if far := not new.detach().log().abs().amax() <= 30:
                    # Entries that were cut off begin to count: the same update on logarithms.
                    K, b = kernel(y, x, reg * (math.log(len(y)) - a - mass.log()), reg)
                    g = damping * reg * (math.log(len(x)) - b - K.sum(1).log())
                    (E, a), new = kernel(x, y, g, reg), torch.ones_like(g)
                v = new
            g = g + reg * v.log()
        if last and (far or not (change - 1).abs().mean() <= 0.1):
            words = f"at reg = {reg:.3g} more than 5 % of the mass misses its target: take more than {self.iterations}"
            warnings.warn(f"{words} iterations, or a larger reg", ConvergenceWarning, stacklevel=2)
        mass, self.warm["y"] = E @ v, g.detach()
        f, second = reg * (math.log(len(y)) - a - mass.log()), g
        if damping < 1:
            second = self.relaxation * -torch.expm1(-g / self.relaxation)
        return f.mean() + second.mean(), E @ (v[:, None] * y) / mass[:, None], E, v

    def _self(self, x, name=None):
        """OT_reg(mu, mu), and B at x."""
        g, rounds = self._start(name, x, x)
        for reg, iterations in rounds:
            E, a = kernel(x, x, g, reg)
            w, gap = torch.ones_like(g), torch.exp(math.log(len(x)) - a - g / reg)
            for _ in range(iterations):
                w = (w * gap / (E @ w)).sqrt()
            g = g + reg * w.log()
        mass, self.warm[name] = E @ w, g.detach()
        return (reg * (math.log(len(x)) - a - mass.log()) + g).mean(), E @ (w[:, None] * x) / mass[:, None]
