r"""The maps of the experiment `w2benchmark`: two without training, and two that are trained.

Every function takes a pair with samplers `source`, `data`, (n, stream) -> (n, d), and returns a map x (n, d) -> (n, d).
Settings `s` are those of the notebook's parameters cell by name.
"""

import math

import torch

from gwf.exact.gaussian import fitted_map
from gwf.fields import entropic
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.w2 import DualField
from gwf.nets.icnn import DenseICNN
from gwf.nets.residual import QuadraticMLP
from gwf.seeding import derive, generator
from gwf.steps.jko import descend


def linear_map(pair, n, stream):
    """The optimal map of the Gaussians with the moments of n samples each."""
    T = fitted_map(pair.source(n, stream).double().numpy(), pair.data(n, stream).double().numpy())
    return lambda z: torch.from_numpy(T(z.double().numpy()))


def entropic_map(pair, n, stream, reg, iterations=30):
    r"""The barycentric map of Sinkhorn's plan of n + n samples, `reg` times the mean cost, continued to every z:

    T(z) = sum_j y_j softmax_j((g_j - c(z, y_j)) / reg).
    """
    x, y = pair.source(n, stream), pair.data(n, stream)
    C = entropic.half_squared(x, y)
    reg = reg * C.mean()
    _, g = entropic.potentials(C, reg, iterations)
    return lambda z: entropic.barycentre(entropic.half_squared(z, y), g, y, reg)


def network(d, width, seed, name):
    """A convex psi with three layers of `width`; calling it gives grad psi, (n, d)."""
    torch.manual_seed(derive(seed, f"w2benchmark {d} {name}"))
    return DenseICNN(d, width, 3, 1)


def drawn(n, stream, *clouds):
    """n rows of the clouds, the same of each."""
    rows = torch.randint(len(clouds[0]), (n,), generator=stream)
    return [cloud[rows] for cloud in clouds]


def gap(T, x, y):
    """E |T(x) - y|^2."""
    return (T(x) - y).square().sum(1).mean()


def rate(lr, share):
    """Adam's rate after a share in [0, 1] of the iterations: along a cosine from `lr` to 0."""
    return lr * (1 + math.cos(math.pi * share)) / 2


# The Sinkhorn step.


def pushed(pair, s, stream):
    """x and x + V(x) on `plans` batches of `plan_points`, each with data and a second batch of its own, which V needs."""
    field, n = Sinkhorn(s["reg"], s["plan_iterations"]), s["plan_points"]
    x = [pair.source(n, stream) for _ in range(s["plans"])]
    V = [field(a, pair.data(n, stream), pair.source(n, stream), stream) for a in x]
    return torch.cat(x), torch.cat(x) + torch.cat(V)


def sinkhorn_step(pair, seed, s, progress):
    """grad psi = argmin E |T(x) - x - V(x)|^2: the explicit step of length 1 from mu_0, regressed on independent batches."""
    stream, psi = generator(seed, f"step {pair.d}"), network(pair.d, s["width"], seed, "step")
    x, y = pushed(pair, s, stream)
    optimiser = torch.optim.Adam(psi.parameters(), s["lr"], fused=True)
    for k in range(s["iterations"]):
        optimiser.param_groups[0]["lr"] = rate(s["lr"], k / s["iterations"])
        loss = descend(optimiser, gap(psi, *drawn(s["batch"], stream, x, y)))
        psi.project()
        progress(k + 1, s["iterations"], loss=loss)
    return psi


# The dual of W2.


def critic(pair, seed, s, progress):
    """T(x) = x - grad h(x) of W2-FE's penalised dual, two quadratics with an MLP each, on as many samples as the step has."""
    torch.manual_seed(derive(seed, f"w2benchmark {pair.d} critic"))
    stream, n = generator(seed, f"critic {pair.d}"), s["plan_points"] * s["plans"]
    x, y = pair.source(n, stream), pair.data(n, stream)
    p, e = (QuadraticMLP(pair.d, 2 * s["width"], 2) for _ in range(2))
    field = DualField(p, e, weight=s["weight"], lr=s["lr_critic"])
    for k in range(s["critic_updates"]):
        field.optimiser.param_groups[0]["lr"] = rate(s["lr_critic"], k / s["critic_updates"])
        (a,), (b,) = drawn(s["batch"], stream, x), drawn(s["batch"], stream, y)
        loss = field.improve(a, b, stream)
        progress(k + 1, s["critic_updates"], loss=loss)
    return lambda z: z + field(z)
