"""What a GPU is to show: the numbers of the CPU, the same bytes after a kill, no waiting in an update, mixed precision.

Each check is one function of a device: `pytest -m gpu` calls it with CUDA. Everywhere else it is called with the CPU or the
pretended device, so that the check itself is known to run; that it can fail, a control beside it shows or a clause of its own.
"""

import contextlib
import importlib
import inspect
import os
import pkgutil
import sys

import numpy as np
import pytest
import torch
from pretended_device import DEVICE, HostGenerator, Pretended, pretended
from small_trainers import KINDS, REFERENCES, SHORT, trainer, weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from gwf import nets
from gwf.paths import ROOT
from gwf.training import checkpoint, loop, machine, recipes

# cuBLAS is deterministic with this alone, and reads it when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
DATASETS = ("eight_gaussians", "digits")
UPDATED = [step for step in KINDS if step not in REFERENCES]


def cases(here, device, there=tuple((step, dataset) for dataset in DATASETS for step in UPDATED)):
    """(step, dataset, device): some cases on a device that is always there, and with CUDA all of them."""
    cuda = [pytest.param(*case, "cuda", marks=[pytest.mark.gpu, NO_GPU]) for case in there]
    return pytest.mark.parametrize("step, dataset, device", [*((*case, device) for case in here), *cuda])


PLANE = [(step, "eight_gaussians") for step in UPDATED]


@contextlib.contextmanager
def using(name, fast=False):
    """The `torch.device` of that name, as a run has it: products are rounded to TF32 where `fast`."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        with pretended() if name == "pretended" else contextlib.nullcontext():
            yield DEVICE if name == "pretended" else machine.prepare(name, 1, fast)
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


# The numbers of the CPU.


class DrawnOnTheHost(TorchFunctionMode):
    """Random numbers come from generators of the CPU, and are then moved: CUDA's have another stream for the same seed."""

    def __enter__(self):
        self.real, torch.Generator = torch.Generator, HostGenerator
        return super().__enter__()

    def __exit__(self, *error):
        torch.Generator = self.real
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        stream = kwargs.get("generator")
        if stream is None or stream.device.type == "cpu":
            return func(*args, **kwargs)
        args = tree_map(lambda t: t.cpu() if isinstance(t, torch.Tensor) else t, args)
        drawn = func(*args, **kwargs | ({"device": "cpu"} if "device" in kwargs else {}))
        return drawn.to(stream.device)


def updated(step, dataset, device, **changes):
    """Three updates, with a change of phase among them: losses of the first one (3,), weights of all networks."""
    with DrawnOnTheHost():
        t = trainer(KINDS[step], step, dataset, device, phase=2, updates=3, **changes)
        losses = [torch.stack(list(t.update())) for _ in range(3)]
    return losses[0].cpu(), weights(torch.nn.ModuleList([t.T, t.critic, t.average.net])).cpu()


def agree(found, expected):
    """Losses of the first update to 1e-4; of the weights 80 % to 1e-5, a hundredth of one step of Adam.

    Adam makes a whole step of the rounding of a gradient that is zero: not every weight agrees. Other kernels for the
    convolutions of a CPU differ by at most 2e-5 and 3e-7, bfloat16 by 1e-3 and 2e-4 (`jko`).
    """
    losses, w = ((a - b).abs() for a, b in zip(found, expected, strict=True))
    return bool((losses <= 1e-4 * (1 + expected[0].abs())).all()) and float(w.quantile(0.8)) < 1e-5


@cases([*PLANE, ("jko", "digits"), ("sjko", "digits")], "pretended")
def test_a_device_computes_what_the_cpu_does(step, dataset, device):
    """From the same weights, on the same batches and with the same random numbers in the losses."""
    expected = updated(step, dataset, "cpu")
    with using(device) as there:
        assert agree(updated(step, dataset, there), expected)


@pytest.mark.parametrize("step", ["jko", "implicit", "sjko"])
def test_agreement_is_that_of_other_kernels_and_not_of_other_products(step):
    expected = updated(step, "digits", "cpu")
    with torch.backends.mkldnn.flags(enabled=False):
        assert agree(updated(step, "digits", "cpu"), expected)
    assert not agree(updated(step, "digits", "cpu", amp=True), expected)


# The same bytes after a kill.


