"""How long `gwf.flow` takes in the plane, functional by functional, and how near it comes.

    python benchmarks/flow.py [--points 2000] [--threads 1] [--functionals sinkhorn sliced]

Standard normal particles flow to a ring of eight Gaussians, float32, at default settings. It prints the processor's
seconds, which other work on the machine changes little, steps, W_2 to the data by POT before and after with the
distance of two samples of data as its floor, and the memory that a flow took on top. It asserts nothing.
"""

import argparse
import os
import resource
import time

os.environ.setdefault("GWF_PROGRESS", os.devnull)

import numpy as np  # noqa: E402
import torch  # noqa: E402

import gwf  # noqa: E402
from gwf.metrics import wasserstein  # noqa: E402


def ring(n, rng):
    """Eight Gaussians of standard deviation .3 on a circle of radius 4."""
    angle = 2 * np.pi * rng.integers(8, size=n) / 8
    return 4 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.3 * rng.normal(size=(n, 2))


def peak():
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--functionals", nargs="+", default=["sliced", "kl", "js", "chi2", "mmd", "sinkhorn"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rng = np.random.default_rng(0)
    x, y, again = rng.normal(size=(asked.points, 2)), ring(asked.points, rng), ring(asked.points, rng)
    print(f"{asked.points} + {asked.points} points, {asked.threads} thread(s)")
    print(f"W2: {wasserstein(x, y):.3f} at the start, {wasserstein(y, again):.3f} between two samples of the data")
    x, y = x.astype(np.float32), y.astype(np.float32)
    for name in asked.functionals:
        gwf.flow(x[:50], y[:50], name, steps=2)
        before, began = peak(), time.process_time()
        result = gwf.flow(x, y, name)
        seconds, steps = time.process_time() - began, result.history.step.iloc[-1]
        print(
            f"{name:>12}: {seconds:5.1f} s, {steps:3d} steps of {1e3 * seconds / steps:4.0f} ms, "
            f"W2 {wasserstein(result.particles, y):.3f}, {peak() - before:4.0f} MB more; {result.message}"
        )


if __name__ == "__main__":
    main()
