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


def run_name(functional, step, dataset, seed):
    """Name of one run, `<functional>-<step>-<dataset>-<seed>`, the key of its DVC stage and its folder."""
    return f"{functional}-{step}-{dataset}-{seed}"


def run_dir(profile, functional, step, dataset, seed):
    """Folder of one run's outputs, `results/<profile>/<run>`."""
    return RESULTS / profile / run_name(functional, step, dataset, seed)
