"""From measured values and acceptance bands to a verdict: one rule for every claim."""

import math
from dataclasses import dataclass, field

from gwf.errors import UsageError, nearest

#: Verdict -> what it means, in the order of the summary.
VERDICTS = {
    "reproduced": "every part of the check lies in its band",
    "partly": "the main part lies in its band or near it, another part does not or could not be measured",
    "contradicted": "the main part lies outside its band",
    "needs-gpu": "the claim is about a scale that a CPU does not reach",
    "not-run": "there is no result to judge by: not computed in this profile, or the experiment is only planned",
}


class NotRun(Exception):
    """The evidence of a claim does not exist in this profile; the message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """What a check measured.

    Attributes
    ----------
    values : dict str -> float
        The number of each part of the band that could be measured, in the band's units. The main part must be there.
    text : str
        One or two sentences for people.
    """

    values: dict
    text: str


@dataclass(frozen=True)
class Band:
    """The acceptance band of a claim.

    Attributes
    ----------
    inside : dict str -> (low, high)
        Part -> interval in which the claim holds. The first part is the main one: the claim itself.
    near : dict str -> (low, high)
        Wider intervals, of parts that may hold in part.
    why : str
        Where the limits come from.
    """

    inside: dict
    why: str
    near: dict = field(default_factory=dict)

    @property
    def main(self):
        """Name of the main part."""
        return next(iter(self.inside))


def grade(value, inside, near=None):
    """2 where `value` lies in [low, high] = `inside`, 1 in `near`, 0 elsewhere."""
    if inside[0] <= value <= inside[1]:
        return 2
    return int(near is not None and near[0] <= value <= near[1])


def verdict(values, band):
    """The verdict on measured values.

    `contradicted` if the main part has grade 0; `reproduced` if every part of the band was measured and has grade 2;
    `partly` otherwise.

    Parameters
    ----------
    values : dict str -> float
    band : Band

    Raises
    ------
    UsageError
        A part that the band does not name, a main part that was not measured, a value that is not a number.
    """
    for name, value in values.items():
        nearest(name, band.inside, "part of the band")
        if math.isnan(value):
            raise UsageError(f"{name} = nan: a check must measure a number or leave the part out")
    if band.main not in values:
        raise UsageError(f"the main part of the band, {band.main!r}, was not measured")
    grades = {name: grade(value, band.inside[name], band.near.get(name)) for name, value in values.items()}
    if grades[band.main] == 0:
        return "contradicted"
    return "reproduced" if len(grades) == len(band.inside) and min(grades.values()) == 2 else "partly"


def show(value):
    """A number as text, four significant digits; errors of rounding size as the power of ten above them.

    >>> show(0.26347), show(3.1e-12), show(0.0)
    ('0.2635', '< 1e-11', '0')
    """
    if 0 < abs(value) < 1e-6:
        bound = f"1e{math.floor(math.log10(abs(value))) + 1:d}"
        return f"< {bound}" if value > 0 else f"> -{bound}"
    return f"{value:.4g}"


def show_interval(low, high):
    """[low, high] as text: `at most 0.1`, `at least 2`, `between 1 and 2`, `exactly 3`."""
    if low == high:
        return f"exactly {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    if math.isinf(high):
        return f"at least {low:g}"
    return f"{low:g} to {high:g}"
