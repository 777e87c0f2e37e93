"""How long one outer iteration of W2-FE takes: this project's loop against a plain one with the same networks, batch and losses.

    python benchmarks/w2fe.py [--iterations 10] [--threads 1]

Networks of the published size (34,434 and twice 33,537 weights), batch 512, ring of eight Gaussians, 5 critic steps, persistency 1
and 10. The plain loop is written after the description of the released code: every term of the critic's loss calls the networks for
itself and asks autograd for its slopes, the target is regressed on by `MSELoss`, whose first pass through the map repeats the target's,
default Adam, no fusion. Both take turns; the ratio of the medians is what to compare between machines. It prints; it asserts nothing.
"""

import argparse
import statistics
import time

import torch

from gwf.data import toys
from gwf.fields.w2 import DualField
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import generator
from gwf.steps.euler import Euler, iterate
from gwf.training import machine

BATCH, CRITIC_STEPS, WEIGHT = 512, 5, 200.0


def slope(f, x, create_graph=True):
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(f(x).sum(), x, create_graph=create_graph)[0]


class Plain:
    """The loop one writes from the algorithm."""

    def __init__(self, persistency):
        self.T, self.p, self.e, self.toy = PlaneMap(), PlanePotential(), PlanePotential(), toys.get("ring")
        self.stream, self.persistency, self.regression = generator(0, "plain"), persistency, torch.nn.MSELoss()
        self.opt_T = torch.optim.Adam(self.T.parameters(), lr=1e-4, foreach=False)
        self.opt_h = torch.optim.Adam([*self.p.parameters(), *self.e.parameters()], lr=5e-4, foreach=False)

    def h(self, x):
        return -self.p(x) + self.e(x)

    def critic_loss(self, x, y):
        def cost(a, b):
            return (a - b).square().sum(1, keepdim=True) / 2

        loss = -(self.p(y) + self.h(x)).mean()
        loss = loss + WEIGHT * (self.p(y) + self.h(x) - cost(x, y)).clamp(min=0).square().mean()
        s, r = torch.rand(len(x), 1, generator=self.stream), torch.rand(len(x), 1, generator=self.stream)
        a, b = s * y + (1 - s) * x, r * x + (1 - r) * y
        loss = loss + WEIGHT * (self.p(a) + self.h(b) - cost(a, b)).clamp(min=0).square().mean()
        T_y = y - slope(self.p, y)
        loss = loss + WEIGHT * (self.p(y) + self.h(T_y) - cost(y, T_y)).square().mean()
        T_x = x - slope(self.h, x)
        return loss + WEIGHT * (self.p(T_x) + self.h(x) - cost(T_x, x)).square().mean()

    def iteration(self):
        for _ in range(CRITIC_STEPS):
            y, x = self.toy.data(BATCH, self.stream), self.T(self.toy.source(BATCH, self.stream)).detach()
            self.opt_h.zero_grad()
            self.critic_loss(x, y).backward()
            self.opt_h.step()
        z = self.toy.source(BATCH, self.stream)
        x = self.T(z).detach()
        target = x - slope(self.h, x, create_graph=False)
        for _ in range(self.persistency):
            self.opt_T.zero_grad()
            self.regression(self.T(z), target).backward()
            self.opt_T.step()


class Ours:
    """`gwf.steps.euler.iterate`."""

    def __init__(self, persistency):
        T, self.toy, self.stream = PlaneMap(), toys.get("ring"), generator(0, "ours")
        field = DualField(PlanePotential(), PlanePotential(), weight=WEIGHT, critic_steps=CRITIC_STEPS)
        self.step = Euler(T, field, torch.optim.Adam(T.parameters(), lr=1e-4, fused=True), 1.0, persistency)

    def iteration(self):
        iterate(self.step, self.toy.data, self.toy.source, BATCH, self.stream)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(
        f"{machine.description()['cpu']}, {asked.threads} thread(s), batch {BATCH}; processor time per outer iteration"
    )
    for persistency in (1, 10):
        loops, spent = {"gwf": Ours(persistency), "plain": Plain(persistency)}, {"gwf": [], "plain": []}
        for turn in range(asked.iterations + 2):
            for name, loop in loops.items():
                began = time.process_time()
                loop.iteration()
                if turn >= 2:
                    spent[name].append((time.process_time() - began) / asked.threads)
        medians = {name: 1e3 * statistics.median(times) for name, times in spent.items()}
        print(f"  persistency {persistency}")
        for name, times in spent.items():
            print(f"    {name:>5}: {medians[name]:6.1f} ms (fastest {1e3 * min(times):.1f})")
        print(f"    plain / gwf = {medians['plain'] / medians['gwf']:.2f}")


if __name__ == "__main__":
    main()
