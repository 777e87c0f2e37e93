"""Parameters: the schema, the profiles, and errors that name the nearest valid name."""

import math
import subprocess
import sys

import pytest
import yaml

from gwf import params
from gwf.errors import UsageError
from gwf.paths import ROOT

PROFILES = params.profiles()


@pytest.fixture(scope="module")
def composed_laptop():
    return params.compose("laptop")


@pytest.fixture
def laptop(composed_laptop):
    return yaml.safe_load(composed_laptop)


def leaves(tree, path=()):
    """Paths of all keys of a nested dict."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


ALL_KEYS = sorted(set(leaves(params.SCHEMA)))


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_compose_to_valid_parameters(profile):
    composed = yaml.safe_load(params.compose(profile))
    assert composed["profile"] == profile
    own = yaml.safe_load((ROOT / "conf" / "profile" / f"{profile}.yaml").read_text())
    # The profile has the last word: a value that it gives is never overruled by what the profiles share.
    assert {key: composed[key] for key in own} == own


def test_composed_as_dvc_composes():
    # `dvc exp run -S profile=smoke` reads the same files because hydra is enabled in the repository's
    # configuration.
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "hydra.enabled"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "true"


def test_only_the_paper_profile_needs_a_gpu():
    devices = {profile: yaml.safe_load(params.compose(profile))["device"] for profile in PROFILES}
    assert {profile for profile, device in devices.items() if device == "cuda"} == {"paper"}


def test_smoke_writes_outside_what_git_keeps():
    smoke, laptop = (yaml.safe_load(params.compose(profile)) for profile in ("smoke", "laptop"))
    for path in ("results/smoke/x/metrics.json", f"{smoke['report']}/index.html"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0, path
    for path in ("results/laptop/x/metrics.json", f"{laptop['report']}/index.html"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 1, path


@pytest.mark.parametrize("path", ALL_KEYS, ids=".".join)
def test_every_misspelt_key_is_an_error_with_the_right_name(laptop, path):
    part = laptop
    for word in path[:-1]:
        part = part[word]
    part[path[-1] + "s"] = part.pop(path[-1])
    with pytest.raises(UsageError, match=f"did you mean '{path[-1]}'"):
        params.validate(laptop)


@pytest.mark.parametrize("path", ALL_KEYS, ids=".".join)
def test_every_missing_key_is_an_error(laptop, path):
    part = laptop
    for word in path[:-1]:
        part = part[word]
    del part[path[-1]]
    with pytest.raises(UsageError, match=f"parameter {'.'.join(path)} is missing"):
        params.validate(laptop)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("functionals", ["kll"], "unknown functional in functionals 'kll': did you mean 'kl'"),
        ("functionals", [], "at least one entry"),
        ("functionals", ["kl", "kl"], "contains 'kl' twice"),
        ("functionals", "kl", "must be a list"),
        ("steps", ["jk0"], "did you mean 'jko'"),
        ("datasets", ["digit"], "did you mean 'digits'"),
        ("seeds", [-1], "out of range"),
        ("seeds", [0.5], "whole number"),
        ("profile", "laptpo", "did you mean 'laptop'"),
        ("device", "gpu", "Valid: cpu, cuda"),
        ("report", "/srv/report", "below the repository"),
        ("report", "../report", "below the repository"),
        ("lenet", 3, "must be a group of parameters"),
    ],
)
def test_wrong_values(laptop, key, value, message):
    with pytest.raises(UsageError, match=message):
        params.validate(laptop | {key: value})


@pytest.mark.parametrize(
    "key, value",
    [
        ("updates", 0),
        ("updates", 10.5),
        ("updates", True),
        ("updates", "many"),
        ("batch", 1),
        ("tau", 0),
        ("tau", -1.0),
        ("tau", math.nan),
        ("lr_map", 0),
        ("lr_map", 2),
        ("penalty", -0.1),
        ("ema", 1),
        ("threads", 0),
        ("per_dimension", 1),
        ("n_samples", 1),
    ],
)
def test_values_out_of_range(laptop, key, value):
    laptop["training"]["digits"][key] = value
    with pytest.raises(UsageError, match=f"training.digits.{key} = "):
        params.validate(laptop)


def test_limits_are_valid(laptop):
    laptop["training"]["digits"] |= {"tau": math.inf, "ema": 0, "updates": 1, "penalty": 0}
    assert params.validate(laptop) is laptop


def test_unknown_profile():
    with pytest.raises(UsageError, match="unknown profile 'smok': did you mean 'smoke'"):
        params.compose("smok")


def test_names_are_those_of_the_modules():
    from gwf import functionals
    from gwf.training import recipes, tasks

    assert params.functionals() == functionals.names()
    assert {*params.STEPS, "euler"} == set(recipes.STEPS)
    assert params.variational() == recipes.implicit()
    assert set(params.DATASETS) == set(tasks.names())


def test_ranges_are_not_wider_than_the_training_loop_accepts():
    # The schema is read without importing torch, so it repeats the ranges of the recipes.
    from gwf.training import recipes

    assert set(params.TRAINING) == set(recipes.RANGES) | recipes.SWITCHES
    for name, (low, high, open_low) in recipes.RANGES.items():
        rule = params.TRAINING[name]
        assert rule.low >= low and rule.high <= high and (rule.open_low or not open_low), name


def test_parameters_are_known_to_the_notebooks(laptop):
    params.matches_notebooks(laptop)
    laptop["training"]["digits"]["updatez"] = 1
    with pytest.raises(UsageError, match="did you mean 'updates'"):
        params.matches_notebooks(laptop)


def test_written_only_when_the_content_changes(tmp_path):
    path = tmp_path / "params.yaml"
    assert params.write("a: 1\n", path)
    before = path.stat().st_mtime_ns
    assert not params.write("a: 1\n", path)
    assert path.stat().st_mtime_ns == before
    assert params.write("a: 2\n", path) and path.read_text() == "a: 2\n"


def test_the_check_does_not_load_torch():
    # It stands before every command: two seconds for an import would be felt.
    program = "import sys, gwf.params, gwf.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
