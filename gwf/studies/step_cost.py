r"""What one update of a step costs as the dimension grows: the variational bound against the determinant.

Networks of one fixed width, one batch size, d from 2 to 64. Counted are the floating-point operations of matrix
products in one update (forward and backward), which do not depend on the machine; the frame "timing" holds milliseconds
of the machine at hand. An update of VWGF is `critic_updates` of the ratio and one of the map; of JKO-ICNN one of psi,
with the exact log determinant or the stochastic one. Source: vwgf, section 5 (time per JKO step against dimension).
"""

import statistics
import time

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gwf.errors import in_range
from gwf.nets.icnn import DenseICNN
from gwf.nets.mlp import MLP, ResidualMLP
from gwf.seeding import derive, generator
from gwf.steps.icnn import ExactLogDet, ICNNStep, StochasticLogDet
from gwf.steps.increments import VariationalStep
from gwf.steps.references import GaussianReference, KLThroughReference

NAMES = ("VWGF", "JKO-ICNN, exact log det", "JKO-ICNN, stochastic log det")


class Operations(TorchDispatchMode):
    """Floating-point operations of matrix products, forwards and backwards (as the library's counter, which does not
    bear gradients inside of gradients)."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def steps_of(d, seed, width, critic_updates, cg_iterations):
    """The three steps in dimension d, towards N(0, I/2), by name."""
    nu = GaussianReference.isotropic(d, 0.5)
    torch.manual_seed(derive(seed, f"step cost {d}"))
    stream = generator(seed, "step cost")
    variational = VariationalStep(
        KLThroughReference(nu.log_density),
        ResidualMLP(d, width, 2),
        MLP(d, 1, width, 2),
        0.05,
        stream,
        lr_map=1e-3,
        lr_critic=1e-3,
        critic_updates=critic_updates,
    )
    stochastic = StochasticLogDet(stream, cg_iterations)
    convex = [
        ICNNStep(DenseICNN(d, width, eps=0.1), nu.log_density, 0.05, lr=1e-3, log_det_of=way)
        for way in (ExactLogDet(), stochastic)
    ]
    return dict(zip(NAMES, [variational, *convex], strict=True))


def run(seed, progress, *, dimensions, width, batch, critic_updates, cg_iterations, updates):
    """Operations and milliseconds of one update for every d of `dimensions`; `updates` timed updates, the median kept.

    Returns
    -------
    dict
        "table": columns method, d, million operations. "timing": method, d, ms (not for comparison between machines).
    """
    for d in dimensions:
        in_range(d, 1, 512, "dimensions")
    in_range(updates, 1, 10_000, "updates")
    rows, times, done = [], [], 0
    total = len(dimensions) * len(NAMES)
    for d in dimensions:
        x = torch.randn(batch, d, generator=generator(seed, f"step cost {d}"))
        for name, step in steps_of(d, seed, width, critic_updates, cg_iterations).items():
            step.begin(0, x)
            step.update(x)
            with Operations() as counter:
                step.update(x)
            rows.append({"method": name, "d": d, "million operations": round(counter.total / 1e6, 3)})
            seconds = []
            for _ in range(updates):
                began = time.perf_counter()
                step.update(x)
                seconds.append(time.perf_counter() - began)
            times.append({"method": name, "d": d, "ms": round(1e3 * statistics.median(seconds), 4)})
            done += 1
            progress(done, total, d=d)
    return {"table": pd.DataFrame(rows), "timing": pd.DataFrame(times)}
