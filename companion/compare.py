"""What was run here beside what git has: every number of every table, with the spread over seeds as the yardstick."""

import io
import subprocess

import numpy as np
import pandas as pd

from companion.guard import say
from companion.results import RUN, folder
from gwf.paths import ROOT, SCRATCH

#: Numbers of the same run within this relative distance count as equal: eight digits are written.
EQUAL = 1e-6


def committed(path):
    """The table as git has it, or None where there is no git or no such file in it."""
    relative = path.relative_to(ROOT).as_posix()
    shown = subprocess.run(["git", "show", f"HEAD:{relative}"], cwd=ROOT, capture_output=True, text=True)
    return pd.read_csv(io.StringIO(shown.stdout)) if shown.returncode == 0 else None


def numbers(table):
    """Column -> mean, of the numeric columns."""
    return table.select_dtypes("number").replace([np.inf, -np.inf], np.nan).mean().dropna()


def beside_git(folders):
    """The numbers of the tables in `folders`, beside those of git: a DataFrame.

    `spread` is the standard deviation over the committed seeds of the case, NaN for one seed; `within` says whether
    |here - committed| <= 2 spread, or equal.
    """
    rows = []
    for path in folders:
        run = RUN.fullmatch(path.name)
        for file in sorted(path.glob("*.csv")):
            before = committed(file)
            if before is None:
                continue
            others = [committed(other / file.name) for other in sorted(path.parent.glob(f"{run['case']}-*"))]
            seeds = pd.DataFrame([numbers(other) for other in others if other is not None])
            now, then = numbers(pd.read_csv(file)), numbers(before)
            for name in then.index.intersection(now.index):
                spread = seeds[name].std() if len(seeds) > 1 else np.nan
                gap = abs(now[name] - then[name])
                if spread == gap == 0:  # a setting, or a number that no seed changes
                    continue
                within = bool(gap <= max(EQUAL * abs(then[name]), 2 * np.nan_to_num(spread)))
                where = (path.parent.name, run["case"], int(run["seed"]), file.stem, name)
                rows.append((*where, now[name], then[name], spread, within))
    columns = ["experiment", "case", "seed", "table", "number", "here", "committed", "spread", "within"]
    return pd.DataFrame(rows, columns=columns)


def say_beside_git(composed, ran):
    """Print how many numbers of the stages `ran` agree with git, and which do not; all go to scratch/comparison.csv."""
    entries = {f"run@{key}": entry for key, entry in composed["runs"].items()}
    entries |= {f"measure@{key}": entry for key, entry in composed["trainings"].items()}
    folders = []
    for entry in (entries[name] for name in sorted(ran) if name in entries):
        experiment = entry.get("experiment") or entry["dataset"]
        folders.append(folder(experiment, composed["profile"], entry["case"], entry["seed"]))
    if not folders or not (ROOT / ".git").exists():
        return
    frame = beside_git(folders)
    if frame.empty:
        return
    target = SCRATCH / "comparison.csv"
    frame.to_csv(target, index=False, lineterminator="\n")
    say(f"{frame['within'].sum()} of {len(frame)} numbers run here are within two spreads over seeds of those in git")
    for row in frame[~frame["within"]].head(10).itertuples():
        say(
            f"  {row.experiment} {row.case} seed {row.seed}, {row.number}: {row.here:.4g}, in git {row.committed:.4g} "
            f"(spread {row.spread:.2g})"
        )
    say(f"  all of them: {target.relative_to(ROOT)}")
