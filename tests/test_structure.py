"""The repository's own form: stage dependencies, floors of imports, notebooks, environment files, paths."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from gwf import bundle, studies
from companion.form import check, load, parameters_of
from gwf.params import validate
from gwf.paths import NOTEBOOKS, ROOT

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# A module imports only what stands before it. A folder is one floor; inside it imports are free.
FLOORS = [
    "errors",
    "paths",
    "progress",
    "seeding",
    "machine",
    "exact",
    "entropic",
    "velocity",
    "functionals",
    "nets",
    "data",
    "breiman",
    "toys",
    "readers",
    "flows",
    "steps",
    "recipes",
    "metrics",
    "checkpoint",
    "tasks",
    "train",
    "imputation",
    "anomaly",
    "adaptation",
    "form",
    "guard",
    "studies",
    "params",
    "bundle",
    "nb",
    "study",
    "runs",
    "claims",
    "table",
    "style",
    "evidence",
    "more_tables",
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


PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def combinations(stage):
    """Values of `item` for a stage: as few combinations as use every entry of every list."""
    matrix = stage.get("matrix")
    if not matrix:
        return [{}]
    lists = {}
    for name, values in matrix.items():
        found = values
        if isinstance(values, str):
            found = PARAMS
            for word in values[2:-1].split("."):
                found = found[word]
        lists[name] = found
    longest = max(len(values) for values in lists.values())
    return [{name: values[i % len(values)] for name, values in lists.items()} for i in range(longest)]


def filled(text, item):
    """`text` of dvc.yaml with `${item.name}` replaced."""
    return re.sub(r"\$\{item\.(\w+)\}", lambda match: str(item[match.group(1)]), text)


def bundles_of(stage, item=None):
    """Names of the bundles that a stage depends on."""
    deps = stage.get("deps") or stage["do"]["deps"]
    found = [re.fullmatch(r"results/code/(\S+)\.txt", path) for path in deps]
    return {filled(match.group(1), item) if item else match.group(1) for match in found if match}


def test_every_stage_depends_on_the_bundle_of_what_it_runs():
    for name, stage in DVC.items():
        if name in ("check", "code"):
            continue
        if name == "study":
            assert bundles_of(stage) == {"studies-${item.study}"}
            continue
        for item in combinations(stage):
            command = filled(stage["cmd"], item)
            module = re.search(r"python -m gwf\.(\w+)", command).group(1)
            wanted = {module}
            if module == "nb":
                wanted = {re.search(r"notebooks/(\w+)\.ipynb", command).group(1)}
            if "functional" in item:
                wanted.add(f"functionals-{item['functional']}")
                wanted.add("steps-explicit" if name == "explicit" else "steps-implicit")
            assert bundles_of(stage, item) == wanted, name
            assert not [dep for dep in stage["deps"] if dep.endswith((".py", ".ipynb"))], name


def loaded(statement):
    """Modules of gwf that Python has loaded after a statement, found by running it."""
    script = (
        f"{statement}\nimport sys\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'gwf'))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {Path(line).relative_to(ROOT).as_posix() for line in done.stdout.split()}


@pytest.mark.parametrize(
    "name, statement",
    [
        ("train", "from gwf import train, recipes, tasks; [tasks.get(n) for n in tasks.names()]"),
        ("report", "import gwf.report"),
        ("plot", "import gwf.plot"),
        ("functionals-kl_dv", "from gwf import functionals; functionals.get('kl_dv')"),
    ],
)
def test_a_bundle_has_what_is_loaded(name, statement):
    text = bundle.bundle(bundle.sources()[name])
    missing = [path for path in loaded(statement) - bundle.PLUMBING if f"# {path}\n" not in text]
    assert not missing


def test_an_edit_of_code_changes_the_bundles_that_use_it_and_of_prose_none(monkeypatch):
    before = {name: bundle.bundle(text) for name, text in bundle.sources().items()}
    read = Path.read_text

    def after(edit):
        def edited(path, *args, **kwargs):
            text = read(path, *args, **kwargs)
            return edit(text) if path.name == "w1.py" else text

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", edited)
            now = {name: bundle.bundle(text) for name, text in bundle.sources().items()}
        return {name for name in now if now[name] != before[name]}

    users = {name for name, text in before.items() if "# gwf/functionals/w1.py\n" in text}
    assert "functionals-w1" in users and not users & {"train", "lenet", "functionals-kl", "report", "page"}
    assert after(lambda text: text + "\nEDITED = 1\n") == users
    assert after(lambda text: text.replace('"""', '"""Edited. ', 1) + "\n\n# edited\n") == set()


def test_every_chapter_and_study_runs():
    assert sorted(PARAMS["chapters"]) == [path.stem for path in CHAPTERS]
    assert {case["study"] for case in PARAMS["studies"].values()} <= set(studies.names())


def test_parameters_handed_over_by_dvc_are_known_to_the_notebooks():
    for stage in DVC.values():
        if "companion.notebooks run" in str(stage.get("cmd")):
            for item in combinations(stage):
                command = filled(stage["cmd"], item)
                known = parameters_of(ROOT / re.search(r"notebooks/\S+\.ipynb", command).group())
                assert set(re.findall(r"--set (\w+)", command)) <= set(known)


def test_every_output_that_only_git_keeps_lets_the_run_cache_work():
    # DVC leaves a stage out of its run cache for any plain output with `cache: false`; a run must come back
    # from it.
    for name in ("lenet", "train", "longer", "explicit", "chapter"):
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
        for name in bundle.imported(path.read_text()):
            words = name.split(".")
            if words[0] == "gwf" and len(words) > 1 and words[1] in floor and floor[words[1]] > floor[parts[0]]:
                faults.append(f"{path.relative_to(ROOT)} imports gwf.{words[1]}")
    assert not faults


def test_the_tests_of_imports_see_an_import():
    assert "gwf/steps/jko.py" in bundle.closure(["def late():\n    from gwf.steps.jko import JKO"])
    assert "gwf/functionals/kl.py" in bundle.closure(["from gwf import functionals\nfunctionals.get('kl')"])
    assert not bundle.closure(["import os, yaml"])


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


@pytest.mark.parametrize("profile", sorted((ROOT / "conf" / "profile").glob("*.yaml")), ids=lambda path: path.stem)
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
        assert need.specifier.contains(PINS[name]), f"constraints.txt has {name} {PINS[name]}, pyproject {need}"


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
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith(("embedded/", "results/", "report/"))]
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


def test_compiled_modules_are_no_dependencies():
    # The stage `code` depends on the folder gwf: with its bytecode, dvc.lock would change by importing a module.
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()
