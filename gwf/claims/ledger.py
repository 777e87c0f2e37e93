"""The ledger: claims read from `claims/*.yaml`, judged on the evidence of a profile, written as csv and markdown."""

import os
import re
import shutil
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from gwf import paths
from gwf.claims.outcome import VERDICTS, Band, NotRun, show, show_interval, verdict
from gwf.claims.registry import computed
from gwf.claims.sources import Sources
from gwf.errors import UsageError, nearest

FOLDER = paths.ROOT / "conf" / "claims"
ID = re.compile(r"(gwf|sjko|vwgf|w2fe|proposal)-[A-Z][1-9]\d*")
COLUMNS = [
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
    "finding",
    "control",
    "gpu",
]

TRUST = {
    "paper": "paper, read first-hand",
    "code": "released code",
    "figure": "figure of the released notebook, read off by eye",
    "second-hand": "second-hand",
    "derived": "derived here",
    "ours": "our own question, not the paper's",
    "unknown": "unknown",
}
"""Key of the data files -> how far a published statement can be trusted, as the ledger prints it."""

_FIELDS = {"id", "claim", "published", "trust", "check", "run", "band", "control", "gpu", "otherwise"}


@dataclass(frozen=True)
class Claim:
    """One claim of a work, in our words; the attributes are the fields of its data file.

    `run` lists what the check reads: "exact" (nothing), `study:<name>`, `runs:<data set>`. `otherwise` is the verdict of
    a claim that has no computed check, "needs-gpu" or "not-run"; empty where there is one.
    """

    id: str
    paper: str
    claim: str
    published: str
    trust: list
    check: str
    control: str
    run: list = field(default_factory=list)
    band: Band = None
    gpu: dict = field(default_factory=dict)
    otherwise: str = ""

    @property
    def key(self):
        """Key of the work, "gwf" of "gwf-C1"."""
        return self.id.split("-")[0]


def _interval(value, where):
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        raise UsageError(f"{where} = {value!r}: a band is a pair of numbers [low, high]") from None
    if not low <= high:
        raise UsageError(f"{where} = {value!r}: the lower limit is above the upper one")
    return low, high


def _band(raw, where):
    if raw is None:
        return None
    for name in raw:
        nearest(name, {"inside", "near", "why"}, f"field of the band of {where}")
    inside, near = (
        {part: _interval(value, f"{where}, {part}") for part, value in raw.get(group, {}).items()}
        for group in ("inside", "near")
    )
    if not inside or not raw.get("why"):
        raise UsageError(f"the band of {where} needs `inside` with a part, and `why`")
    for part in near:
        nearest(part, inside, f"part of the band of {where}")
    return Band(inside, raw["why"], near)


def parse(text):
    """The claims of one data file, a list of `Claim`; `UsageError` names the claim and the field that is wrong."""
    raw = yaml.safe_load(text)
    found = []
    for entry in raw["claims"]:
        name = entry.get("id", "a claim without id")
        if not ID.fullmatch(str(name)) or not name.startswith(raw["key"] + "-"):
            raise UsageError(f"claim id {name!r}: valid ids of this file look like {raw['key']}-C1")
        for key in entry:
            nearest(key, _FIELDS, f"field of claim {name}")
        needed = _FIELDS - {"gpu"} - ({"band", "run"} if "otherwise" in entry else {"otherwise"})
        if missing := sorted(key for key in needed if not entry.get(key)):
            raise UsageError(f"claim {name} lacks {', '.join(missing)}")
        for tag in entry["trust"]:
            nearest(tag, TRUST, f"trust of claim {name}")
        if "otherwise" in entry:
            nearest(entry["otherwise"], {"needs-gpu", "not-run"}, f"verdict of claim {name}")
        gpu = entry.get("gpu") or {}
        if gpu and set(gpu) != {"what", "hours", "command"}:
            raise UsageError(f"gpu of claim {name} needs what, hours and command")
        fields = {key: entry[key] for key in _FIELDS & set(entry) - {"band", "gpu"}}
        fields = {key: value.strip() if isinstance(value, str) else value for key, value in fields.items()}
        found.append(Claim(paper=raw["paper"], band=_band(entry.get("band"), name), gpu=gpu, **fields))
    return found


def claims():
    """Every claim of the data files, in the order of the works; ids are unique."""
    order = ["gwf", "sjko", "vwgf", "w2fe", "proposal"]
    found = [claim for name in order for claim in parse((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))]
    if twice := [name for name, count in Counter(claim.id for claim in found).items() if count > 1]:
        raise UsageError(f"claim ids used twice: {', '.join(twice)}")
    return found


