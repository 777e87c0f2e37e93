"""Where things are. The only module that knows folder names."""

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
