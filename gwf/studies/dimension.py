r"""Explicit flows as the dimension grows: pairs with a known optimal map, field accuracy apart from sample quality.

mu_0 = N(0, I_d), nu = (grad psi)# mu_0 with psi convex and known, so that T* = grad psi is the optimal map (Brenier):

    gaussian    T*(x) = A x + b, A symmetric with eigenvalues log-uniform in [1/2, 2] in random axes, b ~ N(0, I);
    mixture     psi(x) = |x|^2 / 4 + (1 / beta) log sum_k exp(beta c_k . x), T*(x) = x / 2 + sum_k p_k(x) c_k, where
                p = softmax(beta c_k . x): eight rounded clusters about c_k ~ N(0, I_d), with beta = 4 / sqrt(d).

At the start (generated law mu_0) a field V is held against the true displacement u = T* - id in L2(mu_0):

    L2-UVP = 100 E|x + V(x) - T*(x)|^2 / Var(nu) [%],        cosine = E<V, u> / (E|V|^2 E|u|^2)^{1/2}.

After a fixed training of the same network by the same loop, generated samples are compared with data by energy distance
and sliced W2, over the distance of two samples of nu. The linear map (optimal between Gaussians with the moments of many
samples) is the bar. Work is counted in arithmetic operations and so the same on every machine; seconds are in the frame
"timing". Sources: w2fe (critic), proposal (family, hypothesis on the dimension); A. Korotin et al. Do neural optimal
transport solvers work? NeurIPS 2021 (pairs by gradients of convex functions, L2-UVP).
"""

import math
import time

import numpy as np
import pandas as pd
import torch

from gwf.errors import UsageError, in_range, nearest
from gwf.exact.gaussian import fitted_map
from gwf.fields.minibatch_ot import MinibatchOT
from gwf.fields.mmd import MMD
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.sliced import Sliced
from gwf.fields.w2 import DualField
from gwf.metrics import energy_distance, sliced_w2
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator, rng
from gwf.steps.euler import Euler, iterate
from gwf.studies.step_cost import Operations

CLUSTERS = 8
FIELDS = ("W2 critic", "Sinkhorn", "sliced", "minibatch OT", "MMD, energy")
LINEAR = "linear map"


class Pair:
    """mu_0 = N(0, I_d) and nu = T*# mu_0 of a kind in `KINDS`; `optimal` is T*, x (n, d) -> (n, d) float32."""

    def __init__(self, kind, d, seed):
        draw = rng(seed, f"pair {kind} {d}")
        self.d = d
        self.optimal = KINDS[nearest(kind, KINDS, "kind of pair")](d, draw)

    def source(self, n, stream):
        """n points of mu_0."""
        return torch.randn(n, self.d, generator=stream)

    def data(self, n, stream):
        """n points of nu."""
        return self.optimal(self.source(n, stream))


def gaussian(d, draw):
    """T* = A x + b of the module's docstring."""
    axes, _ = np.linalg.qr(draw.standard_normal((d, d)))
    values = np.exp(draw.uniform(-math.log(2), math.log(2), d))
    A = torch.tensor((axes * values) @ axes.T, dtype=torch.float32)
    b = torch.tensor(draw.standard_normal(d), dtype=torch.float32)
    return lambda x: x @ A + b


def mixture(d, draw):
    """T* = x / 2 + sum_k p_k(x) c_k of the module's docstring."""
    c, beta = torch.tensor(draw.standard_normal((CLUSTERS, d)), dtype=torch.float32), 4 / math.sqrt(d)
    return lambda x: x / 2 + torch.softmax(beta * x @ c.T, 1) @ c


KINDS = {"gaussian": gaussian, "mixture": mixture}


def make_field(name, d, *, width, weight, critic_lr, critic_steps, reg):
    """The field called `name`, one of `FIELDS`; the critic has the same networks, penalty and rate in every d."""
    nearest(name, FIELDS, "field")
    if name == "W2 critic":
        nets = [PlanePotential(d, width) for _ in range(2)]
        return DualField(*nets, weight=weight, lr=critic_lr, critic_steps=critic_steps)
    functional = {
        "Sinkhorn": Sinkhorn(reg=reg),
        "sliced": Sliced(),
        "minibatch OT": MinibatchOT(),
        "MMD, energy": MMD(),
    }
    return functional[name]