@dataclass(frozen=True)
class Judgement:
    """What came out for one claim: `verdict`, `control_verdict`, the measured `values` and a `finding` in words."""

    verdict: str
    control_verdict: str
    values: dict
    finding: str


def judge(claim, check, sources):
    """Run one check and its controls.

    Parameters
    ----------
    claim : Claim
    check : Check or None
        None for a claim without a computed check: its verdict is `claim.otherwise`.
    sources : Sources

    Returns
    -------
    Judgement
        `control_verdict` is the verdict on the first broken evidence that turns it; if none does, the last one's.
    """
    if check is None:
        return Judgement(claim.otherwise, "", {}, "")
    try:
        evidence = check.gather(sources)
        outcome = check.measure(evidence)
    except NotRun as missing:
        return Judgement("not-run", "not-run", {}, str(missing))
    except UsageError as error:
        raise UsageError(f"claim {claim.id}: {error}") from error
    reached = verdict(outcome.values, claim.band)
    for break_it in check.controls:
        turned = verdict(check.measure(break_it(evidence)).values, claim.band)
        if turned != reached:
            break
    return Judgement(reached, turned, outcome.values, outcome.text)


def evidence_files(claim, profile):
    """Files or folders a verdict rests on, relative to the root: the check's own module for an exact claim."""
    found = []
    for run in [] if claim.otherwise else claim.run:
        kind, _, name = run.partition(":")
        if kind == "exact":
            found.append(computed()[claim.id].measure.__module__.replace(".", "/") + ".py")
        elif kind == "study":
            cases = sorted((paths.RESULTS / profile / "studies").glob("*/case.json"))
            found += [
                file.parent.relative_to(paths.ROOT).as_posix()
                for file in cases
                if yaml.safe_load(file.read_text()).get("study") == name
            ]
        elif kind == "runs":
            found.append({"digits": "report/tables/fd_digits.csv"}.get(name, f"report/tables/{name}.csv"))
        else:
            raise UsageError(f"run {run!r} of claim {claim.id}: valid are exact, study:<name> and runs:<data set>")
    return found


def _linked(path, report):
    """`path` relative to the report folder; the report's own tables are linked inside it."""
    if path.startswith("report/"):
        return path.removeprefix("report/")
    return Path(os.path.relpath(paths.ROOT / path, Path(report).resolve())).as_posix()


def command(claim, profile, report):
    """What computes the verdict, or what would."""
    if claim.otherwise:
        return claim.gpu.get("command", "")
    if claim.run == ["exact"]:
        return f"python -m gwf.claims {profile} {report}"
    return "make reproduce" if profile == "laptop" else f"make reproduce PROFILE={profile}"


