"""The whole pipeline in a fresh clone in an odd folder, for an odd user: killed, resumed, run again, misused.

One clone serves all tests of this file, in their order; each leaves it up to date. The smoke profile is cut down to what
shows how stages are run; what they compute has tests of its own.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from companion.driver import mark
from gwf.data.embedded import MEND
from gwf.paths import ROOT

pytestmark = pytest.mark.pipeline

# What it takes on two cores is a tenth of this; machines of continuous integration may be shared.
LONG = 1200
PROFILE = {
    "profile": "smoke",
    "report": "results/smoke/report",
    "seeds": [0],
    "seeds_of": {"restricted": [0, 1]},
    "chapters": [],
    "also": {},
    "training": {
        "eight_gaussians": {
            "kl_dv-jko": {
                "functional": "kl_dv",
                "step": "jko",
                "settings": {"updates": 1500, "evaluate_every": 750, "n_samples": 100},
            },
            "w1-gan": {
                "functional": "w1",
                "step": "gan",
                "settings": {"updates": 20, "evaluate_every": 10, "n_samples": 100},
            },
        }
    },
    "experiments": {"restricted": {"restricted": {}}, "variational": {"bounds": {}}},
}
EXPERIMENT_OF = {case: name for name, cases in PROFILE["experiments"].items() for case in cases}
LONGEST = "train@eight_gaussians-kl_dv-jko-0"
TRAINING = "results/smoke/training/eight_gaussians/{}-0"


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


class Clone:
    """A clone of the repository that runs its own code in the interpreter of the tests."""

    def __init__(self, folder):
        self.folder, self.inner = folder, folder / "scratch" / "profiles" / "smoke"
        binaries = str(Path(sys.executable).parent)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GWF_", "PYTEST", "MAKE"))}
        self.environment = kept | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}

    def start(self, *command, cwd=None, environment=(), **options):
        folder = cwd or self.folder
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=self.environment | {"PYTHONPATH": str(folder)} | dict(environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def run(self, *command, **options):
        """Run a module to its end; returns (exit status, all it printed)."""
        process = self.start(*command, **options)
        try:
            output = process.communicate(timeout=LONG)[0]
        finally:
            process.kill()
        return process.returncode, output

    def reproduce(self, *options):
        """Bring the smoke profile up to date; returns what it printed."""
        status, output = self.run("companion.driver", "smoke", *options)
        assert status == 0, output
        return output

    def plan(self, *options):
        """Stages that `make plan PROFILE=smoke` names."""
        status, output = self.run("companion.driver", "smoke", "--plan", *options)
        assert status == 0, output
        return {line for line in output.splitlines() if " " not in line}

    def tables(self):
        """Contents of all that the stages computed."""
        found = sorted(self.inner.glob("results/smoke/**/*"))
        return {path.relative_to(self.inner).as_posix(): path.read_bytes() for path in found if path.is_file()}

    def edited(self, name, old, new):
        return Edited(self.folder / name, old, new)


class Edited:
    """A file with a text replaced for the time of a `with` block."""

    def __init__(self, path, old, new):
        self.path, self.old, self.new = path, old, new

    def __enter__(self):
        self.before = self.path.read_text()
        assert self.old in self.before, f"{self.path} has no {self.old!r}"
        self.path.write_text(self.before.replace(self.old, self.new, 1))

    def __exit__(self, *exception):
        self.path.write_text(self.before)


def cloned(folder, profile):
    """A clone in `folder` of the repository as it lies here, one of its profiles replaced by the dict `profile`."""
    git(ROOT, "clone", "-q", str(ROOT), str(folder))
    # What is not committed yet is tested too.
    for name in git(ROOT, "ls-files", "-com", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in git(ROOT, "ls-files", "-d").splitlines():
        (folder / name).unlink(missing_ok=True)
    text = "# @package _global_\n" + yaml.safe_dump(profile, sort_keys=False)
    (folder / "conf" / "profile" / f"{profile['profile']}.yaml").write_text(text)
    commit(folder)
    return Clone(folder)


def commit(folder):
    """Commit everything in `folder`."""
    git(folder, "add", "-A")
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    git(folder, *who, "commit", "-q", "--allow-empty", "-m", "as tested")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone under a name of spaces, accents and a quote, used by someone whose own settings would break every figure."""
    found = cloned(tmp_path_factory.mktemp("My Drive") / "gwf é l'été", PROFILE)
    home = tmp_path_factory.mktemp("home")
    settings = home / ".config" / "matplotlib" / "matplotlibrc"
    settings.parent.mkdir(parents=True)
    settings.write_text("text.usetex: True\naxes.facecolor: black\n")
    kernel = home / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["false"], "display_name": "Python 3", "language": "python"}')
    found.environment |= {"HOME": str(home), "JUPYTER_PATH": str(home / "jupyter"), "MATPLOTLIBRC": str(settings)}
    return found


