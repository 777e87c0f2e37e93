"""The claims of the works: read from conf/claims, judged in the notebook that has the evidence, gathered in a ledger.

A notebook judges a claim with `Sheet.claim`: a measure turns evidence into numbers, and one rule turns the numbers and
the claim's band into a verdict. A control is evidence broken on purpose, which must come to another verdict.
"""

import contextlib
import functools
import math
import re
from collections import Counter
from dataclasses import dataclass, field, fields

import numpy as np

from companion.files import read_file, shaped, short
from gwf.errors import UsageError, nearest
from gwf.paths import CONF

#: Keys of the data files, the five works and last what others claim.
WORKS = ("gwf", "sjko", "vwgf", "w2fe", "proposal", "outside")
ID = re.compile(rf"({'|'.join(WORKS)})-[A-Z][1-9]\d*")
#: Key of the data files -> how far a published statement can be trusted, as the ledger prints it.
TRUST = {
    "paper": "paper, read first-hand",
    "code": "released code",
    "figure": "figure of the released notebook, read off by eye",
    "second-hand": "second-hand",
    "derived": "derived here",
    "ours": "our own question, not the paper's",
    "unknown": "unknown",
}
#: Kind of evidence -> what it is. Where the answer is known beforehand a check tests the code.
KINDS = {
    "identity": "a closed form, or a solver against itself",
    "count": "operations, passes or branches, counted",
    "published": "numbers that others printed, against a closed form or each other",
    "trained": "something is trained or simulated here, or would have to be",
    "literature": "what other works say",
}
#: Verdict -> what it means, in the order of the summary.
VERDICTS = {
    "reproduced": "every part of the check lies in its band",
    "toy": "the same, at a scale far below the one that the claim speaks of",
    "partly": "the main part lies near its band, or in it while another part does not or could not be measured",
    "contradicted": "the main part lies outside its band",
    "undecided": "the interval of the main part lies across the edge of its band and of what is near it: more seeds may tell, if the extractors agree",
    "needs-gpu": "the claim is about a scale that a CPU does not reach",
    "not-run": "there is no result to judge by: not computed in this profile, or the experiment is only planned",
}


class NotRun(Exception):
    """The evidence of a claim does not exist in this profile; the message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """What a check measured: `values`, part of the band -> number in the band's units, and a `text` for people.

    A number that is known from few seeds is an interval, (low, high); `high` is infinite where only a least value is known.
    Parts that could not be measured are left out; the main part must be there.
    """

    values: dict
    text: str


@dataclass(frozen=True)
class Band:
    """The acceptance band: part -> interval (low, high) `inside` which a claim holds; the first part is the claim.

    `near` has intervals of parts that may hold in part, there or inside; `why` says where the limits come from.
    """

    inside: dict
    why: str
    near: dict = field(default_factory=dict)


def ends(value):
    """(low, high) of a number or an interval."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def grade(value, inside, near=(math.inf, -math.inf)):
    """2 where `value` lies in [low, high] = `inside`, 1 in `near`, 0 elsewhere; None for an interval that lies across an edge."""
    low, high = ends(value)
    near = min(inside[0], near[0]), max(inside[1], near[1])
    for number, (least, most) in ((2, inside), (1, near)):
        if least <= low and high <= most:
            return number
    return None if low <= near[1] and near[0] <= high else 0


def verdict(values, band, toy=False):
    """The verdict on measured values (part -> number), by a `Band`.

    `undecided` if the main part has no grade; `contradicted` if it has grade 0; `reproduced`, or `toy`, if every part of
    the band was measured and has grade 2; `partly` otherwise. `UsageError` for a part that the band does not name, a main
    part that was not measured, NaN.
    """
    main, grades = next(iter(band.inside)), {}
    for name, value in values.items():
        nearest(name, band.inside, "part of the band")
        if any(map(math.isnan, ends(value))):
            raise UsageError(f"{name} = nan: a check must measure a number or leave the part out")
        grades[name] = grade(value, band.inside[name], *([band.near[name]] if name in band.near else []))
    if main not in grades:
        raise UsageError(f"the main part of the band, {main!r}, was not measured")
    if not grades[main]:
        return "contradicted" if grades[main] == 0 else "undecided"
    if len(grades) < len(band.inside) or set(grades.values()) != {2}:
        return "partly"
    return "toy" if toy else "reproduced"


