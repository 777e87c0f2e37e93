"""Run notebooks: the one place that calls papermill.

Command line::

    python -m gwf.nb run notebooks/train.ipynb results/laptop/kl-jko-digits-0 --params training.digits --set seed 0
    python -m gwf.nb refresh notebooks/chapters/01_jko_gaussian.ipynb
    python -m gwf.nb check notebooks/train.ipynb
"""

import argparse
import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

import yaml

from gwf.errors import UsageError, nearest
from gwf.form import check, load, normalise, parameters_of, write
from gwf.guard import Alone, end, watch
from gwf.paths import RESULTS, ROOT, SCRATCH
from gwf.progress import clock

HEARTBEAT = 15.0


class NotebookError(RuntimeError):
    """A notebook failed or ended early; the message says where, why, and where to read it."""


def accept(notebook, given):
    """Return `given` if every name is a parameter of `notebook` and every type is that of its default.

    An int is accepted where the default is a float, and anything where the default is None.

    Raises
    ------
    UsageError
        Unknown name (with the nearest valid one), or a value of another type.
    """
    defaults = parameters_of(notebook)
    for name, value in given.items():
        nearest(name, defaults, f"parameter of {Path(notebook).name}")
        default = defaults[name]
        wanted = {bool: bool, int: int, float: (int, float), str: str, list: list, dict: dict}.get(type(default))
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
            kind = type(default).__name__
            raise UsageError(f"parameter {name} = {value!r} of {Path(notebook).name} must be of type {kind}")
    return given


def key_of(out_dir):
    """Name of a run in scratch/ and in messages: its folder below results/, joined by dashes."""
    path = Path(out_dir).resolve()
    if path.is_relative_to(RESULTS):
        return "-".join(path.relative_to(RESULTS).parts)
    return "-".join(path.parts[-2:])


def run(notebook, out_dir, parameters, threads=None):
    """Execute `notebook` with `parameters` and write `<out_dir>/<name>.ipynb`, the same bytes at every run.

    The notebook's working folder is the root of the repository. If it has a parameter `out` that is not
    given, it gets `out_dir`, relative to the root. Everything it writes to stderr goes to the terminal and
    not into the file. The kernel's numerical libraries use `threads` threads; default: the notebook's
    parameter `threads`, else the environment variable `GWF_THREADS`, else 1.

    Returns
    -------
    pathlib.Path
        The executed notebook.

    Raises
    ------
    UsageError
        Unknown parameter, or a value of another type than the default.
    NotebookError
        A cell failed, or the notebook ended before its last cell; it is kept as `scratch/failed/<run>.ipynb`.
    """
    notebook, out_dir = Path(notebook), Path(out_dir)
    given = dict(parameters)
    defaults = parameters_of(notebook)
    if "out" in defaults and "out" not in given:
        given["out"] = Path(os.path.relpath(out_dir.resolve(), ROOT)).as_posix()
    accept(notebook, given)
    threads = threads or given.get("threads", defaults.get("threads")) or int(os.environ.get("GWF_THREADS") or 1)
    target = out_dir / notebook.name
    with Alone(SCRATCH, key_of(out_dir), say=say) as lock:
        out_dir.mkdir(parents=True, exist_ok=True)
        write(normalise(execute(notebook, key_of(out_dir), given, threads, lock)), target)
    return target


def refresh(notebook):
    """Execute `notebook` in place with its default parameters: the stored outputs are then those of the code.

    Returns whether the file changed.
    """
    notebook, key = Path(notebook), f"refresh-{Path(notebook).stem}"
    threads = parameters_of(notebook).get("threads") or int(os.environ.get("GWF_THREADS") or 1)
    with Alone(SCRATCH, key, say=say) as lock:
        return write(normalise(execute(notebook, key, {}, threads, lock)), notebook)


