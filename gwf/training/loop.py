"""The training loop: one update at a time, for any recipe and any task."""

import json
import math
import time

import numpy as np
import pandas as pd
from safetensors.torch import save_file

from gwf import training as steps
from gwf.errors import UsageError
from gwf.paths import SCRATCH, run_name
from gwf.progress import Progress
from gwf.training import machine, recipes, tasks
from gwf.training.checkpoint import Checkpoint, fingerprint, hash_of, replace

#: Seconds between two checkpoints; what a killed run loses at most.
CHECKPOINT_EVERY = 10.0


class NonFiniteLoss(RuntimeError):
    """A loss became infinite or NaN; the message has the step, the losses and the last good checkpoint."""


def make(recipe, task, settings, seed, device):
    """The `gwf.training.base.Trainer` of a recipe."""
    return steps.get(recipe.step).Trainer(recipe, task, settings, seed, device)


def run(functional, step, dataset, seed, profile, settings, out=None, extractor=None, device="cpu"):
    """Train one method on one data set with one seed; resume by itself if it was killed; write the run's files.

    Parameters
    ----------
    functional, step, dataset : str
        Names in `gwf.functionals`, `gwf.training.recipes.STEPS` and `gwf.training.tasks`.
    seed : int
        Non-negative.
    profile : str
        Goes into the record and the name of the checkpoint.
    settings : dict
        See `gwf.training.recipes.RANGES` for names and ranges; all are needed.
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
    trainer = make(recipe, task, settings, seed, device)

    head = {"functional": functional, "step": step, "dataset": dataset, "seed": seed, "profile": profile}
    key = fingerprint(head | settings | {"device": str(device), "extractor": getattr(task, "sha256", "")})
    checkpoint = Checkpoint(SCRATCH / profile / run_name(functional, step, dataset, seed), key)
    state = checkpoint.load(device)
    if state is not None:
        trainer.load_state_dict(state)

    train(trainer, checkpoint, f"{recipe.name} {dataset} seed {seed}")

    T = trainer.averaged_map()
    measured, samples = task.measure(T)
    metrics = (
        head
        | measured
        | recipe.record(settings)
        | {
            "method": recipe.name,
            "updates": settings["updates"],
            "batch": settings["batch"],
            "params_map": sum(p.numel() for p in trainer.T.parameters()),
            "params_critic": sum(p.numel() for p in trainer.critic.parameters()),
        }
    )
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
