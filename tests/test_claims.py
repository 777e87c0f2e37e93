"""The claims ledger: its data files, the rule from values to verdicts, every check and every control."""

import math
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwf import paths
from gwf.claims import ledger, sources
from gwf.claims.__main__ import main
from gwf.claims.checks import learned, paired
from gwf.claims.outcome import VERDICTS, Band, NotRun, Outcome, grade, show, show_interval, verdict
from gwf.claims.registry import Check, computed
from gwf.errors import UsageError

CLAIMS = {claim.id: claim for claim in ledger.claims()}
CHECKS = computed()


def runs(**shift):
    """Made-up distances of every functional, both steps, three seeds; `shift` adds to functional, step or data set."""
    rows = [
        {
            "dataset": dataset,
            "functional": functional,
            "step": step,
            "seed": seed,
            "value": 20
            + 0.1 * seed
            + shift.get(functional, 0)
            + shift.get(step, 0)
            + shift.get(f"{functional}_{step}", 0)
            + 0.01 * len(functional) * seed,
        }
        for dataset in paired.METRICS
        for functional in ("kl", "kl_dv", "js_ns", "chi2", "w1", "mmd", "smmd")
        for step in ("jko", "gan")
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


class MadeUp(sources.Sources):
    """Sources with the frames above in place of finished runs, and no studies unless given."""

    def __init__(self, frame=None, cases=None):
        super().__init__("laptop")
        self.frame, self.cases = frame, cases or {}

    def runs(self, dataset, metric):
        if self.frame is None:
            raise NotRun(f"no finished runs on {dataset}")
        return self.frame[self.frame["dataset"] == dataset].drop(columns="dataset")

    def study(self, name):
        if name not in self.cases:
            raise NotRun(f"no results of the study {name!r}")
        return self.cases[name]


# Data files.


def test_every_claim_of_the_five_works_is_there():
    """Ids run from 1 without a hole in every series."""
    series = {
        "gwf": {"C": 13, "O": 4},
        "sjko": {"C": 10, "U": 3, "O": 4},
        "vwgf": {"C": 13, "I": 5},
        "w2fe": {"C": 8, "S": 2},
        "proposal": {"P": 10},
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
        own = claim.id.split("-")[1][0] == "O" or claim.id == "w2fe-C8"
        assert ("ours" in claim.trust) == own, claim.id


def test_every_claim_has_a_check_or_says_why_not():
    for claim in CLAIMS.values():
        assert (claim.id in CHECKS) != bool(claim.otherwise), claim.id
    assert set(CHECKS) <= set(CLAIMS)
    assert all(CLAIMS[name].band is not None and CHECKS[name].controls for name in CHECKS)


VALID = """
key: gwf
paper: P
claims:
  - {id: gwf-C1, claim: c, published: p, trust: [paper], check: k, run: [exact], control: x,
     band: {inside: {gap: [0, 1]}, why: w}}
"""


def test_a_valid_file_is_read():
    (claim,) = ledger.parse(VALID)
    assert claim.band == Band({"gap": (0.0, 1.0)}, "w") and claim.key == "gwf" and claim.otherwise == ""


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("id: gwf-C1", "id: gwf-c1"), "gwf-c1"),
        (("id: gwf-C1", "id: sjko-C1"), "sjko-C1"),
        (("claim: c,", ""), "lacks claim"),
        (("run: [exact],", ""), "lacks run"),
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
        ledger.parse(VALID.replace(*wrong))


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
    ],
)
def test_verdicts_follow_from_values_and_band(values, expected):
    assert verdict(values, BAND) == expected


@pytest.mark.parametrize("values", [{"other": 2}, {"main": math.nan, "other": 2}, {"main": 0, "mian": 1}])
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
    assert show_interval(-math.inf, 2) == "at most 2" and show_interval(0, math.inf) == "at least 0"
    assert [show(value) for value in (0.26347, 3.1e-12, -3.1e-12, 0.0)] == ["0.2635", "< 1e-11", "> -1e-11", "0"]


# Checks and controls.

ACCEPTED = {"gwf-C5": {"kl_dv": -3}, "gwf-C10": {"jko": -3}, "gwf-C11": {"jko": -3}, "sjko-C9": {"js_ns": -3}}
"""Claims that read runs: the shift of the made-up distances with which they hold."""


