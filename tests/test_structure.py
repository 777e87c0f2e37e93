"""The repository's own form: rooms, floors of imports, budgets, notebooks, environment files, paths."""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from companion import code, driver, ledger, params
from companion.form import load, source
from gwf.errors import UsageError
from gwf.paths import NOTEBOOKS, ROOT
from tests.notebook_form import check

#: Room -> most lines it may have, docstrings included; and what it may import of the others.
BUDGETS = {"gwf": 10500, "companion": 2932, "website": 900}
MAY_IMPORT = {"gwf": {"gwf"}, "companion": {"companion", "gwf"}, "website": {"website", "companion", "gwf"}}
#: Most lines of code cells in all notebooks.
CELLS = 9670

# A module of gwf imports only what stands before it. A folder is one floor; inside it imports are free.
FLOORS = [
    *(
        "errors",
        "validation",
        "paths",
        "progress",
        "seeding",
        "bounds",
        "variants",
        "divergences",
        "exact",
        "nets",
        "data",
    ),
    *("steps", "fields", "metrics", "flows", "training", "uses"),
]

CHAPTERS = sorted(NOTEBOOKS.glob("chapters/*.ipynb"))
EXPERIMENTS = sorted(NOTEBOOKS.glob("experiments/*.ipynb"))
ALL = sorted(NOTEBOOKS.glob("**/*.ipynb"))


def modules(room):
    return sorted(path for path in (ROOT / room).rglob("*.py") if "checkpoints" not in str(path))


