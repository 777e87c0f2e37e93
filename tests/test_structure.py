"""The repository's own form: stage dependencies, floors of imports, notebooks, environment files, paths."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from gwf.form import check, code, load, parameters_of
from gwf.params import validate
from gwf.paths import NOTEBOOKS, ROOT

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Their text reaches messages, paths and progress lines and never a number: an edit must not retrain for an
# hour.
PLUMBING = {"gwf/__init__.py", "gwf/errors.py", "gwf/paths.py", "gwf/progress.py"}

# A module imports only what stands before it. A folder is one floor; inside it imports are free.
FLOORS = [
    "errors",
    "paths",
    "progress",
    "seeding",
    "machine",
    "exact",
    "functionals",
    "nets",
    "data",
    "flows",
    "recipes",
    "metrics",
    "checkpoint",
    "tasks",
    "train",
    "form",
    "guard",
    "params",
    "nb",
    "runs",
    "table",
    "style",
    "report",
    "figures",
    "plot",
    "page",
    "mend",
    "workers",
    "pipeline",
]

# Notebooks whose stored outputs are compared by nbval; the other two train for longer, in the pipeline.
CHAPTERS = sorted(path for path in NOTEBOOKS.glob("*.ipynb") if path.stem not in ("train", "lenet"))


def module_files(name):
    """Files that `import <name>` executes, the packages above it included; empty outside gwf."""
    parts, found = name.split("."), []
    for depth in range(1, len(parts) + 1):
        base = ROOT.joinpath(*parts[:depth])
        if (base / "__init__.py").exists():
            found.append(base / "__init__.py")
        elif base.with_suffix(".py").exists():
            found.append(base.with_suffix(".py"))
    return found if parts[0] == "gwf" else []


def imported(source):
    """Names of modules that Python text imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure(sources):
    """Files of gwf that Python texts import, directly or not, relative to the root.

    What is imported by a computed name (`gwf.functionals.get`, `gwf.tasks.get`) is not seen, as it should be.
    """
    todo, seen = list(sources), set()
    while todo:
        for name in imported(todo.pop()):
            for file in module_files(name):
                relative = file.relative_to(ROOT).as_posix()
                if relative not in seen:
                    seen.add(relative)
                    todo.append(file.read_text())
    return seen


def combinations(stage):
    """Values of `item` for a stage: as few combinations as use every entry of every list."""
    matrix = stage.get("matrix")
    if not matrix:
        return [{}]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    lists = {name: params[v[2:-1]] if isinstance(v, str) else v for name, v in matrix.items()}
    longest = max(len(values) for values in lists.values())
    return [{name: values[i % len(values)] for name, values in lists.items()} for i in range(longest)]


def filled(text, item):
    """`text` of dvc.yaml with `${item.name}` replaced."""
    return re.sub(r"\$\{item\.(\w+)\}", lambda match: str(item[match.group(1)]), text)


def entries(stage, item):
    """Python texts that a stage executes: modules and notebook of its command, and what is imported by name.

    The runner is left out: it carries notebooks and parameters and computes nothing.
    """
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    texts = []
    for command in (filled(command, item) for command in commands):
        words = command.split()
        if words[2:4] == ["gwf.nb", "run"]:
            texts.append(code(ROOT / words[4]))
            texts += [
                f"import gwf.functionals.{name}"
                for name in re.findall(r"functionals\.get\(['\"](\w+)", texts[-1])
            ]
        elif words[2:4] == ["gwf.nb", "code"]:
            texts.append("import gwf.form")
        else:
            texts.append(f"import {words[2]}")
    if "functional" in item:
        texts.append(f"import gwf.functionals.{item['functional']}")
    if "dataset" in item:
        texts += [f"import gwf.tasks.{name}" for name in ("digits", "eight_gaussians")]
    return texts


@pytest.mark.parametrize("name", DVC)
def test_declared_modules_are_those_imported(name):
    stage = DVC[name]
    for item in combinations(stage):
        declared = {filled(path, item) for path in stage["deps"] if path.startswith("gwf/")}
        wanted = closure(entries(stage, item)) - PLUMBING
        modules = {path for path in declared if path.endswith(".py")}
        assert not wanted - modules, f"stage {name} imports but does not declare {sorted(wanted - modules)}"
        assert not modules - wanted, f"stage {name} declares but does not import {sorted(modules - wanted)}"


def test_a_stage_that_runs_a_notebook_depends_on_its_code_and_not_on_its_prose():
    for name, stage in DVC.items():
        if "gwf.nb run" in str(stage["cmd"]):
            notebook = re.search(r"notebooks/(\S+)\.ipynb", stage["cmd"]).group(1)
            assert f"results/code/{notebook}.py" in stage["deps"], name
            assert not any(dep.endswith(".ipynb") for dep in stage["deps"]), name


def test_a_functional_is_used_by_its_own_runs_only():
    assert "gwf/functionals/${item.functional}.py" in DVC["train"]["deps"]
    used = closure(["from gwf import train, recipes, report, plot, page"])
    assert not {path for path in used if path.startswith("gwf/functionals/")} - {
        "gwf/functionals/__init__.py",
        "gwf/functionals/base.py",
    }


