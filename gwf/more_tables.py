"""Tables beside those of the methods: the longer training of the digits, and one for each study."""

import math

import pandas as pd

from gwf import evidence
from gwf.runs import method_title
from gwf.table import Table, show, show_spread


def longer(study):
    """Table of the longer training: FD-LeNet along it, mean and sample standard deviation over seeds."""
    settings = study.params["longer"]
    records, rows = [], []
    for functional in settings["functionals"]:
        for step in settings["steps"]:
            names = [f"{functional}-{step}-{seed}" for seed in settings["seeds"]]
            stages = [f"longer@{name}" for name in names]
            folders = [study.folder / "longer" / name for name in names]
            runs = [
                study.read_json(f / "metrics.json", f"run {n}", s)
                for f, n, s in zip(folders, names, stages, strict=True)
            ]
            curves = pd.concat([pd.read_csv(folder / "curve.csv") for folder in folders])
            floor = sum(run["fd_lenet_floor"] for run in runs) / len(runs)
            for updates, values in curves.groupby("step")["fd_lenet"]:
                spread = values.std() if len(values) > 1 else math.nan
                records.append(
                    {
                        "method": method_title(functional, step),
                        "functional": functional,
                        "step": step,
                        "updates": updates,
                        "seeds": len(values),
                        "n": runs[0]["n"],
                        "fd_lenet_mean": values.mean(),
                        "fd_lenet_sd": spread,
                        "floor": floor,
                        "ratio": values.mean() / floor,
                        "command": study.command(*stages),
                    }
                )
    for r in records:
        rows.append(
            [
                r["method"],
                str(r["updates"]),
                show_spread(r["fd_lenet_mean"], r["fd_lenet_sd"]),
                show(r["floor"]),
                show(r["ratio"]),
            ]
        )
    seeds = ", ".join(str(seed) for seed in settings["seeds"])
    caption = (
        f"The digits as in the first table, profile {study.profile}, seeds {seeds}, trained for "
        f"{settings['training']['updates']} updates with the same settings; FD-LeNet of n = {records[0]['n']} "
        f"samples with averaged weights, mean ± sample standard deviation over seeds, and its ratio to the floor."
    )
    last = records[-1]
    reading = (
        f"{last['method']} ends at {show(last['ratio'])} times the floor after {last['updates']} updates; "
        f"after {records[0]['updates']} it stood at {show(records[0]['ratio'])} times."
    )
    header = ["method", "updates", "FD-LeNet", "floor", "times the floor"]
    return Table("fd_digits_longer", "Longer training", caption, reading, pd.DataFrame(records), header, rows)


def of_studies(profile, command):
    """A table for each study that has results, with the command that makes all its cases."""
    found = []
    for name, module, cases in evidence.every(profile):
        frame = module.table(cases)
        rows = [[evidence.show(value) for value in row] for row in frame.itertuples(index=False)]
        caption = f"{module.CAPTION} Profile {profile}. Command: {command(*[f'study@{case}' for case in cases])}"
        reading = module.reading(cases) if hasattr(module, "reading") else ""
        found.append(Table(f"study_{name}", module.TITLE, caption, reading, frame, list(frame.columns), rows))
    return found
