"""Parameters: which keys there are, which values they may take, and how a profile becomes params.yaml.

Command line::

    python -m gwf.params compose smoke     # conf/config.yaml with conf/profile/smoke.yaml -> params.yaml
    python -m gwf.params check             # is params.yaml valid?
"""

import argparse
import ast
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from gwf import studies
from gwf.errors import UsageError, in_range, nearest
from companion.form import parameters_of
from gwf.paths import NOTEBOOKS, ROOT

PARAMS = ROOT / "params.yaml"
CONF = ROOT / "conf"
STEPS = ("gan", "jko")
"""Time steps of the group `functionals`; those of the group `explicit` have the step `euler`."""
DATASETS = ("digits", "eight_gaussians")


@dataclass(frozen=True)
class Number:
    """A number in [low, high], or (low, high] if `open_low`; `kind` is int or float."""

    kind: type
    low: float
    high: float = math.inf
    open_low: bool = False

    def check(self, value, where):
        wanted = int if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            text = "a whole number" if self.kind is int else "a number"
            raise UsageError(f"{where} = {value!r} must be {text} between {self.low} and {self.high}")
        in_range(value, self.low, self.high, where, open_low=self.open_low)


@dataclass(frozen=True)
class Name:
    """One of the names that `valid()` returns."""

    what: str
    valid: object

    def check(self, value, where):
        nearest(value, self.valid(), f"{self.what} in {where}")


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, value, where):
        if not isinstance(value, bool):
            raise UsageError(f"{where} = {value!r} must be true or false")


@dataclass(frozen=True)
class Folder:
    """A folder below the repository, such as `results/smoke/report`."""

    def check(self, value, where):
        path = Path(str(value))
        if not isinstance(value, str) or not value or path.is_absolute() or ".." in path.parts:
            raise UsageError(f"{where} = {value!r} must be a folder below the repository, such as 'report'")


@dataclass(frozen=True)
class Many:
    """A list, without repetitions, of at least one `item`."""

    item: object

    def check(self, value, where):
        if not isinstance(value, list) or not value:
            raise UsageError(f"{where} = {value!r} must be a list with at least one entry")
        for entry in value:
            self.item.check(entry, where)
            if value.count(entry) > 1:
                raise UsageError(f"{where} = {value!r} contains {entry!r} twice")


def functionals():
    """Names of the functionals: one file each in gwf/functionals, listed without importing any."""
    return sorted(
        file.stem for file in (ROOT / "gwf" / "functionals").glob("*.py") if file.stem not in ("__init__", "base")
    )


def variational():
    """Names of the functionals with a variational bound; the others are for the explicit step alone."""
    folder = ROOT / "gwf" / "functionals"
    return [name for name in functionals() if "from gwf.fields.base import" not in (folder / f"{name}.py").read_text()]


def chapters():
    """Names of the chapters: every notebook but the two that the runs are made with."""
    return sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb") if file.stem not in ("train", "lenet"))


