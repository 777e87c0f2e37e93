"""Parameters: the profiles, what follows from them, and errors that name the nearest valid name."""

import subprocess
from itertools import groupby
from types import SimpleNamespace

import pytest
import yaml

from companion import driver, form, params
from gwf.errors import UsageError
from gwf.paths import CONF, ROOT

PROFILES = params.profiles()


@pytest.fixture
def smoke():
    return params.compose("smoke")


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_compose_to_valid_parameters(profile):
    composed = params.compose(profile)
    assert composed["profile"] == profile
    params.check_training(composed)
    text = (CONF / "profile" / f"{profile}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    # The profile has the last word: a value that it gives is never overruled by what it builds on.
    own = yaml.safe_load(text)
    assert {key: composed[key] for key in own if key in ("report", "seeds", "device")} == {
        key: own[key] for key in own if key in ("report", "seeds", "device")
    }


def test_only_the_paper_profile_needs_a_gpu():
    assert {profile for profile in PROFILES if params.compose(profile)["device"] != "cpu"} == {"paper"}


def test_only_laptop_writes_what_git_keeps():
    for profile in PROFILES:
        report = params.compose(profile)["report"]
        ignored = subprocess.run(["git", "check-ignore", "-q", f"results/{profile}"], cwd=ROOT).returncode == 0
        assert ignored == (profile != "laptop") and report == (
            "report" if profile == "laptop" else f"results/{profile}/report"
        )


def test_params_yaml_is_what_conf_says():
    composed = params.read()
    assert composed == params.compose("laptop")


def test_every_experiment_and_chapter_is_in_the_laptop_profile():
    laptop = params.compose("laptop")
    assert {*laptop["experiments"], *laptop["training"]} == set(params.notebooks("experiments"))
    shown = set(laptop["shows"]) - set(params.notebooks("experiments"))
    assert shown == {"10_jko_effect"}  # a chapter that reads what experiments found
    assert sorted([*laptop["chapters"], *shown]) == params.notebooks("chapters")


def test_a_chapter_on_results_waits_for_both_that_it_reads(smoke):
    """It is shown as experiments are, from the results that `also` names, and left out where one of them is absent."""
    given = smoke | {"chapters": "all"}
    shows = params.follow(given)["shows"]
    assert shows["10_jko_effect"] == {"reads": "results/smoke/digits", "also": "results/smoke/eight_gaussians"}
    alone = given | {"training": {"digits": given["training"]["digits"]}}
    assert "10_jko_effect" not in {**params.follow(alone)["shows"], **dict.fromkeys(params.follow(alone)["chapters"])}


def test_a_data_set_may_have_seeds_of_its_own(smoke):
    given = smoke | {"seeds_of": {"digits": [3], "digits/kl_dv-jko": [7], "kl_dv-gan": [0, 1]}}
    keys = set(params.follow(params.validate(given, params.FOLLOWS))["trainings"])
    assert "digits-kl_dv-gan-3" in keys and "digits-kl_dv-gan-0" not in keys  # the data set's before the case's
    assert "digits-kl_dv-jko-7" in keys and "digits-kl_dv-jko-3" not in keys  # those of both before either's
    assert {"eight_gaussians-kl_dv-gan-0", "eight_gaussians-kl_dv-gan-1"} <= keys


def test_runs_follow_from_cases_and_seeds(smoke):
    runs = params.follow(smoke | {"seeds": [0, 1], "seeds_of": {"restricted": [4]}})["runs"]
    assert runs["restricted-4"] == {"experiment": "restricted", "case": "restricted", "seed": 4}
    assert "restricted-0" not in runs and "porous_d3-1" in runs


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("seeds", [-1], "different whole numbers"),
        ("seeds", [0.5], "different whole numbers"),
        ("seeds", [True], "different whole numbers"),
        ("seeds", [0, 0], "different whole numbers"),
        ("seeds", [], "different whole numbers"),
        ("seeds_of", {"porous_d4": [0]}, "did you mean 'porous_d3'"),
        ("profile", "laptpo", "did you mean 'laptop'"),
        ("device", "gpu", "'cpu', 'cuda'"),
        ("report", "/srv/report", "for the report alone"),
        ("report", "../report", "for the report alone"),
        ("sedes", [0], "did you mean 'seeds'"),
        ("experiments", {"poruos": {}}, "did you mean 'porous'"),
        ("experiments", {"porous": {"a b": {}}}, "no name of a case"),
        ("experiments", {"porous": {"a": 3}}, "must be a group of settings"),
        ("experiments", {"porous": {"a": {"particels": 3}}}, "did you mean 'particles'"),
        ("experiments", {"porous": {"a": {"particles": 3.5}}}, "must be of type int"),
        ("experiments", {"porous": {"a": {"tau": "1e-3"}}}, "must be of type float"),
        (
            "experiments",
            {"porous": {"a": {"tau": 0.0}}},
            r"tau of porous.ipynb \(experiments.porous.a\) = 0.0 is out of range",
        ),
        ("experiments", {"porous": {"a": {"tau": float("nan")}}}, "out of range"),
        ("experiments", {"porous": {"a": {"K": 0}}}, "out of range"),
        ("experiments", {"gmm": {"a": {"particles": [300, 1]}}}, r"particles of gmm.ipynb .* = 1 is out of range"),
        (
            "experiments",
            {"ring": {"a": {"trainings": [{"method": "w2fe", "reg": -0.1}]}}},
            "reg of ring.ipynb .* = -0.1",
        ),
        ("experiments", {"outliers": {"a": {"contaminations": [0.1, 0.6]}}}, r"must lie in \[0, 0.5\]"),
    ],
)
def test_wrong_values_are_named(smoke, key, value, message):
    with pytest.raises(UsageError, match=message):
        params.validate(smoke | {key: value})


