"""Numbers that chapters quote by hand are those of the committed sheets: each phrase is made from a table and looked for."""

import json
import re

import pandas as pd
import pytest

from gwf.paths import ROOT


def row(sheet, table, **where):
    """The one row of a table of the report with the given values."""
    rows = pd.read_csv(ROOT / f"report/sheets/{sheet}/{table}.csv")
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1, (sheet, table, where)
    return rows.iloc[0]


def ends(words):
    """(low, high) of a cell such as `0.5 to 0.7`."""
    return tuple(map(float, words.split(" to ")))


def span(words, eye="FD-LeNet"):
    """(low, high) of one extractor in a cell such as `0.5 to 0.7 by FD-LeNet, 0.4 to 0.6 by FD-SqueezeNet`."""
    return tuple(map(float, re.search(rf"([\d.]+) to ([\d.]+) by {eye}", words).groups()))


def ratios(low, high):
    """An interval as the chapters write it: `.33 to .61`, `1.3 to 4.3`, `6.5 to 13`."""
    return " to ".join(re.sub(r"^0", "", f"{value:.2g}") for value in (low, high))


def percent(low, high):
    """An interval of ratios of distances in per cent: `14 to 23 % nearer`, `16 % nearer to 2 % farther`, `4 to 26 %`."""
    near, far = (f"{100 * abs(1 - value):.0f}" for value in (low, high))
    if low > 1:
        return f"{near} to {far} % farther"
    return f"{far} to {near} % nearer" if high < 1 else f"{near} % nearer to {far} % farther"


def wider(words):
    """The interval that holds those of both extractors."""
    lows, highs = zip(span(words), span(words, "FD-SqueezeNet"), strict=True)
    return min(lows), max(highs)


