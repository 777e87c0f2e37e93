"""Run one case of a study, seed after seed, and write its tables.

Command line::

    python -m gwf.study ou_d2        # the case `ou_d2` of the group `studies` of params.yaml

Every finished seed is kept in scratch/ until the last is done, so that a killed case loses at most one seed.
results/<profile>/studies/<case>/ gets case.json (study and settings) and a csv for each table. Times are no results:
a table called `timing` goes to results/<profile>/timing/<case>.csv, which is no output of the pipeline.
"""

import argparse
import importlib
import inspect
import json
import os
import shutil
import sys
import time

import pandas as pd

from gwf import params, studies
from gwf.errors import UsageError, nearest
from companion.guard import Alone, watch
from gwf.paths import RESULTS, SCRATCH
from gwf.progress import Progress
from gwf.training import machine
from gwf.training.checkpoint import fingerprint, replace


def load(study):
    """The function `run` of a study, by name; raises `UsageError` with the nearest name."""
    nearest(study, studies.names(), "study")
    return importlib.import_module(f"gwf.studies.{study}").run


def run(case, profile, study, seeds, **settings):
    """Run one case over its seeds; returns its tables, with a column `seed`, and writes nothing but scratch files.

    Raises
    ------
    UsageError
        Unknown study, a setting it does not know or lacks, or a value out of range.
    """
    function = load(study)
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in ("seed", "progress")}
    for name in settings:
        nearest(name, known, f"setting of study {study}")
    needed = {name for name, parameter in known.items() if parameter.default is parameter.empty}
    if missing := sorted(needed - set(settings)):
        raise UsageError(f"case {case} of study {study} lacks the settings {', '.join(missing)}")
    machine.prepare("cpu", 1)
    # After the import, as it covers the code of every module that is loaded.
    key = fingerprint({"study": study} | settings)
    folder = SCRATCH / profile / "studies" / case
    frames = []
    for seed in seeds:
        part = folder / f"{seed}-{key}"
        if not (part / "table.csv").exists():
            with Follow(f"{case} seed {seed}") as follow:
                tables = function(seed, follow, **settings)
            # `table` last: it says that the others are complete.
            for name in sorted(tables, key=lambda name: name == "table"):
                tables[name].insert(0, "seed", seed)
                save(tables[name], part / f"{name}.csv", "%.17g")
        # Also when it has just been computed: a resumed case must end with the same bytes.
        frames.append({file.stem: pd.read_csv(file) for file in sorted(part.glob("*.csv"))})
    return {name: pd.concat([tables[name] for tables in frames], ignore_index=True) for name in frames[0]}


def save(table, path, digits):
    """Write a DataFrame as csv, atomically, floats as `digits` says."""
    replace(path, lambda p: table.to_csv(p, index=False, float_format=digits, lineterminator="\n"))


class Follow:
    """A callable `(done, total, **shown)` that shows the progress of one seed."""

    def __init__(self, label):
        self.label, self.progress, self.began = label, None, time.monotonic()

    def __enter__(self):
        return self

    def __call__(self, done, total, **shown):
        if self.progress is None or self.progress.total != int(total):
            self.__exit__(None, None, None)
            self.progress = Progress(total, self.label).__enter__()
        self.progress.update(done, **shown)

    def __exit__(self, *exception):
        if self.progress is not None:
            self.progress.__exit__(*exception)


def write(case, profile, settings, tables):
    """Write the tables of a case; older files of the case go."""
    folder = RESULTS / profile / "studies" / case
    if folder.exists():
        shutil.rmtree(folder)
    for name, table in tables.items():
        path = (RESULTS / profile / "timing" / f"{case}.csv") if name == "timing" else folder / f"{name}.csv"
        save(table, path, "%.8g")
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    replace(folder / "case.json", lambda p: p.write_text(text))
    return folder


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gwf.study", description="Run one case of a study.")
    parser.add_argument("case")
    asked = parser.parse_args(arguments)
    if not sys.stderr.isatty():
        # Under the pipeline: lines for its driver to show, no bar.
        os.environ.setdefault("GWF_PROGRESS", "/dev/stdout")
    try:
        composed = params.read()
        nearest(asked.case, composed["studies"], "case of a study")
        settings, profile = composed["studies"][asked.case], composed["profile"]
        # Nothing here may outlive the pipeline, or write beside a successor.
        driver = int(os.environ.get("GWF_DRIVER") or 0)
        watch([os.getppid()] + [driver] * bool(driver), lambda: os._exit(1))
        began = time.monotonic()
        with Alone(SCRATCH / profile / "studies", asked.case):
            folder = write(asked.case, profile, settings, run(asked.case, profile, **settings))
        shutil.rmtree(SCRATCH / profile / "studies" / asked.case, ignore_errors=True)
        timing = {"seconds": round(time.monotonic() - began, 1), **machine.description()}
        text = json.dumps(timing, indent=2, sort_keys=True) + "\n"
        replace(RESULTS / profile / "timing" / f"{asked.case}.json", lambda p: p.write_text(text))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{asked.case}: {folder.relative_to(RESULTS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
