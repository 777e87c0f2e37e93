"""Particles that move along the Wasserstein gradient flow of a functional, in explicit steps or implicit ones."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from gwf.errors import UsageError, in_range, nearest, whole
from gwf.exact import atoms
from gwf.fields.drifting import DriftingReleased
from gwf.fields.kernels import LearnedMMD
from gwf.fields.learned import Learned
from gwf.flows import functionals
from gwf.flows.clouds import array, exact_plan, like, pair, positive
from gwf.progress import follow
from gwf.seeding import generator

COLUMNS = ["step", "time", "functional", "slope", "limited", "w2", "seconds"]


@dataclass(frozen=True, repr=False)
class Flow:
    """What `gwf.flow` returns: the last `particles` (n, d), the `history`, and whether it `converged`, with a `message`.

    `plan` (n, m), that of the last particles, where the functional has one; `weights` (n,) of the particles, None if equal;
    `path` (k, n, d), the particles at each row of the history, if kept. The history is a DataFrame with the columns `step`;
    `time`, the sum of steps; `functional`, F; `slope`, the root of mean |V|^2, by which F falls at the rate slope^2 along the
    exact flow, V as far as `reach` allows; `limited`, the share of particles that it held back; `w2`, W_2 to y by POT, nan
    unless asked for; `seconds`.
    """

    particles: Any
    history: pd.DataFrame
    converged: bool
    message: str
    plan: Any = None
    weights: Any = None
    path: Any = None

    def __repr__(self):
        return f"<Flow of {len(self.particles)} particles: {self.message}>"


class Explicit:
    """Euler steps of F towards y. A step gives the new particles and the slope."""

    weights, limited = None, 0.0

    def __init__(self, F, y, step, reach, batch, seed):
        self.F, self.y, self.step, self.reach, self.batch, self.seed = F, y, step, reach, batch, seed
        self.stream = generator(seed, "flow", y.device)

    def advance(self, x):
        """x + step V(x), no particle farther than `reach`."""
        move = self.step * self.velocity(x)
        if math.isfinite(self.reach):
            share = (self.reach / move.detach().norm(dim=1).clamp_min(1e-30)).clamp_max(1)
            move, self.limited = move * share[:, None], float((share < 1).double().mean())
        return x + move, move

    def velocity(self, x):
        """V of all particles at once, or in random parts against as many data."""
        improve(self.F, x, self.y, self.F.critic_steps, self.stream)
        if self.batch is None:
            return self.F.velocity(x, self.y, x, self.stream)
        order = torch.randperm(len(x), generator=self.stream, device=x.device)
        V = [in_batch(self.F, x[part], self.y, self.stream) for part in order.split(self.batch)]
        return torch.cat(V)[order.argsort()]

    def value(self, x):
        """F, nan where the functional has none; the same random numbers at every call."""
        look = generator(self.seed, "values", x.device)
        return float(self.F.value(x, self.y, look)) if hasattr(self.F, "value") else math.nan

    def masses(self, x):
        return np.full(len(x), 1 / len(x)) if self.weights is None else self.weights

    def w2(self, x):
        return math.sqrt(exact_plan(x, self.y, self.masses(x))[0])

    def plan(self, x):
        """The plan of V, or None."""
        return self.F.plan(x, self.y) if hasattr(self.F, "plan") else None


class Proximal(Explicit):
    """x' minimises F(x') + mean |x' - x|^2 / (2 step), by L-BFGS with a strong Wolfe line search on the host: a local minimiser."""

    def advance(self, x):
        """x', and x' - x, which is step V(x')."""
        new, k = x.clone().requires_grad_(), int(torch.randint(2**31, (), generator=self.stream, device=x.device))
        solver = torch.optim.LBFGS([new], max_iter=50, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

        @torch.no_grad()
        def closure():
            at, (one, same) = new.detach(), (generator(k, "proximal", x.device) for _ in range(2))
            new.grad = ((at - x) / self.step - self.F.velocity(at, self.y, at, one)) / len(x)
            return self.F.value(at, self.y, same) + (at - x).square().sum() / (2 * self.step * len(x))

        solver.step(closure)
        return new.detach(), new.detach() - x


class Atoms(Explicit):
    """The exact implicit step of an f-divergence, solved on the host: mass moves to the atoms y or stays, and the weights flow."""

    def advance(self, x):
        """y and the x where mass stays; and the distance that mass went, whose mean square is W_2^2."""
        a, b, y = self.masses(x), np.full(len(self.y), 1 / len(self.y)), array(self.y)
        there = a > 0
        self.found = found = atoms.jko_step(array(x)[there], a[there], y, b, self.step, self.F.divergence.of_mass)
        stays = found.kept > 1e-8  # an interior point has no exact zeros
        weights = np.concatenate([found.mu, found.kept[stays]])
        self.weights = weights / weights.sum()
        square = (atoms.cost(array(x)[there], y, 0.5) * found.plan).sum()
        rows = torch.as_tensor(np.flatnonzero(there)[stays], device=x.device)
        return torch.cat([self.y, x[rows]]), torch.tensor([[math.sqrt(square)]])

    def value(self, x):
        """D_f of the law, with the price of the mass off the data; mass at equal points is added up."""
        divergence, m = self.F.divergence.of_mass, len(self.y)
        at = np.unique(array(torch.cat([self.y, x])), axis=0, return_inverse=True)[1].ravel()
        b, a = np.bincount(at[:m], minlength=at.max() + 1) / m, np.bincount(at[m:], self.masses(x), at.max() + 1)
        off = a[b == 0].sum()
        with np.errstate(divide="ignore"):  # log 0
            on = float(divergence.f(a[b > 0] / b[b > 0]) @ b[b > 0])
        return on + (off * atoms.recession(divergence) if off else 0.0)

    def plan(self, x):
        return self.found.plan


def in_batch(F, x, y, stream):
    """V at the batch x, against as many data at random."""
    getattr(F, "forget", bool)()
    return F.velocity(x, y[torch.randperm(len(y), generator=stream, device=y.device)[: len(x)]], x, stream)


def prepared(x, y, functional, seed, settings):
    """The functional, having seen the data, its potentials warmed up."""
    most = torch.finfo(x.dtype).max ** 0.5 / 1e3
    if (largest := max(float(t.detach().abs().max()) for t in (x, y))) > most:
        raise UsageError(f"a coordinate is {largest:.3g}: squares overflow in {x.dtype}, at most {most:.1g}")
    F = functionals.get(functional, x, whole(seed, 0, 2**63 - 1, "seed"), **settings)
    if isinstance(F, LearnedMMD | DriftingReleased) and min(len(x), len(y) + isinstance(F, DriftingReleased)) < 2:
        raise UsageError(f"{F.title} is not finite on {len(x)} and {len(y)} points: it needs pairs of them")
    if hasattr(F, "prepare"):
        F.prepare(y)
    improve(F, x, y, getattr(F, "warm_up", 0), generator(seed, "warm-up", x.device))
    return F


@torch.enable_grad()
def improve(F, x, y, updates, stream):
    """So many updates of what F learns, on at most 256 points of either cloud; none in closed form."""
    for _ in range(updates):
        batch = [torch.randperm(len(t), generator=stream, device=t.device)[: min(len(x), len(y), 256)] for t in (x, y)]
        F.improve(x.detach()[batch[0]], y.detach()[batch[1]], stream)


def graph(*clouds):
    """A context in which gradients are recorded if one of the clouds asks for them."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and any(t.requires_grad for t in clouds))


def velocity(x, y, functional="sinkhorn", *, seed=0, **settings):
    r"""Steepest descent of a functional of particles: minus its Wasserstein gradient at their law.

    .. math:: V(x_i) = - n \nabla_{x_i} F(x), \qquad F(x) = D\Bigl(\tfrac1n \sum_i \delta_{x_i} \Big|
              \tfrac1m \sum_j \delta_{y_j}\Bigr)

    Parameters
    ----------
    x, y, functional, seed, **settings
        As in `flow`.

    Returns
    -------
    ndarray or Tensor (n, d), as x is
        In units of x per unit of time. Where x or y asks for gradients it is differentiable, iterations and all, for
        functionals in closed form but "drifting_released". Units and bandwidths that come of y count as constants; of
        "minibatch_ot" the plan does, and its data.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0]])
    >>> gwf.velocity(x, x + [3.0, 0.0], "minibatch_ot")
    array([[3., 0.],
           [3., 0.]])
    """
    p, q = pair(x, y)
    F = prepared(p, q, functional, seed, settings)
    with graph(p, q):
        return like(F.velocity(p, q, p, generator(seed, "flow", p.device)), x)


def flow(
    x,
    y,
    functional="sinkhorn",
    *,
    step=None,
    steps=100,
    method="explicit",
    batch=None,
    reach=None,
    tolerance=1e-3,
    every=None,
    exact=False,
    keep=False,
    seed=0,
    **settings,
):
    r"""Move particles x towards data y along the Wasserstein gradient flow of a functional.

    .. math:: \partial_t \mu = \nabla \cdot \Bigl(\mu \nabla \frac{\delta F}{\delta \mu}\Bigr), \qquad
              F(\mu) = D(\mu | \nu), \qquad \mu_0 = \tfrac1n \sum_i \delta_{x_i}, \quad \nu = \tfrac1m \sum_j \delta_{y_j},

    in explicit steps (Euler) or implicit ones (JKO [1]_),

    .. math:: x^{k+1} = x^k + \epsilon V(x^k), \qquad
              \mu_{k+1} = \operatorname{argmin}_\mu F(\mu) + \frac{1}{2 \tau} W_2^2(\mu, \mu_k).

    Parameters
    ----------
    x, y : array_like or Tensor, (n, d) and (m, d)
        Particles at time 0, and data; finite. Computed in the type of x, on its device; the host reads each step's slope.
    functional : str, field, f-divergence or callable
        "sinkhorn" (divergence), "sliced" (W2), "mmd" (half the energy distance, or another `kernel`), "minibatch_ot" (W_2^2 / 2
        of all points, unless in batches); "w2", "w1" (learned potentials); "kl", "reverse_kl", "js", "chi2", "hellinger" and
        their variants in `gwf.divergences`, estimated by kernel densities, or by a critic (`estimate="critic"`). Or an
        object: `gwf.fields.base.Field`, `gwf.bounds.FDivergence`, or any differentiable F(x, y) of two tensors.
    step : float, optional
        eps or tau, > 0; by default half the way of a transport field, a kernel density's bandwidth squared, else 1.
    steps : int
        Most steps.
    method : {"explicit", "jko"}
        "jko" for an f-divergence is exact (`gwf.jko_step`, O(n m^2)): `particles` are y, then those x that mass does not leave
        ("js", "hellinger", ...), and `weights` flow if tau is well above the squared distance of neighbours. Otherwise the map
        of equal particles is optimised, for a functional with a value.
    batch : int, optional
        Explicit steps in random parts of this size, against as many data: memory batch^2, with the bias of `minibatch_bias`.
    reach : float, optional
        No particle moves farther in an explicit step: by default one bandwidth of a kernel density, else no limit.
    tolerance : float
        Converged when the slope is at most this share of the first.
    every : int, optional
        Steps between rows of the history; by default about 20 rows.
    exact, keep : bool
        W_2 to y for every row, by POT in O(n^3); the particles for every row.
    seed : int
        Of all that is random.
    **settings
        Of the functional: `reg`, `relaxation` (lets outliers of y go), `kernel`, ...: see `gwf.flows.functionals`.

    Returns
    -------
    Flow
        Particles as x is. Differentiable in explicit steps as `velocity` is, through all of them; where Sinkhorn's potentials
        start counts as constant, so its `iterations` should converge. `UsageError` for clouds that do not agree, an unknown
        name, a value out of range.

    References
    ----------
    .. [1] R. Jordan, D. Kinderlehrer, F. Otto. The variational formulation of the Fokker-Planck equation. SIMA 29 (1998).

    Examples
    --------
    >>> import numpy as np, gwf
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(100, 2)), rng.normal(size=(120, 2)) + 4
    >>> result = gwf.flow(x, y, "sinkhorn", exact=True)
    >>> result.converged, bool(result.history.w2.iloc[-1] < 0.1 * result.history.w2.iloc[0])
    (True, True)
    """
    p, q = pair(x, y)
    whole(steps, 1, 10**9, "steps"), in_range(tolerance, 0, 1, "tolerance")
    batch = batch if batch is None else whole(batch, 2, min(len(p), len(q)), "batch")
    for name, flag in (("exact", exact), ("keep", keep)):
        if not isinstance(flag, (bool, np.bool_)):
            raise UsageError(f"{name} = {flag!r}: it must be True or False")
    every = max(steps // 20, 1) if every is None else whole(every, 1, 10**9, "every")
    kind = {"explicit": Explicit, "jko": Proximal}[nearest(method, ("explicit", "jko"), "method")]
    F = prepared(p, q, functional, seed, settings)
    step = positive(getattr(F, "natural_step", 1.0) if step is None else step, "step")
    in_range(step, 0, 1e300, "step")
    reach = positive(getattr(F, "reach", math.inf) if reach is None else reach, "reach")
    if kind is Proximal:
        if batch or isinstance(F, Learned) or not hasattr(F, "value"):
            raise UsageError("method = 'jko' takes a functional with a value, and no batch")
        kind, p, q = Atoms if isinstance(F, functionals.Blurred) else Proximal, p.detach(), q.detach()
    with graph(p, q):
        return _run(kind(F, q, step, reach, batch, seed), x, p, steps, tolerance, every, exact, keep)


def _run(scheme, given, x, steps, tolerance, every, exact, keep):
    """The loop of all schemes."""
    rows, path, first, k, message, began = [], [], None, 0, None, time.monotonic()
    progress = follow(f"flow of {scheme.F.title}", patience=5)

    @torch.no_grad()
    def record(slope):
        w2 = scheme.w2(x) if exact else math.nan
        seconds = time.monotonic() - began
        rows.append((k, k * scheme.step, scheme.value(x), slope, scheme.limited, w2, seconds))
        path.extend([x.detach()] * keep)

    record(math.nan)
    while k < steps and message is None:
        new, move = scheme.advance(x)
        slope = float(move.detach().square().sum(1).mean().sqrt()) / scheme.step
        if not (math.isfinite(slope) and new.isfinite().all()):
            message = f"stopped before step {k + 1}, which is not finite: take a step shorter than {scheme.step:.3g}"
            break
        x, k, first = new, k + 1, slope if first is None else first
        if slope <= tolerance * first:
            message = f"converged after {k} steps"
        if k % every == 0 or k == steps or message:
            record(slope)
        progress(steps if message else k, steps, slope=slope)
    history = pd.DataFrame(rows, columns=COLUMNS)
    converged = bool(message and message.startswith("converged"))
    message = message or f"{k} steps taken, the slope is {slope / first:.2g} of the first"
    if not converged and history.functional.iloc[-1] > history.functional.iloc[0]:
        message += "; the functional rose: take a shorter step"
    with torch.no_grad():
        plan = scheme.plan(x.detach()) if k else None
    path = torch.stack(path) if keep else None
    plan, weights, path = (t if t is None else like(t, given) for t in (plan, scheme.weights, path))
    return Flow(like(x, given), history, converged, message, plan, weights, path)
