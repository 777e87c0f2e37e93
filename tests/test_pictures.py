"""pytest --nbval fails where a stored picture is not what its cell draws (notebooks/conftest.py)."""

import subprocess
import sys

import nbformat
import pytest

from companion.form import normalise
from gwf.paths import NOTEBOOKS

DRAW = "import matplotlib.pyplot as plt\nplt.plot([0, 1], [0, {end}])\nplt.show()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an executed notebook `current`, one whose code was changed since, and what makes pytest look."""
    import papermill

    folder = tmp_path_factory.mktemp("pictures")
    (folder / "conftest.py").write_text((NOTEBOOKS / "conftest.py").read_text())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAW.format(end=1))])
    executed = papermill.execute_notebook(
        notebook, str(folder / "out.ipynb"), kernel_name="python3", language="python", progress_bar=False
    )
    executed = normalise(executed)
    nbformat.write(executed, folder / "current.ipynb")
    executed.cells[0].source = DRAW.format(end=-1)
    nbformat.write(executed, folder / "stale.ipynb")
    return folder


@pytest.mark.parametrize("name, status", [("current", 0), ("stale", 1)])
def test_a_stale_picture_is_found(folder, name, status):
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "-p", "no:cacheprovider", f"{name}.ipynb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert ("stored pictures are stale" in done.stdout) == (status == 1)