def made_up_cases():
    """Results of every study that a check reads, of the columns it reads; numbers are made up."""
    steps = [
        {"functional": name, "tau": tau, "w2": w2 + 0.01 * seed, "seed": seed}
        for name in ("kl", "chi2")
        for tau, w2 in ((math.inf, 0.2), (0.01, 0.5), (1.0, 0.15), (100.0, 0.2))
        for seed in range(3)
    ]
    cost = [
        {"method": name, "d": d, "million operations": 1 + factor * d, "seed": 0}
        for name, factor in (("VWGF", 0.01), (learned.ICNN, 1))
        for d in (2, 64)
    ]
    ou = [
        {"method": name, "log10 SymKL": value, "seed": 0}
        for name, value in (("VWGF", -3.0), ("VWGF, R = target", -2.5), ("VWGF, R = N(0, 16 I)", -1.0))
    ]
    gmm = [
        {"method": "VWGF", "d": d, "log10 SymKL, fitted mixture": -0.7, "log10 KSD": -1.6, "seed": 0} for d in (2, 4, 8)
    ]
    bayes = [
        {"method": name, "data": "twonorm", "prior": "stated", "accuracy": 0.98, "log_predictive": -0.06, "seed": 0}
        for name in ("VWGF", "SVGD")
    ]
    aggregation = [
        {"k": k, "std_flow": 1.0, "w2_learned_to_scheme": 0.01, "w2_learned_to_flow": 0.02, "seed": 0} for k in range(3)
    ]
    filtering = [
        {"law": "bootstrap filter", "particles": n, "sym_kl": 10**value, "path": 0, "seed": 0}
        for n, value in ((1000, -1.4), (50_000, -2.37))
    ]
    ablation = [{"sweep": "phases", "K": K, "tv_to_uniform": 0.6, "seed": 0} for K in (1, 2, 5, 20)]
    ablation += [
        {
            "sweep": "noise",
            "K": 1,
            "noise": s,
            "sd": (0.005 + s**2) ** 0.5,
            "sd_exact": (0.005 + s**2) ** 0.5,
            "seed": 0,
        }
        for s in (0.0, 1 / 32)
    ]
    tables = {
        "steps": steps,
        "step_cost": cost,
        "ou": ou,
        "gmm": gmm,
        "bayes": bayes,
        "aggregation": aggregation,
        "filtering": filtering,
        "ablation": ablation,
        "ring": made_up_ring(),
        **made_up_proposal(),
        **made_up_uses(),
        "dimension": made_up_dimension(),
    }
    return {name: {f"{name}_case": {"table": pd.DataFrame(rows)}} for name, rows in tables.items()}


def made_up_dimension():
    """Both flows below the linear map at d = 128, Sinkhorn's error grows, the critic's cosine falls."""
    energy = {"W2 critic": (2.0, 3.0), "Sinkhorn": (1.5, 4.0), "linear map": (6.0, 5.0)}
    return [
        {
            "kind": "mixture",
            "d": d,
            "method": method,
            "cosine": 0.95 - 0.002 * d,
            "energy": values[i],
            "energy_floor": 1.0,
            "million_operations": 40.0 + d / 10,
            "seed": seed,
        }
        for method, values in energy.items()
        for i, d in enumerate((2, 128))
        for seed in (0, 1)
    ]


def made_up_proposal():
    """Initialisation halves the work, schedules close two thirds of the gap, two batches keep the minor modes."""
    starts = [
        {
            "field": "sinkhorn",
            "init": init,
            "w1_after_init": after,
            "work_to_threshold": work,
            "w1_even": 0.08 + 0.01 * seed,
            "seed": seed,
        }
        for init, after, work in (("none", 0.95, 800.0), ("flow", 0.1, 400.0), ("other flow", 0.3, 900.0))
        for seed in (0, 1)
    ]
    ends = [
        {
            "field": field,
            "schedule": schedule,
            "w1": w1,
            "w1_even": w1,
            "w1_floor": 0.047,
            "w1_floor_independent": 0.09,
            "work_to_threshold": 300.0 if field == "sinkhorn" else 900.0,
            "failed": 0,
            "seed": seed,
        }
        for field in ("sinkhorn", "w2")
        for schedule, w1 in (("constant", 0.1), ("all", 0.065), ("rising", 0.3))
        for seed in (0, 1)
    ]
    modes = [
        {
            "field": field,
            "reg": 0.02,
            "minor_1": share,
            "minor_2": 0.05,
            "minor_true": 0.05,
            "modes": 8,
            "modes_all": 8,
            "seed": seed,
        }
        for field, share in (("sinkhorn", 0.048), ("sinkhorn_single", 0.02))
        for seed in (0, 1)
    ]
    return {"initialisation": starts, "schedules": ends, "diversity": modes}


