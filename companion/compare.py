"""What was run here beside what git has: every number of every table, with the spread over seeds as the yardstick."""

import io
import subprocess

import numpy as np
import pandas as pd

from companion.guard import say
from companion.results import RUN
from gwf.paths import ROOT, SCRATCH

#: Numbers of the same run within this relative distance count as equal: eight digits are written.
EQUAL = 1e-6


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
    say(f"{frame['within'].sum()} of {len(frame)} numbers run here are within two spreads over seeds of those in git")
    for row in frame[~frame["within"].astype(bool)].head(10).itertuples():
        say(
            f"  {row.experiment} {row.case} seed {row.seed}, {row.number}: {row.here:.4g}, in git {row.committed:.4g} "
            f"(spread {row.spread:.2g})"
        )
    say(f"  all of them: {target.relative_to(ROOT)}")
