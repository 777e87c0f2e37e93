"""Engines start the commands of stages: as processes of this machine, or as jobs of a Slurm cluster.

An engine has `start(stage)`, which returns a job, and a job has `done()`, `status` (0 for success), `said()` (its new
lines) and `stop()`. What a stage wrote is entered with `dvc commit`, by one thread for all stages.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from companion.guard import THREADS, say
from gwf.errors import UsageError
from gwf.paths import ROOT, SCRATCH
from gwf.progress import clock

STOP = 10.0
LOOK = 0.1


class Failed(RuntimeError):
    """A stage failed; the message has its name, what it said, and where to read more."""


def environment():
    """Environment of stages: this interpreter comes first in PATH; they stop when this process is gone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "GWF_DRIVER": str(os.getpid())}
    return os.environ | dict.fromkeys(THREADS, "1") | own | {"PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def python(what, *words):
    """Run a module of Python and wait; returns what it prints. `UsageError` of `what` and what it said last if it fails."""
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment(), **quiet)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        first = next((i for i, line in enumerate(lines) if line.startswith("ERROR")), -1)
        raise UsageError(f"{what}: {' '.join(lines[first:])}")
    return done.stdout


class Process:
    """A command of a stage as a process of this machine; the notebook runner in it stops when the driver is gone."""

    def __init__(self, stage):
        piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
        self.popen = subprocess.Popen(
            stage.cmd, shell=True, cwd=ROOT, env=environment(), start_new_session=True, **piped
        )
        os.set_blocking(self.popen.stdout.fileno(), False)
        self.pid, self.rest = self.popen.pid, b""

    def done(self):
        """Whether it has ended; `said` then has all that it printed."""
        return self.popen.poll() is not None

    @property
    def status(self):
        """Exit status."""
        return self.popen.returncode

    def said(self):
        """Lines printed since the last call."""
        *lines, self.rest = (self.rest + (self.popen.stdout.read() or b"")).split(b"\n")
        if self.status is not None and self.rest:
            lines, self.rest = [*lines, self.rest], b""
        return [line.decode(errors="replace") for line in lines]

    def stop(self):
        """End the process group; the notebook runner takes its kernel with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP)


def engine(name):
    """The engine called `name`: a callable stage -> job."""
    if name == "local":
        return Process
    try:
        from companion.slurm import Slurm
    except ImportError:
        raise UsageError("the engine slurm needs submitit: pip install -e '.[slurm]'") from None
    return Slurm()


class Stages:
    """Run stages under the driver's `lock` (a `companion.guard.Alone`), `jobs` at a time; `entered(names)` hears of them."""

    def __init__(self, lock, engine_name, jobs, costs, entered):
        self.lock, self.engine, self.jobs, self.costs, self.entered = lock, engine(engine_name), jobs, costs, entered
        self.running, self.uncommitted, self.committing = {}, [], None

    def side_by_side(self, found, needs):
        """Run the stages `found` (name -> Stage), each when those in `needs[name]` are done; the first failure stops all."""
        todo, finished, number = list(found), set(), 0
        try:
            while todo or self.running:
                for name in [name for name in todo if needs[name] <= finished][: self.jobs - len(self.running)]:
                    todo.remove(name)
                    number += 1
                    self.running[name] = Running(found[name], f"[{number}/{len(found)}]", self.engine, self.lock)
                time.sleep(LOOK)
                for name in [name for name, job in self.running.items() if job.look()]:
                    job = self.running.pop(name)
                    job.close()
                    if job.status:
                        raise Failed(job.failure())
                    finished.add(name)
                    self.uncommitted.append(name)
                    self.costs.record(name, job.seconds)
                    left = [found[n] for n in found if n not in finished]
                    rest = f", about {clock(self.costs.together(left, self.jobs))} to go" if left else ""
                    say(f"{job.label} {name}: done in {clock(job.seconds)}{rest}")
                self.commit(wait=False)
        finally:
            for job in self.running.values():
                job.stop()
            self.running.clear()
            self.commit(wait=True)

    def commit(self, names=(), wait=True):
        """Enter the outputs of finished stages into dvc.lock and DVC's cache, by one process at a time.

        Without `wait`, what is finished while that process runs is left for the next one.
        """
        self.uncommitted += names
        while self.committing or self.uncommitted:
            if self.committing:
                if not wait and self.committing.poll() is None:
                    return
                said, _ = self.committing.communicate()
                failed, names, self.committing = self.committing.returncode, self.names, None
                if failed:
                    self.uncommitted = []
                    raise Failed(f"dvc commit failed\n{said}".rstrip())
                self.entered(names)
            if self.uncommitted:
                command = [sys.executable, "-m", "dvc", "--wait-for-lock", "commit", "-f", *self.uncommitted]
                piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
                self.committing = subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, **piped)
                self.names, self.uncommitted = self.uncommitted, []


class Running:
    """A stage that runs: its job, what it said last, how long it takes."""

    def __init__(self, stage, label, start, lock):
        say(f"{label} {stage.name}")
        self.stage, self.label, self.lock, self.began = stage, label, lock, time.monotonic()
        self.job, self.recent = start(stage), deque(maxlen=60)
        self.entry = lock.adopt(self.job.pid) if getattr(self.job, "pid", None) else None

    def look(self):
        """Show what it said; returns whether it has ended."""
        ended = self.job.done()
        for line in self.job.said():
            self.recent.append(line)
            say(f"{self.label} {line}")
        return ended

    def close(self):
        """It has ended: it need not be watched any longer."""
        self.seconds = time.monotonic() - self.began
        if self.entry:
            self.lock.dismiss(self.entry)

    @property
    def status(self):
        """Exit status of the job."""
        return self.job.status

    def failure(self):
        """Text about a failed stage: its name, its errors or else its last lines, the log."""
        log = SCRATCH / "failed" / f"{self.stage.name.replace('@', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("\n".join(self.recent) + "\n")
        said = list(self.recent)
        errors = [i for i, line in enumerate(said) if line.startswith("error: ")]
        if errors:
            first, *after = said[errors[0] :]
            said = [first.removeprefix("error: "), *[line for line in after if line.startswith("  ")][:12]]
        elif self.status < 0:
            said = [f"it was ended by signal {-self.status}"]
        return "\n".join([f"stage {self.stage.name} failed", *said[-15:], f"  its last lines: {log.relative_to(ROOT)}"])

    def stop(self):
        """End it."""
        self.job.stop()
