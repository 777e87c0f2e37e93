"""The training loop: one alternating update of critic and map at a time, for any recipe and any task."""

import json
import math
import time

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from gwf import machine, recipes, tasks
from gwf.checkpoint import Checkpoint, fingerprint, hash_of, replace
from gwf.errors import UsageError
from gwf.paths import SCRATCH, run_name
from gwf.progress import Progress
from gwf.seeding import derive, generator

#: Seconds between two checkpoints; what a killed run loses at most.
CHECKPOINT_EVERY = 10.0


class NonFiniteLoss(RuntimeError):
    """A loss became infinite or NaN; the message has the step, the losses and the last good checkpoint."""


class Trainer:
    """The state of one run, and its update.

    One update is, with x = T(z) evaluated once and the two nets' batches y and z:

        critic:  minimise  -bound(h(x), h(y)) + weight * penalty(h)         (no gradient reaches T)
        map:     minimise  F-part of the bound at x + |x - T_k(z)|^2 / (2 tau)   (with the critic just updated)
        every `phase` updates:  T_k <- T

    The papers' released loops draw a second z for the map's step; using x = T(z) again saves a pass through T and
    changes no expectation. Critic, optimisers and averages go on from one JKO step to the next, as there.
    """

    def __init__(self, recipe, task, settings, seed, device):
        self.task, self.settings, self.device = task, settings, device
        # The weights are drawn on the CPU: the same start on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            self.T, self.critic = task.networks()
        self.average = torch.optim.swa_utils.AveragedModel(
            self.T, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings["ema"]), use_buffers=True
        )
        self.step_of = recipe.build(self.T, self.critic, settings)
        adam = {"betas": (0.5, 0.9), "fused": True}
        self.opt_T = torch.optim.Adam(self.T.parameters(), lr=settings["lr_map"], **adam)
        self.opt_h = torch.optim.Adam(self.critic.parameters(), lr=settings["lr_critic"], **adam)
        # Processes of a distributed run start from the same weights and draw different batches.
        rank = torch.distributed.get_rank() if distributed() else 0
        names = {name: f"{name} of process {rank}" if rank else name for name in ("data", "latent", "penalty")}
        self.streams = {name: generator(seed, stream, device) for name, stream in names.items()}
        self.step = 0
        self.seconds = 0.0
        self.curve = []

    def update(self):
        """One alternating update. Returns (critic loss, map loss, proximal term) as tensors without graph."""
        batch = self.settings["batch"]
        y = self.task.data(batch, self.streams["data"])
        z = self.task.latent(batch, self.streams["latent"])
        with self.precision():
            x = self.T(z)
            critic_loss = self.step_of.critic_loss(x, y, self.streams["penalty"], self.step)
        self.descend(self.opt_h, critic_loss)

        # The critic's weights need no gradient here, only the image it looks at.
        self.critic.requires_grad_(False)
        with self.precision():
            map_loss, proximal = self.step_of.map_loss(x, z, y)
        self.descend(self.opt_T, map_loss + proximal)
        self.critic.requires_grad_(True)

        self.average.update_parameters(self.T)
        self.step += 1
        if self.step % self.settings["phase"] == 0:
            self.step_of.prox.advance()
        return critic_loss.detach(), map_loss.detach(), proximal.detach()

    def precision(self):
        """Mixed precision (bfloat16 products, float32 weights and losses) if the settings ask for `amp`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings["amp"])

    def descend(self, optimiser, loss):
        """One optimiser step on `loss`, with gradients averaged over processes if there are several."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()

    def averaged_map(self):
        """The map with exponentially averaged weights and batch-norm statistics: what is measured and stored."""
        return self.average.module.eval()

    def state_dict(self):
        """Everything the rest of the run depends on."""
        prox = self.step_of.prox
        return {
            "T": self.T.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "T_k": prox.T_k.state_dict() if prox.active else None,
            "opt_T": self.opt_T.state_dict(),
            "opt_h": self.opt_h.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        self.T.load_state_dict(state["T"])
        self.critic.load_state_dict(state["critic"])
        self.average.load_state_dict(state["average"])
        if self.step_of.prox.active:
            self.step_of.prox.T_k.load_state_dict(state["T_k"])
        self.opt_T.load_state_dict(state["opt_T"])
        self.opt_h.load_state_dict(state["opt_h"])
        for name, stream in self.streams.items():
            stream.set_state(state["streams"][name].cpu())
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]


def distributed():
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def average_gradients(parameters):
    """Average gradients over the processes of a distributed run; nothing in a single one.

    By hand, since DistributedDataParallel's hooks do not mix with gradients of gradients.
    """
    if not distributed():
        return
    for p in parameters:
        if p.grad is not None:
            torch.distributed.all_reduce(p.grad)
            p.grad /= torch.distributed.get_world_size()


