"""No dead link in the notebooks, the report, the README or CONTRIBUTING, and an index that lists what there is."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from companion.form import load, source
from gwf.paths import NOTEBOOKS, ROOT

CHAPTERS, EXPERIMENTS = (sorted((NOTEBOOKS / folder).glob("*.ipynb")) for folder in ("chapters", "experiments"))
TEXTS = sorted(
    [*NOTEBOOKS.rglob("*.ipynb"), *ROOT.glob("*.md"), *ROOT.glob("report/*.md"), *ROOT.glob("report/sheets/*/*.md")]
)
#: Targets of [text](target) and of <img src="target">.
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|src=\"([^\"]+)\"")
CLAIM = re.compile(r"\b(?:gwf|sjko|vwgf|w2fe|proposal)-[A-Z]\d+\b")


def prose(path):
    """The Markdown of a file: all of it, or a notebook's Markdown cells without code spans, which may hold brackets."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(source(cell) for cell in load(path)["cells"] if cell["cell_type"] == "markdown")


def dead(path):
    """Relative links of a text that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`(?!\])", "", prose(path), flags=re.S)
    targets = [unquote(first or second).partition("#")[0] for first, second in LINK.findall(text)]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    return [target for target in relative if not (path.parent / target).exists()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_dead_link(path):
    assert dead(path) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_modules_named_in_prose_exist(path):
    text = prose(path)
    files = re.findall(r"\b(?:gwf|companion|tests|benchmarks|tools|notebooks)/[\w/]+\.(?:py|ipynb|yaml)\b", text)
    dotted = re.findall(r"`((?:gwf|companion)(?:\.\w+)+)", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert [name for name in dotted if not known(name.split("."))] == []


def known(parts):
    """Whether a dotted name is a package, a module or something in one, or one of the names that `gwf` gives itself."""
    place = ROOT.joinpath(*parts)
    modules = [module.with_suffix(".py") for module in [place, *place.parents][: len(parts) - 1]]
    package = place.parent / "__init__.py"
    exported = package.exists() and re.search(rf"\b{parts[-1]}\b", package.read_text(encoding="utf-8"))
    return place.is_dir() or any(map(Path.exists, modules)) or bool(exported)


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("x")
    text = "[a](there.md#part) [b](missing.md) [c](https://example.org) `[d](code.md)` [`e`](gone.md)"
    (tmp_path / "page.md").write_text(text)
    assert dead(tmp_path / "page.md") == ["missing.md", "gone.md"]


def test_index_lists_every_chapter_and_experiment():
    text = prose(NOTEBOOKS / "index.ipynb")
    missing = [
        path.name for path in [*CHAPTERS, *EXPERIMENTS] if f"({path.relative_to(NOTEBOOKS).as_posix()})" not in text
    ]
    assert missing == []


def test_index_names_the_claims_that_each_experiment_judges():
    rows = re.findall(
        r"^\| \[\w+\]\((experiments/\w+\.ipynb)\) \|.*\|([^|]*)\|$", prose(NOTEBOOKS / "index.ipynb"), re.M
    )
    named = {name: sorted(CLAIM.findall(claims)) for name, claims in rows}
    judged = {}
    for path in EXPERIMENTS:
        code = "\n".join(source(cell) for cell in load(path)["cells"] if cell["cell_type"] == "code")
        judged[path.relative_to(NOTEBOOKS).as_posix()] = sorted(
            re.findall(rf'sheet\.claim\(\s*"({CLAIM.pattern})"', code)
        )
    assert {name: claims for name, claims in named.items() if name in judged} == judged


@pytest.mark.parametrize("number", range(len(CHAPTERS)), ids=lambda number: CHAPTERS[number].stem)
def test_chapters_lead_to_their_neighbours(number):
    cells = [source(cell) for cell in load(CHAPTERS[number])["cells"] if cell["cell_type"] == "markdown"]
    neighbours = [path.name for path in CHAPTERS[max(number - 1, 0) : number + 2] if path != CHAPTERS[number]]
    for cell in (cells[0], cells[-1]):
        assert all(f"({name})" in cell for name in ["../index.ipynb", *neighbours]), cell[:200]