def resumed_otherwise(step, dataset, device, folder, monkeypatch):
    """Files of a run, killed after six of eight updates and called again, that have other bytes than an undisturbed run's."""
    monkeypatch.setenv("GWF_PROGRESS", str(folder / "progress"))
    for name, value in (("EVERY", 0.0), ("SHARE", 0.0)):
        monkeypatch.setattr(checkpoint, name, value)
    monkeypatch.setattr(loop, "SCRATCH", folder / "scratch")
    of, given = recipes.get(KINDS[step], step), SHORT | {"batch": 8, "updates": 8, "evaluate_every": 4}
    given |= {"phase": 3} if "phase" in of.Settings.__dataclass_fields__ else {}
    go = lambda out: loop.run(KINDS[step], step, dataset, 0, "test", given, folder / out, device)
    update, steps = of.update, []

    def killed(self):
        steps.append(self.step)
        if self.step == 6 and steps.count(6) == 1:
            raise KeyboardInterrupt
        return update(self)

    torch.use_deterministic_algorithms(True)
    try:
        go("whole")
        monkeypatch.setattr(of, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            go("broken")
        go("broken")
    finally:
        torch.use_deterministic_algorithms(False)
        monkeypatch.setattr(of, "update", update)
    # Off the CPU a state is looked at, and may be kept, where there is an evaluation.
    assert steps == [*range(7), *range(6 if device == "cpu" else 4, 8)]
    files = sorted(path.name for path in (folder / "whole").iterdir())
    assert len(files) == 4
    return [name for name in files if (folder / "whole" / name).read_bytes() != (folder / "broken" / name).read_bytes()]


RESUMED = [("jko", "digits"), ("euler", "digits"), ("sjko", "digits"), ("increments", "eight_gaussians")]


@cases(RESUMED, "cpu", RESUMED)
def test_a_killed_run_resumes_to_the_same_bytes(step, dataset, device, tmp_path, monkeypatch):
    """Under deterministic algorithms. Left out are learned kernels: torch promises nothing of the gradient of `pdist`."""
    with using(device):
        assert resumed_otherwise(step, dataset, device, tmp_path, monkeypatch) == []


def test_a_stream_that_is_not_resumed_is_seen(tmp_path, monkeypatch):
    of = recipes.get(KINDS["jko"], "jko")
    load = of.load_state_dict
    monkeypatch.setattr(of, "load_state_dict", lambda t, state: (load(t, state), t.streams["latent"].manual_seed(0)))
    assert "samples.npy" in resumed_otherwise("jko", "eight_gaussians", "cpu", tmp_path, monkeypatch)


# No waiting in an update.


@contextlib.contextmanager
def unwaited(device):
    """`RuntimeError` where the host waits for the device: it reads a value, or copies what is in pageable memory."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        seen = Pretended.now
        before = len(seen.reads), len(seen.copies)
        yield
        if (len(seen.reads), len(seen.copies)) != before:
            raise RuntimeError(f"the host waited: {seen.reads[before[0] :] + seen.copies[before[1] :]}")


@cases([("jko", "digits"), ("euler", "eight_gaussians")], "pretended")
def test_an_update_waits_for_nothing(step, dataset, device):
    """After the first one, at which constants are copied. `test_recipes.py` tries all recipes on the pretended device."""
    with using(device) as there:
        t = trainer(KINDS[step], step, dataset, there, phase=1, persistency=1, updates=3)
        t.update()
        with unwaited(there):
            t.update(), t.update()


@pytest.mark.parametrize("device", ["pretended", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def test_waiting_is_seen(device):
    with using(device) as there:
        x = torch.ones(3, device=there)
        with unwaited(there):
            x.sum() + 1
        for wait in (
            lambda: x.sum().item(),
            lambda: bool((x > 0).any()),
            lambda: x[x > 0],
            lambda: x.cpu(),
            lambda: torch.ones(3).to(there),
            lambda: x.copy_(torch.ones(3)),
            lambda: torch.as_tensor(np.ones(3), device=there),
        ):
            with pytest.raises(RuntimeError, match="host waited|synchronizing"), unwaited(there):
                wait()


# Mixed precision.


@cases([*PLANE, ("jko", "digits"), ("sjko", "digits")], "cpu")
def test_mixed_precision_is_near_full(step, dataset, device):
    """Losses of the first update to 2 %, four times what bfloat16's 8 bits leave on a CPU (.5 %); later ones are finite.

    But not those of full precision: it is on.
    """
    full = updated(step, dataset, "cpu")
    with using(device, fast=True) as there:
        mixed = updated(step, dataset, there, amp=True)
    assert ((mixed[0] - full[0]).abs() <= 0.02 * (1 + full[0].abs())).all() and not torch.equal(mixed[0], full[0])
    assert mixed[0].dtype == mixed[1].dtype == torch.float32 and mixed[1].isfinite().all()


# The benchmark of devices.


@pytest.fixture
def devices(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("devices")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def test_the_benchmark_prints_rows_of_numbers(device, devices, monkeypatch, capsys):
    words = ["--device", device, "--updates", "2", "--only", "kl_dv-jko", "mlp.MLP"]
    monkeypatch.setattr(sys, "argv", ["devices.py", *words])
    devices.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("kl_dv", "mlp"))]
    assert [row[1] for row in rows] == ["digits", "eight_gaussians", "rows"]
    assert all(float(number) > 0 for row in rows for number in row[2:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_the_benchmark_says_why_it_is_skipped(devices, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["devices.py", "--device", "cuda"])
    devices.main()
    assert capsys.readouterr().out.startswith("skipped: device = 'cuda', but this machine has no CUDA device")


@pytest.mark.parametrize(
    "words, said", [(["--device", "gpu"], "device = 'gpu' is unknown"), (["--updates", "0"], "at least 1")]
)
def test_the_benchmark_refuses_what_it_cannot_do(words, said, devices, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["devices.py", *words])
    with pytest.raises(SystemExit) as stopped:
        devices.main()
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_the_benchmark_has_every_kind_of_update_and_every_network(devices):
    assert {method.rsplit("-", 1)[1] for method in devices.METHODS} == set(UPDATED)
    found = {
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(nets.__path__)
        for name, net in vars(importlib.import_module(f"gwf.nets.{module.name}")).items()
        if inspect.isclass(net) and issubclass(net, torch.nn.Module) and net.__module__ == f"gwf.nets.{module.name}"
    }
    parts = {"stride2.DownFromOne", "stride2.UpToOne", "icnn._ConvexQuadratic", "toy.Block", "toy.Trunk", "toy.Head"}
    parts |= {"transport.Composition", "transport.Flat", "transport.Transport", "toy.AffineMap"}
    assert found - parts == set(devices.NETWORKS)