def show(value):
    """A number or interval as text, four significant digits; errors of rounding size as the power of ten above them.

    >>> show(0.26347), show(3.1e-12), show(0.0), show((0.5, 2.0)), show((2.0, math.inf))
    ('0.2635', '< 1e-11', '0', '0.5 to 2', 'at least 2')
    """
    if ends(value) != (value, value):
        return f"at least {show(value[0])}" if math.isinf(value[1]) else " to ".join(map(show, value))
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


@dataclass(frozen=True)
class Claim:
    """One claim of a work, in our words; the attributes are the fields of its data file.

    `toy` says that the check is far below the scale that the claim speaks of; `otherwise` is the verdict of a claim that
    no notebook judges, "needs-gpu" or "not-run", or any that the literature gives.
    """

    id: str
    kind: str
    paper: str
    claim: str
    published: str
    trust: list
    check: str
    control: str
    band: Band = None
    gpu: dict = field(default_factory=dict)
    toy: bool = False
    otherwise: str = ""


def band_of(raw, where):
    """The `Band` of a claim's data; `UsageError` says what is wrong with it."""
    for name in raw:
        nearest(name, {"inside", "near", "why"}, f"field of the band of {where}")
    if not raw.get("inside") or not raw.get("why"):
        raise UsageError(f"the band of {where} needs `inside` with a part, and `why`")
    limits = {"inside": {}, "near": {}}
    for group, found in limits.items():
        for part, value in raw.get(group, {}).items():
            nearest(part, raw["inside"], f"part of the band of {where}")
            try:
                low, high = found[part] = tuple(float(limit) for limit in value)
            except (TypeError, ValueError):
                raise UsageError(f"{where}, {part} = {value!r}: a band is a pair of numbers [low, high]") from None
            if not low <= high:
                raise UsageError(f"{where}, {part} = {value!r}: the lower limit is above the upper one")
    return Band(why=raw["why"], **limits)


def parse(raw, file):
    """The claims of one data file with the content `raw`; `UsageError` names the claim and the field that is wrong."""
    listed = raw.get("claims") if isinstance(raw, dict) and {"key", "paper"} <= set(raw) else None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise UsageError(f"{file} must have a key, a paper and a list of claims")
    found, known = [], {entry.name for entry in fields(Claim)} - {"paper"}
    for entry in listed:
        name = entry.get("id", "a claim without id")
        if not ID.fullmatch(str(name)) or not name.startswith(raw["key"] + "-"):
            raise UsageError(f"claim id {name!r}: valid ids of this file look like {raw['key']}-C1")
        for key in entry:
            nearest(key, known, f"field of claim {name}")
        needed = known - {"gpu", "toy"} - ({"band"} if "otherwise" in entry else {"otherwise"})
        if missing := sorted(key for key in needed if not entry.get(key)):
            raise UsageError(f"claim {name} lacks {', '.join(missing)}")
        for tag in entry["trust"]:
            nearest(tag, TRUST, f"trust of claim {name}")
        nearest(entry["kind"], KINDS, f"kind of claim {name}")
        if "otherwise" in entry:
            unjudged = VERDICTS if entry["kind"] == "literature" else {"needs-gpu", "not-run"}
            nearest(entry["otherwise"], unjudged, f"verdict of claim {name}")
        if entry.get("gpu") and set(entry["gpu"]) != {"what", "hours", "command"}:
            raise UsageError(f"gpu of claim {name} needs what, hours and command")
        given = {key: value.strip() if isinstance(value, str) else value for key, value in entry.items() if value}
        band = band_of(given["band"], name) if "band" in given else None
        found.append(Claim(**given | {"paper": raw["paper"], "band": band}))
    return found


