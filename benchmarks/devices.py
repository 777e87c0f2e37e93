"""Milliseconds, launches and arithmetic of one update: each kind of training, and each network, on a CPU or a GPU.

    python benchmarks/devices.py [--device cpu|cuda] [--threads 1] [--updates 20] [--only kl_dv-jko]

A training's update is that of its recipe, with the data set's own batch and networks; a network's a forward pass over 256
rows (64 images), the backward pass of the mean square, and a step of Adam. All numbers are means over 20 updates, in which
what is rare has its turns: R1 at every fourth, a field's potentials at every fifth. Launches: kernels, counted by torch's
profiler; on a CPU operations, views left out. GFLOP: convolutions and matrix products. Times are medians of three turns of 20,
on a GPU between two events, the host waiting at the end alone. It prints; it asserts nothing.
"""

import argparse
import statistics

import torch
from updates import Operations, timed

from gwf.errors import UsageError
from gwf.nets import conv, icnn, lenet, mlp, plane, residual, toy, transport
from gwf.training import machine, recipes, tasks
from gwf.training.settings import complete

#: One of each kind of update.
METHODS = (
    *("js_ns-gan", "kl_dv-jko", "w1-jko", "w2-euler", "sinkhorn-euler", "sliced-euler", "minibatch_ot-euler"),
    *(
        "mmd_learned-descent",
        "mmd_learned-implicit",
        "mmd-ck_gan",
        "mmd-ck_jko",
        "kl-sjko",
        "js_ns-sjko",
        "w2-uotm_fixed",
    ),
    *("kl-uotm", "kl-uotm_released", "js_ns-increments", "js_ns-whole", "independent-matching"),
)
#: Network -> how it is made, and the shapes of its arguments for n rows.
NETWORKS = {
    "conv.ConvMap": (conv.ConvMap, [(32,)]),
    "conv.ConvCritic": (conv.ConvCritic, [(1, 28, 28)]),
    "transport.ConvTransport": (lambda: transport.ConvTransport(32), [(1, 28, 28), (32,)]),
    "transport.Increment": (lambda: transport.Increment((1, 28, 28)), [(784,)]),
    "lenet.LeNet": (lenet.LeNet, [(1, 28, 28)]),
    "mlp.MLP": (lambda: mlp.MLP(2, 2), [(2,)]),
    "mlp.ResidualMLP": (lambda: mlp.ResidualMLP(2), [(2,)]),
    "mlp.RatioNet": (lambda: mlp.RatioNet(2, 128), [(2,)]),
    "mlp.AffineIncrement": (lambda: mlp.AffineIncrement(2), [(2,)]),
    "plane.PlaneMap": (plane.PlaneMap, [(2,)]),
    "plane.PlanePotential": (plane.PlanePotential, [(2,)]),
    "residual.AffineResidualMLP": (lambda: residual.AffineResidualMLP(2), [(2,)]),
    "residual.QuadraticMLP": (lambda: residual.QuadraticMLP(2), [(2,)]),
    "residual.QuadraticCritic": (lambda: residual.QuadraticCritic(2), [(2,)]),
    "toy.ToyMap": (toy.ToyMap, [(2,), (2,)]),
    "toy.ToyPotential": (toy.ToyPotential, [(2,)]),
    "toy.ScaledPotential": (toy.ScaledPotential, [(2,)]),
    "toy.ExpertsMap": (lambda: toy.ExpertsMap(torch.eye(2)), [(2,), (2,)]),
    "icnn.DenseICNN": (lambda: icnn.DenseICNN(2), [(2,)]),
}


def training(method, dataset, device):
    """The update of a recipe."""
    functional, step = method.rsplit("-", 1)
    of, task = recipes.get(functional, step), tasks.get(dataset)
    return of(functional, task(0, device), complete(of.Settings, task.defaults, {}), 0, device).update


def network(name, device):
    """The update of a network."""
    make, shapes = NETWORKS[name]
    images = any(len(shape) == 3 for shape in shapes)
    net = make().to(device, memory_format=torch.channels_last if images else torch.preserve_format)
    rows = [torch.randn(64 if images else 256, *shape, device=device) for shape in shapes]
    optimiser = torch.optim.Adam(net.parameters(), fused=True)

    def update():
        optimiser.zero_grad(set_to_none=True)
        net(*rows).square().mean().backward()
        optimiser.step()

    return update


def seconds(turn, device):
    """Seconds of a turn."""
    if device.type == "cpu":
        return timed(turn)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    turn()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3


def launches(turn, device):
    """Kernels launched in a turn, as the calls of the runtime count them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        turn()
        torch.cuda.synchronize(device)
    return sum(event.count for event in profile.key_averages() if "LaunchKernel" in event.key)


def row(name, on, update, device, count):
    """Measure and print."""

    def turn():
        for _ in range(count):
            update()

    with Operations() as counter:  # and a warm-up
        turn()
    each = statistics.median(seconds(turn, device) for _ in range(3)) / count
    launched = (counter.operations if device.type == "cpu" else launches(turn, device)) / count
    gflop = counter.total / 1e9 / count
    print(f"{name:<28}{on:<17}{1e3 * each:9.2f}{launched:11.0f}{gflop:9.4f}{gflop / each:10.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=20, help="updates in a turn")
    parser.add_argument("--only", nargs="+", default=(*METHODS, *NETWORKS), help="recipes and networks; default: all")
    asked = parser.parse_args()
    if asked.updates < 1:
        parser.error(f"updates = {asked.updates} must be at least 1")
    try:
        device = machine.prepare(asked.device, asked.threads)
    except UsageError as error:
        if not asked.device.startswith("cuda"):
            parser.error(str(error))
        print(f"skipped: {error}")
        return
    where = machine.description()["cpu"] if device.type == "cpu" else torch.cuda.get_device_name(device)
    print(f"{where}, {asked.threads} thread(s), torch {torch.__version__}\n")
    counted = "operations" if device.type == "cpu" else "launches"
    print(f"{'one update of':<28}{'on':<17}{'ms':>9}{counted:>11}{'GFLOP':>9}{'GFLOP/s':>10}")
    for name in asked.only:
        for dataset in ("digits", "eight_gaussians") if name not in NETWORKS else ("rows",):
            update = network(name, device) if name in NETWORKS else training(name, dataset, device)
            row(name, dataset, update, device, asked.updates)


if __name__ == "__main__":
    main()
