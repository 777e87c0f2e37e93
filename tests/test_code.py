"""What a stage depends on: the definitions that its code reaches, free of prose."""

import os
import subprocess
import sys
import textwrap

import pytest

from companion import code
from gwf.paths import ROOT

LIBRARY = {
    "kl.py": '''
        """Prose."""
        import math
        from gwf.base import Base

        SCALE = 2.0

        class KL(Base):
            """More prose."""
            def f(self, t):
                return SCALE * math.log(t)  # why

        class JS(Base):
            def f(self, t):
                return helper(t)

        def helper(t):
            return t + 1

        TABLE = {"kl": KL(), "js": JS()}

        def get(name):
            return TABLE[nearest(name, TABLE, "name")]

        def everything():
            return [value.f(1) for value in TABLE.values()]
    ''',
    "base.py": """
        class Base:
            shift = 0

        class Unused:
            pass
    """,
}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Text -> bundle of it, over the small library above; `edit(file, old, new)` changes the library."""
    (tmp_path / "gwf").mkdir()
    for name, text in LIBRARY.items():
        (tmp_path / "gwf" / name).write_text(textwrap.dedent(text))
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def made(text, *strings):
        code.module.cache_clear()
        root = code.Module("notebook", textwrap.dedent(text))
        return code.Bundle(root, code.statements(root, [], None), strings).text()

    def edit(name, old, new):
        path = tmp_path / "gwf" / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    made.edit = edit
    yield made
    code.module.cache_clear()


ASKS = "from gwf import kl\nprint(kl.get(name))"


def test_definitions_come_in_as_they_are_reached(bundle):
    text = bundle("from gwf.kl import KL\nprint(KL().f(2))")
    assert "class KL" in text and "SCALE = 2.0" in text and "class Base" in text and "math: math" in text
    assert "JS" not in text and "helper" not in text and "Unused" not in text


def test_prose_is_not_in_it(bundle):
    before = bundle(ASKS, "kl")
    assert "Prose" not in before and "why" not in before
    bundle.edit("kl.py", "More prose.", "Other prose, longer.")
    bundle.edit("kl.py", "# why", "# because")
    assert bundle("# a comment\n" + ASKS, "kl") == before


def test_of_a_table_only_the_entries_that_are_asked_for(bundle):
    text = bundle(ASKS, "kl")
    assert "'kl': KL()" in text and "'js'" not in text and "class JS" not in text
    assert "class JS" in bundle(ASKS, "js") and "def helper" in bundle(ASKS, "js")
    # A name that stands in the code asks as well as one in the settings.
    assert "class JS" in bundle("from gwf import kl\nprint(kl.get('js'))")
    # Going through the table reaches all of it.
    assert {"class JS", "class KL"} <= {
        line.split("(")[0] for line in bundle("from gwf.kl import everything\neverything()").splitlines()
    }


def test_an_edit_reaches_its_users_alone(bundle):
    kl, js = bundle(ASKS, "kl"), bundle(ASKS, "js")
    bundle.edit("kl.py", "return t + 1", "return t + 2")
    assert bundle(ASKS, "kl") == kl and bundle(ASKS, "js") != js
    bundle.edit("base.py", "shift = 0", "shift = 1")
    assert bundle(ASKS, "kl") != kl


def test_a_name_that_stands_for_something_else_is_seen(bundle):
    before = bundle("from gwf.kl import helper as f\nprint(f(1))")
    assert "def helper" in before and "gwf.kl" in before
    assert bundle("from math import sqrt as f\nprint(f(1))") != bundle("from math import exp as f\nprint(f(1))")


def test_imports_inside_functions_count(bundle):
    assert "def helper" in bundle("def late():\n    from gwf.kl import helper\n    return helper(1)\nlate()")


def test_parts_of_a_notebook_depend_on_their_own_functions():
    run, show = code.bundle("restricted", "run"), code.bundle("restricted", "show")
    assert "results.keep" in run and "sheet.table" not in run
    assert "sheet.table" in show and "results.keep" not in show
    assert "# captions" in show and "# captions" not in run


def test_settings_are_in_it():
    assert code.bundle("restricted", "run", {"seed": 1}) != code.bundle("restricted", "run")
    assert '"d": 7' in code.bundle("restricted", "run", {"d": 7})


def test_the_text_is_the_same_in_every_process():
    """Definitions are found in sets, whose order changes with the hash seed: a stage would be stale without an edit."""
    ask = "from companion.code import bundle; print(bundle('ablation', 'run'))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", ask],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(texts) == 1
