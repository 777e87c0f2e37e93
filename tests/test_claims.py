"""The claims: their data files, the rule from values to verdicts, judging, the ledger that is written."""

import hashlib
import json
import math
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import claims, ledger
from companion.claims import Band, NotRun, Outcome, grade, show, show_interval, verdict
from gwf.errors import UsageError
from gwf.paths import NOTEBOOKS, REPORT, ROOT

CLAIMS = claims.read()

# Data files.


def test_every_claim_of_the_five_works_and_of_others_is_there():
    """Ids run from 1 without a hole in every series."""
    series = {
        "gwf": {"C": 21, "O": 5},
        "sjko": {"C": 14, "U": 5, "O": 5},
        "vwgf": {"C": 16, "I": 6, "O": 2},
        "w2fe": {"C": 9, "S": 2, "O": 2},
        "proposal": {"P": 10, "H": 9, "O": 1},
        "outside": {"C": 15, "O": 3},
    }
    expected = {
        f"{key}-{letter}{n}"
        for key, letters in series.items()
        for letter, last in letters.items()
        for n in range(1, last + 1)
    }
    assert set(CLAIMS) == expected


def test_our_own_questions_are_marked_and_no_others_are_mixed_in():
    for claim in CLAIMS.values():
        own = claim.id.split("-")[1][0] in "OH" or claim.id == "w2fe-C8"
        assert ("ours" in claim.trust) == own, claim.id


def test_every_claim_is_judged_in_one_notebook_or_says_why_not():
    judged = ledger.judged_in()
    for claim in CLAIMS.values():
        assert (claim.id in judged) != bool(claim.otherwise), claim.id
    assert set(judged) <= set(CLAIMS)
    assert all(CLAIMS[name].band is not None and CLAIMS[name].control for name in judged)


VALID = """
key: gwf
paper: P
claims:
  - {id: gwf-C1, kind: trained, claim: c, published: p, trust: [paper], check: k, control: x,
     band: {inside: {gap: [0, 1]}, why: w}}
"""


def parsed(text):
    return claims.parse(yaml.safe_load(text), "gwf.yaml")


def test_a_valid_file_is_read():
    (claim,) = parsed(VALID)
    assert claim.band == Band({"gap": (0.0, 1.0)}, "w") and claim.otherwise == ""


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("id: gwf-C1", "id: gwf-c1"), "gwf-c1"),
        (("id: gwf-C1", "id: sjko-C1"), "sjko-C1"),
        (("claim: c,", ""), "lacks claim"),
        (("kind: trained", "kind: trainde"), "did you mean 'trained'"),
        (("control: x,", "control: x, otherwise: contradicted,"), "verdict of claim gwf-C1"),
        (("published: p", "publised: p"), "did you mean 'published'"),
        (("trust: [paper]", "trust: [papers]"), "did you mean 'paper'"),
        (("gap: [0, 1]", "gap: [1, 0]"), "lower limit is above"),
        (("gap: [0, 1]", "gap: one"), "pair of numbers"),
        ((", why: w", ""), "why"),
        (("control: x,", "control: x, otherwise: later,"), "verdict of claim gwf-C1"),
    ],
)
def test_a_wrong_field_is_named(wrong, message):
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        parsed(VALID.replace(*wrong))


# The rule.

BAND = Band({"main": (0, 1), "other": (2, 3)}, "why", {"main": (-1, 2)})


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"main": 0.5, "other": 2}, "reproduced"),
        ({"main": 1, "other": 3}, "reproduced"),
        ({"main": 0.5, "other": 4}, "partly"),
        ({"main": 0.5}, "partly"),
        ({"main": 1.5, "other": 2}, "partly"),
        ({"main": 2.5, "other": 2}, "contradicted"),
        ({"main": math.inf, "other": 2}, "contradicted"),
        ({"main": (0.2, 0.8), "other": (2, 3)}, "reproduced"),
        ({"main": (0.2, 0.8), "other": (1, 2.5)}, "partly"),
        ({"main": (0.9, 1.1), "other": 2}, "partly"),
        ({"main": (-5, 5), "other": 2}, "undecided"),
        ({"main": (1.2, 1.9), "other": 2}, "partly"),
        ({"main": (1.2, 2.1), "other": 2}, "undecided"),
        ({"main": (2.5, 3.5), "other": 2}, "contradicted"),
    ],
)
def test_verdicts_follow_from_values_and_band(values, expected):
    assert verdict(values, BAND) == expected
    assert verdict(values, BAND, toy=True) == expected.replace("reproduced", "toy")


