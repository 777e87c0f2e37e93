"""The whole pipeline in a fresh clone, in the smoke profile: killed, resumed, run again, misused.

One clone serves all tests of this file, in their order; each leaves it up to date.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gwf.data.embedded import MEND
from gwf.paths import ROOT

pytestmark = pytest.mark.pipeline

# What the smoke profile takes on two cores is a tenth of this; machines of continuous integration may be
# shared.
LONG = 1800
RUN_FILES = ("metrics.json", "curve.csv", "samples.npy", "model.safetensors", "train.ipynb")


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


class Clone:
    """A clone of the repository that runs its own code in the interpreter of the tests."""

    def __init__(self, folder):
        self.folder = folder
        binaries = str(Path(sys.executable).parent)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GWF_", "PYTEST", "MAKE"))}
        self.environment = kept | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}

    def start(self, *command, **options):
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def run(self, *command):
        """Run a module to its end; returns (exit status, all it printed)."""
        process = self.start(*command)
        try:
            output = process.communicate(timeout=LONG)[0]
        finally:
            process.kill()
        return process.returncode, output

    def reproduce(self, profile="smoke"):
        """Bring the pipeline up to date; returns what it printed."""
        status, output = self.run("gwf.pipeline", profile)
        assert status == 0, output
        return output

    def plan(self):
        """Stages that `make reproduce PROFILE=smoke` would run, or restore if they end with `(cached)`."""
        status, output = self.run("gwf.pipeline", "smoke", "--plan")
        assert status == 0, output
        return set(output.splitlines()) - {"nothing to do"}

    def files(self, run):
        folder = self.folder / "results" / "smoke" / run
        return {name: (folder / name).read_bytes() for name in (*RUN_FILES, "run.json")}

    def edited(self, name):
        return Edited(self.folder / name)


class Edited:
    """A file for the time of a `with` block, after which it has its old content again."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.before = self.path.read_bytes()
        return self.path

    def __exit__(self, *exception):
        self.path.write_bytes(self.before)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "gwf"
    git(ROOT, "clone", "-q", str(ROOT), str(folder))
    # What is not committed yet is tested too.
    for name in git(ROOT, "ls-files", "-com", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in git(ROOT, "ls-files", "-d").splitlines():
        (folder / name).unlink(missing_ok=True)
    # Two studies stand for all: how they are run is the same, and what they compute has tests of its own.
    smoke = folder / "conf" / "profile" / "smoke.yaml"
    head, cases = smoke.read_text().split("\nstudies:\n")
    kept = [case for case in re.split(r"(?m)^(?=  \w+:$)", cases) if re.match("  (restricted|bounds):", case)]
    smoke.write_text(f"{head}\nstudies:\n{''.join(kept)}")
    # The runs of the laptop profile in it cost DVC seconds of reading and writing per stage.
    (folder / "dvc.lock").unlink(missing_ok=True)
    git(folder, "add", "-A")
    git(
        folder,
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "as tested",
    )
    return Clone(folder)


@pytest.fixture(scope="module")
def killed(clone):
    """The run that trained when the whole pipeline was killed, which then was brought to its end."""
    process = clone.start("gwf.pipeline", "smoke", start_new_session=True)
    stages, run, seen = {}, None, []
    for line in process.stdout:
        seen.append(line)
        started = re.match(r"(\[\d+/\d+\]) train@(\S+)$", line)
        training = re.match(r"(\[\d+/\d+\])   .*: step \d+/", line)
        if started:
            stages[started.group(1)] = started.group(2)
        if training and training.group(1) in stages:
            run = stages[training.group(1)]
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run, "".join(seen)
    assert not (clone.folder / "results" / "smoke" / run / "metrics.json").exists()
    output = clone.reproduce()
    assert f"train@{run}" in output
    return run


def test_killed_in_the_middle_it_resumes_and_ends(clone, killed):
    output = clone.reproduce()
    for name in ("report/smoke/index.html", "report/smoke/tables", "report/smoke/figures"):
        assert name in output and (clone.folder / name).exists()


def test_a_second_time_nothing_runs(clone, killed):
    files = [path for path in clone.folder.glob("results/**/*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    began = time.monotonic()
    output = clone.reproduce()
    # Five seconds of work; the limit leaves room for a busy machine and is far below any training.
    assert time.monotonic() - began < 60
    assert "[1/" not in output and "[check]" not in output
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_dvc_agrees_that_all_is_done(clone, killed):
    assert "up to date" in clone.run("dvc", "status")[1]
    changed = git(clone.folder, "status", "--porcelain").split()
    # Another profile than the committed one: its parameters and its lock, and nothing of the results in git.
    assert {name for name in changed if "." in name} <= {"params.yaml", "dvc.lock"}


def test_an_unbroken_run_and_a_forced_one_give_the_same_bytes(clone, killed):
    first = clone.files(killed)
    status, output = clone.run("dvc", "repro", "-f", "-s", f"train@{killed}")
    assert status == 0, output
    assert clone.files(killed) == first
    assert "up to date" in clone.run("dvc", "status")[1]


def test_what_an_edit_runs_again(clone, killed):
    assert clone.plan() == set()
    with clone.edited("notebooks/train.ipynb") as path:
        prose = path.read_text().replace("# One method, one data set, one seed", "# One method, one data set, a seed")
        assert prose != path.read_text()
        path.write_text(prose)
        # Extracting the code shows that it is the same; nothing else runs.
        assert clone.plan() == {"check", "code"}
        assert not re.search("train@|lenet|chapter@", clone.reproduce())
    clone.reproduce()
    with clone.edited("gwf/functionals/w1.py") as path:
        path.write_text(path.read_text() + "\nEDITED = True\n")
        clone.run("dvc", "repro", "-s", "code")
        # None of them is `(cached)`: the results in the cache are those of the functional as it was.
        plan = clone.plan()
        assert {name for name in plan if "@" in name} == {
            f"train@w1-{step}-{dataset}-0" for step in ("gan", "jko") for dataset in ("digits", "eight_gaussians")
        }
        assert "lenet" not in plan and {"tables", "figures", "page"} <= plan
    clone.run("dvc", "repro", "-s", "code")
    with clone.edited("gwf/style.py") as path:
        path.write_text(path.read_text() + "\n# edited\n")
        clone.run("dvc", "repro", "-s", "code")
        assert clone.plan() == set()
        path.write_text(path.read_text() + "\nEDITED = True\n")
        clone.run("dvc", "repro", "-s", "code")
        # The tables too: what draws a study and what tabulates it is one module.
        assert clone.plan() - {"check"} == {"tables", "figures", "page"}
    clone.run("dvc", "repro", "-s", "code")
    assert clone.plan() == set()


def test_coming_back_to_a_profile_trains_nothing(clone, killed):
    profile = (clone.folder / "conf" / "profile" / "smoke.yaml").read_text()
    tiny = profile.replace("smoke", "tiny").replace("[kl_dv, w1]", "[w1]")
    tiny = re.sub(r"(?m)^    updates: \d+", "    updates: 3", re.sub(r"epochs: \d+", "epochs: 1", tiny))
    tiny += "\ndatasets: [eight_gaussians]\n"
    (clone.folder / "conf" / "profile" / "tiny.yaml").write_text(tiny)
    before = clone.files(killed)
    clone.reproduce("tiny")
    # The runs need the network that measures: they are found in the cache once it is back.
    assert "lenet (cached)" in clone.plan()
    output = clone.reproduce()
    assert "step " not in output, output
    assert clone.files(killed) == before
    assert "up to date" in clone.run("dvc", "status")[1]
    (clone.folder / "conf" / "profile" / "tiny.yaml").unlink()


@pytest.mark.parametrize(
    "right, wrong, message",
    [
        ("updates: ", "updatez: ", "did you mean 'updates'"),
        ("[kl_dv, w1]", "[kl_dv, w2]", "did you mean 'w1'"),
        ("seeds: [0]", "seeds: [-1]", "out of range"),
    ],
)
def test_a_wrong_parameter_stops_before_anything_runs(clone, killed, right, wrong, message):
    with clone.edited("conf/profile/smoke.yaml") as path:
        path.write_text(path.read_text().replace(right, wrong, 1))
        status, output = clone.run("gwf.pipeline", "smoke")
        assert status != 0 and message in output and "[" not in output.split("error:")[0], output


def test_a_wrong_parameter_stops_plain_dvc_too(clone, killed):
    with clone.edited("params.yaml") as path:
        path.write_text(path.read_text().replace("updates: 60", "updates: -60"))
        status, output = clone.run("dvc", "repro")
        assert status != 0 and "out of range" in output and "Running stage 'train" not in output, output


def test_a_wrong_profile(clone):
    status, output = clone.run("gwf.pipeline", "smok")
    assert status != 0 and "did you mean 'smoke'" in output


@pytest.mark.parametrize("keep_time", [False, True], ids=["later", "same time stamp"])
def test_a_flipped_byte_of_data_is_named_with_the_command_that_mends_it(clone, killed, keep_time):
    path = clone.folder / "data" / "digits_images.npy"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    status, output = clone.run("gwf.pipeline", "smoke")
    assert status != 0 and "digits_images.npy" in output and "make data" in output, output
    if not keep_time:
        status, output = clone.run("dvc", "repro")
        assert status != 0 and "digits_images.npy" in output and "Running stage 'train" not in output, output
    # Plain DVC took the damaged file for a new version before the check stopped it; the command undoes that.
    subprocess.run(MEND, shell=True, cwd=clone.folder, env=clone.environment, check=True, capture_output=True)
    clone.reproduce()
    assert clone.plan() == set()
