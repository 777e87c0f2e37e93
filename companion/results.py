"""Results of experiments: one folder of csv tables for each case and seed, `results/<profile>/<experiment>/<case>-<seed>/`.

Times are no results: a table called `timing` goes to scratch/timing/, which is no output of the pipeline, and is never
shown in a table or figure.
"""

import re
import shutil

import pandas as pd

from gwf.errors import UsageError
from gwf.paths import RESULTS, SCRATCH

#: `<case>-<seed>`, the name of a run's folder.
RUN = re.compile(r"(?P<case>.+)-(?P<seed>\d+)")


def folder(experiment, profile, case, seed):
    """Where the tables of one case and seed lie."""
    return RESULTS / profile / experiment / f"{case}-{seed}"


def keep(experiment, profile, case, seed, **tables):
    """Write the tables of one case and seed, DataFrames by name; older tables of it go.

    Floats are written with eight significant digits, so that a table is the same bytes at every run.
    """
    target = folder(experiment, profile, case, seed)
    shutil.rmtree(target, ignore_errors=True)
    for name, table in tables.items():
        path = target / f"{name}.csv"
        if name == "timing":
            path = SCRATCH / "timing" / profile / experiment / f"{case}-{seed}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def read(experiment, profile):
    """All tables of an experiment, seeds one below the other: dict case -> dict table -> DataFrame with a column `seed`.

    `UsageError` with the command that computes them if there are none.
    """
    files = (RESULTS / profile / experiment).glob("*/*.csv")
    runs = [(run["case"], int(run["seed"]), file) for file in files if (run := RUN.fullmatch(file.parent.name))]
    cases = {}
    for case, seed, file in sorted(runs):
        table = pd.read_csv(file)
        table.insert(0, "seed", seed)
        cases.setdefault(case, {}).setdefault(file.stem, []).append(table)
    if not cases:
        command = f"dvc repro show@{experiment}" if profile == "laptop" else f"make reproduce PROFILE={profile}"
        raise UsageError(
            f"there are no results of {experiment!r} in the profile {profile!r}: "
            f"run the notebook notebooks/experiments/{experiment}.ipynb, or {command}"
        )
    return {case: {name: pd.concat(parts, ignore_index=True) for name, parts in t.items()} for case, t in cases.items()}
