"""What DVC's own commands say in a fresh clone, as the table in CONTRIBUTING.md has it.

The clone's laptop profile has one experiment, so that a command takes a second and an experiment a few; the reports of
the others lie in git. One process types all commands, as most of a command's time is the import of DVC.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from companion import driver, ledger, params
from gwf.paths import REPORT, ROOT
from tests.test_pipeline import LONG, cloned, commit, git

PROFILE = {
    "profile": "laptop",
    "seeds": [0],
    "chapters": [],
    "training": {},
    "experiments": {"restricted": {"restricted": {"K": 20}}},
}
RUN = "exp run --name shorter -S experiments.restricted.restricted.K=5"
SHOW = ("metrics show", "plots show", "dag --mermaid show@restricted", "push")
AFTER = ("status", "repro --dry", "metrics diff", "plots diff", "params diff", "exp show --only-changed --csv")
#: Types each argument as a command of DVC, and says its exit status.
TYPIST = """
import shlex, sys
from dvc.cli import main
for line in sys.argv[1:]:
    status = main(shlex.split(line))
    print(f"\\n# exit status {status}", flush=True)
"""


def dvc(clone, *lines):
    """Line -> (exit status, what DVC printed)."""
    done = subprocess.run(
        [sys.executable, "-u", "-c", TYPIST, *lines],
        cwd=clone.folder,
        env=clone.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONG,
    )
    said = re.split(r"^# exit status (\d+)\n", done.stdout, flags=re.M)
    assert len(said) == 2 * len(lines) + 1, done.stdout
    return {line: (int(status), text) for line, text, status in zip(lines, said[::2], said[1::2], strict=False)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    found = cloned(tmp_path_factory.mktemp("dvc") / "gwf", PROFILE)
    status, output = found.run("companion.params", "laptop")
    assert status == 0, output
    for key in ("user.name", "user.email"):
        git(found.folder, "config", key, "test@localhost")
    commit(found.folder)
    return found


@pytest.fixture(scope="module")
def said(clone):
    """What all commands say, typed one after another; between the two groups a setting has been changed."""
    first = dvc(clone, "repro", "pull", *SHOW, RUN)
    return first | dvc(clone, *AFTER)


@pytest.mark.parametrize("line", ["pull", *SHOW, RUN, *AFTER])
def test_it_ends_well_and_is_in_the_table(said, line):
    status, output = said[line]
    assert status == 0 and "ERROR" not in output and "WARNING" not in output, output
    name = re.match(r"(exp )?\w+( show| diff)?", line).group()
    assert f"`dvc {name}" in (ROOT / "CONTRIBUTING.md").read_text()


def test_pull_brings_the_data_and_asks_for_nothing_else(clone, said):
    assert (clone.folder / "data" / "digits_images.npy").exists()
    outs = [
        out for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values() for out in outs_of(stage)
    ]
    # DVC pulls whatever is in its cache, and no remote has what a stage made.
    assert outs and all(isinstance(out, dict) and all(how["cache"] is False for how in out.values()) for out in outs)


def test_in_a_fresh_clone_nothing_is_missing():
    """Git has every output of the laptop profile, so that `dvc status` and `dvc repro` find nothing to do."""
    kept = set(git(ROOT, "ls-files", "results", "report").splitlines())
    kept |= {parent.as_posix() for file in kept for parent in Path(file).parents}
    outs = {out for stage in driver.stages(params.compose("laptop")).values() for out in stage.outs}
    assert outs <= kept, sorted(outs - kept)


def test_what_is_committed_is_of_the_committed_code():
    if git(ROOT, "status", "--porcelain"):
        pytest.skip("something is edited: `make plan REUSE=1` says what that makes stale")
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    assert set(json.loads(done.stdout)) <= {"data.dvc"}, "`make reproduce REUSE=1` runs it"


def outs_of(stage):
    return stage.get("do", stage)["outs"]


def test_push_leaves_the_embedded_data_as_they_are(clone, said):
    assert git(clone.folder, "status", "--porcelain", "--ignored", "embedded") == ""


def test_metrics_are_results_of_a_width_to_read(said):
    shown = said["metrics show"][1].strip("\n").splitlines()
    assert max(map(len, shown)) <= 160 and len(shown) <= 8
    results = ledger.metrics(ledger.load(REPORT), REPORT)
    assert set(shown[0].split()[1:]) == {name for content in results.values() for name in content}
    assert {line.split()[0] for line in shown[1:]} == {f"report/metrics/{name}.json" for name in results}


def test_metrics_in_git_are_those_of_the_report():
    found = {file.stem: json.loads(file.read_text()) for file in (REPORT / "metrics").glob("*.json")}
    assert found == ledger.metrics(ledger.load(REPORT), REPORT)


def test_a_comparison_with_fewer_seeds_than_another_is_not_lost():
    """Methods may have three seeds and four; both steps of a functional are there, or no `diff` compares them."""
    found = ledger.metrics(ledger.load(REPORT), REPORT)
    for name in ("digits", "eight_gaussians"):
        assert {"kl", "js", "w1"} <= set(found[f"{name}-gan"]) & set(found[f"{name}-jko"])
    assert {"digits-sjko", "digits-euler"} <= set(found)


def test_plots_are_few_and_of_files_that_the_pipeline_keeps(said):
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    assert len(plots) <= 5
    composed = params.compose("laptop")
    outs = [out for stage in driver.stages(composed).values() for out in stage.outs]
    for plot in plots:
        sources = [plot] if isinstance(plot, str) else [file for entry in plot.values() for file in entry["y"]]
        for source in sources:
            path = source.replace("${report}", composed["report"]).replace("${profile}", composed["profile"])
            assert (ROOT / path).is_file() and any(path.startswith(out + "/") for out in outs), path
    for line in ("plots show", "plots diff"):
        assert "index.html" in said[line][1] and "failed to load" not in said[line][1]


def test_an_experiment_runs_what_its_setting_changes(clone, said):
    assert "Running stage 'run@restricted-0'" in said[RUN][1]
    assert "up to date" in said["status"][1] and "Running" not in said["repro --dry"][1]
    assert re.search(r"restricted\.K +20 +5\b", said["params diff"][1])
    header, *rows = said["exp show --only-changed --csv"][1].strip().splitlines()
    assert "experiments.restricted.restricted.K" in header and len(header) < 600
    assert any("shorter" in row for row in rows)


def test_an_experiment_is_applied(clone, said):
    git(clone.folder, "checkout", "-q", ".")
    assert k(clone) == 20
    status, output = dvc(clone, "exp apply shorter")["exp apply shorter"]
    assert status == 0 and k(clone) == 5, output


def k(clone):
    return yaml.safe_load((clone.folder / "params.yaml").read_text())["experiments"]["restricted"]["restricted"]["K"]
