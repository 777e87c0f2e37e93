"""Stages as processes: started when their inputs are ready, shown line by line, stopped together."""

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from gwf.mend import keep
from companion.notebooks import say
from gwf.paths import ROOT, SCRATCH
from gwf.progress import clock

# What DVC says to itself, and the line per sound data file.
NOISE = re.compile(
    "|".join(
        [
            r"$",
            r"Running stage",
            r"> ",
            r"Updating lock file",
            r"Generating",
            r"Verifying",
            r"Data and pipelines",
            r"Use `dvc push`",
            r"To track",
            r"\tgit add",
            r"To enable auto staging",
            r"\tdvc config",
            r"Stage '.*' (didn't change|is cached)",
            r"'.*' didn't change",
            r"ERROR: failed to reproduce",
            r"WARNING:.*(had been killed|is empty)",
            r"data/\S+: sha256 \S+ as expected",
        ]
    )
)
RUNNING = re.compile(r"Running stage '([^']+)'")
STOP = 10.0


class Failed(RuntimeError):
    """A stage failed; the message has its name, what it said, and where to read more."""


def environment():
    """Environment of stages: this interpreter comes first in PATH; they stop when this process is gone.

    One thread for the linear algebra of each, since stages run side by side; a run's own threads are a parameter.
    """
    binaries = str(Path(sys.executable).parent)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
    return (
        os.environ
        | threads
        | {
            "PATH": os.pathsep.join([binaries, os.environ.get("PATH", "")]),
            "GWF_DRIVER": str(os.getpid()),
            "PYTHONUNBUFFERED": "1",
            "DVC_NO_ANALYTICS": "1",
            "PYTHONPATH": str(ROOT),
        }
    )


class Process:
    """One `dvc repro` process; puts `(self, line)` on `lines` for each line, `(self, None)` at its end."""

    def __init__(self, lock, targets, label, lines):
        self.lock, self.label, self.began, self.recent = lock, label, time.monotonic(), deque(maxlen=60)
        single = ["--single-item"] if targets else []
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *single, *targets],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.entry = lock.adopt(self.popen.pid)
        threading.Thread(target=self.read, args=(lines,), daemon=True).start()

    def read(self, lines):
        """Pass on what the process prints, until it ends."""
        for line in self.popen.stdout:
            lines.put((self, line.rstrip("\n")))
        self.popen.wait()
        lines.put((self, None))

    def show(self, line):
        """Print a line with the label in front, unless DVC says it to itself."""
        self.recent.append(line)
        if not NOISE.match(line):
            say(f"{self.label} {line}")

    def message(self):
        """What it said last about its failure: its errors, or else all it printed."""
        if self.popen.returncode < 0:
            return f"DVC was ended by signal {-self.popen.returncode}"
        said = list(self.recent)
        errors = [i for i, line in enumerate(said) if line.startswith("error: ")]
        if errors:
            lines = [said[errors[0]].removeprefix("error: ")]
            lines += [line for line in said[errors[0] + 1 : errors[0] + 12] if line.startswith("  ")]
            return "\n".join(lines)
        return "\n".join([line for line in said if not NOISE.match(line)][-15:] or said[-3:])

    def stop(self):
        """End the process; the notebook runner below it notices and takes its kernel with it."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP)


class Stages:
    """Run stages under the driver's `lock` (a `companion.guard.Alone`)."""

    def __init__(self, lock):
        self.lock, self.lines, self.running = lock, queue.Queue(), {}

    def together(self, names, label):
        """Run `names` one after the other in one process; the whole pipeline if there are none."""
        process = self.start("closing" if not names else names[0], names, label)
        self.wait_for_one(process)

    def side_by_side(self, needs, jobs, time_left):
        """Run the stages of `needs` (name -> names that must come first), at most `jobs` at a time.

        `time_left(names)` estimates the seconds for stages not finished. The first failure stops the others.
        """
        todo, done, total, started = list(needs), set(), len(needs), 0
        try:
            while todo or self.running:
                ready = [name for name in todo if needs[name] <= done]
                while ready and len(self.running) < jobs:
                    name = ready.pop(0)
                    todo.remove(name)
                    started += 1
                    label = f"[{started}/{total}]"
                    say(f"{label} {name}")
                    self.start(name, [name], label)
                name, process = self.wait_for_one()
                done.add(name)
                left = [n for n in needs if n not in done]
                rest = f", about {clock(time_left(left))} to go" if left else ""
                say(f"{process.label} {name}: done in {clock(time.monotonic() - process.began)}{rest}")
        finally:
            self.stop()

    def start(self, name, targets, label):
        """Start a process and enter it under `name`."""
        self.running[name] = Process(self.lock, targets, label, self.lines)
        return self.running[name]

    def wait_for_one(self, *_):
        """Show lines until a process ends; returns its name and itself, or raises `Failed`."""
        while True:
            process, line = self.lines.get()
            if line is not None:
                process.show(line)
                continue
            (name,) = [key for key, value in self.running.items() if value is process]
            del self.running[name]
            self.lock.dismiss(process.entry)
            if process.popen.returncode:
                self.stop()
                raise Failed(self.failure(name, process))
            keep()
            return name, process

    def failure(self, name, process):
        """Text about a failed process: stage, message, log."""
        ran = [match.group(1) for match in map(RUNNING.match, process.recent) if match]
        name = ran[-1] if ran else name
        log = SCRATCH / "failed" / f"{name.replace('@', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("\n".join(process.recent) + "\n")
        return f"stage {name} failed\n{process.message()}\n  its last lines: {log.relative_to(ROOT)}"

    def stop(self):
        """End every process that still runs."""
        for process in self.running.values():
            process.stop()
        self.running.clear()