def of_jko():
    """Phrases of chapter 10."""
    higher = [f"three times these, {eye}" for eye in ("FD-LeNet", "FD-SqueezeNet")]
    learned = [ratios(*ends(row("rates", "own-pairs", functional="MMD, learned kernel")[name])) for name in higher]
    yield f"The ratio is {learned[0]} by the LeNet and {learned[1]} by the SqueezeNet"
    for functional in ("W₁", "KL-DV", "JS non-saturating", "χ² tight"):
        yield ratios(*ends(row("rates", "own-pairs", functional=functional)[higher[0]]))
    for method in ("MMD, learned kernel, no JKO (MMD-GAN)", "MMD, learned kernel, JKO (GWF-MMD, learned kernel)"):
        found = row("rates", "retrained", method=method)
        for rates in ("the table's rates", "three times rates"):
            mean, spread = map(float, found[rates].split(" ± "))
            yield f"{mean:.0f} ± {spread:.0f}"
    again = pd.read_csv(ROOT / "report/sheets/rates/retrained.csv")
    number = {4: "four", 5: "five", 13: "thirteen"}
    nearer, farther = (number.get(found.sum(), found.sum()) for found in (again["high"] < 1, again["low"] > 1))
    yield f"{len(again)} in all, three to eight seeds, {nearer} are nearer by both extractors"
    yield f"and {farther} farther: MMD"
    broken = row("rates", "retrained", method="MMD, scaled, no JKO")
    lenet, squeezenet = (broken[f"ratio, {eye}"] for eye in ("FD-LeNet", "FD-SqueezeNet"))
    yield f"{lenet} times as far as at the table's rates by the LeNet and {squeezenet} times by the SqueezeNet"
    step = {name: row("factors", "step", method=name) for name in ("KL-DV", "JS non-saturating", "W₁")}
    small = {name: ratios(*wider(found["τ = 0.005 over 0.5"])) for name, found in step.items()}
    for functional, by in {"JS non-saturating": " by the LeNet", "W₁": "", "KL-DV": ""}.items():
        large = [percent(*span(step[functional]["τ = 50 over 0.5"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
        yield f"{large[0]}{by} and {large[1]}"
    yield percent(*span(row("factors", "step", method="MMD, learned kernel")["τ = 50 over 0.5"], "FD-SqueezeNet"))
    spread = pd.read_csv(ROOT / "report/sheets/10_jko_effect/spread.csv")
    three = spread[spread["rates"] == "three times these"].set_index("objectives")
    pooled = {eye: ratios(*ends(three.loc["W₁, MMD learned and scaled", eye])) for eye in ("FD-LeNet", "FD-SqueezeNet")}
    yield f"is {pooled['FD-LeNet']} of that with it by the LeNet, {pooled['FD-SqueezeNet']} by the SqueezeNet"
    yield f"the learned kernel ({ratios(*ends(three.loc['MMD, learned kernel', 'FD-LeNet']))})"
    yield f"KL-DV ends {small['KL-DV']} times as far at τ = .005"
    yield f"JS non-saturating {small['JS non-saturating']}"
    yield small["W₁"]
    both = {
        name: row("10_jko_effect", "by-both", functional=name) for name in ("W₁", "JS non-saturating", "MMD, scaled")
    }
    w1 = both["W₁"]
    by_lenet, by_squeezenet = (percent(w1[f"low{eye}"], w1[f"high{eye}"]) for eye in ("", ", SqueezeNet"))
    yield f"for $W_1$ only ({by_lenet}, {by_squeezenet})".replace(" nearer", "")
    js = both["JS non-saturating"]
    yield f"for JS non-saturating by the LeNet ({percent(js['low'], js['high'])})".replace(" nearer", "")
    yield f"by the LeNet ({ratios(both['MMD, scaled']['low'], both['MMD, scaled']['high'])} times)"
    fixed = row("10_jko_effect", "work", functional="MMD")
    yield f"({fixed['low']:.2f} to {fixed['high']:.2f})"


def of_sjko():
    """Phrases of chapter 6."""
    clean, released, noisy = (
        row("factors", "phases", noise=noise, latents=latents, K=8)
        for noise, latents in (("none", "matched"), ("falling", "independent"), ("falling", "matched"))
    )
    over = [percent(*span(clean["over one phase"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"eight steps over one are {over[0]} by the LeNet and {over[1]} by the SqueezeNet without noise"
    over = [percent(*span(released["over one phase"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"{over[0]} and {over[1]} as released"
    over = [percent(*span(noisy["over one phase"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"nearer by both ({over[0]}, {over[1]})".replace(" nearer,", ",").replace(" nearer)", ")")
    over = [percent(*span(noisy["over no noise"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"at eight steps {over[0]} by the LeNet, {over[1]} by the SqueezeNet"
    kept = row("factors", "phases", noise="constant", latents="matched", K=1)  # of one phase, as the falling noise
    yield f"one step is {percent(*span(kept['over no noise'], 'FD-SqueezeNet'))} with it by the SqueezeNet"
    loose = row("factors", "phases", noise="none", latents="independent", K=8)
    for found, words in ((loose, ("by the LeNet and", "by the SqueezeNet")), (released, ("and", "with the released"))):
        over = [percent(*span(found["over matched latents"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
        yield f"{over[0]} {words[0]} {over[1]} {words[1]}"
    forty = row("factors", "phases", noise="none", latents="matched", K=40)
    over = [percent(*span(forty["over one phase"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"{over[0]} than one by the LeNet, {over[1]} by the SqueezeNet"
    one, many = (row("factors", "semidual-step", method=name) for name in ("source-fixed UOTM", "S-JKO"))
    yield f"one step ends at {one['τ = 50']}, beside {one['τ = 0.5']} at the table's step"
    adversarial = row("rates", "retrained", method="KL, no JKO (f-GAN)")["the table's rates"]
    yield f"ends at {adversarial} in the same three seeds"
    yield f"one step ends {ratios(*wider(one['τ = 0.05 over 0.5']))} times as far"
    yield f"S-JKO {ratios(*wider(many['τ = 0.05 over 0.5']))}."
    over = [percent(*span(many["τ = 5 over 0.5"], eye)) for eye in ("FD-LeNet", "FD-SqueezeNet")]
    yield f"S-JKO {over[0]} by the LeNet, {over[1]} by the SqueezeNet"
    yield row("rates", "retrained", method="W₂, semi-dual, one step (OTM)")["the table's rates"]


def of_explicit():
    """Phrases of chapter 8."""
    found = pd.read_csv(ROOT / "report/sheets/factors/temperature.csv")
    lows, highs = zip(*map(span, found["one over two"]), strict=True)
    yield f"{ratios(min(lows), max(highs))} times as far as two by the LeNet"
    one, two = (ratios(found[f"{name}: recall"].min(), found[f"{name}: recall"].max()) for name in ("one", "two"))
    yield f"recall {one}, with two {two}"
    shares = [row("digits", "digits", functional=name, step="euler")["class_tv"] for name in FIELDS]
    words = [f"{share:.2f}".lstrip("0") for share in shares]
    yield "{} for the drift as written down, {} as released and {} for Sinkhorn".format(*words)


FIELDS = ("drifting", "drifting_released", "sinkhorn")
CHAPTERS = {"10_jko_effect": of_jko, "06_sjko": of_sjko, "08_explicit": of_explicit}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_numbers_in_prose_are_those_of_the_sheets(chapter):
    cells = json.loads((ROOT / f"notebooks/chapters/{chapter}.ipynb").read_text())["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    missing = [phrase for phrase in CHAPTERS[chapter]() if phrase not in prose]
    assert not missing


def test_a_phrase_is_made_as_the_chapters_write_it():
    words = "0.3337 to 0.6056 by FD-LeNet, 1.324 to 13.11 by FD-SqueezeNet"
    assert ratios(*span(words)) == ".33 to .61" and ratios(*span(words, "FD-SqueezeNet")) == "1.3 to 13"
    assert wider(words) == (0.3337, 13.11)
    assert percent(0.744, 0.959) == "4 to 26 % nearer" and percent(0.838, 1.021) == "16 % nearer to 2 % farther"
    assert percent(1.162, 1.385) == "16 to 38 % farther"