def test_every_notebook_has_a_code_stage_and_every_chapter_runs():
    assert sorted(DVC["code"]["matrix"]["notebook"]) == sorted(
        path.stem for path in NOTEBOOKS.glob("*.ipynb")
    )
    assert sorted(DVC["chapter"]["matrix"]["notebook"]) == [path.stem for path in CHAPTERS]


def test_parameters_handed_over_by_dvc_are_known_to_the_notebooks():
    for stage in DVC.values():
        for item in combinations(stage):
            if "gwf.nb run" in str(stage["cmd"]):
                command = filled(stage["cmd"], item)
                known = parameters_of(ROOT / re.search(r"notebooks/\S+\.ipynb", command).group())
                assert set(re.findall(r"--set (\w+)", command)) <= set(known)


def test_every_output_that_only_git_keeps_lets_the_run_cache_work():
    # DVC leaves a stage out of its run cache for any plain output with `cache: false`; a run must come back
    # from it.
    for name in ("lenet", "train", "chapter"):
        assert all(isinstance(out, str) for out in DVC[name]["outs"]), name


def modules():
    return sorted((ROOT / "gwf").rglob("*.py"))


def test_imports_point_downwards():
    floor = {name: i for i, name in enumerate(FLOORS)}
    faults = []
    for path in modules():
        parts = path.relative_to(ROOT / "gwf").with_suffix("").parts
        if parts == ("__init__",):
            continue
        assert parts[0] in floor, f"gwf/{parts[0]} has no floor in {Path(__file__).name}"
        for name in imported(path.read_text()):
            words = name.split(".")
            if (
                words[0] == "gwf"
                and len(words) > 1
                and words[1] in floor
                and floor[words[1]] > floor[parts[0]]
            ):
                faults.append(f"{path.relative_to(ROOT)} imports gwf.{words[1]}")
    assert not faults


def test_the_tests_of_imports_see_an_import():
    assert "gwf/flows/jko.py" in closure(["def late():\n    from gwf.flows.jko import JKO"])
    assert "gwf/errors.py" in closure(["import gwf.flows.jko as j"])
    assert not closure(["import os, yaml"])


def test_files_are_short():
    # A file that grows past a few hundred lines is two ideas.
    assert not [path.name for path in modules() if len(path.read_text().splitlines()) > 400]


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_form_of_notebooks(notebook):
    assert check(notebook) == []


@pytest.mark.parametrize("notebook", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_are_stored_executed(notebook):
    # nbval compares only cells that have been executed: a stripped notebook would pass without being looked
    # at.
    cells = [cell for cell in load(notebook)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert any(cell["outputs"] for cell in cells)


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "conf" / "profile").glob("*.yaml")), ids=lambda path: path.stem
)
def test_profiles_are_valid(profile):
    shared = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())
    shared.pop("defaults")
    own = yaml.safe_load(profile.read_text())
    assert own["profile"] == profile.stem
    assert profile.read_text().startswith("# @package _global_\n")
    validate(shared | own)


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"] + sum(EXTRAS.values(), [])]
PINS = {
    canonicalize_name(line.split("==")[0]): Version(line.split("==")[1])
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}


def test_constraints_pin_every_requirement_within_its_range():
    for need in REQUIRED:
        name = canonicalize_name(need.name)
        if name == "torch":
            continue
        assert name in PINS, f"constraints.txt does not pin {name}"
        assert need.specifier.contains(PINS[name]), (
            f"constraints.txt has {name} {PINS[name]}, pyproject {need}"
        )


def test_constraints_leave_torch_free():
    # Its wheels are called differently with and without CUDA.
    assert not [name for name in PINS if re.match(r"torch$|nvidia|triton|cuda", name)]


def test_conda_route_uses_the_same_versions():
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in packages if isinstance(entry, dict)]
    plain = [entry for entry in packages if isinstance(entry, str)]
    assert f"python{PROJECT['requires-python']}" in plain
    assert {"make", "git", "pip"} <= set(plain)
    assert pip == ["-c constraints.txt", "-e .[test]"]


def test_makefile_installs_with_the_constraints():
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert lines and all("-c constraints.txt" in line and "-e '.[" in line for line in lines)


def text_files():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = [
        name
        for name in listed.stdout.splitlines()
        if not name.startswith(("embedded/", "results/", "report/"))
    ]
    suffixes = {".py", ".yaml", ".yml", ".toml", ".md", ".ipynb", ".txt", ".lock", ".dvc", ".html", ""}
    return [ROOT / name for name in names if (ROOT / name).suffix in suffixes and (ROOT / name).is_file()]


def test_no_absolute_paths():
    machine = re.compile(r"(?<![\w.:/}])/(home|root|work|Users|tmp|mnt|opt|var)/\w")
    faults = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in text_files()
        for match in [machine.search(path.read_text(errors="replace"))]
        if match
    ]
    assert not faults
    assert machine.search("open('/home" + "/me')")
