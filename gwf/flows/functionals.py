r"""Functionals F(mu) = D(mu | nu) of two clouds, ready for a flow of particles.

Each is a field (`gwf.fields.base.Field`) whose V at particles x is -n grad_x of its value, self terms included. Beyond a
field's `velocity` it may have `value(x, y, generator)`, F, for the history and the implicit step; `plan(x, y)` (n, m), of
which V comes; `prepare(y)`, called first with all data, for units and constants; `natural_step`, if none is asked for;
`reach`, the farthest a particle should move in a step. `get` finds them by name.
"""

import copy
import inspect
import math

import numpy as np
import torch

from gwf import divergences, fields
from gwf.bounds import FDivergence
from gwf.errors import UsageError, nearest, whole
from gwf.fields import drifting, mmd
from gwf.fields.base import Field
from gwf.fields.learned import FunctionalField
from gwf.fields.minibatch_ot import MinibatchOT
from gwf.fields.sliced import Sliced
from gwf.flows.clouds import exact_plan, positive, standard
from gwf.flows.sinkhorn import Sinkhorn, kernel
from gwf.nets.mlp import MLP
from gwf.seeding import derive
from gwf.validation import number

#: Rows of a matrix (n, m) held at a time where V sums over the other cloud: memory is linear.
ROWS = 512


class Equivariant(Field):
    """V(s x + c, s y + c) = s^degree V(x, y): computed at `standard` clouds, whose size the host reads."""

    degree = 1

    def velocity(self, x, y, other=None, generator=None):
        clouds, s = standard(x, y, x if other is None else other)
        if not getattr(self, "relative", True):  # a temperature in the unit of y, to be left
            clouds, s = [s * t for t in clouds], 1
        return s**self.degree * super().velocity(*clouds, generator)


class Drifting(Equivariant, drifting.Drifting):
    """As in `gwf.fields.drifting`, at any scale and distance."""


class DriftingReleased(Equivariant, drifting.DriftingReleased):
    """As in `gwf.fields.drifting`, at any scale and distance; without gradients, which its roots do not have."""

    degree = 0

    def velocity(self, x, y, other=None, generator=None):
        return super().velocity(x.detach(), y.detach(), None, generator)


class MMD(mmd.MMD):
    """MMD^2 / 2 with its value, self terms included. Parameters as in `gwf.fields.mmd`; memory linear."""

    #: Kernel -> phi(r^2), of which `gwf.fields.mmd.SLOPES` has -2 phi'.
    phi = {
        "gaussian": lambda r2, s: torch.exp(r2 / (-2 * s * s)),
        "energy": lambda r2, s: -(r2 + 1e-12 * s * s).sqrt(),
        "multiquadric": lambda r2, s: (1 + r2 / (s * s)).rsqrt(),
    }

    def __init__(self, kernel="energy", bandwidth=1.0):
        super().__init__(kernel, positive(bandwidth, "bandwidth"))
        self.kernel, self.centre, self.of_data, self.natural_step = kernel, 0.0, 0.0, bandwidth**2

    def prepare(self, y):
        """The data's own term; with the energy kernel a quarter of their root mean square distance is the step, and its kink
        is rounded at 1e-6 of that distance, at 1e-3 in float32, where the forces of near neighbours would cancel badly."""
        if self.kernel == "energy":
            unit = float(y.detach().var(0, correction=0).sum().mul(2).sqrt()) or 1.0
            self.natural_step, self.bandwidth = unit / 4, unit * (1e3 if y.dtype == torch.float32 else 1.0)
        self.centre = y.detach().mean(0)
        self.of_data = self._mean(y.detach(), y.detach())

    def velocity(self, x, y, other=None, generator=None):
        return torch.cat([super(MMD, self).velocity(r, y, x if other is None else other) for r in x.split(ROWS)])

    def _repulsion(self, x, y):
        """E_y[c(x, y) (x - y)], where no graph is asked for without the roots that `cdist` takes."""
        if torch.is_grad_enabled() or max(len(x), len(y)) <= 25:  # so few are subtracted before they are squared
            return super()._repulsion(x, y)
        centre = x.mean(0)
        x, y = x - centre, y - centre
        r2 = torch.addmm(y.square().sum(1) + x.square().sum(1, keepdim=True), x, y.T, alpha=-2).clamp_min_(0)
        c = r2.add_(1e-12 * self.bandwidth**2).rsqrt_() if self.kernel == "energy" else self.slope(r2, self.bandwidth)
        return (c.sum(1, keepdim=True) * x - c @ y) / len(y)

    def value(self, x, y, generator=None):
        return (self._mean(x, x) + self.of_data) / 2 - self._mean(x, y)

    def _mean(self, x, y):
        x, y = x - self.centre, y - self.centre
        sums = [self.phi[self.kernel](torch.cdist(r, y).square(), self.bandwidth).sum() for r in x.split(ROWS)]
        return sum(sums) / (len(x) * len(y))


