"""Engines: a stage as a process of this machine, and as a job of submitit, whose local executor stands in for Slurm."""

import time
from types import SimpleNamespace

import pytest

from companion import engines, slurm, workspace
from gwf.errors import UsageError

# Start of an interpreter with submitit in it, several times over on a busy machine.
LONG = 120


def wait(job):
    """(status, lines printed) of a job when it has ended."""
    ends, lines = time.monotonic() + LONG, []
    while (status := job.status()) is None:
        lines += job.said()
        assert time.monotonic() < ends
        time.sleep(0.1)
    return status, lines + job.said()


@pytest.fixture
def queued(tmp_path, monkeypatch):
    """A function command -> job of the local executor."""
    monkeypatch.setattr(slurm, "SCRATCH", tmp_path)
    monkeypatch.setattr(slurm, "settings", lambda kind: {"cluster": "local"})
    return lambda cmd: slurm.Queued(SimpleNamespace(cmd=cmd, name="run@a-0", kind="run"))


@pytest.fixture(params=["process", "queued"])
def start(request, queued, tmp_path, monkeypatch):
    """A function command -> job, for both engines."""
    monkeypatch.setattr(engines, "SCRATCH", tmp_path)
    process = lambda cmd: engines.Job(SimpleNamespace(cmd=cmd, name="run@a-0"))  # noqa: E731
    return process if request.param == "process" else queued


def test_a_stage_ends_with_status_0_and_what_it_printed(start):
    assert wait(start("sh -c 'echo one; echo two'")) == (0, ["one", "two"])


def test_a_stage_that_fails_says_why(start):
    status, lines = wait(start("sh -c 'echo error: no such method >&2; exit 3'"))
    assert status != 0 and "error: no such method" in lines


def test_a_stage_runs_in_the_root_with_one_thread(start):
    assert wait(start("sh -c 'ls dvc.yaml; echo $OMP_NUM_THREADS'"))[1] == ["dvc.yaml", "1"]


def test_a_killed_job_is_submitted_again(tmp_path, queued):
    once = tmp_path / "once"
    job = queued(f"test -e '{once}' && echo again || {{ touch '{once}'; kill -9 $PPID; sleep 5; }}")
    assert wait(job) == (0, ["again"]) and job.submitted == 2


def test_a_job_that_is_killed_every_time_fails_in_the_end(queued, monkeypatch):
    monkeypatch.setattr(slurm, "AGAIN", 1)
    job = queued("kill -9 $PPID; sleep 5")
    assert wait(job)[0] != 0 and job.submitted == 2


def test_settings_of_jobs(tmp_path):
    file = tmp_path / "engine.yaml"
    file.write_text("all: {minutes: 5, cpus: 2}\ntrain: {minutes: 60}\n")
    assert slurm.settings("train", file) == {"minutes": 60, "cpus": 2}
    assert slurm.settings("show", file) == {"minutes": 5, "cpus": 2}
    file.write_text("all: {minuts: 5}\n")
    with pytest.raises(UsageError, match="did you mean 'minutes'"):
        slurm.settings("run", file)


def test_a_commit_of_what_is_no_stage_is_refused(capsys):
    assert workspace.main(["show@nothing", "inputs"]) == 1
    assert capsys.readouterr().err == "error: dvc.yaml has no stage show@nothing\n"