def made_up_uses():
    """Outliers, anomalies and missing cells with the outcome hoped for."""
    flows = [
        {
            "part": "particles",
            "kind": kind if c else "none",
            "contamination": c,
            "relaxation": w,
            "iterations": 40,
            "kept exact": 1 / (1 - c),
            "W1 to the clean ring": 0.06 * (1 if c == 0 or w == 0.5 else 8),
            "kept inside": 1 / (1 - c),
            "kept outside": 0.0,
            "seed": 0,
        }
        for kind in ("far", "near", "noise")
        for c in (0.0, 0.05, 0.1)
        for w in (0.5, math.inf)
    ]
    scores = [
        {
            "data": "digits",
            "task": task,
            "contamination": c,
            "method": method,
            "relaxation": w,
            "class": 0,
            "seed": 0,
            "AUROC": 0.997 - (0.3 * c if method == "knn" else 0),
        }
        for task in ("others", "rare")
        for c in (0.0, 0.1, 0.2)
        for method, w in (("kept_mass", 0.1), ("knn", math.nan))
    ]
    cells = [
        {"data": data, "mask": kind, "p": p, "method": method, "MAE": mae, "RMSE": 1.4 * mae, "seed": 0}
        for data, kind, p, method, mae in (
            ("wine", "MCAR, seed 42", 0.5, "Sinkhorn", 0.62),
            ("wine", "MCAR, seed 42", 0.5, "iterative ridge", 0.718),
            ("breast cancer", "MCAR", 0.3, "Sinkhorn", 0.4),
            ("breast cancer", "MCAR", 0.3, "iterative ridge", 0.26),
        )
    ]
    return {"outliers": flows, "anomalies": scores, "imputation": cells}


def made_up_ring():
    """W1 = .1 + .84 exp(-rate iteration), slower at persistency 1 and for WGANs, at 0, 50, .. 600."""
    speeds = {
        ("w2fe", 1, 1e-4, 1.0): 0.002,
        ("w2fe", 1, 1e-3, 1.0): 0.005,
        ("w2fe", 3, 1e-4, 1.0): 0.005,
        ("w2fe", 10, 1e-4, 1.0): 0.02,
        ("naive", 10, 1e-4, 1.0): 0.002,
        ("wgan_lp", 1, 1e-4, 1.0): 0.003,
        ("w1fe_lp", 10, 1e-4, 0.1): 0.01,
        ("w1fe_lp", 10, 1e-4, 1.0): 0.005,
    }
    return [
        {
            "toy": "ring",
            "width": 64,
            "method": method,
            "persistency": J,
            "lr": lr,
            "eps": eps,
            "schedule": "constant",
            "iteration": i,
            "w1": 0.1 + 0.84 * math.exp(-speed * i),
            "seed": seed,
        }
        for (method, J, lr, eps), speed in speeds.items()
        for i in range(0, 601, 50)
        for seed in (0, 1)
    ]


def evidence_for(claim):
    return MadeUp(runs(**ACCEPTED.get(claim, {})), made_up_cases())


@pytest.mark.parametrize(
    "claim, missing",
    [("gwf-C12", "w2"), ("vwgf-C2", "million operations"), ("vwgf-I5", "sym_kl"), ("vwgf-C5", "log10 KSD")],
)
def test_a_study_without_a_column_is_an_error_that_names_it(claim, missing):
    cases = {
        name: {
            case: {"table": tables["table"].drop(columns=missing, errors="ignore")} for case, tables in study.items()
        }
        for name, study in made_up_cases().items()
    }
    with pytest.raises(UsageError, match=f"{claim}.*no column '{missing}'"):
        ledger.judge(CLAIMS[claim], CHECKS[claim], MadeUp(cases=cases))


@pytest.mark.parametrize("claim", sorted(CHECKS))
def test_every_control_turns_its_verdict(claim):
    """On broken evidence the verdict must be another: else the check does not test what it says."""
    found = ledger.judge(CLAIMS[claim], CHECKS[claim], evidence_for(claim))
    assert found.verdict in ("reproduced", "partly", "contradicted"), found.finding
    assert found.control_verdict != found.verdict
    assert found.finding


@pytest.mark.parametrize("claim", sorted(ACCEPTED))
def test_checks_on_runs_tell_gain_from_loss(claim):
    """Made-up gains of 3 with a spread of .1 are reproduced, the same losses contradicted."""
    gain = ledger.judge(CLAIMS[claim], CHECKS[claim], evidence_for(claim))
    loss = {name: -4 * value for name, value in ACCEPTED[claim].items()}
    assert gain.verdict == "reproduced"
    assert ledger.judge(CLAIMS[claim], CHECKS[claim], MadeUp(runs(**loss))).verdict == "contradicted"


@pytest.mark.parametrize("claim", sorted(name for name in CHECKS if CLAIMS[name].run != ["exact"]))
def test_missing_results_are_not_run(claim):
    found = ledger.judge(CLAIMS[claim], CHECKS[claim], MadeUp())
    assert (found.verdict, found.control_verdict, found.values) == ("not-run", "not-run", {})
    assert "no " in found.finding


