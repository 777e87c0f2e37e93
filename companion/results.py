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
    """Write the tables of one case and seed; older tables of it go.

    Parameters
    ----------
    tables : DataFrame
        By name. Floats are written with eight significant digits, so that a table is the same bytes at every run.
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

    Raises
    ------
    UsageError
        Nothing has been computed; the message has the command that does.
    """
    runs = [(path, RUN.fullmatch(path.name)) for path in (RESULTS / profile / experiment).glob("*") if path.is_dir()]
    runs = sorted((found["case"], int(found["seed"]), path) for path, found in runs if found)
    cases = {}
    for case, seed, path in runs:
        for file in sorted(path.glob("*.csv")):
            table = pd.read_csv(file)
            table.insert(0, "seed", seed)
            cases.setdefault(case, {}).setdefault(file.stem, []).append(table)
    if not cases:
        raise UsageError(
            f"there are no results of {experiment!r} in the profile {profile!r}: "
            f"run the notebook notebooks/experiments/{experiment}.ipynb, or {command(experiment, profile)}"
        )
    return {
        case: {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
        for case, tables in cases.items()
    }


def command(experiment, profile):
    """What computes and shows an experiment."""
    return f"dvc repro show@{experiment}" if profile == "laptop" else f"make reproduce PROFILE={profile}"