class SlicedW2(Sliced):
    """Sliced W2 with its value along the directions that V draws too. Parameters as in `gwf.fields.sliced`; memory linear.

    On a line the i-th of n points has the data's quantiles from i / n to (i + 1) / n: V leads to their mean.
    """

    natural_step = 0.5

    def velocity(self, x, y, other=None, generator=None):
        w, along, order, _, target = self._lines(x, y, generator)
        return torch.empty_like(along).scatter(0, order, target - along) @ w.T * (x.shape[1] / self.directions)

    def value(self, x, y, generator):
        """(d / 2) times the mean over directions of W_2^2 on the line."""
        _, along, _, data, target = self._lines(x, y, generator)
        within = data.square().mean(0) - target.square().mean(0)
        return x.shape[1] / 2 * ((along - target).square().mean() + within.clamp_min(0).mean())

    def _lines(self, x, y, generator):
        """w (d, L); w . x in increasing order, and that order; w . y in increasing order, and its means over n levels."""
        w = torch.randn(x.shape[1], self.directions, generator=generator, device=x.device, dtype=x.dtype)
        w, centre = w / w.norm(dim=0), y.mean(0)
        (along, order), data = ((x - centre) @ w).sort(0), ((y - centre) @ w).sort(0).values
        return w, along, order, data, data if len(x) == len(y) else level_means(data, len(x))


def level_means(ordered, n):
    """Means (n, L) of the quantile functions of columns (m, L) in increasing order over the levels [i / n, (i + 1) / n]."""
    m, values = len(ordered), ordered.double()
    level = torch.arange(n + 1, device=ordered.device, dtype=torch.float64) * (m / n)
    low = level.floor().long().clamp_max(m - 1)
    integral = (values.cumsum(0) - values)[low] + (level - low)[:, None] * values[low]
    return (integral.diff(dim=0) * (n / m)).to(ordered)


class OptimalTransport(Equivariant, MinibatchOT):
    """W_2^2 / 2 of the two clouds, by exact transport on the CPU."""

    natural_step = 0.5

    def velocity(self, x, y, other=None, generator=None):
        """V at x (n, d), for data y (m, d); the plan counts as constant, and the data with it."""
        return super().velocity(x.detach(), y.detach()) + (x.detach() - x)

    def value(self, x, y, generator=None):
        return torch.as_tensor(exact_plan(x, y)[0] / 2, dtype=x.dtype)

    def plan(self, x, y):
        return exact_plan(x, y)[1]