def test_one_seed_gives_no_verdict():
    frame = runs()
    found = ledger.judge(CLAIMS["gwf-C5"], CHECKS["gwf-C5"], MadeUp(frame[frame["seed"] == 0]))
    assert found.verdict == "not-run" and "two seeds" in found.finding


def test_a_check_that_ignores_its_evidence_is_caught():
    """Negative control of the controls: a check that always passes keeps its verdict on broken evidence."""
    blind = Check(
        "gwf-C3", lambda evidence: Outcome({"main": 0.5, "other": 2}, "always"), lambda s: 0.5, (lambda e: 0.35,)
    )
    claim = ledger.Claim("gwf-C3", "P", "c", "p", ["paper"], "k", "x", ["exact"], BAND)
    found = ledger.judge(claim, blind, MadeUp())
    assert found.verdict == found.control_verdict == "reproduced"


def test_a_missing_column_is_named():
    with pytest.raises(UsageError, match="no column 'w2'; it has a"):
        sources.column(pd.DataFrame({"a": [1]}), "w2")
    with pytest.raises(UsageError, match="case ou_d2 has no table 'curve'"):
        sources.table({"ou_d2": {"table": pd.DataFrame()}}, "curve")


# The files it writes.


@pytest.fixture(scope="module")
def frame():
    """A ledger with made-up judgements: what is written does not depend on how verdicts were reached."""
    rows = []
    for i, claim in enumerate(CLAIMS.values()):
        name = list(VERDICTS)[i % 5]
        rows.append(
            {column: "" for column in ledger.COLUMNS}
            | {
                "id": claim.id,
                "paper": claim.paper,
                "claim": claim.claim,
                "published": claim.published,
                "trust": "released code",
                "check": claim.check,
                "verdict": name,
                "evidence": "../results/x/table.csv",
                "command": "make reproduce",
                "value": "gap: 1" if i % 5 < 3 else "",
                "control_verdict": "contradicted" if i % 5 == 0 else "",
            }
        )
    return pd.DataFrame(rows)


def test_markdown_counts_and_links(frame):
    text = ledger.markdown(frame, "laptop")
    assert text.count("\n### ") == len(CLAIMS) == 72
    assert "72 claims: 15 reproduced, 15 partly, 14 contradicted, 14 needs-gpu, 14 not-run" in text
    assert "[reproduced](../results/x/table.csv)" in text


def test_the_terminal_table_keeps_to_its_width(frame):
    for width in (70, 120):
        lines = ledger.terminal(frame, width).splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.startswith("gwf-C1 ") and "reproduced" in line for line in lines)


def test_written_files_are_the_same_twice_and_read_back(tmp_path, monkeypatch):
    """Two claims stand for all: the bytes depend on the code that writes, not on how many there are."""
    few = [CLAIMS["gwf-O2"], CLAIMS["gwf-C13"]]
    monkeypatch.setattr(ledger, "claims", lambda: few)
    monkeypatch.setattr(ledger, "computed", lambda: {"gwf-O2": CHECKS["gwf-O2"]})
    written, bytes_of = [], []
    for _ in range(2):
        written.append(ledger.write("laptop", tmp_path))
        bytes_of.append([(tmp_path / name).read_bytes() for name in ("claims.csv", "claims.md")])
    assert bytes_of[0] == bytes_of[1]
    assert ledger.read(tmp_path).equals(written[0])
    assert list(written[0].columns[:13]) == [
        "id",
        "paper",
        "claim",
        "published",
        "trust",
        "check",
        "run",
        "band",
        "value",
        "verdict",
        "control_verdict",
        "evidence",
        "command",
    ]
    row = written[0].set_index("id").loc["gwf-O2"]
    assert (row["verdict"], row["control_verdict"]) == ("reproduced", "contradicted")
    assert (tmp_path / row["evidence"]).resolve() == paths.ROOT / "gwf/claims/checks/gwf.py"


def test_errors_are_one_line(capsys, tmp_path):
    assert main(["latpop", str(tmp_path)]) == 2
    assert "did you mean 'laptop'" in capsys.readouterr().err
    assert main(["--print", "laptop", str(tmp_path)]) == 2
    assert "Make it with" in capsys.readouterr().err
    assert main(["--print"]) == 2 and "usage" in capsys.readouterr().err


def test_it_runs_as_a_program(tmp_path, frame):
    frame.to_csv(tmp_path / "claims.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-m", "gwf.claims", "--print", "laptop", str(tmp_path)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "72 claims" in done.stdout
