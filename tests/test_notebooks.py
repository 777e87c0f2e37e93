"""The runner of notebooks, their parts, form and normal form."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from companion import form
from companion import notebooks as nb
from companion.guard import alone
from gwf.errors import UsageError
from gwf.paths import ROOT
from tests import notebook_form

V4 = nbformat.v4

PARAMETERS = "seed = 0\nrate = 0.5\nout = None"
DRAW = "import matplotlib.pyplot as plt\nplt.plot([seed, 1])\nplt.show()"


def notebook(path, *cells, title="# Title"):
    """Write a notebook of a title, a parameters cell and the given code cells; returns its path."""
    made = V4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.cells = [V4.new_markdown_cell(title, id="title")]
    made.cells.append(V4.new_code_cell(cells[0], id="parameters", metadata={"tags": ["parameters"]}))
    made.cells += [V4.new_code_cell(text, id=f"part-{i}") for i, text in enumerate(cells[1:])]
    nbformat.write(made, path)
    return path


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(nb, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch"


def command_line(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "companion.notebooks", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        **options,
    )


# Times, random numbers of the system, addresses, process numbers and warnings are all that may differ between
# two runs, except for what the notebook computes; each is produced here.
RESTLESS = """
import os, sys, time, warnings
print("a", end="", flush=True)
time.sleep(0.05 * (os.getpid() % 3))
print("b")
warnings.warn(f"process {os.getpid()}")
print("c", object(), os.environ["OMP_NUM_THREADS"], os.getcwd())
"""


def test_same_bytes_at_every_run(tmp_path, scratch):
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, RESTLESS, DRAW, "print(seed, rate, out)")
    first, again = (nbformat.writes(nb.run(source, "toy", {"seed": 3}, threads=2)) for _ in range(2))
    assert first == again
    executed = nbformat.reads(first, as_version=4)
    nbformat.validate(executed)
    texts = [output.get("text", "") for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert texts[0] == "ab\nc <object object at 0x0> 2 .\n"
    assert texts[-1].startswith("3 0.5 ")
    assert "papermill" not in first and "iopub" not in first and "UserWarning" not in first
    assert [cell.id for cell in executed.cells][:3] == ["title", "parameters", "injected-parameters"]
    assert any("image/png" in output.get("data", {}) for output in executed.cells[-2].outputs)
    assert not list((scratch / "running").glob("*")) and not list((scratch / "failed").glob("*"))
    assert nbformat.writes(nb.run(source, "toy", {"seed": 4}, threads=2)) != first


@pytest.mark.parametrize(
    "given, message",
    [
        ({"sead": 1}, "did you mean 'seed'"),
        ({"seed": "one"}, "must be of type int"),
        ({"seed": True}, "must be of type int"),
        ({"rate": "fast"}, "must be of type float"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(tmp_path, scratch, given, message):
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, "print(seed)")
    with pytest.raises(UsageError, match=message):
        nb.run(source, "toy", given)
    assert not scratch.exists()
    assert form.accept(source, {"rate": 1, "out": "anywhere"})


def test_parameters_must_be_literals(tmp_path):
    with pytest.raises(UsageError, match="only assign literals, not: n = 2 \\* 3"):
        form.parameters_of(notebook(tmp_path / "toy.ipynb", "n = 2 * 3"))
    found = form.parameters_of(notebook(tmp_path / "toy.ipynb", "a = -1.5\nb = [1, 'x']\nc = float('inf')"))
    assert found == {"a": -1.5, "b": [1, "x"], "c": float("inf")}


@pytest.mark.parametrize(
    "cell, message",
    [
        ("raise SystemExit(0)", "ended the notebook early with SystemExit"),
        ("import sys\nsys.exit()", "ended the notebook early with SystemExit"),
        ("raise ValueError('tau = -1: it must be positive')", "ValueError: tau = -1: it must be positive"),
        ("import os\nos._exit(0)", "died"),
    ],
)
def test_what_did_not_end_is_an_error_and_is_kept(tmp_path, scratch, cell, message):
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, "print('reached')", cell, "print('not reached')")
    with pytest.raises(nb.Failed, match=message):
        nb.run(source, "toy", {})
    (kept,) = (scratch / "failed").glob("*.ipynb")
    assert "reached" in kept.read_text()


def test_nothing_of_the_users_own_set_up_comes_in(tmp_path, scratch, monkeypatch):
    """A kernel that cannot start, a matplotlib that needs LaTeX and a window, a home that is no folder."""
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["false"], "display_name": "mine", "language": "python"}')
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: black\n")
    (tmp_path / "home").touch()
    for name, value in (("JUPYTER_PATH", "jupyter"), ("MATPLOTLIBRC", "matplotlibrc"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    shown = "import matplotlib\nprint(matplotlib.rcParams['axes.facecolor'], matplotlib.rcParams['text.usetex'])"
    executed = nb.run(notebook(tmp_path / "toy.ipynb", PARAMETERS, shown, DRAW), "toy", {})
    text, picture = executed.cells[-2].outputs[0], executed.cells[-1].outputs[-1]
    assert text.text == "white False\n" and "image/png" in picture.data


def test_only_the_cells_of_a_part_are_run(tmp_path, scratch):
    source = notebook(
        tmp_path / "toy.ipynb", PARAMETERS, "def f():\n    return seed", "print('run', f())", "print('show', f())"
    )
    made = nbformat.read(source, as_version=4)
    made.cells[3].metadata["tags"], made.cells[4].metadata["tags"] = ["run"], ["show"]
    nbformat.write(made, source)

    def printed(part):
        executed = nb.run(source, "toy", {"seed": 5}, part)
        return "".join(o.text for cell in executed.cells if cell.cell_type == "code" for o in cell.outputs)

    assert printed("run") == "run 5\n" and printed("show") == "show 5\n" and printed(None) == "run 5\nshow 5\n"


@pytest.mark.parametrize("report", ["report", "results/smoke/report"])
def test_a_sheet_that_fails_is_as_it_was(tmp_path, monkeypatch, report):
    for name, folder in {"ROOT": "", "SCRATCH": "scratch", "RESULTS": "results"}.items():
        monkeypatch.setattr(nb, name, tmp_path / folder)
    composed = {"profile": "smoke", "report": report, "shows": ["porous"], "chapters": []}
    monkeypatch.setattr(nb.params, "read", lambda: composed)
    sheet = tmp_path / report / "sheets" / "porous"
    fails = False

    def run(path, key, given, part):
        new = tmp_path / given["out"]
        assert len(new.parts) == len(sheet.parts) and not new.exists()  # links are relative to the folder
        new.mkdir(parents=True)
        (new / "table.csv").write_text("new")
        if fails:
            raise KeyboardInterrupt
        return nbformat.v4.new_notebook()

    monkeypatch.setattr(nb, "run", run)
    nb.show("porous")
    assert (sheet / "table.csv").read_text() == "new"
    (sheet / "table.csv").write_text("old")
    (sheet / "gone.csv").write_text("old")
    fails = True
    with pytest.raises(KeyboardInterrupt):
        nb.show("porous")
    assert sorted((file.name, file.read_text()) for file in sheet.iterdir()) == [
        ("gone.csv", "old"),
        ("table.csv", "old"),
    ]
    fails = False
    nb.show("porous")
    assert [(file.name, file.read_text()) for file in sheet.iterdir()] == [("table.csv", "new")]


@pytest.mark.parametrize("name, transport", [("short", "ipc"), ("n" * 100, "tcp")])
def test_kernels_side_by_side_share_no_ports(tmp_path, scratch, monkeypatch, name, transport):
    (folder := tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder) if name != "short" else None)
    source = notebook(
        tmp_path / "toy.ipynb",
        PARAMETERS,
        "from ipykernel.kernelapp import IPKernelApp\nprint(IPKernelApp.instance().transport)",
    )
    assert nb.run(source, "toy", {}).cells[-1].outputs[0].text == f"{transport}\n"
    assert not list(folder.iterdir())


def test_command_line_says_in_plain_words_what_failed(tmp_path):
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, "raise ValueError(f'seed {seed} is bad')")
    done = command_line("refresh", source)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ValueError: seed 0 is bad\n")
    assert "Traceback" not in done.stderr + done.stdout and len(done.stderr.splitlines()) == 3
    done = command_line("show", "poruos")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "did you mean 'porous'" in done.stderr


def test_progress_reaches_the_terminal(tmp_path):
    loop = "from gwf.progress import follow\nfollow('toy')(2, 2, loss=0.25)"
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, loop)
    done = command_line("refresh", source)
    assert done.returncode == 0, done.stderr
    assert "toy: step 2/2, loss 0.25, 00:00 left\n" in done.stdout
    assert not nbformat.read(source, as_version=4).cells[-1].outputs


def test_a_case_and_its_seed_must_be_in_params_yaml():
    group = {"porous": {"porous_d2": {"d": 2}, "porous_d3": {}}}
    params = {"seeds": [0, 1], "seeds_of": {"porous_d3": [4]}}
    assert nb.chosen(params, group, "porous", "porous_d2", 1) == {"d": 2}
    assert nb.chosen(params, group, "porous", "porous_d3", 4) == {}
    with pytest.raises(UsageError, match="did you mean 'porous_d3'"):
        nb.chosen(params, group, "porous", "porous_d4", 0)
    with pytest.raises(UsageError, match="seed 0 of porous_d3 is not in params.yaml, which has 4"):
        nb.chosen(params, group, "porous", "porous_d3", 0)


def alive(pid):
    """Whether the process `pid` runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_killed_parent_takes_runner_and_kernel_with_it(tmp_path):
    busy = f"open({str(tmp_path / 'busy')!r}, 'w').close()\nwhile True:\n    pass"
    source = notebook(tmp_path / "toy.ipynb", PARAMETERS, busy)
    call = [sys.executable, "-m", "companion.notebooks", "refresh", str(source)]
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({call})"], cwd=ROOT)
    try:
        # The kernel takes seconds to start, more on a busy machine.
        assert wait_until((tmp_path / "busy").exists, 300)
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) == 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    # The runner looks every half second, and ends the kernel; the kernel by itself looks every second.
    assert wait_until(lambda: not any(alive(process.pid) for process in below), 10)


