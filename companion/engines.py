"""Engines start the commands of stages: as processes of this machine, or as jobs of a Slurm cluster.

What a stage wrote is entered with `dvc commit`, by one thread for all stages.
"""

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from companion.files import short
from companion.guard import HELD, THREADS, Failed, say
from gwf.errors import UsageError
from gwf.paths import ROOT, SCRATCH
from gwf.progress import clock

STOP = 10.0
LOOK = 0.1
#: Seconds after which a stage that has nothing to say is said to be running.
HEARTBEAT = 15.0
#: Seconds between two commits while stages run; a kill loses no more than what ended within them.
PAUSE = 45.0
#: Held by the driver that runs stages.
LOCK = SCRATCH / "reproduce.lock"


def environment():
    """Environment of stages: this interpreter comes first in PATH; one thread."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}
    return os.environ | dict.fromkeys(THREADS, "1") | own


def python(what, *words):
    """Run a module of Python and return what it prints; `UsageError` of `what` and what it said last if it fails."""
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment(), **quiet)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        first = next((i for i, line in enumerate(lines) if line.startswith("ERROR")), -1)
        raise UsageError(f"{what}: {' '.join(lines[first:])}")
    return done.stdout


class Job:
    """A stage that was started, as a process of this machine; another engine has its own `start`, `status`, `stop`."""

    def __init__(self, stage, label=""):
        self.stage, self.label, self.read = stage, label, 0
        self.began = self.heard = time.monotonic()
        self.start()

    def start(self):
        """Start the command; what it prints goes to the file `log`. It stops by itself when its parent is gone."""
        self.log = SCRATCH / "logs" / f"{self.stage.name.replace('@', '-')}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        held = environment() | {HELD: str(LOCK)}
        with open(self.log, "wb") as log:
            piped = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            command = f"exec {self.stage.cmd}"  # the shell gives way, so that this process is the parent
            self.popen = subprocess.Popen(command, shell=True, cwd=ROOT, env=held, start_new_session=True, **piped)

    def status(self):
        """Exit status, None while it runs."""
        return self.popen.poll()

    def stop(self):
        """End the process group; the runner of the notebook takes its kernel with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP)

    def said(self):
        """Whole lines printed since the last call."""
        if not self.log.exists():
            return []
        with open(self.log, "rb") as log:  # from where it was left: a log is looked at ten times a second
            log.seek(self.read)
            text = log.read()
        text = text[: text.rfind(b"\n") + 1]
        self.read += len(text)
        return text.decode(errors="replace").splitlines()

    def look(self):
        """Show what it printed, and every 15 s a sign of life; returns its exit status, None while it runs."""
        status, lines, now = self.status(), self.said(), time.monotonic()
        if not lines and status is None and now - self.heard > HEARTBEAT:
            lines = [f"{self.stage.name}: {clock(now - self.began)} so far"]
        for line in lines:
            say(f"{self.label} {line}")
            self.heard = now
        return status

    def failure(self, status):
        """Text about a failed stage: its name, its errors or else its last lines, the log."""
        said = self.log.read_text(errors="replace").splitlines()
        errors = [i for i, line in enumerate(said) if line.startswith("error: ")]
        if errors:
            first, *after = said[errors[0] :]
            said = [first.removeprefix("error: "), *[line for line in after if line.startswith("  ")][:12]]
        elif status < 0:
            said = [f"it was ended by signal {-status}"]
        return "\n".join([f"stage {self.stage.name} failed", *said[-15:], f"  all it printed: {short(self.log)}"])


def engine(name):
    """The engine called `name`, a subclass of `Job`."""
    if name == "local":
        return Job
    try:
        from companion.slurm import Queued
    except ImportError:
        raise UsageError("the engine slurm needs submitit: pip install -e '.[slurm]'") from None
    return Queued


class Stages:
    """Run stages through the engine of that name, `jobs` at a time; `entered(names)` hears of what DVC has entered."""

    def __init__(self, engine_name, jobs, costs, entered):
        self.engine, self.jobs, self.costs, self.entered = engine(engine_name), jobs, costs, entered
        self.committer, self.ended, self.last = ThreadPoolExecutor(1), [], -math.inf
        self.idle = threading.Event()  # nothing runs that a commit would slow
        self.idle.set()

    def side_by_side(self, found, needs):
        """Run the stages `found` (name -> Stage), each after those in `needs[name]`; the first failure stops all."""
        todo, running, finished, entries = list(found), {}, set(), []
        self.idle.clear()
        try:
            while todo or running:
                for name in [name for name in todo if needs[name] <= finished][: self.jobs - len(running)]:
                    todo.remove(name)
                    label = f"[{len(found) - len(todo)}/{len(found)}]"
                    say(f"{label} {name}")
                    running[name] = self.engine(found[name], label)
                time.sleep(LOOK)
                for name, job in list(running.items()):
                    if (status := job.look()) is None:
                        continue
                    del running[name]
                    if status:
                        raise Failed(job.failure(status))
                    finished.add(name)
                    entries.append(self.commit(name))
                    seconds = time.monotonic() - job.began
                    self.costs.record(name, seconds)
                    left = [found[n] for n in found if n not in finished]
                    rest = f", about {clock(self.costs.together(left, self.jobs))} to go" if left else ""
                    say(f"{job.label} {name}: done in {clock(seconds)}{rest}")
                for entry in [entry for entry in entries if entry.done()]:
                    entry.result()
        finally:
            for job in running.values():
                job.stop()
            self.idle.set()
            for entry in entries:
                entry.result()

    def commit(self, name):
        """Enter the outputs of a stage into dvc.lock and DVC's cache, in a thread, with all that have ended by then."""
        self.ended.append(name)
        return self.committer.submit(self.enter)

    def enter(self):
        """One commit of the stages that have ended. DVC reads all stages first, so while some run it is seldom asked."""
        self.idle.wait(max(0.0, self.last + PAUSE - time.monotonic()))
        names, self.ended = self.ended, []
        if names:
            python("dvc commit failed", "companion.workspace", *names)
            self.entered(names)
            self.last = time.monotonic()