def test_what_is_judged_by_the_literature_may_have_any_verdict_and_is_counted_apart(report):
    (claim,) = parsed(VALID.replace("kind: trained", "kind: literature, otherwise: contradicted"))
    assert claim.otherwise == "contradicted"
    ledger.write("laptop", report)
    frame = ledger.load(report)
    trained = frame[frame["kind"] == "trained"]
    assert f"trained for, {len(trained)}: " in ledger.summary(frame)
    assert f"literature, {len(frame) - len(trained)}: 1 reproduced, " in ledger.summary(frame)


@pytest.mark.parametrize(
    "values", [{"other": 2}, {"main": math.nan, "other": 2}, {"main": (0, math.nan)}, {"main": 0, "mian": 1}]
)
def test_a_value_that_allows_no_verdict_is_an_error(values):
    with pytest.raises(UsageError, match="main|nan"):
        verdict(values, BAND)


@settings(deadline=None, max_examples=50)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_better_part_never_gives_a_worse_verdict(main, other):
    """Moving a part into its band may not lower the verdict."""
    order = ["contradicted", "partly", "reproduced"]
    reached = order.index(verdict({"main": main, "other": other}, BAND))
    assert order.index(verdict({"main": 0.5, "other": other}, BAND)) >= reached
    assert order.index(verdict({"main": main, "other": 2.5}, BAND)) >= reached


def test_grades_and_texts():
    assert [grade(value, (0, 1), (-1, 2)) for value in (0.5, 1.5, 3)] == [2, 1, 0]
    # Across the edge between what is inside and what is near: near at least, in whichever way the band is written.
    for near in ((1, 2), (0, 2)):
        assert [grade(span, (0, 1), near) for span in ((0.2, 0.5), (0.5, 1.5), (0.5, 2.5), (2.5, 3))] == [2, 1, None, 0]
    assert show_interval(-math.inf, 2) == "at most 2" and show_interval(0, math.inf) == "at least 0"
    assert [show(value) for value in (0.26347, 3.1e-12, -3.1e-12, 0.0)] == ["0.2635", "< 1e-11", "> -1e-11", "0"]


# Judging.

CLAIM = parsed(VALID)[0]


def gap(frame):
    """A measure of made-up evidence."""
    if frame.empty:
        raise NotRun("no rows")
    return Outcome({"gap": frame["gap"].mean()}, "Said.")


def times(factor):
    """A control that multiplies the gap."""
    return lambda frame: frame.assign(gap=frame["gap"] * factor)


def test_a_control_that_turns_the_verdict_is_found():
    frame = pd.DataFrame({"gap": [0.4, 0.6], "seed": [0, 1]})
    judged = claims.judge(CLAIM, gap, frame, (times(1.5), times(10)))
    assert (judged.verdict, judged.control_verdict, judged.values) == ("reproduced", "contradicted", {"gap": 0.5})
    assert claims.judge(CLAIM, gap, frame, (times(1.5),)).control_verdict == "reproduced"
    assert claims.sentence(judged) == "gwf-C1: reproduced. gap: 0.5. Said. Control: contradicted."


def test_longer_trainings_are_judged_where_they_alone_do_not_contradict():
    fits, far = pd.DataFrame({"gap": [0.5]}), pd.DataFrame({"gap": [50.0]})
    judged = claims.judge(CLAIM, gap, fits, (times(100),), far)
    assert (judged.verdict, judged.control_verdict) == ("reproduced", "contradicted")
    assert judged.finding == "Said. With four times the training contradicted: gap: 50."
    judged = claims.judge(CLAIM, gap, far, (times(0.01), times(100)), fits)
    assert (judged.verdict, judged.control_verdict, judged.values) == ("reproduced", "contradicted", {"gap": 0.5})
    assert judged.finding == "Said. With a quarter of this training contradicted: gap: 50."
    judged = claims.judge(CLAIM, gap, far, (), pd.DataFrame({"gap": []}))
    assert (judged.verdict, judged.finding) == ("contradicted", "Said.")


def test_missing_evidence_is_not_run():
    judged = claims.judge(CLAIM, gap, pd.DataFrame({"gap": []}), ())
    assert judged.verdict == judged.control_verdict == "not-run" and judged.finding == "no rows"