def evaluate(profile, report):
    """The ledger of a profile: a DataFrame with the columns `COLUMNS`, one row per claim, all of it text."""
    nearest(profile, [file.stem for file in (paths.ROOT / "conf" / "profile").glob("*.yaml")], "profile")
    sources, checks, rows = Sources(profile), computed(), []
    known = claims()
    if unknown := sorted(set(checks) - {claim.id for claim in known}):
        raise UsageError(f"checks of claims that no data file has: {', '.join(unknown)}")
    for claim in known:
        check = checks.get(claim.id)
        if (check is None) != bool(claim.otherwise):
            raise UsageError(f"claim {claim.id} must have either a check or `otherwise` in its data file")
        result = judge(claim, check, sources)
        band = (
            ""
            if claim.band is None
            else "; ".join(
                f"{part}: {show_interval(*interval)}"
                + (f" (in part: {show_interval(*claim.band.near[part])})" if part in claim.band.near else "")
                for part, interval in claim.band.inside.items()
            )
            + f". {claim.band.why}"
        )
        gpu = claim.gpu and f"{claim.gpu['what']} About {claim.gpu['hours']} GPU hours: {claim.gpu['command']}"
        rows.append(
            {
                "id": claim.id,
                "paper": claim.paper,
                "claim": claim.claim,
                "published": claim.published,
                "trust": "; ".join(TRUST[tag] for tag in claim.trust),
                "check": claim.check,
                "run": " ".join(claim.run) or "none",
                "band": band,
                "value": "; ".join(f"{part}: {show(value)}" for part, value in result.values.items()),
                "verdict": result.verdict,
                "control_verdict": result.control_verdict,
                "evidence": " ".join(_linked(path, report) for path in evidence_files(claim, profile)),
                "command": command(claim, profile, report),
                "finding": result.finding,
                "control": claim.control,
                "gpu": gpu or "",
            }
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.map(lambda text: " ".join(str(text).split()))


def summary(frame):
    """One sentence: how many claims, and how many of each verdict, in the order of `VERDICTS`."""
    counts = Counter(frame["verdict"])
    parts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    turned = ((frame["control_verdict"] != "") & (frame["control_verdict"] != frame["verdict"])).sum()
    return f"{len(frame)} claims: {parts}. {turned} verdicts were turned by their control."


def _links(evidence):
    return ", ".join(f"[{Path(path).name}]({path})" for path in evidence.split())


def markdown(frame, profile):
    """The ledger as markdown: counts, what the words mean, then the claims of each work."""
    lines = ["# Claims", "", f"Profile `{profile}`. {summary(frame)}", ""]
    works = list(dict.fromkeys(frame["paper"]))
    lines += ["| work | " + " | ".join(VERDICTS) + " |", "| --- |" + " ---: |" * len(VERDICTS)]
    for paper in works:
        counts = Counter(frame.loc[frame["paper"] == paper, "verdict"])
        lines.append(f"| {paper} | " + " | ".join(str(counts[name]) for name in VERDICTS) + " |")
    lines += ["", "What the verdicts mean:", ""]
    lines += [f"- **{name}**: {meaning}." for name, meaning in VERDICTS.items()]
    lines += [
        "",
        "Every verdict follows from the measured value and a stated band, by one rule for all claims; where a band or a setting was chosen after a first look at the value, its reason says so. "
        "The control repeats the check on evidence broken on purpose: it must come to another verdict. Claims are "
        "in our own words; the published evidence says how far it can be trusted.",
        "",
    ]
    for paper in works:
        lines += [f"## {paper}", ""]
        for row in frame[frame["paper"] == paper].to_dict("records"):
            lines += _entry(row)
    return "\n".join(lines).rstrip() + "\n"


def _entry(row):
    verdict_text = f"**{row['verdict']}**"
    if row["verdict"] != "not-run" and row["evidence"]:
        verdict_text = f"[{row['verdict']}]({row['evidence'].split()[0]})"
    lines = [
        f"### {row['id']}: {verdict_text}",
        "",
        row["claim"],
        "",
        f"- Published ({row['trust']}): {row['published']}",
        f"- Check: {row['check']}",
    ]
    if row["value"]:
        lines += [f"- Measured: {row['value']}. {row['finding']}".rstrip(), f"- Accepted: {row['band']}"]
    elif row["finding"]:
        lines.append(f"- Not run: {row['finding']}.")
    if row["control_verdict"] not in ("", "not-run"):
        lines.append(f"- Control: {row['control']} Verdict then: {row['control_verdict']}.")
    if row["value"] and row["evidence"]:
        lines.append(f"- Evidence: {_links(row['evidence'])}; `{row['command']}`")
    if row["gpu"]:
        lines.append(f"- Published scale: {row['gpu']}")
    return [*lines, ""]


def write(profile, report):
    """Write `claims.csv` and `claims.md` into the report folder; the same results give the same bytes.

    Returns
    -------
    DataFrame
        As `evaluate`.
    """
    frame, folder = evaluate(profile, report), Path(report)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "claims.csv", index=False, lineterminator="\n")
    (folder / "claims.md").write_text(markdown(frame, profile), encoding="utf-8")
    return frame


def read(report):
    """The ledger written into a report folder; `UsageError` with the command that makes it if it is not there."""
    file = Path(report) / "claims.csv"
    if not file.exists():
        raise UsageError(
            f"there is no {file}. Make it with: make reproduce, or python -m gwf.claims <profile> {report}"
        )
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def terminal(frame, width=None):
    """The ledger as plain text, wrapped to `width` columns (default: the terminal's)."""
    width = width or max(60, min(shutil.get_terminal_size((100, 24)).columns, 160))
    names = max(len(name) for name in frame["id"])
    verdicts = max(len(name) for name in VERDICTS)
    room = width - names - verdicts - 4
    lines = []
    for paper in dict.fromkeys(frame["paper"]):
        title = textwrap.wrap(paper, width)
        lines += [*title, "-" * max(map(len, title))]
        for row in frame[frame["paper"] == paper].to_dict("records"):
            text = textwrap.wrap(row["claim"], room)
            if row["value"]:
                text += textwrap.wrap(row["value"], room, initial_indent="= ", subsequent_indent="  ")
            for i, line in enumerate(text):
                head = (row["id"], row["verdict"]) if i == 0 else ("", "")
                lines.append(f"{head[0]:<{names}}  {head[1]:<{verdicts}}  {line}".rstrip())
        lines.append("")
    return "\n".join([*lines, *textwrap.wrap(summary(frame), width)])