def execute(notebook, key, parameters, threads, lock):
    """Execute `notebook` through papermill and return it as it came out; see `run`."""
    import papermill
    import psutil
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    raw, failed = (SCRATCH / folder / f"{key}.ipynb" for folder in ("running", "failed"))
    for path in (raw, failed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    kernel = []

    def adopt():
        if not kernel:
            kernel.extend(lock.adopt(child.pid) for child in psutil.Process().children())

    def stop():
        for child in kernel:
            end(*child)
        os._exit(1)

    driver = int(os.environ.get("GWF_DRIVER") or 0)
    watching = watch([os.getppid()] + [driver] * bool(driver), stop)
    try:
        with kernel_environment(key, threads), Terminal(key, len(load(notebook)["cells"])) as terminal:

            def on_cell_start(cell, cell_index):
                adopt()
                terminal.at(cell, cell_index)

            executed = papermill.execute_notebook(
                str(notebook),
                str(raw),
                parameters=parameters,
                progress_bar=False,
                kernel_name="python3",
                language="python",
                cwd=str(ROOT),
                stderr_file=terminal,
                on_cell_start=on_cell_start,
                extra_arguments=["--log-level=CRITICAL"],
                shutdown_kernel="immediate",
            )
            require_complete(executed)
    except papermill.PapermillExecutionError as error:
        where = f"cell {error.cell_index} of {notebook.name}"
        message = f"{error.ename}: {error.evalue}\n  raised in {where}"
    except NotebookError as error:
        message = str(error)
    except DeadKernelError:
        message = f"the kernel of {notebook.name} died (out of memory, or killed from outside)"
    else:
        raw.unlink(missing_ok=True)
        return executed
    finally:
        watching.set()
        for child in kernel:
            end(*child)
            lock.dismiss(child)
    os.replace(raw, failed)
    raise NotebookError(f"{message}\n  the notebook as far as it came: {short(failed)}")


def require_complete(nb):
    """Raise `NotebookError` unless every code cell of the executed notebook `nb` ran, and ran to its end.

    papermill takes `raise SystemExit(0)` for success, and the rest of the notebook would silently be missing.
    """
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        name = f"cell {index} ({cell.get('id', '')})"
        for output in cell.outputs:
            if output.output_type == "error":
                raise NotebookError(f"{name} ended the notebook early with {output.ename}: {output.evalue}")
        if cell.execution_count is None:
            raise NotebookError(f"{name} was not executed")


@contextlib.contextmanager
def kernel_environment(key, threads):
    """Environment of a kernel: threads, progress file, and nothing of the user's own Jupyter set-up."""
    progress, ipython = SCRATCH / "progress" / f"{key}.txt", SCRATCH / "ipython" / key
    progress.parent.mkdir(parents=True, exist_ok=True)
    ipython.mkdir(parents=True, exist_ok=True)
    progress.write_text("")
    changed = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), str(threads)
    )
    changed |= {
        "GWF_PROGRESS": str(progress),
        "IPYTHONDIR": str(ipython),
        "PYTHONHASHSEED": "0",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class Terminal:
    """Show what a notebook does: its progress file line by line, its stderr, a sign of life every 15 s."""

    def __init__(self, key, total):
        self.key, self.total = key, total
        self.cell, self.last, self.began = "starting", time.monotonic(), time.monotonic()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self):
        self.progress = open(os.environ["GWF_PROGRESS"])
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.stopped.set()
        self.thread.join()
        self.progress.close()

    def at(self, cell, index):
        """Say which cell is being executed; called by nbclient before every cell."""
        self.cell = f"cell {index + 1}/{self.total} ({cell.get('id', '')})"

    def follow(self):
        """Print new progress lines until told to stop."""
        rest = ""
        while True:
            last_round = self.stopped.wait(0.5)
            *lines, rest = (rest + self.progress.read()).split("\n")
            for line in lines:
                self.show(line)
            if last_round:
                return
            if time.monotonic() - self.last > HEARTBEAT:
                self.show(f"{self.key}: {self.cell}, {clock(time.monotonic() - self.began)} so far")

    def show(self, line):
        say(f"  {line}")
        self.last = time.monotonic()

    def write(self, text):
        """Print what the notebook wrote to stderr; papermill takes this object for a file."""
        for line in text.splitlines():
            if line.strip():
                self.show(f"{self.key}: {line}")

    def flush(self):
        """Nothing is buffered."""


def subtree(name, path=ROOT / "params.yaml"):
    """Part of params.yaml by its dotted name, for example `training.digits`, as a dict."""
    part = yaml.safe_load(Path(path).read_text())
    for word in name.split("."):
        part = part[nearest(word, part, f"key of params.yaml in {name!r}:")]
    if not isinstance(part, dict):
        raise UsageError(f"{name!r} of params.yaml is the value {part!r}, not a group of parameters")
    return part


def short(path):
    """`path` relative to the repository if it lies there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def say(text):
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gwf.nb", description="Run, extract, refresh, check notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="execute a notebook and write it to a folder")
    command.add_argument("notebook", type=Path)
    command.add_argument("out_dir", type=Path)
    command.add_argument("--params", action="append", default=[], metavar="GROUP", help="group of params.yaml")
    command.add_argument("--set", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"))
    command.add_argument("--threads", type=int)
    for name, text in (("refresh", "execute in place"), ("check", "check the form")):
        commands.add_parser(name, help=text).add_argument("notebooks", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "run":
            given = {}
            for group in asked.params:
                given |= subtree(group)
            given |= {name: yaml.safe_load(value) for name, value in asked.set}
            run(asked.notebook, asked.out_dir, given, asked.threads)
        elif asked.command == "refresh":
            for notebook in asked.notebooks:
                say(f"{notebook}: {'outputs changed' if refresh(notebook) else 'unchanged'}")
        else:
            faults = [fault for notebook in asked.notebooks for fault in check(notebook)]
            for fault in faults:
                say(fault)
            return 1 if faults else 0
    except (UsageError, NotebookError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
