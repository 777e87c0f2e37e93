"""What is said of the JKO step: ratios, work and steadiness on made-up trainings whose answer is known; the smallest game."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion.claims import NotRun
from notebooks.chapters.bilinear_game import phase, rate
from notebooks.experiments import effects


def runs(functional, jko, gan):
    """Rows of `effects.distances` for distances by seed; at the first evaluation each stood five times as high."""
    rows = [("jko", seed, value) for seed, value in enumerate(jko)] + [("gan", seed, v) for seed, v in enumerate(gan)]
    frame = pd.DataFrame(rows, columns=["step", "seed", "value"])
    return frame.assign(dataset="digits", functional=functional, first=5 * frame["value"])


def test_an_effect_is_told_apart_where_its_interval_leaves_one():
    """A tenth lower in every seed but for a hundredth, against a difference that changes sign."""
    clear = runs("kl", [9.0, 9.1, 8.9, 9.0], [10.0, 10.0, 10.0, 10.0])
    vague = runs("chi2", [9.0, 12.0, 8.0, 11.0], [10.0, 10.0, 10.0, 10.0])
    found = effects.effects(pd.concat([clear, vague])).set_index("functional")
    assert found.loc["KL", "with JKO"] == "lower" and found.loc["χ²", "with JKO"] == "not told apart"
    low, high = found.loc["KL", ["low", "high"]]
    # The p-value of the t test on the logarithms, by another hand.
    other = stats.ttest_1samp(np.log([0.9, 0.91, 0.89, 0.9]), 0).pvalue
    assert low < 0.9 < high < 1 and found.loc["KL", "p"] == pytest.approx(other)
    worse = effects.effects(runs("kl", [11.0, 11.1], [10.0, 10.0])).set_index("functional")
    assert worse.loc["KL", "with JKO"] == "higher"


def test_a_run_stopped_early_turns_an_effect_around():
    rows = runs("kl", [9.0, 9.1, 8.9], [10.0, 10.0, 10.0])
    assert effects.gain(rows)[1] < 1 < effects.gain(effects.stopped(step="jko")(rows))[0]
    assert effects.gain(effects.stopped(step="gan", functional="kl")(rows))[1] < 0.25
    assert effects.gain(effects.stopped(step="gan", functional="w1")(rows)) == effects.gain(rows)  # no such run


def curves(speed):
    """Measured cases of two seeds whose FD halves every 500 updates without the step, every 500 * speed with it."""
    updates = np.array([500, 1000, 1500, 2000])
    found = {}
    for step, slow in (("gan", 1.0), ("jko", speed)):
        parts = [
            pd.DataFrame({"seed": seed, "step": updates, "fd_lenet": (100 + seed) * 2 ** (-updates / 500 / slow)})
            for seed in (0, 1, 2)
        ]
        scores = pd.DataFrame({"functional": "kl", "step": step, "seed": [0, 1, 2], "recall": [0.5, 0.5, 0.0]})
        found[f"kl-{step}"] = {"curve": pd.concat(parts), "metrics": scores}
    return found


@pytest.mark.parametrize("speed", [1.25, 1.0, 0.8])
def test_work_is_the_ratio_of_the_speeds(speed, monkeypatch):
    monkeypatch.setattr(effects.results, "read", lambda *_: curves(speed))
    row = effects.work("any").iloc[0]
    assert row["updates with over without"] == pytest.approx(speed)
    assert row["seeds"] == 2 and row["left out"] == 1  # the third never trains


def test_both_extractors_judge_the_same_pairs(monkeypatch):
    """The LeNet sees the step halve the distance in every seed, the other network sees it double: opposite verdicts."""
    lenet, squeezenet = runs("kl", [5.0, 5.1, 4.9], [10.0, 10.0, 10.0]), [60.0, 61.0, 59.0, 30.0, 30.0, 30.0]
    scores = lenet.rename(columns={"value": "fd_lenet"}).assign(fd_squeezenet=squeezenet)
    cases = {f"kl-{step}": {"metrics": part} for step, part in scores.groupby("step")}
    monkeypatch.setattr(effects.results, "read", lambda *_: cases)
    pool, row = effects.by_both("any").to_dict("records")
    assert (
        pool["functional"] == "four, without JS, digits" and pool["ratio"] == row["ratio"]
    )  # of which KL alone is here
    assert (row["functional"], row["seeds"]) == ("KL", 3)
    assert (row["with JKO"], row["with JKO, SqueezeNet"]) == ("lower", "higher")
    assert row["ratio"] == pytest.approx(0.5, rel=0.01) and row["ratio, SqueezeNet"] == pytest.approx(2, rel=0.01)


def test_updates_to_a_distance_stay_within_the_curve():
    updates, values = np.array([500, 1000, 1500]), np.array([80.0, 20.0, 30.0])
    assert effects.updates_to(40.0, updates, values) == pytest.approx(750)  # halfway in the logarithm
    assert effects.updates_to(200.0, updates, values) == 500 and effects.updates_to(1.0, updates, values) == 1500


def test_steadiness_is_an_f_interval_of_the_variances():
    """Logarithms spread ten times as wide without the step: variances in the ratio 100, two degrees of freedom each."""
    rows = runs("w1", np.exp([0.0, 0.1, 0.2]), np.exp([0.0, 1.0, 2.0]))
    (low, high), _ = effects.steadiness(rows)
    assert low == pytest.approx(100 / stats.f.ppf(0.975, 2, 2)) and high == pytest.approx(
        100 / stats.f.ppf(0.025, 2, 2)
    )
    with pytest.raises(NotRun, match="no two seeds"):
        effects.steadiness(runs("kl", [1.0, 2.0], [1.0, 2.0]))


@pytest.mark.parametrize(("rho", "tau"), [(0.0, 0.7), (0.4, 2.0), (2.5, 0.3)])
def test_two_half_phases_are_no_whole_phase_but_without_an_anchor_they_are(rho, tau):
    """The anchor is what a phase remembers: renewing it halfway is another scheme."""
    assert np.allclose(phase(rho, math.inf, 0.5) @ phase(rho, math.inf, 0.5), phase(rho, math.inf, 1.0))
    assert not np.allclose(phase(rho, tau, 0.5) @ phase(rho, tau, 0.5), phase(rho, tau, 1.0), atol=1e-3)


def test_the_term_helps_where_the_game_circles_and_delays_where_it_does_not():
    assert rate(0.3, 1.0, 3.0) > 2 * rate(0.3, math.inf, 3.0) and rate(3.0, 1.0, 3.0) < rate(3.0, math.inf, 3.0) / 2


def test_what_one_extractor_alone_sees_is_no_verdict():
    """Halved by the one and doubled by the other: the interval holds both; what both see is kept."""
    half, double = runs("w1", [1.0, 1.1, 0.9], [2.0, 2.2, 1.8]), runs("w1", [2.0, 2.2, 1.8], [1.0, 1.1, 0.9])
    both = pd.concat([half.assign(eye="fd_lenet"), double.assign(eye="fd_squeezenet")])
    (low, high), words = effects.by_each(both, effects.gain)
    assert low == pytest.approx(0.5) and high == pytest.approx(2) and "0.5 by FD-LeNet" in words
    alike = pd.concat([half.assign(eye="fd_lenet"), half.assign(eye="fd_squeezenet")])
    assert effects.by_each(alike, effects.gain)[0] == pytest.approx((0.5, 0.5))


def test_the_control_at_noise_turns_a_gain_into_a_loss_by_either_extractor():
    noise = runs("mmd", [150.0, 160.0, 155.0], [50.0, 51.0, 52.0])
    noise = noise.assign(step="ck_" + noise["step"])
    rows = pd.concat([runs("w1", [1.0, 1.1, 0.9], [2.0, 2.2, 1.8]), noise])
    both = pd.concat([rows.assign(eye=eye) for eye in effects.EYES])
    broken = effects.at_noise("jko")(both)
    (low, _), _ = effects.by_each(broken[broken["functional"] == "w1"], effects.gain)
    assert low > 50 and set(broken["seed"]) == {0, 1, 2}
    (_, high), _ = effects.by_each(effects.at_noise("gan")(both).query("functional == 'w1'"), effects.gain)
    assert high < 0.02