@functools.cache
def read():
    """Every claim of the data files, id -> `Claim`, in the order of the works; ids are unique."""
    paths = [CONF / "claims" / f"{name}.yaml" for name in WORKS]
    found = []
    for path in paths:
        with shaped(path):
            found += parse(read_file(path), short(path))
    if twice := [name for name, count in Counter(claim.id for claim in found).items() if count > 1]:
        raise UsageError(f"claim ids used twice: {', '.join(twice)}")
    return {claim.id: claim for claim in found}


@dataclass(frozen=True)
class Judgement:
    """What came out for one claim: `verdict`, `control_verdict`, the measured `values` and a `finding` in words."""

    id: str
    verdict: str
    control_verdict: str
    values: dict
    finding: str


def judge(claim, measure, evidence, controls, longer=None):
    """The `Judgement` of a claim: `measure(evidence)` is an `Outcome`, or raises `NotRun` where there is no evidence.

    Each of `controls` turns evidence into broken evidence; where the verdict may go either way (a comparison of two
    methods) there are two, one against each side. `control_verdict` is the first that differs; if none does, the last.
    If there are `longer` trainings, they are judged where the others contradict the claim and they do not, as too little
    training contradicts nothing; else what they say ends the finding.
    """
    try:
        outcome = measure(evidence)
    except NotRun as missing:
        return Judgement(claim.id, "not-run", "not-run", {}, str(missing))
    reached, finding = verdict(outcome.values, claim.band, claim.toy), outcome.text
    with contextlib.suppress(NotRun):
        if longer is not None:
            again = measure(longer)
            at_length = verdict(again.values, claim.band, claim.toy)
            if reached == "contradicted" != at_length:
                finding = f"{again.text} With a quarter of this training contradicted: {listed(plain(outcome.values))}."
                evidence, outcome, reached = longer, again, at_length
            else:
                finding += f" With four times the training {at_length}: {listed(plain(again.values))}."
    turned = reached
    for break_it in controls:
        turned = verdict(measure(break_it(evidence)).values, claim.band, claim.toy)
        if turned != reached:
            break
    return Judgement(claim.id, reached, turned, plain(outcome.values), finding)


def plain(values):
    """Measured values as floats, intervals as lists of two."""
    return {name: float(value) if np.ndim(value) == 0 else [*map(float, value)] for name, value in values.items()}


def sentence(judged):
    """A judgement in words, for the notebook: what is below 1e-6 reads 0, as rounding differs between machines."""
    settled = {part: 0.0 if max(map(abs, ends(value))) < 1e-6 else value for part, value in judged.values.items()}
    values, control = (f"{listed(settled)}. ", f" Control: {judged.control_verdict}.") if settled else ("", "")
    return f"{judged.id}: {judged.verdict}. {values}{judged.finding}{control}"


def listed(values):
    """Measured values (part -> number or interval) in words."""
    return "; ".join(f"{part}: {show(value)}" for part, value in values.items())


def column(frame, name):
    """A column of a DataFrame; `UsageError` that names it and those there are."""
    if name not in frame:
        raise UsageError(f"the table has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
    return frame[name]


def together(cases, name="table"):
    """The tables `name` of all cases in one DataFrame, with the case's name in the column `case`."""
    import pandas as pd

    frames = []
    for case, tables in cases.items():
        if name not in tables:
            raise UsageError(f"case {case} has no table {name!r}; it has {', '.join(sorted(tables))}")
        frames.append(tables[name].assign(case=case))
    return pd.concat(frames, ignore_index=True)


def select(frame, **where):
    """Rows with the given values; `NotRun` that names what no row has."""
    rows = frame
    for name, wanted in where.items():
        rows = rows[column(rows, name) == wanted]
    if rows.empty:
        raise NotRun(f"no row with {', '.join(f'{name} = {wanted}' for name, wanted in where.items())}")
    return rows


def mean_of(frame, value, **where):
    """Mean of the column `value` over the rows with the given values, without NaN; `NotRun` if nothing is left."""
    values = column(select(frame, **where), value).dropna()
    if values.empty:
        raise NotRun(f"{value} is empty for {', '.join(map(str, where.values()))}")
    return float(values.mean())


def rename(name, first, second):
    """A control that exchanges two values of the column `name`."""
    return lambda frame: frame.assign(**{name: frame[name].replace({first: second, second: first})})
