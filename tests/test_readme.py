"""README: what it prints is what the report has, and what it tells one to type works."""

import re
import subprocess
import sys

import pandas as pd

from companion import driver, ledger, params
from gwf.paths import REPORT, ROOT

README = (ROOT / "README.md").read_text()


def between(name):
    """The text between the marks of a generated part."""
    return re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- end -->", README, re.S).group(1).strip()


def test_the_table_is_the_reports():
    lines = (REPORT / "sheets" / "digits" / "digits.md").read_text().splitlines()
    assert between("digits").splitlines() == [line for line in lines if line.startswith("|")]


def test_the_claims_are_the_ledgers():
    frame = pd.read_csv(REPORT / "claims.csv", dtype=str, keep_default_na=False)
    assert between("claims") == ledger.summary(frame)


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


def test_the_example_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(block, {})
    assert capsys.readouterr().out


def test_it_is_short():
    assert len(re.sub(r"<!-- \w+: .*?<!-- end -->", "", README, flags=re.S).split()) <= 1200