def test_rows_are_chosen_and_changed_by_their_values():
    frame = pd.DataFrame({"method": ["a", "b"], "value": [1.0, 2.0]})
    assert claims.mean_of(frame, "value", method="b") == 2
    assert list(claims.rename("method", "a", "b")(frame)["method"]) == ["b", "a"]
    with pytest.raises(NotRun, match="no row with method = c"):
        claims.select(frame, method="c")
    with pytest.raises(UsageError, match="no column 'w2'; it has method"):
        claims.column(frame, "w2")
    with pytest.raises(UsageError, match="case ou_d2 has no table 'curve'"):
        claims.together({"ou_d2": {"table": frame}}, "curve")


@pytest.mark.parametrize("file", sorted(REPORT.glob("sheets/*/claims.json")), ids=lambda file: file.parent.name)
def test_every_committed_verdict_is_turned_by_its_control(file):
    for judged in json.loads(file.read_text()):
        if judged["verdict"] != "not-run":
            assert judged["control_verdict"] != judged["verdict"], judged["id"]
            claim = CLAIMS[judged["id"]]
            assert verdict(judged["values"], claim.band, claim.toy) == judged["verdict"], judged["id"]


# The ledger.


@pytest.fixture
def report(tmp_path):
    """A report in which one notebook judged one claim."""
    folder = tmp_path / "sheets" / "variational"
    folder.mkdir(parents=True)
    judged = claims.Judgement("gwf-C1", "reproduced", "contradicted", {"largest duality gap": 0.5}, "Said so.")
    (folder / "claims.json").write_text(json.dumps([vars(judged)]))
    return tmp_path


def test_the_ledger_holds_every_claim_once(report):
    ledger.write("laptop", report)
    frame = ledger.load(report)
    assert list(frame["id"]) == list(CLAIMS)
    rows = frame.set_index("id")
    assert rows.loc["gwf-C1", "verdict"] == "reproduced" and rows.loc["gwf-C1", "evidence"] == "sheets/variational/"
    others = frame[frame["id"] != "gwf-C1"]
    assert set(others[others["kind"] != "literature"]["verdict"]) <= {"not-run", "needs-gpu"}
    text = (report / "claims.md").read_text()
    assert text.count("\n### ") == len(CLAIMS) and f"1 of {len(CLAIMS)} verdicts were turned" in text
    before = (report / "claims.csv").read_bytes(), text
    ledger.write("laptop", report)
    assert before == ((report / "claims.csv").read_bytes(), (report / "claims.md").read_text())


def test_the_readme_of_the_report_shows_what_every_notebook_showed(report):
    folder = report / "sheets" / "variational"
    entries = {
        "tables": [{"name": "t", "title": "T", "reading": "It falls."}],
        "figures": [{"name": "f", "title": "F"}],
    }
    head = {"title": "Bounds", "notebook": "notebooks/experiments/variational.ipynb"}
    (folder / "shown.json").write_text(json.dumps(head | entries))
    ledger.write("laptop", report)
    text = (report / "README.md").read_text()
    assert all(words in text for words in ("It falls.", "![F](sheets/variational/f.png)", "gwf-C1 **reproduced**"))
    assert f"[Bounds]({os.path.relpath(ROOT / head['notebook'], report)})" in text


def test_the_tables_are_those_of_their_hashes():
    for line in (REPORT / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((REPORT / name).read_bytes()).hexdigest() == digest, name
    named = yaml.safe_load((ROOT / "codecheck.yml").read_text())["manifest"]
    assert named and all((ROOT / entry["file"]).is_file() for entry in named)


def test_disputes_have_claims_and_runs():
    found = ledger.disputes(ledger.load(REPORT))
    assert len(found) >= 10
    for entry in found:
        assert set(entry) == {"question", "between", "answer", "claims", "shown", "open"} and entry["claims"]
        assert all((NOTEBOOKS / f"{path}.ipynb").exists() for path in entry["shown"])


def test_the_terminal_table_keeps_to_its_width(report):
    ledger.write("laptop", report)
    frame = ledger.load(report)
    for width in (70, 120):
        lines = ledger.terminal(frame, width).splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.startswith("gwf-C1 ") and "reproduced" in line for line in lines)


def test_errors_are_one_line_and_a_closed_pipe_is_none(report):
    def run(*arguments, **options):
        command = [sys.executable, "-m", "companion.ledger", "print", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)

    done = run(str(report))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "make reproduce" in done.stderr
    (report / "claims.csv").write_text("")
    assert run(str(report)).stderr.count("\n") == 1
    ledger.write("laptop", report)
    assert f"of {len(CLAIMS)} verdicts" in " ".join(run(str(report)).stdout.split())
    piped = f"{sys.executable} -m companion.ledger print {report} | head -1"
    assert "Traceback" not in subprocess.run(piped, shell=True, cwd=ROOT, capture_output=True, text=True).stderr