def imported(text):
    """Names of modules that Python text imports, wherever in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", BUDGETS)
def test_rooms_keep_to_their_budget_and_import_downwards(room):
    texts = {path: path.read_text() for path in modules(room)}
    lines = sum(len(text.splitlines()) for text in texts.values())
    assert lines <= BUDGETS[room], f"{room}/ has {lines} lines"
    for path, text in texts.items():
        rooms = {name.split(".")[0] for name in imported(text)} & {"gwf", "companion", "website", "notebooks", "tests"}
        assert rooms <= MAY_IMPORT[room], path


def test_floors_of_gwf():
    floor, faults = {name: i for i, name in enumerate(FLOORS)}, []
    for path in modules("gwf"):
        parts = path.relative_to(ROOT / "gwf").with_suffix("").parts
        if parts == ("__init__",):
            continue
        assert parts[0] in floor, f"gwf/{parts[0]} has no floor in test_structure.py"
        for name in imported(path.read_text()):
            words = name.split(".")
            if words[0] == "gwf" and len(words) > 1 and words[1] in floor and floor[words[1]] > floor[parts[0]]:
                faults.append(f"{path.relative_to(ROOT)} imports gwf.{words[1]}")
    assert not faults


def test_cells_keep_to_their_budget():
    cells = [source(cell) for path in ALL for cell in load(path)["cells"] if cell["cell_type"] == "code"]
    assert sum(len(text.splitlines()) for text in cells) <= CELLS


@pytest.mark.parametrize("path", [p for room in BUDGETS for p in modules(room)], ids=lambda path: path.stem)
def test_files_are_short(path):
    # A file that grows past a few hundred lines is two ideas.
    assert len(path.read_text().splitlines()) <= 400


def test_ruff():
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--quiet", "."], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_form_of_notebooks(notebook):
    assert notebook.stem == "index" or check(notebook) == []


@pytest.mark.parametrize("notebook", [*CHAPTERS, *EXPERIMENTS], ids=lambda path: path.stem)
def test_notebooks_are_stored_executed(notebook):
    # nbval compares only cells that have been executed: a stripped notebook would pass without being looked at.
    cells = [cell for cell in load(notebook)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert any(cell["outputs"] for cell in cells)


@pytest.mark.parametrize("notebook", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_and_shows(notebook):
    tags = [tag for cell in load(notebook)["cells"] for tag in cell["metadata"].get("tags", [])]
    assert {"parameters", "run", "show"} <= set(tags)
    code_cells = [source(cell) for cell in load(notebook)["cells"] if cell["cell_type"] == "code"]
    assert ".close()" in code_cells[-1]


def test_stages_are_those_of_the_parameters():
    composed = params.compose("laptop")
    found = driver.stages(composed)
    kinds = [stage.kind for stage in found.values()]
    for kind, group in (("train", "trainings"), ("measure", "trainings"), ("run", "runs"), ("show", "shows")):
        assert kinds.count(kind) == len(composed[group])
    assert all("${" not in text for stage in found.values() for text in (stage.cmd, *stage.deps, *stage.outs))
    outs = [out for stage in found.values() for out in stage.outs]
    assert len(set(outs)) == len(outs)
    needs = driver.needs(found)
    assert needs["show@digits"] >= {"measure@digits-kl-jko-0", "measure@eight_gaussians-kl-jko-0"}
    assert needs["measure@digits-kl-jko-0"] == {"train@digits-kl-jko-0"}
    assert needs["claims"] >= {"show@digits", "chapter@01_jko_gaussian"} and not needs["run@restricted-0"]


def test_a_claim_needs_what_its_notebook_reads():
    found = driver.stages(params.compose("laptop"))
    for claim, path in ledger.judged_in().items():
        needed = driver.settling(claim, found)
        assert "claims" in needed and {name for name in needed if Path(path).stem == name.split("@")[-1]}
    assert driver.settling("gwf-C1", found) == {"chapter@03_unifying", "claims"}
    assert driver.settling("vwgf-C2", found) == {"run@step_cost-0", "show@step_cost", "claims"}
    assert driver.settling("gwf-C12", found) >= {f"run@step_sizes-{seed}" for seed in range(3)}
    with pytest.raises(UsageError, match="not judged by a run: needs-gpu"):
        driver.settling("gwf-C13", found)
    with pytest.raises(UsageError, match="not in this profile"):
        driver.settling("gwf-C1", {})


def test_a_spot_check_has_every_family_within_its_time_and_goes_on_from_there(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "SCRATCH", tmp_path)  # the costs of git, not of this machine
    composed = params.compose("laptop")
    found, costs = driver.stages(composed), driver.Costs("laptop")
    chosen = driver.telling(found, set(found), costs, budget := 15 * 60 * 2)
    assert sum(costs[found[name]] for name in chosen) <= budget
    assert {f"chapter@{name}" for name in composed["chapters"]} <= chosen
    ran = {entry["experiment"] for key, entry in composed["runs"].items() if f"run@{key}" in chosen}
    assert len(ran) >= len(composed["experiments"]) - 4  # the dearest do not fit
    trained = {name.removeprefix("train@") for name in chosen if name.startswith("train@")}
    assert {entry["dataset"] for key, entry in composed["trainings"].items() if key in trained} == {
        *composed["training"]
    }
    assert {name.removeprefix("measure@") for name in chosen if name.startswith("measure@")} == trained
    more = driver.telling(found, set(found) - chosen, costs, budget)
    assert more and not more & chosen
    # With nothing left to calculate, the sheets that have changed.
    assert driver.telling(found, {"show@porous"}, costs, 1.0) == {"show@porous"}
    # A training that was done before its measuring was stopped.
    left = {"measure@digits-kl-jko-0"}
    assert driver.telling(found, left, costs, budget) == left


def test_estimates_go_by_the_pace_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "SCRATCH", tmp_path)
    found, costs = driver.stages(params.compose("laptop")), driver.Costs("laptop")
    stages = [found[name] for name in ("train@digits-kl-jko-0", "train@digits-kl-jko-1", "show@digits")]
    done, other, sheet = usual = [costs[stage] for stage in stages]
    assert done == other != sheet
    costs.record(stages[0].name, 2 * done)
    for known in (costs, driver.Costs("laptop")):  # and again when it is called again
        assert [known[stage] for stage in stages] == pytest.approx([2 * seconds for seconds in usual], rel=0.01)
    costs.record(stages[2].name, sheet)
    assert costs[stages[0]] == pytest.approx(2 * done, rel=0.01) and other < costs[stages[1]] < 2 * other


def test_a_stage_depends_on_its_inputs_alone_and_every_input_has_its_stage():
    composed = params.compose("laptop")
    assert {stage.inputs for stage in driver.stages(composed).values()} == set(code.inputs(composed))


def test_what_notebooks_use_of_the_companion_is_there():
    """A stage that asks a module for what it has not would fail after its trainings."""
    texts = {path: "\n".join(source(c) for c in load(path)["cells"] if c["cell_type"] == "code") for path in ALL}
    texts |= {path: path.read_text() for path in NOTEBOOKS.rglob("*.py")}
    faults, looked_at = [], 0
    for path, text in texts.items():
        nodes = list(ast.walk(ast.parse(text)))
        names = {}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("companion"):
                for alias in node.names:
                    if node.module == "companion":
                        names[alias.asname or alias.name] = importlib.import_module(f"companion.{alias.name}")
                    elif (found := getattr(importlib.import_module(node.module), alias.name, None)) is None:
                        faults.append(f"{path.name}: {node.module}.{alias.name}")
                    elif inspect.ismodule(found):
                        names[alias.asname or alias.name] = found
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                looked_at += 1
                if not hasattr(names[node.value.id], node.attr):
                    faults.append(f"{path.name}: {node.value.id}.{node.attr}")
    assert looked_at > 50 and not faults


def test_the_lock_is_short():
    # Git keeps it, and DVC reads it at every command.
    assert len((ROOT / "dvc.lock").read_text().splitlines()) < 19400


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
        if name in ("torch", "gwf"):
            continue
        assert name in PINS, f"constraints.txt does not pin {name}"
        assert need.specifier.contains(PINS[name]), f"constraints.txt has {name} {PINS[name]}, pyproject {need}"


def test_constraints_leave_torch_free():
    # Its wheels are called differently with and without CUDA.
    assert not [name for name in PINS if re.match(r"torch$|nvidia|triton|cuda", name)]


def test_a_wheel_holds_the_mathematics_alone(tmp_path):
    source_folder = tmp_path / "source"
    shutil.copytree(ROOT / "gwf", source_folder / "gwf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source_folder)
    (source_folder / "companion").mkdir()
    (source_folder / "companion" / "__init__.py").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", "./source"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folders = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert folders == {"gwf", f"gwf-{PROJECT['version']}.dist-info"}
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    show = [sys.executable, "-c", "import gwf; print(gwf.__file__, gwf.__version__)"]
    done = subprocess.run(show, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(wheel)) and done.stdout.split()[-1] == PROJECT["version"]


def test_the_citation_has_the_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])


def test_every_work_that_is_cited_is_in_the_references():
    eprints = set(re.findall(r"eprint\s*= \{(.+)\}", (ROOT / "references.bib").read_text()))
    texts = [path.read_text() for path in text_files() if path.suffix in (".py", ".ipynb", ".md", ".yaml")]
    cited = {name for text in texts for name in re.findall(r"(?:arXiv |arxiv\.org/abs/)(\d{4}\.\d{4,5})", text)}
    assert cited and not cited - eprints


def test_conda_route_uses_the_same_versions():
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in packages if isinstance(entry, dict)]
    plain = [entry for entry in packages if isinstance(entry, str)]
    assert f"python{PROJECT['requires-python']}" in plain
    assert {"make", "git", "pip"} <= set(plain)
    first, *named, last = pip
    assert (first, last) == ("-c constraints.txt", "-e .[test,lab]")
    assert set(named) <= {need.name for need in REQUIRED}


def test_makefile_installs_with_the_constraints():
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "-e '.[" in line]
    assert len(lines) == 2 and all(line.startswith("\t@$(INSTALL) -e '.[") for line in lines)
    assert re.search(r"^INSTALL = .* -c constraints.txt$", (ROOT / "Makefile").read_text(), re.M)


def text_files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith(("embedded/", "results/", "report/"))]
    suffixes = {".py", ".yaml", ".yml", ".toml", ".md", ".ipynb", ".txt", ".lock", ".dvc", ".js", ".css", ""}
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