def settings_of(study):
    """Names of the settings of a study, read from the signature of its function `run` without importing it."""
    tree = ast.parse((ROOT / "gwf" / "studies" / f"{study}.py").read_text(encoding="utf-8"))
    (run,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    names = [argument.arg for argument in run.args.args + run.args.kwonlyargs]
    return [name for name in names if name not in ("seed", "progress")]


@dataclass(frozen=True)
class Cases:
    """Named cases of studies: case -> study, seeds, and settings that the study knows."""

    def check(self, value, where):
        if not isinstance(value, dict):
            raise UsageError(f"{where} = {value!r} must map names of cases to their settings")
        for case, settings in value.items():
            if not isinstance(settings, dict) or not re.fullmatch(r"[a-z][a-z0-9_]*", str(case)):
                raise UsageError(f"{where}.{case} = {settings!r} must be a named group of settings")
            if "study" not in settings:
                raise UsageError(f"{where}.{case} does not say which `study` it is of")
            nearest(settings["study"], studies.names(), f"study in {where}.{case}")
            Many(Number(int, 0, 2**31 - 1)).check(settings.get("seeds"), f"{where}.{case}.seeds")
            known = ["study", "seeds", *settings_of(settings["study"])]
            for name in settings:
                nearest(name, known, f"setting of {where}.{case}")


def profiles():
    """Names of the profiles: one file each in conf/profile."""
    return sorted(file.stem for file in (CONF / "profile").glob("*.yaml"))


COUNT = Number(int, 1, 10**8)
RATE = Number(float, 0, 1, open_low=True)
THREADS = Number(int, 1, 256)
TRAINING = {
    "updates": COUNT,
    "phase": COUNT,
    "batch": Number(int, 2, 65536),
    "tau": Number(float, 0, open_low=True),
    "per_dimension": Flag(),
    "nonsaturating": Flag(),
    "lr_map": RATE,
    "lr_critic": RATE,
    "penalty": Number(float, 0, 1e6),
    "penalty_every": Number(int, 1, 10**6),
    "lipschitz": Number(float, 0, 1e6),
    "ema": Number(float, 0, 0.999999),
    "evaluate_every": COUNT,
    "amp": Flag(),
    "n_samples": Number(int, 10, 10**6),
    "threads": THREADS,
}
SCHEMA = {
    "profile": Name("profile", profiles),
    "report": Folder(),
    "device": Name("device", lambda: ("cpu", "cuda")),
    "functionals": Many(Name("functional", variational)),
    "steps": Many(Name("step", lambda: STEPS)),
    "datasets": Many(Name("data set", lambda: DATASETS)),
    "seeds": Many(Number(int, 0, 2**31 - 1)),
    "chapters": Many(Name("chapter", chapters)),
    "studies": Cases(),
    "lenet": {"epochs": COUNT, "threads": THREADS},
    "training": {"digits": TRAINING, "eight_gaussians": TRAINING},
    "longer": {
        "functionals": Many(Name("functional", variational)),
        "steps": Many(Name("step", lambda: STEPS)),
        "seeds": Many(Number(int, 0, 2**31 - 1)),
        "training": TRAINING,
    },
    "explicit": {"functionals": Many(Name("functional", functionals)), "training": TRAINING},
}
NOTEBOOK_OF = {
    "lenet": "lenet",
    "training.digits": "train",
    "training.eight_gaussians": "train",
    "longer.training": "train",
    "explicit.training": "train",
}


def validate(params, schema=SCHEMA, where=""):
    """Return `params`, a nested dict, if it has exactly the keys of the schema, with valid values.

    Raises
    ------
    UsageError
        Names the key, the value, and the nearest valid name or the valid range.
    """
    if not isinstance(params, dict):
        raise UsageError(f"{where or 'params.yaml'} must be a group of parameters, not {params!r}")
    for key in params:
        nearest(key, schema, f"parameter of {where}" if where else "parameter")
    for key, rule in schema.items():
        name = f"{where}.{key}" if where else key
        if key not in params:
            raise UsageError(f"parameter {name} is missing")
        if isinstance(rule, dict):
            validate(params[key], rule, name)
        else:
            rule.check(params[key], name)
    return params


def matches_notebooks(params):
    """Raise `UsageError` if a group of parameters has one that the notebook it is handed to does not know."""
    for group, notebook in NOTEBOOK_OF.items():
        part = params
        for word in group.split("."):
            part = part[word]
        known = parameters_of(NOTEBOOKS / f"{notebook}.ipynb")
        for key in part:
            nearest(key, known, f"parameter of {notebook}.ipynb, given in {group},")


def compose(profile, overrides=()):
    """Compose conf/config.yaml with conf/profile/<profile>.yaml, the way `dvc exp run -S profile=...` does.

    Parameters
    ----------
    profile : str
        Name of a file in conf/profile.
    overrides : sequence of str
        Further overrides in Hydra's grammar, for example `training.digits.updates=100`.

    Returns
    -------
    str
        Text of params.yaml, validated.

    Raises
    ------
    UsageError
        No such profile, or a parameter that is not valid.
    """
    nearest(profile, profiles(), "profile")
    from dvc.utils.hydra import compose_and_dump

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "params.yaml"
        plugins = str(ROOT / ".dvc" / "tmp" / "hydra_plugins")
        compose_and_dump(target, str(CONF), None, "config", plugins, [f"profile={profile}", *overrides])
        text = target.read_text()
    validate(yaml.safe_load(text))
    return text


def read(path=PARAMS):
    """Validated content of params.yaml."""
    if not Path(path).exists():
        raise UsageError(f"there is no {Path(path).name}: make reproduce composes it from conf/")
    return validate(yaml.safe_load(Path(path).read_text()))


def write(text, path=PARAMS):
    """Write params.yaml atomically if its content changes; returns whether it did."""
    if path.exists() and path.read_text() == text:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
    return True


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gwf.params", description="Compose and check parameters.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compose", help="write params.yaml for a profile")
    command.add_argument("profile")
    command.add_argument("overrides", nargs="*")
    command = commands.add_parser("check", help="check params.yaml")
    command.add_argument("--mark", type=Path, help="file to write if all is valid, always with the same content")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "compose":
            print(
                f"params.yaml: profile {asked.profile}",
                "written" if write(compose(asked.profile, asked.overrides)) else "unchanged",
            )
        else:
            params = read()
            matches_notebooks(params)
            if asked.mark:
                asked.mark.parent.mkdir(parents=True, exist_ok=True)
                asked.mark.write_text("parameters and data are valid\n")
            print(f"params.yaml: profile {params['profile']} is valid")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