def run(functional, step, dataset, seed, profile, settings, out=None, extractor=None, device="cpu"):
    """Train one method on one data set with one seed; resume by itself if it was killed; write the run's files.

    Parameters
    ----------
    functional, step, dataset : str
        Names in `gwf.functionals`, `gwf.recipes.STEPS` and `gwf.tasks`.
    seed : int
        Non-negative.
    profile : str
        Goes into the record and the name of the checkpoint.
    settings : dict
        See `gwf.recipes.RANGES` for names and ranges; all are needed.
    out : Path or None
        Folder for metrics.json, curve.csv, samples.npy, model.safetensors and run.json; None writes nothing.
    extractor : Path
        Weights of the LeNet (data set `digits`).
    device : str

    Returns
    -------
    metrics : dict
    curve : pandas.DataFrame
    samples : numpy.ndarray

    Raises
    ------
    UsageError
        For an unknown name, a missing or out-of-range setting: before anything trains.
    NonFiniteLoss
        With the step, the losses and the last good checkpoint, which is kept.
    """
    recipe = recipes.get(functional, step)
    make_task = tasks.get(dataset)
    recipes.check(settings)
    if not (isinstance(seed, int) and seed >= 0):
        raise UsageError(f"seed = {seed!r}: it must be a non-negative integer")
    device = machine.prepare(device, settings["threads"])
    task = make_task(extractor, seed, settings["n_samples"], device)
    trainer = Trainer(recipe, task, settings, seed, device)

    head = {"functional": functional, "step": step, "dataset": dataset, "seed": seed, "profile": profile}
    key = fingerprint(head | settings | {"device": str(device), "extractor": getattr(task, "sha256", "")})
    checkpoint = Checkpoint(SCRATCH / profile / run_name(functional, step, dataset, seed), key)
    state = checkpoint.load(device)
    if state is not None:
        trainer.load_state_dict(state)

    train(trainer, checkpoint, f"{recipe.name} {dataset} seed {seed}")

    T = trainer.averaged_map()
    measured, samples = task.measure(T)
    metrics = head | measured | {
        "method": recipe.name,
        "tau": settings["tau"] if step == "jko" else "inf",
        "updates": settings["updates"],
        "batch": settings["batch"],
        "params_map": sum(p.numel() for p in trainer.T.parameters()),
        "params_critic": sum(p.numel() for p in trainer.critic.parameters()),
    }
    curve = pd.DataFrame(trainer.curve)
    if out is not None:
        write(out, metrics, curve, samples, T, trainer)
    checkpoint.remove()
    return metrics, curve, samples


def train(trainer, checkpoint, label):
    """Update until `updates`, with evaluations, checkpoints and progress."""
    settings, metric = trainer.settings, trainer.task.metric
    updates = settings["updates"]
    # Reading a loss waits for a GPU: there, losses are looked at less often. NaN stays, so nothing is missed.
    look_every = 1 if trainer.device.type == "cpu" else 50
    shown = {}
    saved = began = time.monotonic()
    before = trainer.seconds
    with Progress(updates, label, start=trainer.step) as progress:
        while trainer.step < updates:
            losses = trainer.update()
            last = trainer.step == updates
            evaluate = trainer.step % settings["evaluate_every"] == 0 or last
            if trainer.step % look_every == 0 or evaluate:
                critic_loss, map_loss, proximal = (float(loss) for loss in losses)
                if not math.isfinite(critic_loss + map_loss + proximal):
                    raise NonFiniteLoss(
                        f"{label}: non-finite loss at step {trainer.step}: critic_loss = {critic_loss}, map_loss = "
                        f"{map_loss}, proximal = {proximal}. Last good checkpoint: "
                        + (str(checkpoint.path) if checkpoint.path.exists() else "none yet")
                    )
                shown |= {"critic_loss": critic_loss, "map_loss": map_loss}
            if evaluate:
                trainer.seconds = before + time.monotonic() - began
                score = trainer.task.score(trainer.averaged_map())
                began += time.monotonic() - began - (trainer.seconds - before)  # evaluation is not training time
                phase = (trainer.step - 1) // settings["phase"] + 1
                row = {"step": trainer.step, "phase": phase, "critic_loss": critic_loss, "map_loss": map_loss}
                trainer.curve.append(row | {"proximal": proximal, metric: score})
                shown[metric] = score
            if time.monotonic() - saved > CHECKPOINT_EVERY or last:
                if not last:
                    trainer.seconds = before + time.monotonic() - began
                checkpoint.save(trainer.state_dict())
                saved = time.monotonic()
            progress.update(trainer.step, **shown)


def write(out, metrics, curve, samples, T, trainer):
    """Write the run's files, each atomically.

    Only run.json knows of time. It is the record of the run that first gave these results: running again to the
    same bytes leaves it as it is.
    """
    replace(out / "metrics.json", lambda p: p.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n"))
    replace(out / "curve.csv", lambda p: curve.to_csv(p, index=False, float_format="%.8g", lineterminator="\n"))
    replace(out / "samples.npy", lambda p: _save_array(p, samples))
    weights = {name: value.contiguous() for name, value in T.state_dict().items()}
    replace(out / "model.safetensors", lambda p: save_file(weights, p))
    record, key = out / "run.json", hash_of(out / name for name in ("metrics.json", "curve.csv", "samples.npy"))
    if record.exists() and json.loads(record.read_text()).get("results") == key:
        return
    text = {
        "results": key,
        "threads": trainer.settings["threads"],
        "device": str(trainer.device),
        "seconds": round(trainer.seconds, 2),
        "ms_per_update": round(1000 * trainer.seconds / trainer.settings["updates"], 3),
        **machine.description(),
    }
    replace(record, lambda p: p.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n"))


def _save_array(path, array):
    with open(path, "wb") as file:
        np.save(file, array)
