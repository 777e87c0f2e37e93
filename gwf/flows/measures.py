"""Numbers about clouds, maps and fields, under public names.

All take arrays or tensors, and raise `UsageError` for shapes that do not agree, values not finite, arguments out of range.
"""

import functools
import math

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist

from gwf.errors import UsageError, in_range, whole
from gwf.flows.clouds import array, cloud, pair
from gwf.flows.particles import in_batch, prepared
from gwf.metrics import frechet, scores
from gwf.seeding import generator
from gwf.validation import number


def minibatch_bias(
    x, y, functional="minibatch_ot", *, batches=(16, 64, 256), reg=None, draws=10, seeds=5, reference=None, **settings
):
    r"""Bias and noise of a minibatch field against the size of the batch and the temperature.

    .. math:: \mathrm{bias}(B) = \frac{\| E V_B - V \|}{\| V \|}, \quad
              \mathrm{noise}(B) = \frac{(E \| V_B - E V_B \|^2)^{1/2}}{\| V \|}, \quad
              \mathrm{length}(B) = \frac{\| E V_B \|}{\| V \|}, \qquad \| V \|^2 = \frac1n \sum_i |V(x_i)|^2,

    with V_B(x_i) the velocity of x_i in a random batch of B particles against B data, which a generator or a flow-matching
    model regresses, and V that of all against all [1]_. From the squared bias the mean's sampling variance is subtracted.

    Parameters
    ----------
    x, y : array_like or Tensor, (n, d) and (m, d)
    functional : str, field, divergence or callable
        As in `gwf.flow`. "minibatch_ot" is the plan of OT flow matching; "sinkhorn" with `debias=False` the entropic plan.
    batches : sequence of int
        Each from 2 to min(n, m).
    reg : sequence of float, optional
        Temperatures of "sinkhorn", in units of the mean of |y - y'|^2 / 2 over all data.
    draws, seeds : int
        At least 2 and 1. Partitions per seed, and seeds.
    reference : array_like or Tensor (n, d), optional
        V to compare with; by default the functional's own, with its `settings`, at the same temperature.

    Returns
    -------
    DataFrame
        A row per temperature and batch: `reg`, `batch`; `bias`, `noise`, `length`, means over seeds, and `bias_sd`, ..., their
        standard deviations (nan for one seed).

    References
    ----------
    .. [1] K. Fatras et al. Learning with minibatch Wasserstein: asymptotic and gradient properties. AISTATS 2020.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(128, 2)), rng.normal(size=(128, 2)) * [3, 0.3]
    >>> table = gwf.minibatch_bias(x, y, batches=(4, 32, 128), seeds=2)
    >>> bool(table.bias.is_monotonic_decreasing), bool(table.bias.iloc[-1] < 1e-6)
    (True, True)
    """
    p, q = pair(x, y)
    whole(draws, 2, 10**6, "draws"), whole(seeds, 1, 10**6, "seeds")
    for name, given in (("batches", batches), ("reg", [] if reg is None else reg)):
        if not hasattr(given, "__len__") or isinstance(given, str):
            raise UsageError(f"{name} = {given!r}: it must be a list of numbers")
    for batch in batches:
        whole(batch, 2, min(len(p), len(q)), "batch")
    rows, given_V = [], None if reference is None else pair(reference, p, ("reference", "x"))[0]
    with torch.no_grad():
        for temperature in [None] if reg is None else reg:
            given = settings if temperature is None else settings | {"reg": temperature}
            F = prepared(p, q, functional, 0, given)
            V = F.velocity(p, q, p, generator(0, "flow", p.device)) if given_V is None else given_V
            if V.shape != p.shape or not V.any():
                raise UsageError("the velocity to compare with must have the shape of x, and not vanish")
            for batch in batches:
                values = torch.tensor([_bias(F, p, q, batch, draws, seed, V) for seed in range(seeds)])
                spread = values.std(0) if seeds > 1 else torch.full((3,), math.nan)
                rows.append((temperature, batch, *values.mean(0).tolist(), *spread.tolist()))
    names = ["bias", "noise", "length"]
    return pd.DataFrame(rows, columns=["reg", "batch", *names, *(f"{name}_sd" for name in names)])


def _bias(F, x, y, batch, draws, seed, V):
    """Bias, noise and length, over |V|, from `draws` partitions of x."""
    stream = generator(seed, "minibatches", x.device)
    fields = torch.empty(draws, *x.shape, dtype=x.dtype, device=x.device)
    for k in range(draws):
        order = torch.randperm(len(x), generator=stream, device=x.device)
        # The last part is filled up with points of others, whose velocity it then gives.
        for start in range(0, len(x), batch):
            part = order[min(start, len(x) - batch) :][:batch]
            fields[k, part] = in_batch(F, x[part], y, stream)
    square = lambda t: float(t.double().square().sum(-1).mean())
    noise = float(fields.double().var(0).sum(-1).mean())
    bias = max(square(fields.mean(0) - V) - noise / draws, 0.0)
    length = max(square(fields.mean(0)) - noise / draws, 0.0)
    return [math.sqrt(t / square(V)) for t in (bias, noise, length)]


