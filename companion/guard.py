"""Processes that must not outlive or overtake each other, and command lines that say in one line what is wrong.

A pipeline may be killed at any moment, one process at a time. What is left behind must stop by itself, and what starts
next must wait until it has: a training kernel that lives on would write the same checkpoints as its successor.
"""

import argparse
import contextlib
import fcntl
import inspect
import os
import sys
import threading

import psutil

from gwf.errors import UsageError

POLL = 0.5
#: What a machine's numerical libraries read their number of threads from.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: The environment variable with the lock that a process works for.
HELD = "GWF_HELD"


class Failed(RuntimeError):
    """A stage or a notebook failed; the message says where, why, and where to read more."""


def say(text):
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Parser(argparse.ArgumentParser):
    """A parser of arguments that says in one line what is wrong with them."""

    def error(self, message):
        raise UsageError(f"{message} ({self.prog} --help says more)")


def command_line(**actions):
    """A `main`: it takes the words of the command line, calls one of the `actions` and returns the exit status.

    The arguments of an action are the parameters of its function, of the type in their annotation, flags where False is
    the default; several actions are subcommands by name. What the user can mend is one line on stderr, also what the
    system refuses (a full disk). A reader that closes its pipe (`| head`) is no error.
    """

    def main(words=None):
        try:
            action, given = parsed(actions, words)
            status = action(**given)
            sys.stdout.flush()
            return status or 0
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        except (UsageError, Failed, OSError) as error:
            text = f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else error
            print(f"error: {text}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            say("stopped; the same command goes on from here")
            return 130

    return main


def parsed(actions, words):
    """The action that `words` (None: those of this process) name, and its arguments by name; see `command_line`."""
    module = inspect.getmodule(next(iter(actions.values())))
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=f"python -m {module.__spec__.name}", description=module.__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="action", required=True) if len(actions) > 1 else None
    for name, action in actions.items():
        command = commands.add_parser(name) if commands else parser
        command.set_defaults(action=action)
        for key, entry in inspect.signature(action).parameters.items():
            kind, default = (None if it is entry.empty else it for it in (entry.annotation, entry.default))
            option = entry.kind is entry.KEYWORD_ONLY
            how = {"nargs": "*", "default": []} if kind is list else {"type": kind, "default": default}
            if default is False:
                how = {"action": "store_true"}
            elif default is not None and not option:
                how["nargs"] = "?"
            command.add_argument(f"--{key}" if option else key, **how)
    asked = vars(parser.parse_args(words))
    return asked.pop("action"), asked


def watch(on_death):
    """Call `on_death()` from a thread as soon as the parent process is gone; the returned Event, set, ends that."""
    parent, stopped = os.getppid(), threading.Event()

    def loop():
        while not stopped.wait(POLL):
            if os.getppid() != parent:
                return on_death()

    threading.Thread(target=loop, daemon=True).start()
    return stopped


@contextlib.contextmanager
def alone(path, wait=True):
    """Hold the lock file `path`, and give a mark for environments; a second holder waits, or has a `UsageError`.

    The operating system releases the lock with the death of its holder, however that comes about. Processes that the
    holder starts with the mark in their environment are ended by the next holder, should they outlive it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = f"{path.stem} is already being run by another process in this folder"
            if not wait:
                raise UsageError(busy) from None
            say(f"waiting: {busy}")
            fcntl.flock(file, fcntl.LOCK_EX)
        end_marked(path)
        yield {HELD: str(path)}


def end_marked(path):
    """End the processes that carry the mark of the lock `path`, and return when they are gone."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(HELD) == str(path):
                process.kill()
                process.wait(10)
