"""README: what it prints is what the report has, and what it tells one to type works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from companion import driver, ledger, params
from gwf.paths import REPORT, ROOT
from tests.test_pipeline import LONG, cloned

README = (ROOT / "README.md").read_text()
#: The stages that README names, at settings that take seconds.
NAMED = {
    "profile": "laptop",
    "seeds": [0],
    "chapters": [],
    "training": {
        "digits": {
            "kl_dv-jko": {
                "functional": "kl_dv",
                "step": "jko",
                "settings": {"updates": 4, "phase": 2, "ema": 0.9, "evaluate_every": 2, "n_samples": 100},
            }
        }
    },
    "experiments": {"porous": {"porous_d2": {"d": 2, "K": 2, "iterations": 2, "warm_up": 5, "particles": 1000}}},
}


def between(name):
    """The text between the marks of a generated part."""
    return re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- end -->", README, re.S).group(1).strip()


def rows(text):
    """The rows of a Markdown table, dicts title -> cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_the_table_is_the_reports():
    """Some of its rows, the five lowest among them, and of its columns those that README has."""
    printed = rows(between("digits"))
    whole = rows((REPORT / "sheets" / "digits" / "digits.md").read_text())
    chosen = {row["method"] for row in printed}
    assert printed == [{name: row[name] for name in printed[0]} for row in whole if row["method"] in chosen]
    lowest = sorted(whole, key=lambda row: float(row["FD-LeNet"].split()[0]))
    assert {row["method"] for row in lowest[:6]} - {"real data"} <= chosen


def test_what_the_jko_step_changes_is_the_reports():
    assert between("paired") in (REPORT / "sheets" / "digits" / "paired.md").read_text()


def test_the_claims_are_the_ledgers():
    frame = pd.read_csv(REPORT / "claims.csv", dtype=str, keep_default_na=False)
    exact, trained = rows(between("claims"))
    for row, of in ((exact, frame["kind"] != "trained"), (trained, frame["kind"] == "trained")):
        assert row.popitem()[1] == str(of.sum())
        assert {name: int(count) for name, count in list(row.items())[1:]} == ledger.tally(frame[of])
    (said,) = (line for line in between("claims").splitlines() if line and line[0] != "|")
    assert said in ledger.summary(frame)


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1).split())
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
    stages = driver.stages(params.compose("laptop"))
    named = re.findall(r"^dvc repro (.*?) +#", README, re.M)
    assert named and {word for text in named for word in text.split() if "@" in word} <= set(stages)
    for module in re.findall(r"python -m ([\w.]+)", README):
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, module


def test_the_block_of_commands_runs_as_printed(tmp_path):
    (block,) = re.findall(r"```\n(source .*?)```", README, re.S)
    clone = cloned(tmp_path / "gwf", NAMED)
    assert clone.run("companion.params", "laptop")[0] == 0 and clone.run("companion.driver", "--data")[0] == 0
    environment = Path(sys.prefix)
    if (environment / "bin" / "activate").exists():
        (clone.folder / ".venv").symlink_to(environment)
    else:  # an environment of conda is active already
        block = block.replace("source .venv/bin/activate\n", "")
    # The interpreter of the environment comes from `activate` alone.
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if environment not in Path(part).parents
    )
    done = subprocess.run(
        ["bash", "-ec", block],
        cwd=clone.folder,
        env=clone.environment | ({"PATH": path} if (clone.folder / ".venv").exists() else {}),
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"Running stage '(\S+)'", done.stdout)
    named = re.findall(r"^dvc repro (.*?) +#", block, re.M)
    assert {word for text in named for word in text.split() if "@" in word} <= set(ran)
    assert ran.count("run@porous_d2-0") == 2  # -f computes it anew


def test_the_example_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(block, {})
    assert capsys.readouterr().out


def test_it_is_short():
    """All of it is, tables and commands included; what has no letter or digit is no word."""
    assert len([word for word in README.split() if re.search(r"\w", word)]) <= 1200