class Blurred(Field):
    r"""D_f(p || q) of the kernel densities p = N(0, h^2 I) * mu, q = N(0, h^2 I) * nu: an f-divergence on clouds.

    p, q and their ratio r are known: mixtures of Gaussians. With B_mu(z) the mean of particles under the weights
    exp(-|z - x_i|^2 / (2 h^2)), grad log p(z) = (B_mu(z) - z) / h^2, and the gradient of mu -> D_f(N_h * mu || N_h * nu) is

        V(x) = E_xi[ -grad f'(r) (x + h xi) ],     xi ~ N(0, I),     -grad f'(r) = r f''(r) (B_nu - B_mu) / h^2,

    drawn without bias from `draws` points xi per particle. `draws = 0` takes xi = 0, the plug-in estimate: no noise, and
    another descent by O(h^2). Both vanish for mu = nu. In more than a few dimensions kernel densities see nearest neighbours
    alone. Derived here; the blurred divergence: Z. Goldfeld et al. IEEE Trans. Inf. Theory 66 (2020). Memory linear.

    Parameters
    ----------
    divergence : gwf.bounds.FDivergence
    bandwidth : float, optional
        h; by default Scott's, m^(-1/(d + 4)) times the root mean variance of the columns of y.
    draws : int
    """

    def __init__(self, divergence, bandwidth=None, draws=0):
        self.divergence, self.title, self.draws = divergence, divergence.title, whole(draws, 0, 10**6, "draws")
        self.h = bandwidth if bandwidth is None else positive(bandwidth, "bandwidth")

    def prepare(self, y):
        """Bandwidth and step; one bandwidth is how far a gradient can be trusted."""
        if self.h is None:
            self.h = float(y.detach().var(0, correction=0).mean().sqrt()) * len(y) ** (-1 / (y.shape[1] + 4))
        self.reach = positive(self.h, "the bandwidth, a share of the deviation of y,")
        self.natural_step = self.h**2 / float(self._gain(torch.zeros(1)).detach())

    def velocity(self, x, y, other=None, generator=None):
        V = 0
        for _ in range(max(self.draws, 1)):
            s, pull = self._ratio(self._blur(x, generator) if self.draws else x, x, y)
            V = V + self._gain(s)[:, None] * pull
        return V / (self.h**2 * max(self.draws, 1))

    def value(self, x, y, generator):
        """D_f(p || q): the mean of 2 f(r) / (1 + r) over blurred particles and data, half each, with f'(1) = 0. Unbiased."""
        # In float64 up to e^300, which chi2 squares.
        ratios = [self._ratio(self._blur(t, generator), x, y)[0].double().clamp(-300, 300).exp() for t in (x, y)]
        return sum((self.divergence.of_mass.f(r) / (1 + r)).mean() for r in ratios)

    def _blur(self, x, generator):
        return x + self.h * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    def _ratio(self, z, x, y):
        """log r (n,), and B_nu - B_mu (n, d), at z."""
        rows = []
        for part in z.split(ROWS):
            (E, a), (K, b) = (kernel(part, t, t.new_zeros(len(t)), self.h**2) for t in (x, y))
            p, q = E.sum(1), K.sum(1)
            s = a + (p / len(x)).log() - b - (q / len(y)).log()
            rows.append((s, K @ y / q[:, None] - E @ x / p[:, None]))
        return tuple(torch.cat(t) for t in zip(*rows, strict=True))

    def _gain(self, log_ratio):
        """r f''(r), the slope of f'(r) = h(u*) in log r; ratios beyond e^30 count as e^30."""
        graph, s = torch.is_grad_enabled() and log_ratio.requires_grad, log_ratio.clamp(-30, 30)
        with torch.enable_grad():
            s = s if s.requires_grad else s.requires_grad_()
            at_optimum = self.divergence.h(self.divergence.optimal_output(s))
            return torch.autograd.grad(at_optimum.sum(), s, create_graph=graph)[0]


class OfFunction(Field):
    """Any differentiable F(x, y) of two clouds, a scalar: V = -n grad_x F by automatic differentiation."""

    def __init__(self, function):
        self.function, self.title = function, getattr(function, "__name__", type(function).__name__)

    def value(self, x, y, generator=None):
        F = self.function(x, y)
        if not torch.is_tensor(F) or F.numel() != 1:
            found = f"a tensor of shape {tuple(F.shape)}" if torch.is_tensor(F) else repr(F)
            raise UsageError(f"{self.title}(x, y) is {found}: it must be a tensor of one number")
        return F.reshape(())

    def velocity(self, x, y, other=None, generator=None):
        graph = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_()
            F = self.value(z, y)
            slope = torch.autograd.grad(F, z, create_graph=graph, allow_unused=True)[0] if F.requires_grad else None
        if slope is None:
            raise UsageError(f"{self.title}(x, y) does not depend on x by torch's operations: it has no gradient")
        return -len(x) * slope


