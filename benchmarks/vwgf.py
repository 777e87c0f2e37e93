"""How long one iteration of VWGF takes: this project's step against a plain loop with the same networks and updates.

    python benchmarks/vwgf.py [--d 2] [--threads 1] [--iterations 40] [--turns 3]

The published setting of the Ornstein-Uhlenbeck experiment: batch 1024, T a residual MLP and r an MLP of width 64, KL
through a Gaussian reference, three updates of r and one of T. The plain loop is what one writes first, and how vwgf's
released code goes about it: T(y) anew for every update, r on either batch separately, gradients for the weights of r in
the map's update as well, default Adam, the reference as a distribution of the library. Both take turns, so that a busy
machine slows them alike. (The released code itself, on two cores of another machine: 27.8 ms.) It prints; it asserts
nothing but that both loops compute the same.
"""

import argparse
import statistics
import time

import torch
from torch.distributions import MultivariateNormal

from gwf.nets.mlp import MLP, ResidualMLP
from gwf.seeding import generator
from gwf.steps.increments import ParticleCache, VariationalStep
from gwf.steps.references import GaussianReference, KLThroughReference

TAU, BATCH, WIDTH, LR = 0.05, 1024, 64, 5e-3


def networks(d):
    torch.manual_seed(0)
    return ResidualMLP(d, WIDTH, 2), MLP(d, 1, WIDTH, 1)


class Plain:
    """The loop one writes first."""

    def __init__(self, d, x):
        self.T, self.r = networks(d)
        self.adam_T = torch.optim.Adam(self.T.parameters(), LR)
        self.adam_r = torch.optim.Adam(self.r.parameters(), LR)
        self.x, self.stream, self.noise = x, generator(0, "batches"), generator(0, "z")
        self.nu = MultivariateNormal(torch.zeros(d), 0.5 * torch.eye(d))
        fitted = GaussianReference.fitted(x)
        self.R = MultivariateNormal(
            torch.tensor(fitted.m, dtype=torch.float32), torch.tensor(fitted.C, dtype=torch.float32)
        )

    def update(self):
        y = self.x[torch.randint(len(self.x), (BATCH,), generator=self.stream)]
        z = self.R.loc + torch.randn(y.shape, generator=self.noise) @ self.R.scale_tril.T
        for _ in range(3):
            loss = -self.r(self.T(y)).mean() + self.r(z).exp().mean()
            self.adam_r.zero_grad()
            loss.backward()
            self.adam_r.step()
        x = self.T(y)
        transport = (y - x).pow(2).sum(1).mean() / (2 * TAU)
        loss = transport + (self.r(x).squeeze(1) + self.R.log_prob(x) - self.nu.log_prob(x)).mean()
        self.adam_T.zero_grad()
        loss.backward()
        self.adam_T.step()


class Ours:
    """`VariationalStep` on a particle cache."""

    def __init__(self, d, x):
        nu = GaussianReference.isotropic(d, 0.5)
        self.T, self.r = networks(d)
        self.cache, self.stream = ParticleCache(x), generator(0, "batches")
        self.step = VariationalStep(
            KLThroughReference(nu.log_density), self.T, self.r, TAU, generator(0, "z"), lr_map=LR, lr_critic=LR
        )
        self.step.begin(0, x)

    def update(self):
        self.step.update(self.cache.batch(BATCH, self.stream))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, nargs="+", default=[2, 32], help="dimensions (default: 2 32)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=40, help="iterations per turn")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"batch {BATCH}, width {WIDTH}, 3 + 1 updates, {asked.threads} thread(s)\n")
    for d in asked.d:
        x = torch.randn(20_000, d, generator=generator(0, "mu_0"))
        loops = {"gwf": Ours(d, x), "plain": Plain(d, x)}
        seconds = {name: [] for name in loops}
        for turn in range(asked.turns + 1):
            for name, loop in loops.items():
                for _ in range(asked.iterations if turn else 3):
                    began = time.process_time() if asked.threads == 1 else time.perf_counter()
                    loop.update()
                    ended = time.process_time() if asked.threads == 1 else time.perf_counter()
                    if turn:
                        seconds[name].append(ended - began)
            if turn == 0:
                gap = max(
                    (a - b).abs().max().item()
                    for a, b in zip(loops["gwf"].T.parameters(), loops["plain"].T.parameters(), strict=True)
                )
                assert gap < 1e-4, f"the two loops drifted apart by {gap:.1e} in three iterations"
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, values in seconds.items():
            print(
                f"  d = {d:>2} {name:>5}: {1e3 * medians[name]:6.2f} ms per iteration (fastest {1e3 * min(values):.2f})"
            )
        print(f"  d = {d:>2} plain / gwf = {medians['plain'] / medians['gwf']:.2f}\n")


if __name__ == "__main__":
    main()
