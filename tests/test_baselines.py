"""Numeric baselines: short runs stay where they were, within the spread over seeds.

Each method trains 200 updates on the eight Gaussians. The stored numbers are those of seed 0; the tolerance is three
standard deviations over seeds 0 to 4 of the same number, so that another CPU's rounding passes and a changed
algorithm does not. `pytest tests/test_baselines.py --force-regen` renews the numbers after a change that is meant,
`python tests/test_baselines.py` prints the spreads.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import pytest

from gwf.training import loop as train
from tests.notebook_code import load_notebook

SETTINGS = {
    "updates": 200,
    "phase": 100,
    "batch": 256,
    "penalty_every": 2,
    "ema": 0.97,
    "evaluate_every": 200,
    "n_samples": 500,
}
METHODS = [("kl_dv", "jko"), ("chi2", "gan"), ("w1", "jko")]
NUMBERS = ("w2", "share_3sd")
#: Standard deviations over seeds 0 to 4, as printed by `python tests/test_baselines.py`.
SPREAD = {
    "kl_dv-jko": {"w2": 0.102, "share_3sd": 0.122},
    "chi2-gan": {"w2": 0.2278, "share_3sd": 0.1777},
    "w1-jko": {"w2": 0.056, "share_3sd": 0.0867},
}


def numbers(functional, step, seed, **changes):
    samples, _ = train.run(functional, step, "eight_gaussians", seed, "test", SETTINGS | changes)
    settings = {"functional": functional, "step": step, "params_map": 0, "params_critic": 0} | SETTINGS
    measured = load_notebook("eight_gaussians").measured(settings, samples[-1], 2)
    return {name: measured[name] for name in NUMBERS}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SCRATCH", tmp_path)
    monkeypatch.setenv("GWF_PROGRESS", str(tmp_path / "progress"))


@pytest.mark.parametrize(("functional", "step"), METHODS)
def test_short_runs_stay_where_they_were(functional, step, num_regression):
    spread = SPREAD[f"{functional}-{step}"]
    tolerances = {name: {"atol": 3 * spread[name], "rtol": 0} for name in NUMBERS}
    got = {name: [value] for name, value in numbers(functional, step, 0).items()}
    num_regression.check(got, tolerances=tolerances)


def test_the_tolerance_catches_a_broken_step():
    """Control: with a proximal weight a thousand times too large the map is held back, beyond the tolerance."""
    held = numbers("kl_dv", "jko", 0, tau=0.5e-3)
    free = numbers("kl_dv", "jko", 0)
    assert abs(held["w2"] - free["w2"]) > 1.5 * 3 * SPREAD["kl_dv-jko"]["w2"]


if __name__ == "__main__":
    train.SCRATCH = Path(tempfile.mkdtemp())
    for functional, step in METHODS:
        runs = [numbers(functional, step, seed) for seed in range(5)]
        spread = {name: round(statistics.stdev(run[name] for run in runs), 4) for name in NUMBERS}
        print(f"{functional}-{step}", spread, runs[0], file=sys.stdout)
