"""tools/mutants.py makes wrong formulas and sees which of them the tests notice."""

import ast
import importlib.util
from types import SimpleNamespace

import pytest

from gwf.paths import ROOT

spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
mutants = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutants)

PATH = "gwf/exact/gaussian.py"


@pytest.fixture(scope="module")
def every():
    return list(mutants.mutants(PATH))


def test_a_mutant_differs_by_one_line_and_not_in_prose(every):
    text = (ROOT / PATH).read_text()
    prose = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    assert len(every) > 200
    for mutant in every:
        rows = zip(text.splitlines(), mutant.text.splitlines(), strict=True)
        (changed,) = [line for line, (old, new) in enumerate(rows, 1) if old != new]
        assert changed in mutant.lines and changed not in prose


@pytest.mark.parametrize("text, new", [("+", "-"), ("3", "4"), ("0.5", "1.0"), ("and", "or")])
def test_what_stands_in_a_tokens_place(text, new):
    (token, *_) = mutants.tokenize.generate_tokens(iter([text + "\n"]).__next__)
    assert mutants.replacement(token) == new


def test_tolerances_and_limits_are_left_alone():
    for text in ("1e-9", "500", "name", '"+"'):
        (token, *_) = mutants.tokenize.generate_tokens(iter([text + "\n"]).__next__)
        assert mutants.replacement(token) is None


def test_a_wrong_formula_is_killed_and_the_right_one_survives(every, monkeypatch):
    monkeypatch.chdir(ROOT)
    tests = ["tests/test_exact.py::test_known_values_of_divergences"]
    start = (ROOT / PATH).read_text().split("def kl(")[0].count("\n")
    wrong = next(mutant for mutant in every if mutant.lines.start > start)
    assert mutants.survives(None, tests)
    assert not mutants.survives(wrong, tests)


def test_a_test_that_is_not_there_kills_nothing(every):
    with pytest.raises(SystemExit, match="no such tests"):
        mutants.survives(every[0], ["tests/test_exact.py::test_of_nothing"])


def test_a_line_belongs_to_the_test_that_executes_it_and_a_fixtures_to_the_file():
    said = []
    contexts = mutants.Contexts(SimpleNamespace(switch_context=said.append))
    item = SimpleNamespace(nodeid="tests/test_train.py::TestTerm::test_a[0.1-x]")
    contexts.pytest_runtest_setup(item)
    contexts.pytest_runtest_call(item)
    assert said == ["tests/test_train.py", "tests/test_train.py::TestTerm::test_a"]
