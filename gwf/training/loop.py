"""The training loop: one update at a time, for any time step, functional and data set. Nothing is measured here."""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import save_file

from gwf.errors import whole
from gwf.paths import SCRATCH, replace
from gwf.progress import Progress
from gwf.training import machine, recipes, tasks
from gwf.training.checkpoint import Checkpoint, fingerprint
from gwf.training.settings import complete

#: Updates between two looks at the losses off the CPU, where each waits for the device. NaN stays: nothing is missed.
LOOK_EVERY = 50


class NonFiniteLoss(RuntimeError):
    """A loss or weight became infinite or NaN; the message has the step, the losses and the last good checkpoint."""


class Stopwatch:
    """Seconds since it was made, plus `before`; what happens inside `paused()` does not count."""

    def __init__(self, before=0.0):
        self.before, self.began = before, time.monotonic()

    @property
    def seconds(self):
        return self.before + (0.0 if self.began is None else time.monotonic() - self.began)

    @contextlib.contextmanager
    def paused(self):
        self.before, self.began = self.seconds, None
        yield
        self.began = time.monotonic()


def run(functional, step, dataset, seed, profile, settings=None, out=None, device="cpu"):
    """Train one method on one data set with one seed; resume by itself if it was killed; write the run's files.

    Parameters
    ----------
    functional, step, dataset : str
        Names in `gwf.training.recipes.functionals()`, `gwf.training.recipes.STEPS` and `gwf.training.tasks.TASKS`.
    seed, profile : int, str
        Non-negative; where checkpoint and times go, scratch/<profile>/.
    settings : dict, optional
        Overrides of the method's settings, see `Settings` of its trainer.
    out : path, optional
        Folder for samples.npy (evaluations, n, ...), curve.csv (losses at every evaluation), model.safetensors (the
        averaged map) and settings.json (names and settings of the run); None writes nothing.

    Returns
    -------
    samples, curve : numpy.ndarray (evaluations, n, ...), pandas.DataFrame
        uint8 images or float32 points; the last ones are the result. `UsageError` for an unknown name or setting or a
        value out of range, before anything trains; `NonFiniteLoss` later on, and the last good checkpoint is kept.
    """
    trainer_of, task_of = recipes.get(functional, step), tasks.get(dataset)
    settings = complete(trainer_of.Settings, task_of.defaults, settings or {})
    seed = whole(seed, 0, 2**63 - 1, "seed")
    device = machine.prepare(device, settings.threads, settings.amp)
    trainer = trainer_of(functional, task_of(seed, device), settings, seed, device)

    record = {"functional": functional, "step": step, "dataset": dataset, "seed": seed}
    record |= dataclasses.asdict(settings)
    folder = SCRATCH / profile / name_of(record, device)
    checkpoint = Checkpoint(folder, fingerprint(record | {"device": str(device)}))
    state = checkpoint.load(device)
    if state is not None:
        trainer.load_state_dict(state)

    train(trainer, checkpoint, f"{functional}-{step} {dataset} seed {seed}")

    samples, curve = np.stack(trainer.samples), pd.DataFrame(trainer.curve)
    note_time(SCRATCH / "timing" / profile / f"{folder.name}.json", trainer)
    if out is not None:
        write(Path(out), record, samples, curve, trainer)
    checkpoint.remove()
    return samples, curve


def name_of(record, device):
    """Name of a run, `<functional>-<step>-<dataset>-<seed>-<hash>`: runs of other settings have other names."""
    digest = hashlib.sha256(json.dumps(record | {"device": str(device)}, sort_keys=True).encode()).hexdigest()
    return "-".join(str(record[key]) for key in ("functional", "step", "dataset", "seed")) + f"-{digest[:8]}"


def train(trainer, checkpoint, label):
    """Update until `updates`; at every evaluation keep losses and samples; checkpoints and progress on the way."""
    settings, watch = trainer.settings, Stopwatch(trainer.seconds)
    look_every = 1 if trainer.device.type == "cpu" else LOOK_EVERY
    with Progress(settings.updates, label, start=trainer.step) as progress:
        while trainer.step < settings.updates:
            losses = trainer.update()
            last = trainer.step == settings.updates
            evaluate = last or trainer.step % settings.evaluate_every == 0
            if not evaluate and trainer.step % look_every:
                continue
            save = last or checkpoint.due()
            critic_loss, map_loss, proximal = look(trainer, losses, evaluate or save, checkpoint, label)
            if evaluate:
                row = {"critic_loss": critic_loss, "map_loss": map_loss, "proximal": proximal}
                with watch.paused():
                    trainer.samples.append(trainer.task.sample(trainer.average.net, settings.n_samples))
                trainer.curve.append({"step": trainer.step, "phase": trainer.phase(), **row})
            if save:
                with watch.paused():
                    trainer.seconds = watch.seconds
                    checkpoint.save(trainer.state_dict())
            progress.update(trainer.step, critic_loss=critic_loss, map_loss=map_loss)


def look(trainer, losses, at_weights, checkpoint, label):
    """The losses as numbers; `NonFiniteLoss` if one of them, or with `at_weights` a weight, is not finite."""
    critic_loss, map_loss, proximal = numbers = [float(loss) for loss in losses]
    if all(map(math.isfinite, numbers)) and (not at_weights or trainer.finite()):
        return numbers
    raise NonFiniteLoss(
        f"{label}: non-finite loss or weight at step {trainer.step}: critic_loss = {critic_loss}, map_loss = {map_loss}, "
        f"proximal = {proximal}. Last good checkpoint: {checkpoint.path if checkpoint.path.exists() else 'none yet'}"
    )


def write(out, record, samples, curve, trainer):
    """Write the run's files, each atomically. None of them knows of time or machine."""
    nets = {"params_map": trainer.T, "params_critic": trainer.critic}
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    text = json.dumps(record | sizes, indent=2, sort_keys=True) + "\n"
    replace(out / "settings.json", lambda p: p.write_text(text))
    replace(out / "curve.csv", lambda p: curve.to_csv(p, index=False, float_format="%.8g", lineterminator="\n"))
    replace(out / "samples.npy", lambda p: _save_array(p, samples))
    weights = {name: value.contiguous() for name, value in trainer.average.net.state_dict().items()}
    replace(out / "model.safetensors", lambda p: save_file(weights, p))


def note_time(path, trainer):
    """Write how long the run took, and where: a record beside the outputs, of which the latest counts."""
    text = {
        "threads": trainer.settings.threads,
        "device": str(trainer.device),
        "seconds": round(trainer.seconds, 2),
        "ms_per_update": round(1000 * trainer.seconds / trainer.settings.updates, 3),
        **machine.description(),
    }
    replace(path, lambda p: p.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n"))


def _save_array(path, array):
    with open(path, "wb") as file:
        np.save(file, array)
