"""Checkpoints of a whole training state: atomic, safe to load, tied to the code and parameters that made them."""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch


def fingerprint(parameters):
    """Hash of the run's parameters and of every module of gwf that is loaded: what a checkpoint is valid for."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    loaded = {m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "gwf" and m.__file__}
    for path in sorted(Path(file) for file in loaded):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def hash_of(paths):
    """Hash of the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def replace(path, write):
    """Write a file by `write(temporary path)` and move it into place: readers see the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Checkpoint:
    """The one checkpoint of a run, kept in `folder` until the run has ended.

    Parameters
    ----------
    folder : Path
        The run's scratch folder.
    key : str
        `fingerprint` of the run. A checkpoint of another key (the code was edited, a parameter changed) is ignored.
    """

    def __init__(self, folder, key):
        self.path, self.key = Path(folder) / "checkpoint.pt", key

    def save(self, state):
        """Store `state`, a nest of dicts, lists, tensors and numbers."""
        replace(self.path, lambda path: torch.save({"key": self.key, "state": state}, path))

    def load(self, device):
        """The stored state, or None if there is none for this key."""
        if not self.path.exists():
            return None
        stored = torch.load(self.path, map_location=device, weights_only=True)
        return stored["state"] if stored["key"] == self.key else None

    def remove(self):
        """Forget it: the run has ended and its results are written."""
        self.path.unlink(missing_ok=True)