def accuracy(V, u, spread):
    """(cosine, L2-UVP in %, L2-UVP of the best multiple of V) of displacements V (n, d) against the true u; `spread` is Var(nu)."""
    V, u = V.double(), u.double()
    inner, own = float((V * u).sum()), float(V.square().sum())
    cosine = inner / math.sqrt(own * float(u.square().sum()) + 1e-300)
    scale = inner / (own + 1e-300)
    return cosine, *(100 * float((factor * V - u).square().sum(1).mean()) / spread for factor in (1.0, scale))


def field_at_start(field, pair, stream, batch, updates, repeats):
    """V and u on `repeats` fresh batches of mu_0, after `updates` of the critic if there is one; both (repeats batch, d)."""
    if field.critic_steps:
        for _ in range(updates):
            field.improve(pair.source(batch, stream), pair.data(batch, stream), stream)
    V, u = [], []
    for _ in range(repeats):
        x, y, other = pair.source(batch, stream), pair.data(batch, stream), pair.source(batch, stream)
        V.append(field(x, y, other, stream))
        u.append(pair.optimal(x) - x)
    return torch.cat(V), torch.cat(u)


def operations(name, step, pair, batch, iterations_of_plan):
    """Arithmetic operations of one outer iteration: matrix products as torch counts them, and by hand what it does not:
    4 n^2 per Sinkhorn update of a plan, n log2 n per sorted line, n^3 for an assignment, 3 n^2 d per table of distances."""
    with Operations() as counter:
        iterate(step, pair.data, pair.source, batch, generator(0, "operations"))
    n, d = batch, pair.d
    by_hand = {
        "Sinkhorn": 2 * 2 * iterations_of_plan * 4 * n * n,
        "sliced": 2 * Sliced().directions * n * math.log2(n),
        "minibatch OT": n**3 + 3 * n * n * d,
        "MMD, energy": 2 * 3 * n * n * d,
    }
    return counter.total + by_hand.get(name, 0.0)


class Judge:
    """Distances of samples to data, `n` points of each, mean over `draws` draws of both; floors with further data for samples.

    Latents and data are the same for every map. One draw would not do: how many points fall on each cluster is luck.
    """

    def __init__(self, pair, seed, kind, n, directions, draws=4):
        stream, draw = generator(seed, f"judge {kind} {pair.d}"), rng(seed, f"lines {kind} {pair.d}")
        self.w = draw.standard_normal((pair.d, directions))
        self.w /= np.linalg.norm(self.w, axis=0)
        self.starts = [pair.source(n, stream) for _ in range(draws)]
        self.data = [pair.data(n, stream).double().numpy() for _ in range(draws)]
        self.floor = self.distances([pair.data(n, stream) for _ in range(draws)])

    def distances(self, samples):
        """Mean energy distance and sliced W2 of samples, one for each of the data's."""
        found = [
            (energy_distance(x, y), sliced_w2(x, y, self.w))
            for x, y in zip([x.detach().double().numpy() for x in samples], self.data, strict=True)
        ]
        return np.mean(found, axis=0)

    def __call__(self, T):
        """Columns of a map: distances of T# mu_0 over their floors."""
        with torch.no_grad():
            energy, sliced = self.distances([T(start) for start in self.starts])
        return {
            "energy": energy,
            "energy_floor": self.floor[0],
            "energy_ratio": energy / self.floor[0],
            "sliced": sliced,
            "sliced_floor": self.floor[1],
            "sliced_ratio": sliced / self.floor[1],
        }


