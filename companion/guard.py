"""Processes that must not outlive, overtake or overwrite each other.

A pipeline may be killed at any moment, one process at a time. What is left behind must stop by itself, and
what starts next must wait until it has: a training kernel that lives on would write the same checkpoints as
its successor.
"""

import argparse
import contextlib
import fcntl
import functools
import json
import os
import sys
import threading
from pathlib import Path

import psutil

from gwf.errors import UsageError

POLL = 0.5
#: What a machine's numerical libraries read their number of threads from.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def say(text):
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Parser(argparse.ArgumentParser):
    """A parser of arguments that says in one line what is wrong with them."""

    def error(self, message):
        raise UsageError(f"{message} ({self.prog} --help says more)")


def command_line(*kinds):
    """Decorator of a `main`: it returns the exit status, and what the user can mend is one line on stderr.

    `kinds` are errors of that sort besides `UsageError` and what the system refuses (a full disk, a folder that must not
    be written to). A reader that closes its pipe (`| head`) is no error.
    """

    def decorate(main):
        @functools.wraps(main)
        def guarded(arguments=None):
            try:
                status = main(arguments)
                sys.stdout.flush()
                return status or 0
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                return 0
            except (UsageError, OSError, *kinds) as error:
                words = f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else error
                print(f"error: {words}", file=sys.stderr, flush=True)
                return 1
            except KeyboardInterrupt:
                say("stopped; the same command goes on from here")
                return 130

        return guarded

    return decorate


def alive(pid, started=None):
    """Whether process `pid` runs (a zombie does not) and was created at `started`, if that is given."""
    try:
        process = psutil.Process(pid)
        running = process.status() != psutil.STATUS_ZOMBIE
        return running and (started is None or abs(process.create_time() - started) < 2.0)
    except psutil.Error:
        return False


def end(pid, started):
    """Kill process `pid` if it is the one created at `started`, and return when it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if alive(pid, started):
            process.kill()
            process.wait(10)


def watch(pids, on_death):
    """Call `on_death()` from a background thread as soon as one of `pids` is gone; setting the returned Event ends that.

    The parent process is recognised by `os.getppid`, so that a number given to a new process cannot mislead.
    """
    parent, stopped = os.getppid(), threading.Event()

    def loop():
        while not stopped.wait(POLL):
            if not all(os.getppid() == parent if pid == parent else alive(pid) for pid in pids):
                return on_death()

    threading.Thread(target=loop, daemon=True).start()
    return stopped


class Alone:
    """Hold `<folder>/<name>.lock` as a context manager; a second one waits, or with `wait=False` has a `BlockingIOError`.

    The operating system releases the lock with the death of its holder, however that comes about. Processes started by
    the holder can be entered with `adopt`: those that have outlived it are ended by the next holder.
    """

    def __init__(self, folder, name, wait=True, say=say):
        self.path, self.wait, self.say = Path(folder) / f"{name}.lock", wait, say

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self.wait:
                self.file.close()
                raise
            self.say(f"waiting: {self.path.stem} is already being run by another process")
            fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.seek(0)
        with contextlib.suppress(ValueError, TypeError):
            for pid, started in json.loads(self.file.read() or "[]"):
                end(pid, started)
        self.entries = []
        self._write()
        return self

    def adopt(self, pid):
        """Enter a process started by this one; returns its `(pid, creation time)`."""
        entry = (pid, psutil.Process(pid).create_time())
        self.entries.append(entry)
        self._write()
        return entry

    def dismiss(self, entry):
        """Strike out what `adopt` returned, once that process has ended."""
        self.entries.remove(entry)
        self._write()

    def _write(self):
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps(self.entries))
        self.file.flush()

    def __exit__(self, *exception):
        self.entries = []
        self._write()
        self.file.close()
