"""What the README shows is what the repository holds."""

import re

import pytest
import torch

from gwf import functionals
from gwf.paths import REPORT, ROOT

README = (ROOT / "README.md").read_text()


def table_of(text):
    """The rows of the first Markdown table in a text."""
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_table_is_the_reports():
    block = re.search(r"<!-- fd_digits:.*?-->\n(.*?)<!-- end -->", README, re.S).group(1)
    assert table_of(block) == table_of((REPORT / "tables" / "fd_digits.md").read_text())
    assert len(table_of(block)) > 2


def test_linked_files_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 8
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_functional_shown_in_full_works_and_is_short():
    block = re.search(r"```python\n(# gwf/functionals.*?)```", README, re.S).group(1)
    assert len([line for line in block.splitlines() if line.strip() and not line.startswith("#")]) < 15
    scope = {}
    exec(block, scope)
    shown, registered = scope["functional"], functionals.get("hellinger")
    t = torch.linspace(0.1, 5, 50, dtype=torch.float64)
    for name, argument in [("f", t), ("df", t), ("h", t - 2), ("conjugate", 1 - t), ("optimal_output", t.log())]:
        assert torch.allclose(getattr(shown, name)(argument), getattr(registered, name)(argument)), name
    assert float(shown.bound(t, t)) == pytest.approx(float(registered.bound(t, t)))


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, re.M), target
