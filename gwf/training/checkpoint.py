"""Checkpoints of a whole training state: atomic, safe to load, tied to the code and parameters that made them."""

import hashlib
import json
import sys
import time
from pathlib import Path

import torch

from gwf.paths import replace

#: Seconds between two checkpoints, at least; a killed run loses not much more.
EVERY = 10.0
#: A checkpoint takes at most one in so many seconds.
SHARE = 20


def fingerprint(parameters):
    """Hash of the run's parameters and of every module of gwf that is loaded: what a checkpoint is valid for."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    loaded = {m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "gwf" and m.__file__}
    for path in sorted(Path(file) for file in loaded):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Checkpoint:
    """The one checkpoint of a run, kept in its scratch `folder` until the run has ended.

    `key` is the `fingerprint` of the run: a checkpoint of another one, of edited code or other parameters, is ignored.
    """

    def __init__(self, folder, key):
        self.path, self.key = Path(folder) / "checkpoint.pt", key
        self.next = time.monotonic() + EVERY

    def due(self):
        """Whether it is time to save again: after `EVERY` seconds, or longer where saving takes long."""
        return time.monotonic() >= self.next

    def save(self, state):
        """Store `state`, a nest of dicts, lists, tensors and numbers."""
        began = time.monotonic()
        replace(self.path, lambda path: torch.save({"key": self.key, "state": state}, path))
        now = time.monotonic()
        self.next = now + max(EVERY, SHARE * (now - began))

    def load(self, device):
        """The stored state, or None if there is none for this key."""
        if not self.path.exists():
            return None
        stored = torch.load(self.path, map_location=device, weights_only=True)
        return stored["state"] if stored["key"] == self.key else None

    def remove(self):
        """Forget it: the run has ended and its results are written."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
