"""Results: a folder of csv tables for each case and seed, `results/<profile>/<experiment>/<case>-<seed>/`.

What was run here is compared with what git has, number by number, with the spread over seeds as the yardstick. Times
are no results: a table called `timing` goes to scratch/timing/, and is never shown in a table or figure.
"""

import io
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pandas as pd

from companion.claims import together
from companion.files import read_file, short
from gwf.errors import UsageError
from gwf.paths import RESULTS, ROOT, SCRATCH

#: `<case>-<seed>`, the name of a run's folder.
RUN = re.compile(r"(?P<case>.+)-(?P<seed>\d+)")
#: Numbers of the same run within this relative distance count as equal: eight digits are written.
EQUAL = 1e-6


def folder(experiment, profile, case, seed):
    """Where the tables of one case and seed lie."""
    return RESULTS / profile / experiment / f"{case}-{seed}"


def keep(experiment, profile, case, seed, digits=8, **tables):
    """Write the tables of one case and seed, DataFrames by name; older tables of it go.

    Floats are written with eight significant digits, or fewer, so that a table is the same bytes at every run.
    """
    target = folder(experiment, profile, case, seed)
    shutil.rmtree(target, ignore_errors=True)
    for name, table in tables.items():
        path = target / f"{name}.csv"
        if name == "timing":
            path = SCRATCH / "timing" / profile / experiment / f"{case}-{seed}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, float_format=f"%.{digits}g", lineterminator="\n")


def read(experiment, profile):
    """All tables of an experiment, seeds one below the other: case -> table -> DataFrame with a column `seed`.

    `UsageError` with the command that computes them if there are none.
    """
    files = (RESULTS / profile / experiment).glob("*/*.csv")
    runs = [(run["case"], int(run["seed"]), file) for file in files if (run := RUN.fullmatch(file.parent.name))]
    cases, kept = {}, Counter((case, file.name) for case, _, file in runs)
    for case, seed, file in sorted(runs):
        # The first seed alone keeps pictures.
        others = (name for (of, name), seeds in kept.items() if of == case and seeds > 1)
        if lacking := [name for name in others if not file.with_name(name).exists()]:
            how = command(experiment, profile)
            raise UsageError(f"{short(file.parent)} lacks {lacking[0]}, which other seeds have: {how}")
        table, known = read_file(file), cases.setdefault(case, {}).setdefault(file.stem, [])
        if known and (list(table) != list(known[0])[1:] or table.empty != known[0].empty):
            raise UsageError(f"{short(file)} and seed {known[0]['seed'].iloc[0]}'s have other columns, or one is empty")
        table.insert(0, "seed", seed)
        known.append(table)
    if not cases:
        raise UsageError(
            f"there are no results of {experiment!r} in the profile {profile!r}: "
            f"run the notebook notebooks/experiments/{experiment}.ipynb, or {command(experiment, profile)}"
        )
    return {case: {name: pd.concat(parts, ignore_index=True) for name, parts in t.items()} for case, t in cases.items()}


def by_budget(experiment, profile):
    """As `read` all cases but those called `..._longer`; and one table of these, trained four times as long, or None."""
    cases = read(experiment, profile)
    longer = {case: tables for case, tables in cases.items() if case.endswith("_longer")}
    return {case: cases[case] for case in cases if case not in longer}, together(longer) if longer else None


def command(experiment, profile):
    """What computes and shows an experiment."""
    return f"dvc repro show@{experiment}" if profile == "laptop" else f"make reproduce PROFILE={profile}"


def committed(path):
    """The table as git has it, or None where there is no git or no such file in it."""
    command = ["git", "show", f"HEAD:{path.relative_to(ROOT).as_posix()}"]
    shown = (ROOT / ".git").exists() and subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return pd.read_csv(io.StringIO(shown.stdout)) if shown and shown.returncode == 0 else None


def numbers(table):
    """Column -> mean, of the numeric columns."""
    return table.select_dtypes("number").replace([np.inf, -np.inf], np.nan).mean().dropna()


def beside_git(folders):
    """The numbers of the tables in `folders`, beside those of git: a DataFrame.

    `spread` is the standard deviation over the committed seeds of the case, NaN for one seed; `within` says whether
    |here - committed| <= 2 spread, or equal.
    """
    frames = [pd.DataFrame(columns=["experiment", "here", "committed", "spread", "within"])]
    for file in (file for folder in folders for file in sorted(folder.glob("*.csv"))):
        path, (case, seed) = file.parent, RUN.fullmatch(file.parent.name).groups()
        tables = {other.name: committed(other / file.name) for other in sorted(path.parent.glob(f"{case}-[0-9]*"))}
        if tables[path.name] is None:
            continue
        then = pd.DataFrame({name: numbers(table) for name, table in tables.items() if table is not None})
        here = {"here": numbers(pd.read_csv(file)), "committed": then[path.name], "spread": then.std(axis=1)}
        frame = pd.DataFrame(here).dropna(subset=["here", "committed"]).rename_axis("number").reset_index()
        gap = (frame["here"] - frame["committed"]).abs()
        frame["within"] = gap <= np.maximum(EQUAL * frame["committed"].abs(), 2 * frame["spread"].fillna(0))
        frame = frame[(frame["spread"] != 0) | (gap != 0)]  # no setting, and no number that no seed changes
        frames.append(frame.assign(experiment=path.parent.name, case=case, seed=int(seed), table=file.stem))
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def say_beside_git(folders):
    """Print how many numbers in `folders` agree with git, and which do not; all go to scratch/comparison.csv."""
    frame = beside_git(folders)
    if frame.empty:
        return
    target = SCRATCH / "comparison.csv"
    frame.to_csv(target, index=False, lineterminator="\n")
    print(f"{frame['within'].sum()} of {len(frame)} numbers run here are within two spreads over seeds of those in git")
    for row in frame[~frame["within"].astype(bool)].head(10).itertuples():
        print(
            f"  {row.experiment} {row.case} seed {row.seed}, {row.number}: {row.here:.4g}, in git {row.committed:.4g} "
            f"(spread {row.spread:.2g})"
        )
    print(f"  all of them: {target.relative_to(ROOT)}")