@pytest.mark.parametrize(
    "given, message",
    [
        ({"functional": "kll"}, "did you mean 'kl'"),
        ({"step": "jk0"}, "did you mean 'jko'"),
        ({"functional": "sinkhorn"}, "step of sinkhorn"),
        ({"settings": {"updatez": 1}}, "did you mean 'updates'"),
        ({"settings": {"updates": 0}}, "out of range"),
        ({"settings": {"updates": 2.5}}, "updates = 2.5"),
        ({"settings": {"tau": -1.0}}, "out of range"),
    ],
)
def test_wrong_trainings_are_named(smoke, given, message):
    method = {"functional": "kl", "step": "jko"} | given
    with pytest.raises(UsageError, match=f"training.digits.mine: .*{message}"):
        params.check_training(smoke | {"training": {"digits": {"mine": method}}})


def test_ranges_are_of_parameters_that_experiments_have():
    def names(value):
        if isinstance(value, dict):
            return set(value).union(*map(names, value.values()))
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    known = set()
    for experiment in params.notebooks("experiments"):
        known |= names(form.parameters_of(form.path_of(experiment)))
    assert set(form.ranges()) - known == set()


def test_a_missing_key_is_an_error(smoke):
    for key in ("seeds", "experiments", "runs"):
        with pytest.raises(UsageError, match=f"parameter {key} is missing"):
            params.validate({name: value for name, value in smoke.items() if name != key})


