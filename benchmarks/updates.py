"""How long one update takes: this project's loop against a plain one with the same networks, batch and losses.

    python benchmarks/updates.py [--dataset digits|eight_gaussians] [--threads 1] [--updates 40]

One update is one step of the critic (with its R1 penalty) and one of the map (with its frozen anchor), KL-DV + JKO.
The plain loop is what one writes first: library convolutions in the default layout, a fresh latent batch and a
second pass through T for the map's step, gradients for the critic's weights in it, default Adam, averaging
parameter by parameter, and the C library's default allocator. Both loops take turns, so that a busy machine slows
them alike; the ratio is what to compare between machines. It prints; it asserts nothing.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gwf import divergences
from gwf.data.embedded import digits, eight_gaussians, to_model
from gwf.nets.conv import ConvCritic, ConvMap
from gwf.nets.mlp import MLP
from gwf.seeding import generator
from gwf.steps import penalties
from gwf.training import machine
from gwf.training.implicit import JKO, JKOSettings

BATCH = {"digits": 64, "eight_gaussians": 256}


class Source:
    """Data and networks without the yardsticks, which are not part of an update."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.images = to_model(digits().train) if dataset == "digits" else None

    def networks(self):
        if self.dataset == "digits":
            return [net.to(memory_format=torch.channels_last) for net in (ConvMap(), ConvCritic())]
        return [MLP(2, 2), MLP(2, 1)]

    def plain_networks(self):
        """The same functions with the library's layers in their default layout."""
        nets = self.networks()
        for net in nets:
            net.to(memory_format=torch.contiguous_format)
            for name, layer in list(net.named_children()):
                for kind in (nn.ConvTranspose2d, nn.Conv2d):
                    if isinstance(layer, kind) and type(layer) is not kind:
                        plain = kind(layer.in_channels, layer.out_channels, 4, stride=2, padding=1)
                        plain.load_state_dict(layer.state_dict())
                        setattr(net, name, plain)
        return nets

    def data(self, n, stream):
        if self.images is None:
            return eight_gaussians(n, stream)
        y = self.images[torch.randint(len(self.images), (n,), generator=stream)]
        return y

    def latent(self, n, stream):
        if self.images is None:
            return torch.rand(n, 2, generator=stream) * 2 - 1
        return torch.randn(n, 32, generator=stream)


class FastSource(Source):
    """The data in the layout that the convolutions want."""

    def __init__(self, dataset):
        super().__init__(dataset)
        if self.images is not None:
            self.images = self.images.contiguous(memory_format=torch.channels_last)


class Plain:
    """The loop one writes first."""

    def __init__(self, source, batch):
        self.source, self.batch = source, batch
        self.T, self.critic = source.plain_networks()
        self.T_k, self.average = copy.deepcopy(self.T), copy.deepcopy(self.T)
        self.opt_T = torch.optim.Adam(self.T.parameters(), lr=1e-3, betas=(0.5, 0.9), foreach=False)
        self.opt_h = torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.5, 0.9), foreach=False)
        self.functional = divergences.get("kl_dv")
        self.stream = generator(0, "plain")

    def update(self):
        y, z = self.source.data(self.batch, self.stream), self.source.latent(self.batch, self.stream)
        u_nu, penalty = penalties.r1(self.critic, None, y)
        loss = self.functional.critic_loss(self.critic(self.T(z).detach()), u_nu) + 0.2 * penalty
        self.opt_h.zero_grad()
        loss.backward()
        self.opt_h.step()

        z = self.source.latent(self.batch, self.stream)
        x = self.T(z)
        with torch.no_grad():
            anchor = self.T_k(z)
        loss = self.functional.map_loss(self.critic(x)) + (x - anchor).square().mean()
        self.opt_T.zero_grad()
        loss.backward()
        self.opt_T.step()
        with torch.no_grad():
            for mean, p in zip(self.average.parameters(), self.T.parameters(), strict=True):
                mean.mul_(0.998).add_(p, alpha=0.002)


class Operations(TorchDispatchMode):
    """Counts floating-point operations of convolutions and matrix products, forwards and backwards; and calls but views."""

    total = operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += not func.is_view
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def peak_gflops():
    """Speed of a 1024 x 1024 matrix product, GFLOP/s; the best of ten."""
    a, b = torch.randn(2, 1024, 1024)
    best = min(timed(lambda: a @ b) for _ in range(10))
    return 2 * 1024**3 / best / 1e9


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(loop, dataset, threads, updates):
    """One loop in this process: seconds of each update, operations of one update, peak memory in MB."""
    torch.set_num_threads(threads)
    if loop == "gwf":
        machine.prepare("cpu", threads)
        settings = JKOSettings(batch=BATCH[dataset], threads=threads, per_dimension=True)
        trainer = JKO("kl_dv", FastSource(dataset), settings, 0, torch.device("cpu"))
    else:
        trainer = Plain(Source(dataset), BATCH[dataset])
    for _ in range(5):
        trainer.update()
    with Operations() as counter:
        trainer.update()
    seconds = [timed(trainer.update) for _ in range(updates)]
    return {
        "seconds": seconds,
        "flops": counter.total,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak": peak_gflops(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(BATCH), default=None, help="default: both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=40, help="updates per turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--loop", choices=("gwf", "plain"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop:
        print(json.dumps(measure(asked.loop, asked.dataset, asked.threads, asked.updates)))
        return
    print(f"{machine.description()['cpu']}, {asked.threads} thread(s); KL-DV + JKO, one critic and one map step\n")
    for dataset in [asked.dataset] if asked.dataset else sorted(BATCH):
        results = {"gwf": [], "plain": []}
        for _ in range(asked.turns):
            for loop, runs in results.items():
                command = [sys.executable, __file__, "--loop", loop, "--dataset", dataset]
                command += ["--threads", str(asked.threads), "--updates", str(asked.updates)]
                runs.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(f"{dataset}, batch {BATCH[dataset]}")
        medians = {}
        for loop, runs in results.items():
            seconds = sorted(s for run in runs for s in run["seconds"])
            medians[loop] = statistics.median(seconds)
            gflops = runs[0]["flops"] / medians[loop] / 1e9
            peak = max(run["peak"] for run in runs)
            print(
                f"  {loop:>5}: {1e3 * medians[loop]:7.1f} ms per update (fastest {1e3 * seconds[0]:.1f}), "
                f"{max(run['megabytes'] for run in runs):.0f} MB, {runs[0]['flops'] / 1e9:.2f} GFLOP, "
                f"{gflops:.1f} of {peak:.0f} GFLOP/s"
            )
        print(f"  plain / gwf = {medians['plain'] / medians['gwf']:.2f}\n")


if __name__ == "__main__":
    main()