def test_alone_is_alone_and_ends_what_a_killed_one_left(tmp_path, capsys):
    program = """
import os, pathlib, subprocess, sys, time
from companion.guard import alone
with alone(pathlib.Path(sys.argv[1])) as mark:
    sleeper = ["sleep", "60"]
    for environment in (os.environ | mark, os.environ):
        print(subprocess.Popen(sleeper, env=environment, stdout=subprocess.DEVNULL).pid, flush=True)
    time.sleep(60)
"""
    file = tmp_path / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", program, file], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    left, other = (int(holder.stdout.readline()) for _ in range(2))
    try:
        with pytest.raises(UsageError, match="run is already being run"), alone(file, wait=False):
            pass
        holder.kill()
        holder.wait()
        assert alive(left) and alive(other)
        with alone(file):
            assert not alive(left) and alive(other)
        assert not capsys.readouterr().out
    finally:
        holder.kill()
        for pid in filter(alive, (left, other)):
            os.kill(pid, signal.SIGKILL)


def test_good_form_is_accepted(tmp_path):
    assert notebook_form.check(notebook(tmp_path / "toy.ipynb", PARAMETERS, DRAW, "print(seed)")) == []


@pytest.mark.parametrize(
    "cells, fault",
    [
        (("seed = int(0)", "print(1)"), "only assign literals"),
        ((PARAMETERS, "x = 1;\nprint(x);"), "';'"),
        ((PARAMETERS, "import matplotlib.pyplot as plt\nplt.plot([1])", "print(1)"), "plt.show()"),
        ((PARAMETERS, "open('results/laptop/x').read()"), "gwf.paths"),
        ((PARAMETERS, "print('/usr/share/x')"), "gwf.paths"),
        ((PARAMETERS, "def f():\n" + "    x = 1\n" * 40, "print(1)"), "more than 40 lines"),
        ((PARAMETERS, "!ls"), "not plain Python"),
    ],
)
def test_bad_form_is_found(tmp_path, cells, fault):
    path = notebook(tmp_path / "toy.ipynb", *cells)
    try:
        faults = notebook_form.check(path)
    except UsageError as error:
        faults = [str(error)]
    assert any(fault in text for text in faults), faults


def test_random_ids_and_missing_title_are_found(tmp_path):
    path = notebook(tmp_path / "toy.ipynb", PARAMETERS, "print(1)", title="Title")
    path.write_text(path.read_text().replace('"part-0"', '"0f3a9c1e"').replace("python3", "my-kernel"))
    faults = " ".join(notebook_form.check(path))
    assert "readable words" in faults and "begins with a title" in faults and "'python3'" in faults


def test_a_changed_number_fails_under_nbval(tmp_path, scratch):
    path = notebook(tmp_path / "toy.ipynb", PARAMETERS, DRAW, "print(f'{2 / 3:.3f}')")
    nb.refresh([path])
    environment = os.environ | {"GWF_PROGRESS": os.devnull}
    compare = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", str(path)]
    assert subprocess.run(compare, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    assert "0.667" in path.read_text()
    path.write_text(path.read_text().replace("0.667", "0.666"))
    assert subprocess.run(compare, cwd=tmp_path, env=environment, capture_output=True).returncode == 1
