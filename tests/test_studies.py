"""The driver of the studies, and what the report makes of their results."""

import json

import pandas as pd
import pytest

from gwf import evidence, more_tables, params, studies, study
from gwf.errors import UsageError
from gwf.runs import Study


def toy(seed, progress, *, slope, n=4):
    """A study: value = slope * seed + i."""
    calls.append(seed)
    for i in range(n):
        progress(i + 1, n, value=i)
    return {
        "table": pd.DataFrame({"i": range(n), "value": [slope * seed + i / 3 for i in range(n)]}),
        "timing": pd.DataFrame({"ms": [1.0]}),
    }


calls = []


@pytest.fixture
def driver(tmp_path, monkeypatch):
    calls.clear()
    monkeypatch.setattr(study, "load", lambda name: toy)
    monkeypatch.setattr(study, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(studies, "names", lambda: ["toy"])
    return tmp_path


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_killed_case_goes_on_with_the_next_seed_and_ends_with_the_same_bytes(driver):
    whole = study.run("a", "p", "toy", [0, 1, 2], slope=0.1)
    first = files(study.write("a", "p", {"study": "toy"}, whole))
    assert calls == [0, 1, 2]
    # as if it had been killed in seed 2, before its last file
    (part,) = (driver / "scratch" / "p" / "studies" / "a").glob("2-*")
    (part / "table.csv").unlink()
    again = study.run("a", "p", "toy", [0, 1, 2], slope=0.1)
    assert calls == [0, 1, 2, 2]
    assert files(study.write("a", "p", {"study": "toy"}, again)) == first
    # another value is another run
    study.run("a", "p", "toy", [0], slope=0.2)
    assert calls[-1] == 0


def test_times_are_no_results_and_what_is_written_is_read(driver):
    study.write("a", "p", {"study": "toy"}, study.run("a", "p", "toy", [0, 1], slope=0.1))
    assert (driver / "results" / "p" / "timing" / "a.csv").exists()
    cases = studies.read("toy", "p")
    assert set(cases) == {"a"} and set(cases["a"]) == {"table"}
    assert list(cases["a"]["table"]["seed"]) == [0] * 4 + [1] * 4
    assert studies.read("toy", "other") == {}


def test_settings_are_checked_before_anything_runs(driver):
    with pytest.raises(UsageError, match="did you mean 'slope'"):
        study.run("a", "p", "toy", [0], slop=0.1)
    with pytest.raises(UsageError, match="lacks the settings slope"):
        study.run("a", "p", "toy", [0])
    assert not calls


def test_profiles_name_cases_studies_and_settings_that_exist(monkeypatch):
    monkeypatch.setattr(studies, "names", lambda: ["toy", "ou"])
    monkeypatch.setattr(params, "settings_of", lambda name: ["slope", "n"])
    cases = params.Cases()
    cases.check({"a": {"study": "toy", "seeds": [0], "slope": 1.0}}, "studies")
    for wrong, message in [
        ({"a": {"study": "toi", "seeds": [0]}}, "did you mean 'toy'"),
        ({"a": {"study": "toy", "seeds": [0], "slop": 1.0}}, "did you mean 'slope'"),
        ({"a": {"study": "toy", "seeds": [-1]}}, "out of range"),
        ({"a": {"study": "toy"}}, "seeds"),
        ({"A b": {"study": "toy", "seeds": [0]}}, "named group"),
    ]:
        with pytest.raises(UsageError, match=message):
            cases.check(wrong, "studies")


@pytest.mark.parametrize("name", studies.names())
def test_every_study_takes_seed_and_progress_and_is_shown(name):
    assert params.settings_of(name) is not None
    assert name in evidence.names(), f"gwf/evidence/{name}.py is missing"


def test_longer_table_gives_the_ratio_to_the_floor(tmp_path):
    settings = {"functionals": ["kl_dv"], "steps": ["jko"], "seeds": [0, 1], "training": {"updates": 2000}}
    for seed, values in enumerate([(40.0, 20.0), (44.0, 24.0)]):
        folder = tmp_path / "toy" / "longer" / f"kl_dv-jko-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"fd_lenet_floor": 2.0, "n": 10}))
        pd.DataFrame({"step": [1000, 2000], "fd_lenet": values}).to_csv(folder / "curve.csv", index=False)
    study_ = Study("toy", {"longer": settings, "seeds": [0, 1]}, tmp_path)
    frame = more_tables.longer(study_).frame
    # (40 + 44) / 2 = 42 and (20 + 24) / 2 = 22, over a floor of 2
    assert list(frame["ratio"]) == [21.0, 11.0]
    assert list(frame["updates"]) == [1000, 2000]


def test_cells_are_readable():
    values = ("a", 3, -2.0, 0.123456, float("nan"), float("inf"))
    assert [evidence.show(x) for x in values] == ["a", "3", "−2", "0.1235", "–", "∞"]
