"""The sheet of a notebook: captions from its Markdown, tables and figures as files, the same bytes twice."""

import json
import math
import re

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from companion import form, results, sheet, style
from gwf.errors import UsageError

matplotlib.use("Agg")
FRAME = pd.DataFrame({"method": ["a_b", "c|d"], "W2": [0.12345678, math.nan], "n": [1000, -3]})


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A sheet of a small notebook; its files go to tmp_path/out."""
    nb = nbformat.v4.new_notebook()
    nb.cells = [
        nbformat.v4.new_markdown_cell("# The title", id="title"),
        nbformat.v4.new_markdown_cell("## A table\nIts caption, with $\\tau$.", id="table"),
        nbformat.v4.new_markdown_cell("## A figure\nIts caption.", id="curve"),
    ]
    folder = tmp_path / "notebooks" / "experiments"
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / "toy.ipynb")
    monkeypatch.setattr(form, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(sheet, "ROOT", tmp_path)
    return lambda out="out": sheet.Sheet("toy", out)


def filled(page):
    page.table("table", FRAME, reading="One sentence.")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    page.figure("curve", figure)
    plt.close(figure)
    page.claim("vwgf-C2", lambda x: sheet.claims.Outcome({"growth of JKO-ICNN over that of VWGF": x}, "Said."), 9.0)
    page.close()


def test_what_is_written(made, tmp_path, capsys):
    filled(made())
    out = tmp_path / "out"
    assert pd.read_csv(out / "table.csv").equals(FRAME)
    text = (out / "table.md").read_text()
    assert text.startswith("### A table\n\nIts caption, with $\\tau$.\n\n| method | W2 | n |")
    assert "| a_b | 0.1235 | 1000 |" in text and "| c\\|d | – | −3 |" in text and text.endswith("One sentence.\n")
    latex = (out / "table.tex").read_text()
    assert "a\\_b & 0.1235 & 1000" in latex and "with $\\tau$." in latex
    shown = json.loads((out / "shown.json").read_text())
    assert shown["title"] == "The title" and [figure["name"] for figure in shown["figures"]] == ["curve"]
    (judged,) = json.loads((out / "claims.json").read_text())
    assert judged["verdict"] == "partly" and "vwgf-C2: partly" in capsys.readouterr().out


def test_the_same_bytes_twice_whatever_the_users_style(made, tmp_path):
    filled(made())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    matplotlib.rcParams.update({"axes.facecolor": "black", "font.size": 30})
    filled(made())
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_names_are_checked(made):
    with pytest.raises(UsageError, match="did you mean 'table'"):
        made().table("tabel", FRAME)
    with pytest.raises(UsageError, match="did you mean"):
        made().claim("vwgf-C99", None, None)


def test_nothing_is_written_without_a_folder(made, tmp_path):
    filled(made(None))
    assert not (tmp_path / "out").exists()


def test_numbers_as_text():
    texts = [
        sheet.number(value) for value in (0.123456, -2.0, math.inf, -math.inf, None, math.nan, "x", True, 123456.7)
    ]
    assert texts == ["0.1235", "−2", "∞", "−∞", "–", "–", "x", "True", "1.235e+05"]
    assert [sheet.spread(*pair) for pair in ((1.25, 0.5), (-0.01, math.nan), (math.nan, 1))] == [
        "1.2 ± 0.5",
        "0.0",
        "–",
    ]


def test_results_are_kept_and_read_by_case_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "SCRATCH", tmp_path / "scratch")
    for seed in (10, 2):
        table = pd.DataFrame({"x": [seed + 0.123456789]})
        results.keep("toy", "lab", "a_1", seed, table=table, timing=pd.DataFrame({"seconds": [1.0]}))
    found = results.read("toy", "lab")["a_1"]
    assert list(found) == ["table"]
    assert found["table"].to_dict("list") == {"seed": [2, 10], "x": [2.1234568, 10.123457]}
    results.keep("toy", "lab", "a_1", 2, other=table)
    assert [path.name for path in (tmp_path / "results/lab/toy/a_1-2").iterdir()] == ["other.csv"]
    with pytest.raises(UsageError, match="no results of 'toy' in the profile 'smoke'"):
        results.read("toy", "smoke")


def test_every_method_has_a_colour():
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in style.COLOURS.values())
    own = [
        style.COLOURS[name] for name in ("kl", "kl_dv", "js", "js_ns", "chi2", "w1", "sinkhorn", "w2", "sliced", "mmd")
    ]
    assert len(set(own)) == len(own)
    assert style.colour("a functional of tomorrow") in style.SPARE_COLOURS
    assert style.marker("kl", "gan")["markerfacecolor"] == "white"