def run(
    seed,
    progress,
    *,
    kinds,
    dimensions,
    fields,
    iterations,
    batch,
    persistency,
    lr,
    width,
    weight,
    critic_lr,
    critic_steps,
    start_updates,
    start_repeats,
    reg,
    moment_samples,
    points,
    directions,
):
    """All pairs and fields for one seed.

    Parameters
    ----------
    kinds, dimensions, fields : lists
        Of `KINDS`, of ints in [1, 1024], of `FIELDS`.
    iterations, batch, persistency, lr, width
        Outer iterations of the training (Euler step 1), batch, regression steps per iteration, Adam's rate of the map,
        width of map and critics, all the same in every dimension.
    weight, critic_lr, critic_steps
        Of the penalised dual.
    start_updates, start_repeats : int
        Critic updates before the field at the start is read, and batches it is read on.
    reg : float
        Sinkhorn's temperature, relative to the mean cost.
    moment_samples : int
        Samples behind the linear map, more than d.
    points, directions : int
        Samples and lines in the distances.

    Returns
    -------
    dict
        "table": a row per kind, d and method: cosine, uvp, uvp_scaled of the field at the start; uvp_map, the error of
        the trained map; energy and sliced distances, floors and ratios; million_operations per outer iteration.
        "timing": seconds of the training.
    """
    for d in dimensions:
        in_range(d, 1, 1024, "dimensions")
    if moment_samples <= max(dimensions):
        raise UsageError(f"moment_samples = {moment_samples} must be above the largest dimension, {max(dimensions)}")
    for name in fields:
        nearest(name, FIELDS, "field")
    rows, times, done = [], [], 0
    total = len(kinds) * len(dimensions) * len(fields) * iterations
    for kind in kinds:
        for d in dimensions:
            pair = Pair(kind, d, seed)
            judge = Judge(pair, seed, kind, points, directions)
            stream = generator(seed, f"moments {kind} {d}")
            x, y = pair.source(moment_samples, stream), pair.data(moment_samples, stream)
            spread = float(y.double().var(0).sum())
            where = {"kind": kind, "d": d}

            def error(T, n=2000, pair=pair, spread=spread, kind=kind, d=d):
                """L2-UVP of a map in %, and its cosine, on fresh points."""
                x = pair.source(n, generator(seed, f"error {kind} {d}"))
                with torch.no_grad():
                    return accuracy(T(x) - x, pair.optimal(x) - x, spread)

            fitted = fitted_map(x.double().numpy(), y.double().numpy())
            linear = lambda z, fitted=fitted: torch.from_numpy(fitted(z.double().numpy()))  # noqa: E731
            cosine, uvp, scaled = error(linear)
            rows.append(
                where
                | {"method": LINEAR, "cosine": cosine, "uvp": uvp, "uvp_scaled": scaled, "uvp_map": uvp}
                | judge(linear)
            )
            for name in fields:
                label = f"dimension {kind} {d} {name}"
                torch.manual_seed(derive(seed, label))
                stream, settings = (
                    generator(seed, label),
                    {
                        "width": width,
                        "weight": weight,
                        "critic_lr": critic_lr,
                        "critic_steps": critic_steps,
                        "reg": reg,
                    },
                )
                field = make_field(name, d, **settings)
                cosine, uvp, scaled = accuracy(
                    *field_at_start(field, pair, stream, batch, start_updates, start_repeats), spread
                )
                T = PlaneMap(d, width, normalise=False)
                step = Euler(
                    T, field, torch.optim.Adam(T.parameters(), lr, fused=True), eps=1.0, persistency=persistency
                )
                began = time.perf_counter()
                for _ in range(iterations):
                    iterate(step, pair.data, pair.source, batch, stream)
                    done += 1
                    progress(done, total, d=d)
                times.append(where | {"method": name, "seconds": round(time.perf_counter() - began, 3)})
                rows.append(
                    where
                    | {"method": name, "cosine": cosine, "uvp": uvp, "uvp_scaled": scaled, "uvp_map": error(T)[1]}
                    | judge(T)
                    | {"million_operations": operations(name, step, pair, batch, Sinkhorn().iterations) / 1e6}
                )
    table = pd.DataFrame(rows)
    numbers = table.columns.difference(["kind", "d", "method"])
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.5g}"))
    return {"table": table, "timing": pd.DataFrame(times)}
