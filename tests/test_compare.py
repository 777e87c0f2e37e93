"""What was run here beside what git has: two spreads over the committed seeds are the yardstick."""

import pandas as pd

from companion import results


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