def ksd(x, score, beta=None):
    r"""Squared kernel Stein discrepancy of samples from a law nu that is known by its score s = grad log nu [1]_.

    .. math::
        \frac{1}{n(n-1)} \sum_{i \ne j} k_{ij} \big[ s_i \cdot s_j + 2\beta (s_i - s_j)\cdot(x_i - x_j)
            + 2\beta d - 4\beta^2 |x_i - x_j|^2 \big], \qquad k_{ij} = e^{-\beta |x_i - x_j|^2}

    Parameters
    ----------
    x : array_like or Tensor (n, d)
        n >= 2. Memory n^2, float64.
    score : callable, or array_like or Tensor (n, d)
        s, or its values at x. A callable gets x as it is given. The constant of nu is not needed.
    beta : float, optional
        Scale of the kernel, > 0; by default 1 / (2 median^2) of the distances between samples.

    Returns
    -------
    float
        Unbiased (U-statistic): its mean is 0 for samples of nu, and it may be negative.

    References
    ----------
    .. [1] Q. Liu, J. Lee, M. Jordan. A kernelized Stein discrepancy for goodness-of-fit tests. ICML 2016.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> score = lambda x: -x                                  # of N(0, I)
    >>> abs(gwf.ksd(x, score)) < 0.01 < gwf.ksd(x + 1, score)
    True
    """
    cloud(x, "x")  # before a function sees it
    p, s = (array(t) for t in pair(x, score(x) if callable(score) else score, ("x", "score")))
    if beta is None and not np.median(pdist(p)):
        raise UsageError("more than half of the distances within x are 0, and its kernel has no scale: give beta")
    beta = scores.ksd_scale(p) if beta is None else number(beta, 0, math.inf, "beta", open_low=True)
    return scores.ksd(p - p.mean(0), s, beta)


@functools.wraps(frechet.frechet_distance, assigned=["__doc__"])
def frechet_distance(x, y):
    return frechet.frechet_distance(*(array(t) for t in pair(x, y)))


def sliced_energy_distance(x, y, directions=500, seed=0):
    r"""Energy distance of two clouds by random lines and sorting, without a table (n, m) [1]_.

    .. math:: \mathcal E(x, y) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|
              = \frac{\sqrt\pi \, \Gamma(\frac{d+1}{2})}{\Gamma(\frac d2)} \; E_w \, 2 \int (F_{w \cdot x} - F_{w \cdot y})^2 dt,

    w uniform on the sphere, F distribution functions: |a| is c E_w |w . a| with the constant c in front. The mean over
    lines is unbiased for `gwf.metrics.energy_distance`, in its convention: diagonals are kept, no root is taken.

    Parameters
    ----------
    x, y : array_like or Tensor, (n, d) and (m, d)
    directions : int
        Lines: the relative error falls like directions^(-1/2), 0 if d = 1; time directions (n + m) log(n + m).
    seed : int

    Returns
    -------
    float
        In the unit of x, >= 0, symmetric in x and y.

    References
    ----------
    .. [1] J. Hertrich, C. Wald, F. Altekrueger, P. Hagemann. Generative sliced MMD flows with Riesz kernels. ICLR 2024.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> round(gwf.sliced_energy_distance(np.array([[0.0]]), np.array([[3.0]])), 9)          # 2 |0 - 3|
    6.0
    """
    p, q = (t.detach() for t in pair(x, y))
    (n, d), stream = p.shape, generator(whole(seed, 0, 2**63 - 1, "seed"), "directions", p.device)
    values = []
    for lines in torch.arange(whole(directions, 1, 10**9, "directions")).split(64):
        w = torch.randn(d, len(lines), generator=stream, device=p.device, dtype=p.dtype)
        t, order = torch.cat([p @ (w / w.norm(dim=0)), q @ (w / w.norm(dim=0))]).sort(0)
        jump = (order < n).double() * (1 / n + 1 / len(q)) - 1 / len(q)
        values.append(2 * (jump.cumsum(0)[:-1].square() * t.double().diff(dim=0)).sum(0))
    constant = math.sqrt(math.pi) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return constant * float(torch.cat(values).mean())


def l2_uvp(predicted, true, variance=None):
    r"""Unexplained variance of a map in per cent [1]_.

    .. math:: 100 \, \frac{E_{x \sim \mu} |\hat T(x) - T(x)|^2}{\operatorname{Var}(\nu)}, \qquad
              \operatorname{Var}(\nu) = E_{y \sim \nu} |y - E y|^2

    Parameters
    ----------
    predicted, true : array_like or Tensor (n, d)
        Images of the same points under the two maps.
    variance : float, optional
        Var(nu), > 0; by default that of the true images.

    Returns
    -------
    float
        0 for the true map, about 100 for the constant map to the mean of nu.

    References
    ----------
    .. [1] A. Korotin et al. Do neural optimal transport solvers work? A continuous Wasserstein-2 benchmark. NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np, gwf
    >>> true = np.array([[-1.0], [1.0]])
    >>> gwf.l2_uvp(true, true), gwf.l2_uvp(0 * true, true)
    (0.0, 100.0)
    """
    p, q = (t.detach().double() for t in pair(predicted, true, ("predicted", "true")))
    if len(p) != len(q):
        raise UsageError(f"predicted has {len(p)} rows and true {len(q)}: one image of each point")
    total = float(q.var(0, correction=0).sum()) if variance is None else variance
    return 100 * float((p - q).square().sum(1).mean()) / in_range(total, 0, math.inf, "variance", open_low=True)