@pytest.fixture(scope="module")
def killed(clone):
    """Kills the pipeline while it trains, then brings it to its end under the tracer; returns what that printed."""
    process = clone.start("companion.driver", "smoke", start_new_session=True)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if re.search(r"kl_dv-jko.*: step [1-9]\d\d+/", line):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "".join(seen)
    assert not (clone.inner / TRAINING.format("kl_dv-jko") / "samples.npy").exists()
    trace = {"GWF_STARTUP": str(ROOT / "tests" / "trace_calls.py")}
    status, output = clone.run("companion.driver", "smoke", environment=trace)
    assert status == 0, output
    return output


def test_killed_in_the_middle_it_resumes_and_ends(clone, killed):
    assert f"{LONGEST}: done" in killed
    for name in ("README.md", "claims.md", "sheets/restricted/shown.json", "sheets/eight_gaussians/shown.json"):
        assert (clone.folder / "results" / "smoke" / "report" / name).exists(), name


def test_a_profile_leaves_no_trace(clone, killed):
    assert git(clone.folder, "status", "--porcelain") == ""


def test_a_second_time_nothing_runs(clone, killed):
    files = [path for path in clone.inner.glob("results/smoke/**/*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    output = clone.reproduce()
    assert "[1/" not in output and "everything is up to date" in output
    assert {path: path.stat().st_mtime_ns for path in files} == before and clone.plan() == set()


@contextlib.contextmanager
def as_if_from_git(clone, *stages):
    """Inside, the results of these stages are as if they had come with the clone."""
    marks = clone.inner / "scratch" / "ran.json"
    locked, ran = yaml.safe_load((clone.inner / "dvc.lock").read_text())["stages"], json.loads(marks.read_text())
    marks.write_text(json.dumps(sorted({*ran} - {mark(locked[name]) for name in stages})))
    yield
    assert set(json.loads(marks.read_text())) >= set(ran)  # they ran


def test_later_seeds_that_git_has_run_when_all_is_asked_for(clone, killed):
    plans = lambda: [clone.plan(*options) for options in ((), ("--all",), ("--reuse",))]
    with as_if_from_git(clone, "run@restricted-0"):
        assert plans() == [{"run@restricted-0"}, {"run@restricted-0"}, set()]
        clone.reproduce()
    with as_if_from_git(clone, "run@restricted-1"):
        assert plans() == [set(), {"run@restricted-1"}, set()]
        for _ in range(2):  # the second time without looking
            output = clone.reproduce()
            assert "[1/" not in output and "1 of 11 stages have git's results: ALL=1" in output
        assert "run@restricted-1: done" in clone.reproduce("--all")
    assert plans() == [set()] * 3


def test_an_edit_while_stages_run_is_not_taken_for_done(clone, killed):
    inside = {"cwd": clone.inner, "environment": {"GWF_WORKSPACE": "1"}}  # where the sources are not copied again
    with contextlib.ExitStack() as stack, as_if_from_git(clone, "run@restricted-0"):
        process = clone.start("companion.driver", "smoke", **inside)
        for line in process.stdout:
            if line.startswith("[1/") and "done" not in line:
                stack.enter_context(Edited(clone.inner / "companion" / "ledger.py", '"""The ledger', '"""A ledger'))
        assert process.wait() == 0
        assert "claims: done" in clone.run("companion.driver", "smoke", **inside)[1]
    assert "claims: done" in clone.reproduce() and clone.plan() == set()


def test_dvc_agrees_that_all_is_done(clone, killed):
    assert "up to date" in clone.run("dvc", "status", cwd=clone.inner)[1]
    status, output = clone.run("dvc", "repro", cwd=clone.inner)
    assert status == 0 and "Running stage" not in output, output


def test_every_function_that_a_stage_calls_is_in_its_inputs(clone, killed):
    stages = [name for name in re.findall(r"^\[\d+/\d+\] (\S+@\S+): done", killed, re.M)]
    traced = {path.parent.name: path for path in clone.inner.glob("scratch/ipython/*/calls")}
    looked_at = 0
    for stage in stages:
        kind, key = stage.split("@")
        case = re.sub(r"-\d$", "", key)
        calls, parts = {
            "train": (key, [f"train-{case}", f"measure-{case}"]),  # both write to one file
            "measure": (key, [f"train-{case}", f"measure-{case}"]),
            "run": (f"{EXPERIMENT_OF.get(case)}-{key}", [f"run-{case}"]),
            "show": (f"show-{key}", [f"show-{key}"]),
        }[kind]
        inputs = "\n".join((clone.inner / "scratch" / "inputs" / f"{part}.txt").read_text() for part in parts)
        missing = set()
        for line in traced[calls].read_text().splitlines():
            file, function = line.split(" ")
            module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            outermost = function.split(".")[0]
            if module in PLUMBING or not module.startswith("gwf.") or outermost.startswith("<"):
                continue
            found = [part.split("\n# ")[0] for part in inputs.split(f"# {module}\n")[1:]]
            looked_at += 1
            if not any(re.search(rf"^(def|class) {outermost}\b|^{outermost} = ", part, re.M) for part in found):
                missing.add(f"{module}.{outermost}")
        assert not missing, f"{stage} calls what its inputs do not have: {sorted(missing)}"
    assert looked_at > 50


PLUMBING = {"gwf.errors", "gwf.paths", "gwf.progress", "gwf.training.checkpoint"}


def test_a_forced_run_gives_the_same_bytes(clone, killed):
    before = clone.tables()
    status, output = clone.run(
        "dvc", "repro", "-f", "-s", "train@eight_gaussians-w1-gan-0", "run@bounds-0", cwd=clone.inner
    )
    assert status == 0, output
    assert clone.tables() == before


def test_samples_are_measured_as_their_checksums_say_or_trained_again(clone, killed):
    """Git has the checksums alone: other samples, or none, are no reason to train, but must not be measured."""
    before, training = clone.tables(), clone.inner / TRAINING.format("w1-gan")
    measured = clone.inner / "results" / "smoke" / "eight_gaussians" / "w1-gan-0"
    shutil.copy2(clone.inner / TRAINING.format("kl_dv-jko") / "samples.npy", training)
    assert clone.tables() != before and clone.plan() == set()
    shutil.rmtree(measured)
    status, output = clone.run("dvc", "repro", "-f", "-s", "measure@eight_gaussians-w1-gan-0", cwd=clone.inner)
    assert status == 0 and clone.tables() == before, output
    shutil.rmtree(training)
    assert clone.plan() == set()
    shutil.rmtree(measured)
    assert {"train@eight_gaussians-w1-gan-0", "measure@eight_gaussians-w1-gan-0"} <= clone.plan()
    clone.reproduce()
    assert clone.tables() == before


def test_what_an_edit_runs_again(clone, killed):
    with clone.edited("notebooks/experiments/restricted.ipynb", "**Asked.**", "**The question.**"):
        assert clone.plan() == set()
    with clone.edited("companion/style.py", '"""', '"""Edited. '):
        assert clone.plan() == set()
    with clone.edited("companion/style.py", '"font.size": 9', '"font.size": 9.5'):
        assert {name.split("@")[0] for name in clone.plan()} == {"show"}


def test_stages_as_jobs_of_a_queue_one_of_them_killed(clone, killed):
    before = clone.tables()
    for lost in (TRAINING.format("kl_dv-jko"), "results/smoke/restricted/restricted-0"):
        shutil.rmtree(clone.inner / lost)
    (clone.inner / f"{TRAINING.format('kl_dv-jko')}.sha256").unlink()
    with clone.edited("conf/engine.yaml", "all: {", "all: {cluster: local, "):
        process = clone.start("companion.driver", "smoke", "--engine", "slurm")
        said, hit = [], False
        for line in process.stdout:
            said.append(line)
            if not hit and re.search(r"kl_dv-jko.*: step [1-9]\d\d+/", line):
                hit = kill_job("train eight_gaussians kl_dv-jko 0")
        assert process.wait() == 0 and hit, "".join(said)
    ran = set(re.findall(r"\] (\S+): done in", "".join(said)))
    assert {LONGEST, "run@restricted-0"} <= ran and "run@bounds-0" not in ran
    assert clone.tables() == before and git(clone.folder, "status", "--porcelain") == ""


def kill_job(command):
    """Kill the job of submitit that runs `command`, as a cluster does it: all of its processes; whether there was one."""
    for process in psutil.process_iter(["cmdline"]):
        if "submitit.core._submit" not in " ".join(process.info["cmdline"] or []):
            continue
        below = process.children(recursive=True)
        if any(command in " ".join(child.cmdline()) for child in below):
            for each in (process, *below):
                each.kill()
            return True
    return False


@pytest.mark.parametrize(
    "right, wrong, message",
    [("updates: ", "updatez: ", "did you mean 'updates'"), ("functional: w1", "functional: w11", "did you mean 'w1'")],
)
def test_a_wrong_parameter_stops_before_anything_runs(clone, killed, right, wrong, message):
    with clone.edited("conf/profile/smoke.yaml", right, wrong):
        status, output = clone.run("companion.driver", "smoke")
        assert status != 0 and message in output and "[1/" not in output and "Traceback" not in output, output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["smok"], "did you mean 'smoke'"),
        (["smoke", "--claim", "gwf-C99"], "no claim 'gwf-C99'"),
        (["smoke", "--claim", ""], "no claim ''"),
        (["smoke", "--jobs", "-1"], "jobs = -1 is out of range"),
        (["smoke", "--jobs", "2.5"], "invalid int value"),
        (["smoke", "--minutes", "0"], "minutes = 0.0 is out of range"),
    ],
)
def test_a_wrong_command_line(clone, arguments, message):
    status, output = clone.run("companion.driver", *arguments)
    assert status != 0 and message in output and "Traceback" not in output


def test_a_flipped_byte_of_data_is_named_with_the_command_that_mends_it(clone, killed):
    path = clone.folder / "data" / "digits_images.npy"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.unlink()
    path.write_bytes(content)
    status, output = clone.run("companion.driver", "smoke")
    assert status != 0 and "digits_images.npy" in output and "make data" in output, output
    subprocess.run(MEND, shell=True, cwd=clone.folder, env=clone.environment, check=True, capture_output=True)
    assert clone.plan() == set()
