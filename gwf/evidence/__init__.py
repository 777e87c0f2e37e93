"""What the report shows of the studies: one module for each, with a table and a figure of all its cases.

    TITLE, CAPTION : str
    table(cases) -> pandas.DataFrame         rows to read
    figure(cases) -> matplotlib figure
    reading(cases) -> str                    optional: one sentence on what the numbers say

`cases` is what `gwf.studies.read` gives: case -> table -> DataFrame.
"""

import importlib
import math
from pathlib import Path

import pandas as pd

from gwf import studies


def names():
    """Names of all modules of this package, sorted; nothing is imported."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")


def every(profile):
    """`(name, module, cases)` of every study that has results under `profile`."""
    for name in names():
        cases = studies.read(name, profile)
        if cases:
            yield name, importlib.import_module(f"{__name__}.{name}"), cases


def show(value):
    """A cell as text: numbers to four significant digits with a true minus sign, a dash for nothing."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, bool) or float(value) == int(value) and abs(value) < 1e6:
        return str(int(value) if not isinstance(value, bool) else value).replace("-", "−")
    return f"{value:.4g}".replace("-", "−")
