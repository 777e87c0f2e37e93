"""Mutants of the mathematics by one token each, and how many of them the tests notice.

A test suite is worth what it catches. Each mutant changes one operator, number or name of a function, or of a formula
that is a lambda, in gwf/exact, divergences, bounds, variants, fields, steps or metrics; the tests that execute this line
are run, and a mutant that passes them all has survived: a wrong formula that nobody would have seen, or one that computes
the same (read the list).

Left alone are docstrings, annotations, messages of errors, and numbers that are tolerances (below 1e-4) or limits on
work (above 20), as a change there is no change of the mathematics.

Command line, from the root of the repository. The first call measures for some minutes which test executes which line;
a change of one file of tests measures this file alone again, a change of gwf/ all of them::

    python tools/mutants.py --count 80 --seed 0
    python tools/mutants.py --files gwf/exact/atoms.py
"""

import argparse
import ast
import collections
import importlib.machinery
import importlib.util
import io
import itertools
import multiprocessing
import os
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

import coverage
import numpy as np
import pytest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    *("gwf/exact", "gwf/fields", "gwf/steps", "gwf/metrics"),
    *("gwf/divergences.py", "gwf/bounds.py", "gwf/variants.py"),
)
KEPT = ROOT / "scratch" / "mutants"
#: Seconds after which a mutant that makes its tests run on and on counts as noticed.
LIMIT = 300
FORK = multiprocessing.get_context("fork")
#: Loaded once, in the process that all mutants are forked from.
LIBRARIES = "torch scipy.optimize scipy.stats scipy.integrate pandas sklearn.neighbors ot hypothesis".split()
OTHER = {
    **{"+": "-", "-": "+", "*": "/", "/": "*", "**": "*", "@": "*"},
    **{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="},
    **{"and": "or", "or": "and", "not": "", "True": "False", "False": "True", "min": "max", "max": "min"},
    **{"sum": "mean", "mean": "sum", "exp": "expm1", "log": "log1p", "sqrt": "abs", "cos": "sin", "sin": "cos"},
}


class Mutant(NamedTuple):
    """`text` is that of the file `path` where a line that was `old` is `new`; the statement has the lines `lines`."""

    path: str
    lines: range
    old: str
    new: str
    text: str


def computing(tree):
    """Line of a function's body -> the lines of its statement; and the (start, end) of what says rather than computes."""
    lines, said = {}, []
    for node in ast.walk(tree):  # breadth first: an inner statement comes after the one around it
        if isinstance(node, ast.Lambda) and node.lineno not in lines:  # of a class or a table
            rows = range(node.lineno, node.end_lineno + 1)
            lines |= dict.fromkeys(rows, rows)
        if isinstance(node, ast.FunctionDef):
            for statement in (part for part in ast.walk(node) if isinstance(part, ast.stmt) and part is not node):
                rows = range(statement.lineno, statement.end_lineno + 1)
                lines |= dict.fromkeys(rows, rows)
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text or isinstance(node, (ast.Raise, ast.JoinedStr)):
            said.append(((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)))
    return lines, said


def replacement(token):
    """What stands in place of `token`, None where it is left alone."""
    if token.type == tokenize.NUMBER and not token.string.endswith("j"):
        value = ast.literal_eval(token.string)
        if 0 < value < 1e-4 or value > 20:
            return None
        return str(value + 1) if isinstance(value, int) else repr(2.0 * value)
    return OTHER.get(token.string) if token.type in (tokenize.OP, tokenize.NAME) else None


def mutants(path):
    """Every mutant of one file whose syntax tree is another one."""
    text = (ROOT / path).read_text()
    tree, rows = ast.parse(text), text.splitlines(keepends=True)
    lines, said = computing(tree)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (line, column), new = token.start, replacement(token)
        if new is None or line not in lines or any(start <= token.start < end for start, end in said):
            continue
        changed = rows[line - 1][:column] + new + rows[line - 1][token.end[1] :]
        mutated = "".join([*rows[: line - 1], changed, *rows[line:]])
        try:
            if ast.dump(ast.parse(mutated)) != ast.dump(tree):
                yield Mutant(path, lines[line], rows[line - 1].strip(), changed.strip(), mutated)
        except SyntaxError:  # a star before an argument
            continue


class Contexts:
    """A plugin of pytest that tells coverage which test runs; what a fixture executes belongs to all tests of the file."""

    def __init__(self, measuring):
        self.measuring = measuring

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        self.measuring.switch_context(item.nodeid.partition("::")[0])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item):
        self.measuring.switch_context(item.nodeid.partition("[")[0])


