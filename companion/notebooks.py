"""Run notebooks: the one place that calls papermill.

Command line::

    python -m companion.notebooks run porous porous_d2 0        # the cells tagged `run` of one experiment: a case, a seed
    python -m companion.notebooks show porous                   # the cells tagged `show`: table, figure, claims -> report/
    python -m companion.notebooks train digits kl-jko 0         # one training run
    python -m companion.notebooks refresh notebooks/chapters/01_jko_gaussian.ipynb    # execute in place
"""

import logging
import os
import shutil
import sys
import threading
import time
import types
from pathlib import Path
from unittest import mock

from companion.files import read_file, short
from companion.form import accept, load, normalise, part, path_of, source, write
from companion.guard import THREADS, Alone, Parser, command_line, end, say, watch
from companion.params import read
from gwf.errors import UsageError, nearest
from gwf.paths import RESULTS, ROOT, SCRATCH
from gwf.progress import clock

HEARTBEAT = 15.0


class NotebookError(RuntimeError):
    """A notebook failed or ended early; the message says where, why, and where to read it."""


def load_notebook(name):
    """The functions and classes of a notebook's untagged cells, as a module: how tests and other code reach them."""
    module = types.ModuleType(name)
    for cell in part(load(path_of(name)), "functions")["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(source(cell), f"{name}:{cell['id']}", "exec"), module.__dict__)
    return module


def run(notebook, key, parameters, only=None, threads=None):
    """Execute `notebook`, or the cells of one part of it, with `parameters`.

    The working folder is the root of the repository. Everything it writes to stderr goes to the terminal. The kernel's
    numerical libraries use `threads` threads; default: the environment variable `GWF_THREADS`, else 1.
    `key` names this run in scratch/ and in messages; for `only`, "run" or "show", see `companion.form.part`. Returns the
    executed notebook, normalised: the same bytes at every run.

    Raises
    ------
    UsageError
        Unknown parameter, or a value of another type than the default.
    NotebookError
        A cell failed, or the notebook ended before its last cell; it is kept as `scratch/failed/<key>.ipynb`.
    """
    accept(notebook, parameters)
    threads = threads or int(os.environ.get("GWF_THREADS") or 1)
    with Alone(SCRATCH, key) as lock:
        return normalise(execute(notebook, key, parameters, threads, lock, only))


def refresh(notebook):
    """Execute `notebook` in place with its default parameters: the stored outputs are then those of the code.

    Returns whether the file changed.
    """
    notebook = Path(notebook)
    shutil.rmtree(RESULTS / "lab" / notebook.stem, ignore_errors=True)
    return write(run(notebook, f"refresh-{notebook.stem}", {}), notebook)


def execute(notebook, key, parameters, threads, lock, only):
    """Execute `notebook` through papermill and return it as it came out; see `run`."""
    import nbformat
    import papermill
    import psutil

    logging.getLogger("papermill").setLevel(logging.ERROR)
    raw, failed = (SCRATCH / folder / f"{key}.ipynb" for folder in ("running", "failed"))
    for path in (raw, failed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    cells = nbformat.from_dict(part(load(notebook), only))
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
        with kernel_environment(key, threads), Terminal(key, len(cells.cells)) as terminal:

            def on_cell_start(cell, cell_index):
                adopt()
                terminal.at(cell, cell_index)

            executed = papermill.execute_notebook(
                cells,
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
                start_timeout=600,
            )
            require_complete(executed)
    except papermill.PapermillExecutionError as error:
        where = f"cell {error.cell_index} of {notebook.name}"
        message = f"{error.ename}: {error.evalue}\n  raised in {where}"
    except NotebookError as error:
        message = str(error)
    except RuntimeError as error:
        message = f"the kernel of {notebook.name} died (out of memory, or killed from outside) or never came: {error}"
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


def kernel_environment(key, threads):
    """A context with the environment of a kernel: threads, progress file, nothing of the user's Jupyter and matplotlib."""
    progress, ipython = SCRATCH / "progress" / f"{key}.txt", SCRATCH / "ipython" / key
    progress.parent.mkdir(parents=True, exist_ok=True)
    ipython.mkdir(parents=True, exist_ok=True)
    progress.write_text("")
    if startup := os.environ.get("GWF_STARTUP"):
        # A script for every kernel to begin with: how the tests see which functions a stage calls.
        target = ipython / "profile_default" / "startup"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(startup, target)
    changed = {
        "GWF_PROGRESS": str(progress),
        "IPYTHONDIR": str(ipython),
        "PYTHONHASHSEED": "0",
        **{"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PATH": "", "JUPYTER_RUNTIME_DIR": str(SCRATCH / "jupyter")},
        **{"MATPLOTLIBRC": os.devnull, "MPLBACKEND": ""},
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    return mock.patch.dict(os.environ, dict.fromkeys(THREADS, str(threads)) | changed)


class Terminal(threading.Thread):
    """Show what a notebook does: its progress file line by line, its stderr, a sign of life every 15 s."""

    def __init__(self, key, total):
        super().__init__(daemon=True)
        self.key, self.total, self.cell, self.stopped = key, total, "starting", threading.Event()
        self.last = self.began = time.monotonic()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stopped.set()
        self.join()

    def at(self, cell, index):
        """Say which cell is being executed; called by nbclient before every cell."""
        self.cell = f"cell {index + 1}/{self.total} ({cell.get('id', '')})"

    def run(self):
        """Print new progress lines until told to stop."""
        rest, last_round = "", False
        with open(os.environ["GWF_PROGRESS"]) as progress:
            while not last_round:
                last_round = self.stopped.wait(0.5)
                *lines, rest = (rest + progress.read()).split("\n")
                for line in lines:
                    self.show(line)
                if time.monotonic() - self.last > HEARTBEAT and not last_round:
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


def chosen(params, group, name, case, seed):
    """Settings of a case in a `group` of parameters, a dict; `UsageError` if that, or its seed, is not there."""
    cases = group[nearest(name, group, "name in params.yaml")]
    settings = cases[nearest(case, cases, f"case of {name} in params.yaml")]
    seeds = (params.get("seeds_of") or {}).get(case, params["seeds"])
    if seed not in seeds:
        raise UsageError(f"seed {seed} of {case} is not in params.yaml, which has {', '.join(map(str, seeds))}")
    return dict(settings)


def run_case(experiment, case, seed):
    """The `run` cells of an experiment for one case and seed, with the case's settings in params.yaml."""
    params = read()
    settings = chosen(params, params["experiments"] | params["training"], experiment, case, seed)
    # What a training measures needs no settings: they lie beside its samples.
    given = {} if experiment in params["training"] else settings
    given |= {"profile": params["profile"], "case": case, "seed": seed}
    run(path_of(experiment), f"{experiment}-{case}-{seed}", given, "run")


def train(dataset, case, seed):
    """One training run: runs/train.ipynb with the settings of the method in params.yaml."""
    params = read()
    profile, settings = params["profile"], chosen(params, params["training"], dataset, case, seed)
    given = {"settings": {}, "device": params["device"]} | settings
    out = RESULTS / profile / "training" / dataset / f"{case}-{seed}"
    given |= {"dataset": dataset, "seed": seed, "profile": profile, "out": out.relative_to(ROOT).as_posix()}
    out.mkdir(parents=True, exist_ok=True)
    executed = run(path_of("train"), f"{dataset}-{case}-{seed}", given, threads=given.get("threads"))
    write(executed, out / "train.ipynb")


def show(name):
    """The `show` cells of an experiment, or a whole chapter: its sheet goes to `<report>/sheets/<name>/`."""
    params = read()
    nearest(name, [*params["shows"], *params["chapters"]], "experiment or chapter in params.yaml")
    notebook, profile = path_of(name), params["profile"]
    out, target = ROOT / params["report"] / "sheets" / name, RESULTS / profile / "shown" / notebook.name
    for table in sorted((RESULTS / profile / name).glob("*/*.csv")):
        read_file(table)  # a damaged one is named before anything runs
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    given = {"profile": profile, "out": out.relative_to(ROOT).as_posix()}
    executed = run(notebook, f"show-{name}", given, "show")
    target.parent.mkdir(parents=True, exist_ok=True)
    write(executed, target)


@command_line(NotebookError)
def main(arguments):
    """Command line; returns the exit status."""
    parser = Parser(prog="python -m companion.notebooks", description="Run and check notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("run", ("experiment", "case")), ("train", ("dataset", "case"))):
        command = commands.add_parser(name, help="one case with one seed")
        for word in words:
            command.add_argument(word)
        command.add_argument("seed", type=int)
    commands.add_parser("show", help="the sheet of an experiment or chapter").add_argument("name")
    commands.add_parser("refresh", help="execute in place").add_argument("notebooks", type=Path, nargs="+")
    asked = vars(parser.parse_args(arguments))
    action = {"run": run_case, "train": train, "show": show, "refresh": None}[asked.pop("command")]
    if action:
        action(**asked)
    else:
        for notebook in asked["notebooks"]:
            say(f"{notebook}: {'outputs changed' if refresh(notebook) else 'unchanged'}")


if __name__ == "__main__":
    sys.exit(main())
