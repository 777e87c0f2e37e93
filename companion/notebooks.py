"""Run notebooks: the one place that calls papermill.

Command line::

    python -m companion.notebooks run porous porous_d2 0        # the cells tagged `run`: a case, a seed
    python -m companion.notebooks show porous                   # the cells tagged `show`: table, figure, claims
    python -m companion.notebooks train digits kl-jko 0         # one training run
    python -m companion.notebooks refresh notebooks/chapters/01_jko_gaussian.ipynb    # execute in place
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

from companion import params
from companion.files import checksums, read_file, short, write_text
from companion.form import accept, load, normalise, part, path_of, write
from companion.guard import THREADS, Failed, alone, command_line, end_marked, say, watch
from gwf import paths
from gwf.errors import UsageError, nearest
from gwf.paths import RESULTS, ROOT, SCRATCH


def run(notebook, key, parameters, only=None, threads=None):
    """Execute `notebook`, or one part of it, with `parameters`; `key` names the run in scratch/ and in messages.

    The working folder is the root of the repository, stderr goes to the terminal, numerical libraries use one thread or
    `threads`. Returns the executed notebook, normalised: the same bytes at every run. `UsageError` for a parameter that
    the notebook does not take; `Failed` if it does not come to its end: it is kept as `scratch/failed/<key>.ipynb`.
    """
    accept(notebook, parameters)
    import nbformat
    import papermill
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)
    raw, failed = (SCRATCH / folder / f"{key}.ipynb" for folder in ("running", "failed"))
    cells, lock = nbformat.from_dict(part(load(notebook), only)), SCRATCH / f"{key}.lock"
    with alone(lock) as mark, contextlib.ExitStack() as stack:

        def stop():
            end_marked(lock)
            os._exit(1)

        for path in (raw, failed):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        stack.callback(end_marked, lock)
        stack.callback(watch(stop).set)
        stack.enter_context(mock.patch.dict(os.environ, of_kernel(key, threads) | mark))
        try:
            # By sockets in a folder of its own: of the TCP ports that are free now another kernel may have one first.
            sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="gwf-"))
            how = {"kernel_name": "python3", "language": "python", "cwd": str(ROOT), "stderr_file": sys.stdout}
            how |= {"shutdown_kernel": "immediate", "start_timeout": 600, "extra_arguments": ["--log-level=CRITICAL"]}
            if len(sockets) < 90:  # the system has no longer names for sockets than about a hundred letters
                how |= {"config": Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})}
            executed = papermill.execute_notebook(cells, str(raw), parameters, progress_bar=False, **how)
            require_complete(executed)
            raw.unlink(missing_ok=True)
            return normalise(executed)
        except papermill.PapermillExecutionError as error:
            where = f"cell {error.cell_index} of {notebook.name}"
            message = f"{error.ename}: {error.evalue}\n  raised in {where}"
        except Failed as error:
            message = str(error)
        except RuntimeError as error:
            why = "died (out of memory, or killed from outside) or never came"
            message = f"the kernel of {notebook.name} {why}: {error}"
        os.replace(raw, failed)
        raise Failed(f"{message}\n  the notebook as far as it came: {short(failed)}")


def require_complete(nb):
    """Raise `Failed` unless every code cell of the executed notebook `nb` ran, and ran to its end.

    papermill takes `raise SystemExit(0)` for success, and the rest of the notebook would silently be missing.
    """
    for index, cell in enumerate(nb.cells):
        name = f"cell {index} ({cell.get('id', '')})"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise Failed(f"{name} ended the notebook early with {output.ename}: {output.evalue}")
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise Failed(f"{name} was not executed")


def of_kernel(key, threads):
    """What the environment of a kernel has of its own: threads, progress, nothing of the user's own set-up."""
    ipython = SCRATCH / "ipython" / key
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    if script := os.environ.get("GWF_STARTUP"):
        shutil.copy(script, startup)  # how the tests see which functions a stage calls
    return {
        **dict.fromkeys(THREADS, str(threads or 1)),
        **{"GWF_PROGRESS": "stderr", "IPYTHONDIR": str(ipython), "PYTHONHASHSEED": "0"},
        **{"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PATH": "", "JUPYTER_RUNTIME_DIR": str(SCRATCH / "jupyter")},
        **{"MATPLOTLIBRC": os.devnull, "MPLBACKEND": "", "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


def chosen(composed, group, name, case, seed):
    """Settings of a case in a `group` of parameters; `UsageError` if that, or its seed, is not there."""
    cases = group[nearest(name, group, "experiment or data set in params.yaml")]
    settings = cases[nearest(case, cases, f"case of {name} in params.yaml")]
    if seed not in (seeds := params.seeds_of(composed, name, case)):
        raise UsageError(f"seed {seed} of {case} is not in params.yaml, which has {', '.join(map(str, seeds))}")
    return settings


def known(dataset, case, seed: int):
    """Whether params.yaml has a training; an error that names what is wrong if not."""
    composed = params.read()
    chosen(composed, composed["training"], dataset, case, seed)


def run_case(experiment, case, seed: int):
    """The `run` cells of an experiment for one case and seed, with the case's settings in params.yaml.

    A training that is measured is done first if its samples are not here, or not those that its checksums are of.
    """
    composed = params.read()
    settings = chosen(composed, composed["experiments"] | composed["training"], experiment, case, seed)
    if experiment in composed["training"]:
        kept, sums = checksums_of(paths.training(composed["profile"], experiment, case, seed))
        if not kept.exists() or kept.read_text() != sums:
            train(experiment, case, seed)
    # What a training measures needs no settings: they lie beside its samples.
    given = {} if experiment in composed["training"] else settings
    given = given | {"profile": composed["profile"], "case": case, "seed": seed}
    run(path_of(experiment), f"{experiment}-{case}-{seed}", given, "run")


def train(dataset, case, seed: int):
    """One training run: runs/train.ipynb with the settings of the method in params.yaml.

    Its samples, megabytes, stay on this machine; their checksums are the output of the stage, and git keeps them.
    """
    composed = params.read()
    settings = chosen(composed, composed["training"], dataset, case, seed)
    out = paths.training(composed["profile"], dataset, case, seed)
    given = {"settings": {}, "device": composed["device"]} | settings | {"dataset": dataset, "seed": seed}
    given |= {"profile": composed["profile"], "out": out.relative_to(ROOT).as_posix()}
    out.mkdir(parents=True, exist_ok=True)
    executed = run(path_of("train"), f"{dataset}-{case}-{seed}", given, threads=given.get("threads"))
    write(executed, out / "train.ipynb")
    kept, sums = checksums_of(out)
    write_text(sums, kept)


def checksums_of(out):
    """The file of checksums beside the folder `out` of a training; those of the samples, losses, map and settings in it."""
    files = sorted(file for file in out.glob("*") if file.suffix != ".ipynb")
    return out.with_name(f"{out.name}.sha256"), checksums(files)


def show(name):
    """The `show` cells of an experiment, or a whole chapter: its sheet goes to `<report>/sheets/<name>/`."""
    composed = params.read()
    nearest(name, [*composed["shows"], *composed["chapters"]], "experiment or chapter in params.yaml")
    profile, out = composed["profile"], ROOT / composed["report"] / "sheets" / name
    for table in sorted((RESULTS / profile / name).glob("*/*.csv")):  # a damaged one is named before anything runs
        if read_file(table).empty and table.stem == "table":
            raise UsageError(f"{short(table)} is damaged: it has no rows")
    # As deep as `out`, for relative links.
    new = Path(SCRATCH.name, *Path(composed["report"]).parts[1:], "sheets", name)
    shutil.rmtree(ROOT / new, ignore_errors=True)
    executed = run(path_of(name), f"show-{name}", {"profile": profile, "out": new.as_posix()}, "show")
    write(executed, SCRATCH / "shown" / profile / f"{name}.ipynb")
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(ROOT / new, out)


def refresh(notebooks: list):
    """Execute notebooks in place with their default parameters: the stored outputs are then those of the code."""
    if not notebooks:
        raise UsageError("refresh needs the files of notebooks, or: make notebooks")
    for notebook in map(Path, notebooks):
        shutil.rmtree(RESULTS / "lab" / notebook.stem, ignore_errors=True)
        changed = write(run(notebook, f"refresh-{notebook.stem}", {}), notebook)
        say(f"{notebook}: {'outputs changed' if changed else 'unchanged'}")


main = command_line(run=run_case, train=train, known=known, show=show, refresh=refresh)

if __name__ == "__main__":
    sys.exit(main())
