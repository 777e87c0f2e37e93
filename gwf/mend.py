"""Files of DVC that a process killed in the middle of a write leaves in pieces are made whole again."""

import contextlib
import json
import os

import psutil
import yaml

from companion.guard import alive
from companion.notebooks import say
from gwf.paths import ROOT, SCRATCH

LOCK = ROOT / "dvc.lock"
GOOD = SCRATCH / "dvc.lock.good"
RWLOCK = ROOT / ".dvc" / "tmp" / "rwlock"


def mend():
    """Mend dvc.lock and .dvc/tmp/rwlock.

    dvc.lock goes back to the last state known to be whole; what was finished since is found again in DVC's
    run cache. rwlock is removed if none of the processes it names is a running DVC.
    """
    if LOCK.exists() and not whole(LOCK):
        if GOOD.exists():
            say("dvc.lock was cut off in the middle of a write: taking the last whole one")
            LOCK.write_bytes(GOOD.read_bytes())
        else:
            say("dvc.lock was cut off in the middle of a write: removed, DVC writes it anew")
            LOCK.unlink()
    with contextlib.suppress(FileNotFoundError):
        if not any(is_dvc(pid) for pid in holders()):
            RWLOCK.unlink()


def keep():
    """Keep a copy of dvc.lock if it is whole, for `mend`."""
    if LOCK.exists() and whole(LOCK):
        GOOD.parent.mkdir(parents=True, exist_ok=True)
        temporary = GOOD.with_suffix(".new")
        temporary.write_bytes(LOCK.read_bytes())
        os.replace(temporary, GOOD)


def whole(lock):
    """Whether the file `lock` is a complete dvc.lock."""
    try:
        content = yaml.load(lock.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return all(stage["cmd"] and "outs" in stage for stage in content["stages"].values())
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        return False


def holders():
    """Processes that .dvc/tmp/rwlock names; none if it is in pieces."""
    try:
        held = json.loads(RWLOCK.read_text())
        readers = [entry for entries in held.get("read", {}).values() for entry in entries]
        return {entry["pid"] for entry in [*held.get("write", {}).values(), *readers]}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()


def is_dvc(pid):
    """Whether process `pid` runs and is DVC: its number may have been given to another program."""
    with contextlib.suppress(psutil.Error):
        return alive(pid) and any(os.path.basename(word) == "dvc" for word in psutil.Process(pid).cmdline())
    return False
