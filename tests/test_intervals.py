"""What a few seeds tell: the jackknife against the t interval, by hand."""

import numpy as np
import pandas as pd
import pytest

from companion.claims import NotRun, Outcome
from notebooks.experiments.intervals import interval, jackknifed, ratio

VALUES = [1.0, 1.3, 0.8, 1.1]


def runs(values, case="a", first=0):
    """A table with one row for each seed."""
    return pd.DataFrame({"case": case, "seed": range(first, first + len(values)), "value": values})


@pytest.mark.parametrize("values", [VALUES, [1.0, 2.0, 3.0], [7.0, 8.0, 8.0, 8.0, 9.0]])
def test_the_jackknife_of_a_mean_is_its_t_interval(values):
    """Also where a seed is the mean itself, which does not change as it is left out."""
    found = jackknifed(lambda frame: Outcome({"mean": frame["value"].mean()}, "Said."))(runs(values))
    assert found.text == "Said." and found.values["mean"] == pytest.approx(interval(pd.Series(values)))


def test_the_jackknife_of_a_ratio_of_means_is_near_the_interval_of_paired_ratios():
    """Ratios within 3 % of 2: both intervals hold 2, and their widths differ by the second order of .03, taken as a tenth."""
    first, second = np.array(VALUES), np.array(VALUES) / 2 * [1.01, 0.99, 1.02, 0.98]
    pair = runs(first).assign(method="a"), runs(second).assign(method="b")
    low, high = ratio(pd.concat(pair), {"method": "a"}, {"method": "b"})
    of_means = jackknifed(lambda of: Outcome({"ratio": of[0]["value"].mean() / of[1]["value"].mean()}, ""))
    found = of_means(pair).values["ratio"]
    assert found[0] < 2 < found[1] and np.diff(found) == pytest.approx(high - low, rel=0.2)


def test_a_case_of_one_seed_stays_and_what_no_seed_changes_is_a_number():
    """Three seeds of one case, one of another: the interval is that of the three, wherever the fourth stands."""
    alone = runs([5.0], case="b", first=7)
    both = pd.concat([runs(VALUES[:3]), alone])

    def measure(evidence):
        frame, words = evidence
        mean, other = (frame.loc[frame["case"] == case, "value"].mean() for case in "ab")
        return Outcome({"mean": mean, "other": other, "known": (0.0, 1.0)}, words)

    values = jackknifed(measure)((both, "words")).values
    assert values["mean"] == pytest.approx(interval(pd.Series(VALUES[:3])))
    assert values["other"] == 5.0 and values["known"] == (0.0, 1.0)


@pytest.mark.parametrize("frame", [runs(VALUES[:1]), pd.DataFrame({"value": [1.0]})])
def test_one_seed_gives_no_verdict(frame):
    with pytest.raises(NotRun, match="fewer than two seeds"):
        jackknifed(lambda frame: Outcome({"mean": frame["value"].mean()}, ""))(frame)


def test_the_interval_holds_the_truth_in_as_many_cases_as_it_says():
    """400 ratios of means of 8 normal seeds: .95 by design, with a standard error of .011; the bounds are four of them away."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        pair = tuple(runs(rng.normal(mean, 0.1, 8)) for mean in (2.0, 1.0))
        measure = jackknifed(lambda of: Outcome({"ratio": of[0]["value"].mean() / of[1]["value"].mean()}, ""))
        low, high = measure(pair).values["ratio"]
        held += low < 2 < high
    assert 0.906 < held / 400 < 0.994
