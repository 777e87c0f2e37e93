"""How long one S-JKO update takes: this project's loop against a plain one with the same networks, batch and losses.

    python benchmarks/sjko.py [--updates 20] [--threads 1]

Networks of the published size (182,658 and 165,633 weights), batch 400, 25 Gaussians, a frozen anchor (phase 1), KL. The plain
loop is written after the published algorithm: a fresh batch and a second pass through T for the map's update, the potential's loss
back-propagated through T (and thrown away), gradients for the potential in the map's update, default Adam, no fusion. Both take
turns; the ratio of the medians is what to compare between machines. It prints; it asserts nothing.
"""

import argparse
import copy
import statistics
import time

import torch

from gwf import divergences
from gwf.nets.toy import ToyMap, ToyPotential
from gwf.seeding import generator
from gwf.steps import semidual as sd
from gwf.training import machine
from notebooks.experiments.modes_toys import gaussians, source

BATCH = 400


class Plain:
    """The loop one writes from the algorithm."""

    def __init__(self):
        self.T, self.v, self.stream = ToyMap(), ToyPotential(), generator(0, "plain")
        self.T_k = copy.deepcopy(self.T)
        self.opt_T = torch.optim.Adam(self.T.parameters(), lr=1e-4, betas=(0.5, 0.9), foreach=False)
        self.opt_v = torch.optim.Adam(self.v.parameters(), lr=2e-5, betas=(0.5, 0.9), foreach=False)

    def update(self):
        x, z = source(BATCH, self.stream)
        y = gaussians(BATCH, self.stream)
        self.opt_v.zero_grad()
        (self.v(self.T(x, z)).mean() + (torch.exp(-self.v(y)) - 1).mean()).backward()
        self.opt_v.step()

        x, z = source(BATCH, self.stream)
        self.opt_T.zero_grad()
        y_hat = self.T(x, z)
        with torch.no_grad():
            anchor = self.T_k(x, z)
        ((y_hat - anchor).square().mean(1) / 2 - self.v(y_hat)).mean().backward()
        self.opt_T.step()


class Ours:
    """`gwf.steps.semidual.phases`, an update at a time."""

    def __init__(self):
        self.T, self.v, self.stream = ToyMap(), ToyPotential(), generator(0, "ours")
        anchor = sd.Anchor(1.0)
        anchor.advance(self.T)
        self.step = sd.SemiDualStep(divergences.entropy("kl"), self.v, anchor)
        self.players = sd.SemiDualPlayers(self.step, self.T, self.stream, 1e-4, 2e-5)

    def update(self):
        xz, y = source(BATCH, self.stream), gaussians(BATCH, self.stream)
        self.players.update(xz, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    loops, spent = {"gwf": Ours(), "plain": Plain()}, {"gwf": [], "plain": []}
    for turn in range(asked.updates + 3):
        for name, loop in loops.items():
            began = time.process_time()
            loop.update()
            if turn >= 3:
                spent[name].append((time.process_time() - began) / asked.threads)
    print(f"{machine.description()['cpu']}, {asked.threads} thread(s), batch {BATCH}; processor time")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    for name, times in spent.items():
        print(f"  {name:>5}: {1e3 * medians[name]:6.1f} ms per update (fastest {1e3 * min(times):.1f})")
    print(f"  plain / gwf = {medians['plain'] / medians['gwf']:.2f}")


if __name__ == "__main__":
    main()
