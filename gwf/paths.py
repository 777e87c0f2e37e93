"""Where things are, the only module that knows folder names; and how a file comes to its place."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
DATA = ROOT / "data"
DATASETS = ROOT / "datasets"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
REPORT = ROOT / "report"
SCRATCH = ROOT / "scratch"


def training(profile, dataset, case, seed):
    """Folder of what a training run leaves: samples, losses, map."""
    return RESULTS / profile / "training" / dataset / f"{case}-{seed}"


def replace(path, write):
    """Write a file by `write(temporary path)` and move it into place: readers see the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    temporary.chmod(path.parent.stat().st_mode & 0o666)  # safetensors keeps others from reading
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
