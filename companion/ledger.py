"""The ledger: what every notebook judged, gathered, as csv, markdown and text for the terminal.

Command line::

    python -m companion.ledger write laptop report     # claims.csv and claims.md from every notebook's claims.json
    python -m companion.ledger print report            # the ledger in the terminal
"""

import argparse
import json
import re
import shutil
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pandas as pd

from companion.claims import ID, TRUST, VERDICTS, Judgement, read, show, show_interval
from gwf.errors import UsageError
from gwf.paths import NOTEBOOKS, ROOT


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


@dataclass(frozen=True)
class Claim:
    """One claim of a work, in our words; the attributes are the fields of its data file.

    `otherwise` is the verdict of a claim that no notebook judges, "needs-gpu" or "not-run"; empty where one does.
    """

    id: str
    paper: str
    claim: str
    published: str
    trust: list
    check: str
    control: str
    band: Band = None
    gpu: dict = field(default_factory=dict)
    otherwise: str = ""


def interval(value, where):
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        raise UsageError(f"{where} = {value!r}: a band is a pair of numbers [low, high]") from None
    if not low <= high:
        raise UsageError(f"{where} = {value!r}: the lower limit is above the upper one")
    return low, high


def band_of(raw, where):
    if raw is None:
        return None
    for name in raw:
        nearest(name, {"inside", "near", "why"}, f"field of the band of {where}")
    inside, near = (
        {part: interval(value, f"{where}, {part}") for part, value in raw.get(group, {}).items()}
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
            nearest(key, FIELDS, f"field of claim {name}")
        needed = FIELDS - {"gpu"} - ({"band"} if "otherwise" in entry else {"otherwise"})
        if missing := sorted(key for key in needed if not entry.get(key)):
            raise UsageError(f"claim {name} lacks {', '.join(missing)}")
        for tag in entry["trust"]:
            nearest(tag, TRUST, f"trust of claim {name}")
        if "otherwise" in entry:
            nearest(entry["otherwise"], {"needs-gpu", "not-run"}, f"verdict of claim {name}")
        gpu = entry.get("gpu") or {}
        if gpu and set(gpu) != {"what", "hours", "command"}:
            raise UsageError(f"gpu of claim {name} needs what, hours and command")
        fields = {key: entry[key] for key in FIELDS & set(entry) - {"band", "gpu"}}
        fields = {key: value.strip() if isinstance(value, str) else value for key, value in fields.items()}
        found.append(Claim(paper=raw["paper"], band=band_of(entry.get("band"), name), gpu=gpu, **fields))
    return found


def read():
    """Every claim of the data files, id -> `Claim`, in the order of the works; ids are unique."""
    found = [claim for name in WORKS for claim in parse((CONF / "claims" / f"{name}.yaml").read_text(encoding="utf-8"))]
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


def judge(claim, measure, evidence, controls):
    """Measure a claim, and its controls.

    Parameters
    ----------
    claim : Claim
    measure : callable (evidence) -> Outcome
        Raises `NotRun` where the evidence is not there.
    controls : callables (evidence) -> evidence
        Where the verdict may go either way (a comparison of two methods) there are two, one against each side.

    Returns
    -------
    Judgement
        `control_verdict` is the verdict on the first broken evidence that turns it; if none does, the last one's.
    """
    try:
        outcome = measure(evidence)
    except NotRun as missing:
        return Judgement(claim.id, "not-run", "not-run", {}, str(missing))
    reached = turned = verdict(outcome.values, claim.band)
    for break_it in controls:
        turned = verdict(measure(break_it(evidence)).values, claim.band)
        if turned != reached:
            break
    values = {name: float(value) for name, value in outcome.values.items()}
    return Judgement(claim.id, reached, turned, values, outcome.text)


def sentence(judged):
    """A judgement in words, for the notebook."""
    values = "; ".join(f"{part}: {show(value)}" for part, value in judged.values.items())
    control = f" Control: {judged.control_verdict}." if judged.values else ""
    return f"{judged.id}: {judged.verdict}. {values + '. ' if values else ''}{judged.finding}{control}"


def column(frame, name):
    """A column of a DataFrame; `UsageError` that names it and those there are."""
    if name not in frame:
        raise UsageError(f"the table has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
    return frame[name]


def together(cases, name="table"):
    """The tables `name` of all cases in one DataFrame, with the case's name in the column `case`."""
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


def scale(name, factor, **where):
    """A control that multiplies the column `name` by `factor` in the rows with the given values."""

    def broken(frame):
        chosen = np.full(len(frame), True)
        for key, wanted in where.items():
            chosen &= (column(frame, key) == wanted).to_numpy()
        return frame.assign(**{name: frame[name].where(~chosen, frame[name] * factor)})

    return broken


def judged_in():
    """Id -> the notebook that judges it, read from the notebooks' code."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for name in re.findall(rf'sheet\.claim\(\s*"({ID.pattern})"', "".join(cell["source"])):
                found[name[0]] = path.relative_to(ROOT).as_posix()
    return found


def evaluate(profile, report):
    """The ledger: a DataFrame, one row per claim, all of it text; reads every claims.json below the report folder."""
    files = sorted(Path(report).glob("sheets/*/claims.json"))
    judged = {entry["id"]: (file.parent.name, entry) for file in files for entry in json.loads(file.read_text("utf-8"))}
    rows, where = [], judged_in()
    for claim in read().values():
        folder, entry = judged.get(claim.id, ("", None))
        if entry is None:
            missing = "" if claim.otherwise else f"no result in the profile {profile!r}"
            entry = vars(Judgement(claim.id, claim.otherwise or "not-run", "", {}, missing))
        gpu = claim.gpu and f"{claim.gpu['what']} About {claim.gpu['hours']} GPU hours: {claim.gpu['command']}"
        row = {
            "id": claim.id,
            "paper": claim.paper,
            "claim": claim.claim,
            "published": claim.published,
            "trust": "; ".join(TRUST[tag] for tag in claim.trust),
            "check": claim.check,
            "band": accepted(claim.band),
            "value": "; ".join(f"{part}: {show(value)}" for part, value in entry["values"].items()),
            "verdict": entry["verdict"],
            "control_verdict": entry["control_verdict"],
            "evidence": folder and f"sheets/{folder}/",
            "notebook": where.get(claim.id, ""),
            "finding": entry["finding"],
            "control": claim.control,
            "gpu": gpu or "",
        }
        rows.append({name: " ".join(str(text).split()) for name, text in row.items()})
    return pd.DataFrame(rows)


def accepted(band):
    """A band in words."""
    if band is None:
        return ""
    parts = [
        f"{part}: {show_interval(*inside)}"
        + (f" (in part: {show_interval(*band.near[part])})" if part in band.near else "")
        for part, inside in band.inside.items()
    ]
    return "; ".join(parts) + f". {band.why}"


def summary(frame):
    """One sentence: how many claims, and how many of each verdict, in the order of `VERDICTS`."""
    counts = Counter(frame["verdict"])
    parts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    turned = ((frame["control_verdict"] != "") & (frame["control_verdict"] != frame["verdict"])).sum()
    return f"{len(frame)} claims: {parts}. {turned} verdicts were turned by their control."


INTRODUCTION = """Every verdict follows from the measured value and a stated band, by one rule for all claims; where a
band or a setting was chosen after a first look at the value, its reason says so. The control repeats the check on
evidence broken on purpose: it must come to another verdict. Claims are in our own words; the published evidence says how
far it can be trusted."""


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
    lines += ["", " ".join(INTRODUCTION.split()), ""]
    for paper in works:
        lines += [f"## {paper}", ""]
        for row in frame[frame["paper"] == paper].to_dict("records"):
            lines += entry_of(row)
    return "\n".join(lines).rstrip() + "\n"


def entry_of(row):
    """The lines of one claim."""
    lines = [f"### {row['id']}: **{row['verdict']}**", "", row["claim"], ""]
    lines += [f"- Published ({row['trust']}): {row['published']}", f"- Check: {row['check']}"]
    if row["value"]:
        lines += [f"- Measured: {row['value']}. {row['finding']}".rstrip(), f"- Accepted: {row['band']}"]
    elif row["finding"]:
        lines.append(f"- Not run: {row['finding']}.")
    if row["control_verdict"] not in ("", "not-run"):
        lines.append(f"- Control: {row['control']} Verdict then: {row['control_verdict']}.")
    if row["notebook"]:
        lines.append(
            f"- Judged in `{row['notebook']}`"
            + (f", evidence in [{row['evidence']}]({row['evidence']})" if row["value"] else "")
        )
    if row["gpu"]:
        lines.append(f"- Published scale: {row['gpu']}")
    return [*lines, ""]


def write(profile, report):
    """Write `claims.csv` and `claims.md` into the report folder; the same results give the same bytes."""
    frame, folder = evaluate(profile, report), Path(report)
    frame.to_csv(folder / "claims.csv", index=False, lineterminator="\n")
    (folder / "claims.md").write_text(markdown(frame, profile), encoding="utf-8")
    return frame


def load(report):
    """The ledger written into a report folder; `UsageError` with the command that makes it if it is not there."""
    file = Path(report) / "claims.csv"
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError):
        raise UsageError(f"there is no readable {file}. Make it with: make reproduce") from None


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


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.ledger", description="The ledger of claims.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("write", help="gather what the notebooks judged")
    command.add_argument("profile")
    command.add_argument("report")
    commands.add_parser("print", help="print the ledger").add_argument("report")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "write":
            print(summary(write(asked.profile, asked.report)))
        else:
            print(terminal(load(asked.report)))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
