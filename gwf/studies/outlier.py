r"""Does relaxing the marginals remove outliers? uotm's one-dimensional toy, held against its exact solution.

Source N(0, 1); data .99 N(1, .1^2) + .01 N(-1, .1^2); cost a (x - y)^2, that is tau = 1 / (2a). With the modes taken as
atoms the source is cut at one point b, the cell of the outlier is x < b, and the mass sent there is Phi(b):

- hard marginals (OTM): Phi(b) = .01;
- source fixed (S-JKO with K = 1): -4 a b = log(Phi(b) / .01) - log((1 - Phi(b)) / .99);
- both relaxed (UOTM): nu_j e^{-v_j} = int over cell j of e^{-(c - v_j)} phi, b = (v_{-1} - v_{+1}) / (4a);
- UOTM as released: the source-fixed cut at 2a, since all pairs halve tau.

Relaxation *raises* the share of the outlier, which is nearer to the left half of the source than the bulk of the data is.
What can be asked of it is a monotone map and no samples between the modes. Sources: uotm for the toy (the text of the
paper has standard deviation .5, its code .1); the cuts are derived here.
"""

import math

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from gwf import divergences
from gwf.errors import in_range, nearest
from gwf.nets.toy import ExpertsMap, ScaledPotential, ToyMap, ToyPotential, spread
from gwf.seeding import derive, generator
from gwf.steps import semidual as sd

SHARE, STD = 0.01, 0.1
METHODS = ("ot", "source_fixed", "uotm", "uotm_released")


def exact_share(method, a):
    """Mass sent to -1, T_# mu_0 of x < 0, for cost a (x - y)^2, a > 0, by the cuts of this module. Root to 1e-12."""
    in_range(a, 0, math.inf, "a", open_low=True)
    nearest(method, METHODS, "method")
    if method == "ot":
        return SHARE
    if method == "uotm_released":
        return exact_share("source_fixed", 2 * a)
    fixed = lambda b: 4 * a * b + norm.logcdf(b) - math.log(SHARE) - norm.logsf(b) + math.log1p(-SHARE)
    relaxed = lambda b: 4 * a * b - _relaxed_potential(-1, b, a) + _relaxed_potential(1, b, a)
    return float(norm.cdf(brentq(fixed if method == "source_fixed" else relaxed, -8, 4, xtol=1e-12)))


def _relaxed_potential(y, b, a):
    r"""v_y of the both-relaxed problem with cut b: nu e^{-v} = e^v m, m = int over the cell of e^{-a (x - y)^2} phi(x) dx.

    The integrand is a Gaussian of variance 1 / (1 + 2a) and mean 2 a y / (1 + 2a) times e^{-a y^2 / (1 + 2a)} / sqrt(1 + 2a).
    """
    q = 1 + 2 * a
    cut = (b - 2 * a * y / q) * math.sqrt(q)
    log_m = -a * y * y / q - math.log(q) / 2 + (norm.logcdf(cut) if y < 0 else norm.logsf(cut))
    return (math.log(SHARE if y < 0 else 1 - SHARE) - log_m) / 2


def data(n, stream):
    """y (n, 1): each point is an outlier with probability .01."""
    sign = 1 - 2 * (torch.rand(n, 1, generator=stream) < SHARE).float()
    return sign + STD * torch.randn(n, 1, generator=stream)


def source(n, stream):
    """x ~ N(0, 1) (n, 1); no auxiliary latent, as the exact plan is a map."""
    return torch.randn(n, 1, generator=stream), None


def make_step(method, v, a, weight):
    """The step of `method`, KL where relaxed."""
    kl, linear, anchor = (
        divergences.entropy("kl"),
        divergences.entropy("linear"),
        sd.Anchor(1 / (2 * a), per_dimension=False),
    )
    return {
        "ot": lambda: sd.SemiDualStep(linear, v, anchor, weight),
        "source_fixed": lambda: sd.SemiDualStep(kl, v, anchor, weight),
        "uotm": lambda: sd.RelaxedSourceStep(kl, kl, v, anchor, weight),
        "uotm_released": lambda: sd.AllPairsStep(kl, kl, v, anchor, weight),
    }[nearest(method, METHODS, "method")]()


MAPS = ("plain", "experts")


def networks(map, width, stream):
    """Map and potential: "plain" (continuous, the papers' form) or "experts" (may jump, as the exact map does)."""
    if nearest(map, MAPS, "map") == "plain":
        return ToyMap(1, 0, width, 2, 2), ToyPotential(1, width, 2, 2)
    return ExpertsMap(spread(data(2000, stream), 2), width), ScaledPotential(1, width, scale=1.0)


def run(seed, progress, *, a, methods, map, iterations, batch, width, lr_map, lr_potential, weight):
    """Train every method for every coefficient `a` of the cost, with the networks `map`, "plain" or "experts".

    Returns
    -------
    dict
        "table": a row per method and a with `share` (of samples < 0) beside `share_exact`; `far`, the share of samples
        farther than .4 (four standard deviations) from both -1 and 1; `inversions`, the share of neighbours x < x' on a fine grid of the source's
        quantiles with T(x) > T(x'), 0 for a monotone map. "curve": T on that grid.
    """
    for value in a:
        in_range(value, 0, math.inf, "a", open_low=True)
    rows, curves, total, done = [], [], len(a) * len(methods) * iterations, 0
    x = torch.tensor(norm.ppf((np.arange(20_000) + 0.5) / 20_000), dtype=torch.float32)[:, None]
    for coefficient in a:
        for method in methods:
            name = f"{method} {coefficient}"
            torch.manual_seed(derive(seed, name))
            T, v = networks(map, width, generator(seed, "first images"))
            sd.train(
                make_step(method, v, coefficient, weight),
                T,
                source,
                data,
                [iterations],
                lr_map=lr_map,
                lr_potential=lr_potential,
                batch=batch,
                generator=generator(seed, name),
                schedule=sd.cosine,
                progress=lambda i, _, done=done, name=name, **shown: progress(done + i, total, **shown),
            )
            done += iterations
            with torch.no_grad():
                y = T(x)[:, 0].double().numpy()
            rows.append(
                {
                    "method": method,
                    "map": map,
                    "a": coefficient,
                    "share": (y < 0).mean(),
                    "share_exact": exact_share(method, coefficient),
                    "far": (np.abs(np.abs(y) - 1) > 4 * STD).mean(),
                    "inversions": (np.diff(y) < 0).mean(),
                }
            )
            curves.append(
                pd.DataFrame({"method": method, "map": map, "a": coefficient, "x": x[::100, 0].numpy(), "T": y[::100]})
            )
    return {"table": pd.DataFrame(rows).round(5), "curve": pd.concat(curves, ignore_index=True).round(4)}
