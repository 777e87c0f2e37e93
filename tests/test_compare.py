"""Results as they are read, and what was run here beside what git has: two spreads over the committed seeds."""

import pandas as pd
import pytest

from companion import results
from gwf.errors import UsageError


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two cases of an experiment, three seeds each; the first seed alone has a picture."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "short", str)
    for case, value in (("toy", 1.0), ("toy_longer", 2.0)):
        for seed in range(3):
            table = pd.DataFrame({"w2": [value + seed]})
            results.keep("e", "laptop", case, seed, table=table, curve=table, **({} if seed else {"picture": table}))
    return tmp_path / "laptop" / "e"


def test_longer_trainings_are_told_from_the_others(kept):
    cases, longer = results.by_budget("e", "laptop")
    assert list(cases) == ["toy"] and list(cases["toy"]["table"]["w2"]) == [1.0, 2.0, 3.0]
    assert list(longer["w2"]) == [2.0, 3.0, 4.0] and set(longer["case"]) == {"toy_longer"}
    for seed in range(3):
        results.shutil.rmtree(kept / f"toy_longer-{seed}")
    assert results.by_budget("e", "laptop")[1] is None


def test_a_table_that_one_seed_has_lost_is_named(kept):
    (kept / "toy-1" / "curve.csv").unlink()
    with pytest.raises(UsageError, match="toy-1 lacks curve.csv, which other seeds have: dvc repro show@e"):
        results.read("e", "laptop")


def test_numbers_are_measured_in_spreads(tmp_path, monkeypatch):
    before = [(1.1, 1.0, 500), (1.3, 1.1, 500), (0.9, 0.9, 500)]
    committed = {f"toy-{seed}": pd.DataFrame([row], columns=["near", "far", "step"]) for seed, row in enumerate(before)}
    for name in committed:
        (tmp_path / "an experiment" / name).mkdir(parents=True)
    here = tmp_path / "an experiment" / "toy-0"
    pd.DataFrame([(1.45, 1.3, 500)], columns=["near", "far", "step"]).to_csv(here / "table.csv", index=False)
    monkeypatch.setattr(results, "committed", lambda path: committed.get(path.parent.name))
    frame = results.beside_git([here]).set_index("number")
    assert dict(frame["within"]) == {"near": True, "far": False}  # .35 <= 2 * .2, .3 > 2 * .1
    assert frame.loc["near", "spread"] == pd.Series([1.1, 1.3, 0.9]).std()


def test_a_single_seed_must_be_equal(tmp_path, monkeypatch):
    (tmp_path / "e" / "toy-0").mkdir(parents=True)
    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_csv(tmp_path / "e" / "toy-0" / "table.csv", index=False)
    monkeypatch.setattr(results, "committed", lambda path: pd.DataFrame({"a": [1.0 + 1e-9], "b": [2.001]}))
    assert dict(results.beside_git([tmp_path / "e" / "toy-0"]).set_index("number")["within"]) == {"a": True, "b": False}
