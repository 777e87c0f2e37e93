"""What a typical edit runs again: the table in CONTRIBUTING.md, computed."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from gwf.paths import ROOT

COUNT = """
import json
from companion import code, driver, params
composed = params.compose("laptop")
texts = code.inputs(composed)
hashes = {name: code.hashed(text) for name, text in texts.items()}
stages = {name: (stage.kind, hashes[stage.inputs]) for name, stage in driver.stages(composed).items()}
print(json.dumps(stages))
"""

# Edit -> (file, old text, new text): the smallest of its kind.
EDITS = {
    "prose of a notebook": ("notebooks/experiments/porous.ipynb", "**Asked.**", "**The question.**"),
    "a comment or docstring of gwf": ("gwf/steps/jko.py", 'r"""', 'r"""Edited. '),
    "a colour of one experiment": (
        "notebooks/experiments/porous.ipynb",
        "color=REAL, label",
        "color=REAL, alpha=0.9, label",
    ),
    "a caption": ("notebooks/experiments/porous.ipynb", "A JKO sequence for the generalised entropy", "A sequence for"),
    "the band of one claim": ("conf/claims/vwgf.yaml", "growth of VWGF: [0, 2]", "growth of VWGF: [0, 3]"),
    "a printed value beside ours": ("conf/published.yaml", "0.36]", "0.37]"),
    "a measured time": ("conf/times.yaml", "batch: 64", "batch: 65"),
    "a metric (KID)": ("gwf/metrics/kid.py", "return", "assert True\n    return"),
    "one divergence (chi2)": ("gwf/divergences.py", "(t - 1) ** 2", "(t - 1.0) ** 2"),
    "one velocity field (minibatch OT)": ("gwf/fields/minibatch_ot.py", "return", "assert True\n        return"),
    "the proximal term": ("gwf/steps/jko.py", "/ (2 * tau)", "/ (tau * 2)"),
    "a setting of one case": ("conf/profile/laptop.yaml", "updates: 5000", "updates: 5001"),
}


def stages(folder):
    """Stage -> (kind, hash of its inputs) for the sources in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources, and the inputs of its stages."""
    folder = tmp_path_factory.mktemp("edits") / "copy"
    for name in ("companion", "conf", "gwf", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    return folder, stages(folder)


def row(before, after):
    """Kinds of stages that an edit runs again, with their numbers, as the table says them."""
    changed = [kind for name, (kind, text) in after.items() if before.get(name) != [kind, text]]
    kinds = [kind for kind in ("train", "measure", "run", "show", "chapter") if kind in changed]
    return ", ".join(f"{changed.count(kind)} {kind}" for kind in kinds) or "nothing"


def table(text):
    """Edit -> what it runs, as CONTRIBUTING.md says."""
    return dict(re.findall(r"^\| ([^|]+?) \| `[^|]+` \| ([^|]+?) \|$", text, re.M))


@pytest.mark.parametrize("edit", EDITS)
def test_what_an_edit_runs(sources, edit):
    folder, before = sources
    file, old, new = EDITS[edit]
    text = (folder / file).read_text()
    assert old in text, f"{file} has no {old!r}"
    try:
        (folder / file).write_text(text.replace(old, new, 1))
        found = row(before, stages(folder))
    finally:
        (folder / file).write_text(text)
    said = table((ROOT / "CONTRIBUTING.md").read_text())
    assert said.get(edit) == found, f"{edit} ({file}): {found}; CONTRIBUTING.md says {said.get(edit)}"