@pytest.mark.parametrize(
    "arguments, message",
    [(["smok"], "did you mean 'smoke'"), (["smoke", "sedes=[0]"], "sedes"), (["smoke", "seeds=[0,"], "seeds")],
)
def test_errors_are_one_line(capsys, arguments, message):
    assert params.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_cases_whose_files_are_absent_are_left_out_and_named(tmp_path, capsys):
    """Neither set of USPS files is complete here, so one case goes, the experiment that had no other, and its seeds."""
    (tmp_path / "usps.bz2").touch()
    usps, own = {"source": "usps", "folder": str(tmp_path)}, {"source": "digits"}
    given = {
        "experiments": {"adaptation": {"a": usps, "b": own}, "other": {"c": usps}},
        "training": {"digits": {"kl": {}}},
        "seeds_of": {"a": [0], "adaptation/a": [2], "b": [1]},
    }
    left = params.available(given)
    assert left["experiments"] == {"adaptation": {"b": own}} and left["seeds_of"] == {"b": [1]}
    assert "adaptation, a: skipped, it needs usps.h5 in datasets/" in capsys.readouterr().err
    assert given["experiments"]["other"], "what was given stays as it was"


@pytest.mark.parametrize("wrong", ["functional=kll", "step=jkoo", "settings={lr_mp: 0.1}", "settings={lr_map: abc}"])
def test_a_wrong_training_is_refused_before_it_is_written(wrong):
    before = params.PARAMS.read_bytes()
    with pytest.raises(UsageError, match=r"training\.digits\.kl-jko"):
        params.put("laptop", [f"training.digits.kl-jko.{wrong}"])
    assert params.PARAMS.read_bytes() == before


def test_a_claim_is_found_in_any_case():
    assert driver.named("W2FE-c2") == ["w2fe-C2"]


@pytest.mark.parametrize("waits", [{}, {"seeds_of": {"restricted": [3, 0]}}, {"late": ["restricted/*"]}])
def test_what_is_late_is_shown_after_the_first_report(smoke, waits):
    """The first report has every sheet, by the first seed of each case, which may be its own; but those of what is late."""
    composed = smoke | {"seeds": [0, 1]} | waits
    composed |= params.follow(composed)
    found, parts = driver.stages(composed), []
    runner = SimpleNamespace(jobs=1, side_by_side=lambda names, above: parts.append(set(names)))
    costs = driver.Costs("smoke")
    soon = driver.early(found, composed.get("late", []))
    assert driver.rounds(runner, found, set(found), soon, costs, "smoke") == set(found)
    first, others = parts
    shown, own = (
        {name for name in found if name.startswith("show@")},
        f"run@restricted-{3 if 'seeds_of' in waits else 0}",
    )
    assert shown - first == ({"show@restricted"} if "late" in waits else set())
    assert "claims" in first & others and "show@restricted" in others and own in (others if "late" in waits else first)


def test_a_table_is_whole_before_the_next_begins(smoke):
    """Seed after seed, digits first; what a run cut short has done is whole."""
    composed = smoke | {"seeds": [0, 1]}
    composed |= params.follow(composed)
    found, order = driver.stages(composed), []
    runner = SimpleNamespace(jobs=1, side_by_side=lambda names, above: order.extend(names))
    driver.rounds(runner, found, set(found), set(found), driver.Costs("smoke"), "smoke")
    parts = [(found[name].seed, name.partition("@")[2].split("-")[0]) for name in order if found[name].kind == "train"]
    assert [part for part, _ in groupby(parts)] == [
        (seed, of) for seed in (0, 1) for of in ("digits", "eight_gaussians")
    ]


def test_full_trains_every_method_on_both_data_sets_longer_and_with_eight_seeds():
    laptop, full = params.compose("laptop"), params.compose("full")
    methods = [case for case in laptop["training"]["digits"] if case.count("-") == 1 and "w2-" not in case]
    for dataset in ("digits", "fashion"):
        assert {full["training"][dataset][case]["settings"]["updates"] for case in methods} == {5000}
        seeds = {run["seed"] for run in full["trainings"].values() if run["dataset"] == dataset}
        assert seeds == set(range(8))
    assert len([case for case in full["training"]["fashion"] if case.count("-") == 1]) > 50


def test_what_is_trained_again_is_measured_again(smoke):
    found = driver.stages(smoke)
    trained = "train@digits-kl_dv-jko-0"
    assert driver.with_samples({trained}, found) == {trained, trained.replace("train", "measure")}