def measure(test, data):
    """Run the file `test` and keep in the file `data` which of its tests executes which line."""
    measuring = coverage.Coverage(data_file=str(data), source=["gwf"])
    measuring.erase()
    measuring.start()
    status = pytest.main(["-q", "-p", "no:cacheprovider", str(test)], plugins=[Contexts(measuring)])
    measuring.stop()
    if status:
        measuring.erase()
        sys.exit(f"error: {test.name} fails without any mutant")
    measuring.save()


def tests_of_lines(names):
    """Path -> line -> tests, or files of them, that execute it; a file is measured once for its state and that of gwf/."""
    KEPT.mkdir(parents=True, exist_ok=True)
    # What starts processes of its own would not see a mutant, which lives in the memory of one process.
    chosen = [path for path in map(Path.resolve, map(Path, names)) if "subprocess" not in path.read_text()]
    helpers = [path for path in ROOT.glob("tests/*.py") if not path.name.startswith("test_")]
    changed = max(path.stat().st_mtime for path in [*ROOT.glob("gwf/**/*.py"), *helpers])
    found = {}
    for test in tqdm(chosen, unit="file"):
        data = KEPT / test.stem
        if not data.exists() or data.stat().st_mtime < max(changed, test.stat().st_mtime):
            process = FORK.Process(target=measure, args=(test, data))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)
        measured = coverage.CoverageData(str(data))
        measured.read()
        for name in measured.measured_files():
            lines = found.setdefault(os.path.relpath(name, ROOT), {})
            for line, contexts in measured.contexts_by_lineno(name).items():
                lines.setdefault(line, set()).update(contexts)
    return found


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from the text of a mutant."""

    def __init__(self, name, mutant):
        super().__init__(name, str(ROOT / mutant.path))
        self.mutant = mutant

    def get_code(self, fullname):
        return compile(self.mutant.text, self.path, "exec")


class Finder:
    """Puts a mutant in the place of its module."""

    def __init__(self, mutant):
        self.mutant, self.name = mutant, mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        return importlib.util.spec_from_loader(
            name, Mutated(name, self.mutant), is_package="__init__" in self.mutant.path
        )


def attempt(mutant, tests):
    """The process that a mutant lives in: its exit status is that of the tests."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    # What was imported before the fork would stand in the mutant's way.
    for name in [name for name in sys.modules if name.split(".")[0] in ("gwf", "tests") or name.startswith("test_")]:
        del sys.modules[name]
    if mutant:
        sys.meta_path.insert(0, Finder(mutant))
    # A file after another: the first ones are quick to import and to run, and most mutants end there.
    for _, own in itertools.groupby(tests, lambda test: test.partition("::")[0]):
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *own])
        if status:
            break
    os._exit(int(status))


def survives(mutant, tests):
    """Whether all of `tests` pass with the mutant in place, in time; `SystemExit` if pytest does not know one of them."""
    process = FORK.Process(target=attempt, args=(mutant, tests))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    # No test was run: that is no mutant killed.
    if process.exitcode in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"error: pytest finds no such tests: {' '.join(tests)}")
    return process.exitcode == pytest.ExitCode.OK


def specific_first(tests):
    """A function that sorts tests, file by file: those come first that execute few lines in all."""
    lines = collections.Counter(
        name
        for of_file in tests.values()
        for contexts in of_file.values()
        for test in contexts
        for name in {test, test.partition("::")[0]}
    )
    return lambda found: sorted(
        found, key=lambda test: (lines[file := test.partition("::")[0]], file, lines[test], test)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="*", default=FILES, help="files or folders to change")
    parser.add_argument(
        "--tests", nargs="*", default=sorted(ROOT.glob("tests/test_*.py")), help="files of tests to run"
    )
    parser.add_argument("--count", type=int, default=80, help="mutants, drawn evenly from all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error("--count must be at least 1")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)
    tests = tests_of_lines(arguments.tests)
    ordered = specific_first(tests)
    paths = [
        path
        for name in arguments.files
        for path in ([name] if name.endswith(".py") else sorted(Path(name).glob("*.py")))
    ]
    every = [mutant for path in paths for mutant in mutants(str(path))]
    count = min(arguments.count, len(every))
    drawn = np.random.default_rng(arguments.seed).choice(len(every), count, replace=False)
    alive = []
    for mutant in tqdm([every[i] for i in sorted(drawn)], unit="mutant"):
        contexts = tests.get(mutant.path, {})
        found = ordered({test for line in mutant.lines for test in contexts.get(line, []) if test})
        if not found or survives(mutant, found):
            alive.append(mutant)
            tqdm.write(
                f"survived: {mutant.path}:{mutant.lines.start}\n  - {mutant.old}\n  + {mutant.new}"
                + ("" if found else "\n  no test executes this line")
            )
    print(f"{count - len(alive)} of {count} mutants killed ({1 - len(alive) / count:.0%}), out of {len(every)}")


if __name__ == "__main__":
    main()