CLOSED = {"sinkhorn": Sinkhorn, "sliced": SlicedW2, "mmd": MMD, "minibatch_ot": OptimalTransport}
CLOSED |= {"drifting": Drifting, "drifting_released": DriftingReleased}
"""In closed form, those of the first line with values. `sinkhorn_single` is `sinkhorn` here: self terms are of one cloud."""


def names():
    """Names of all functionals: the fields, then the f-divergences. Independent pairs are of no functional of two clouds."""
    divergence = [name for name in divergences.names() if isinstance(divergences.get(name), FDivergence)]
    return [*(name for name in fields.names() if name not in (*divergence, "independent")), *divergence]


def check(name, value, default):
    """`UsageError` unless the value of a field's setting is of the kind of its default."""
    if isinstance(default, bool):
        valid = isinstance(value, bool | np.bool_) or "True or False"
    elif isinstance(default, int):
        valid = whole(value, min(default, 1), 10**9, name) >= 0
    elif isinstance(default, float):
        valid = number(value, 0, math.inf, name, open_low=name == "reg") >= 0
    elif name == "betas":
        two = isinstance(value, tuple | list) and len(value) == 2
        valid = two and all(number(b, 0, 1, name) < 1 for b in value) or "two numbers in [0, 1)"
    else:
        valid = name != "penalty_of" or value is None or callable(value) or "a function, or None"
    if valid is not True:
        raise UsageError(f"{name} = {value!r}: it must be {valid}")


def get(functional, x, seed=0, estimate="kernel", warm_up=200, **settings):
    """The functional for particles x (n, d).

    Parameters
    ----------
    functional : str, Field, FDivergence or callable
        One of `names()`; an object of one's own; or a function of two clouds, see `OfFunction`.
    estimate : {"kernel", "critic"}
        Of an f-divergence: `Blurred`, or the critic of its variational bound, an `MLP`.
    warm_up : int
        Updates of learned potentials before the first V.
    **settings
        Of the class; `UsageError` with the nearest name for one that it does not have.
    """
    make, given = OfFunction, (functional,)
    if isinstance(functional, str):
        name = nearest(functional, names(), "functional").removesuffix("_single")
        make, given = CLOSED.get(name) or fields.FIELDS.get(name), ()
        divergence = divergences.DIVERGENCES.get(name)
        functional = divergence if isinstance(divergence, FDivergence) else functional
    if isinstance(functional, FDivergence):
        make = {"kernel": Blurred, "critic": FunctionalField}[nearest(estimate, ("kernel", "critic"), "estimate")]
        given = (functional,)
    elif isinstance(functional, Field):
        # What `prepare` sets is this flow's own; networks are shared.
        make, given = lambda: copy.copy(functional), ()
    elif not isinstance(functional, str) and (isinstance(functional, type) or not callable(functional)):
        raise UsageError(f"functional = {functional!r}: it must be one of {names()}, a field, f-divergence or function")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "potentials"))
        given += tuple(MLP(x.shape[1], 1).to(x.device, x.dtype) for _ in getattr(make, "potentials", ()))
    own = list(inspect.signature(make).parameters.values())[len(given) :]
    defaults = {parameter.name: parameter.default for parameter in own}
    for name, value in settings.items():
        check(name, value, defaults[nearest(name, defaults, f"setting of {functional!r}")])
    found = make(*given, **settings)
    if found.potentials and not isinstance(functional, Field):
        found.warm_up = whole(warm_up, 0, 10**9, "warm_up")
    return found
