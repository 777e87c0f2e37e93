"""Low-dimensional experiments, each held against an exact solution: one module with a function `run` each.

    run(seed, progress, **settings) -> dict of pandas.DataFrame

for one seed; `gwf.study` runs a named case of a study over its seeds and writes results/<profile>/studies/<case>/.
"""

import json
from pathlib import Path

import pandas as pd

from gwf.errors import nearest
from gwf.paths import RESULTS


def names():
    """Names of all studies: the modules of this package, listed without importing any."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")


def read(study, profile):
    """Results of all cases of `study` under `profile`: case -> table -> DataFrame. Empty if none has been run.

    Raises
    ------
    UsageError
        No such study.
    """
    nearest(study, names(), "study")
    found = {}
    for file in sorted((RESULTS / profile / "studies").glob("*/case.json")):
        if json.loads(file.read_text())["study"] == study:
            found[file.parent.name] = {table.stem: pd.read_csv(table) for table in sorted(file.parent.glob("*.csv"))}
    return found
