"""The ledger, what every notebook judged, as csv, markdown and text for the terminal; and the report's README.

Command line::

    python -m companion.ledger write laptop report     # claims.csv, claims.md, README.md from every notebook's sheet
    python -m companion.ledger print report            # the ledger in the terminal
"""

import json
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from pathlib import Path

import jinja2
import pandas as pd

from companion import claims
from companion.claims import ID, KINDS, TRUST, VERDICTS, WORKS, Judgement, listed, show_interval
from companion.files import checksums, read_file, shaped, short, write_text
from companion.form import cells, source
from companion.guard import command_line
from companion.params import profiles
from gwf.errors import UsageError, nearest
from gwf.paths import CONF, NOTEBOOKS, ROOT


def judged_in():
    """Id -> the notebook that judges it, read from the notebooks' code."""
    judges, paths = rf'sheet\.claim\(\s*"({ID.pattern})"', sorted(NOTEBOOKS.glob("*/*.ipynb"))
    found = [(name, path) for path in paths for cell in cells(path) for name, _ in re.findall(judges, source(cell))]
    return {name: path.relative_to(ROOT).as_posix() for name, path in found}


def evaluate(profile, report):
    """The ledger: a DataFrame, one row per claim, all of it text; reads every claims.json below the report folder."""
    files = sorted(Path(report).glob("sheets/*/claims.json"))
    judged = {}
    for file in files:
        with shaped(file):
            judged |= {entry["id"]: (file.parent.name, vars(Judgement(**entry))) for entry in read_file(file)}
    rows, where = [], judged_in()
    for claim in claims.read().values():
        folder, entry = judged.get(claim.id, ("", None))
        if entry is None:
            missing = "" if claim.otherwise else f"no result in the profile {profile!r}"
            entry = vars(Judgement(claim.id, claim.otherwise or "not-run", "", {}, missing))
        gpu = claim.gpu and f"{claim.gpu['what']} About {claim.gpu['hours']} GPU hours: {claim.gpu['command']}"
        row = {
            **{name: getattr(claim, name) for name in ("id", "paper", "kind", "claim", "published")},
            "trust": "; ".join(TRUST[tag] for tag in claim.trust),
            "check": claim.check,
            "band": accepted(claim.band),
            "value": listed(entry["values"]),
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
    near = {part: f" (in part: {show_interval(*limits)})" for part, limits in band.near.items()}
    parts = (f"{part}: {show_interval(*inside)}{near.get(part, '')}" for part, inside in band.inside.items())
    return f"{'; '.join(parts)}. {band.why}"


def tally(rows):
    """Verdict -> how many of the claims have it."""
    counts = Counter(rows["verdict"])
    return {name: counts[name] for name in VERDICTS}


def summary(frame):
    """How many claims there are of each verdict, those that need a training apart; how many verdicts their control turned."""
    trained, others = frame["kind"] == "trained", frame["id"].str.startswith(f"{WORKS[-1]}-").sum()

    def counted(rows):
        return f"{len(rows)}: " + ", ".join(f"{count} {name}" for name, count in tally(rows).items() if count)

    turned = frame[(frame["control_verdict"] != "") & (frame["control_verdict"] != frame["verdict"])]
    exchanged, undecided = turned["control"].str.contains("exchanged"), turned["control_verdict"] == "undecided"
    return (
        f"{len(frame) - others} claims of the five works and {others} of others. "
        f"Claims that are identities, counts, printed numbers or a matter of the literature, {counted(frame[~trained])}. "
        f"Claims that something has to be trained for, {counted(frame[trained])}. "
        f"{len(turned)} of {len(frame)} verdicts were turned by their control, {undecided.sum()} of them to undecided, {exchanged.sum()} by labels exchanged."
    )


EXPLICIT = {"sinkhorn", "sliced", "w2"}
"""The velocity fields whose distances `dvc metrics` compares: with more of them a row is wider than a screen."""


def metrics(frame, report):
    """What `dvc metrics` compares, file -> name -> number: verdicts; distances of the chief methods with several seeds, by step."""
    found, plane = {"claims": {name: tally(frame)[name] for name in ("reproduced", "partly", "contradicted")}}, set()
    for name, column in {"eight_gaussians": "w2_mean", "digits": "fd_lenet_mean"}.items():
        for file in Path(report).glob(f"sheets/{name}/{name}.csv"):
            with shaped(file):
                table = read_file(file).astype({"seeds": int, column: float})
                plane = plane or set(table["functional"])
            for row in table[table["seeds"] >= min(table["seeds"].max(), 2)].to_dict("records"):
                chief = EXPLICIT if row["step"] == "euler" else plane | EXPLICIT
                if row["step"] in ("gan", "jko", "sjko", "euler") and row["functional"] in chief:
                    found.setdefault(f"{name}-{row['step']}", {})[row["functional"]] = float(f"{row[column]:.4g}")
    return found


def by_kind(frame):
    """Kind -> verdict -> how many claims."""
    return {kind: tally(frame[frame["kind"] == kind]) for kind in KINDS}


def works(frame):
    """The claims by work: (paper, verdict -> how many, rows)."""
    return [(paper, tally(rows), rows.to_dict("records")) for paper, rows in frame.groupby("paper", sort=False)]


def sheets(frame, folder):
    """What every notebook showed and judged, experiments before chapters, images first: see `Sheet.close`."""
    found = []
    for file in sorted(folder.glob("sheets/*/shown.json")):
        name = file.parent.name
        judged = frame[frame["evidence"] == f"sheets/{name}/"].to_dict("records")
        with shaped(file):
            shown = {part: read_file(file)[part] for part in ("title", "notebook", "tables", "figures")}
            link = os.path.relpath(ROOT / shown["notebook"], folder.resolve())
        found.append(shown | {"name": name, "link": link, "judged": judged})
    return sorted(found, key=lambda shown: ("/chapters/" in shown["link"], shown["name"] != "digits"))


def render(template, **of):
    """The text that a template of this folder makes."""
    lines = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), **lines)
    return environment.get_template(template).render(of)


def disputes(frame):
    """The entries of conf/disputes.yaml with the verdicts of their claims."""
    verdicts = dict(zip(frame["id"], frame["verdict"], strict=True))
    of = lambda names: {name: verdicts[nearest(name, verdicts, "claim of conf/disputes.yaml")] for name in names}
    with shaped(file := CONF / "disputes.yaml"):
        return [{"answer": "", **entry, "claims": of([] + entry["claims"])} for entry in read_file(file)]


def write(profile, report):
    """Gather what the notebooks showed and judged in claims.csv, claims.md, README.md, SHA256SUMS and metrics/; the same
    results give the same bytes."""
    folder = ROOT / report
    frame = evaluate(nearest(profile, profiles(), "profile"), folder)
    if not (folder / "sheets").is_dir():
        raise UsageError(f"{short(folder)} has no sheets to gather: it is no report")
    frame.to_csv(folder / "claims.csv", index=False, lineterminator="\n")
    of = {"profile": profile, "summary": summary(frame), "verdicts": VERDICTS, "works": works(frame), "kinds": KINDS}
    of |= {"by_kind": by_kind(frame), "sheets": sheets(frame, folder), "disputes": disputes(frame)}
    of["notebooks"] = os.path.relpath(NOTEBOOKS, folder.resolve())
    for name, template in {"claims.md": "claims.md.j2", "README.md": "report.md.j2"}.items():
        write_text(re.sub(r"\n{3,}", "\n\n", render(template, **of)).rstrip() + "\n", folder / name)
    tables = [folder / "claims.csv", *sorted(folder.glob("sheets/*/*.csv"))]
    write_text(checksums(tables, folder), folder / "SHA256SUMS")
    shutil.rmtree(folder / "metrics", ignore_errors=True)
    for name, content in metrics(frame, folder).items():
        write_text(json.dumps(content, indent=1) + "\n", folder / "metrics" / f"{name}.json")
    print(summary(frame))


def load(report):
    """The ledger written into a report folder; `UsageError` with the command that makes it if it is not there."""
    file = Path(report) / "claims.csv"
    inside = Path(short(file)).parts
    of_profile = inside[0] == "results" and inside[3:]
    profile = f" PROFILE={nearest(inside[1], profiles(), 'profile')}" if of_profile else ""
    made = f"Make it with: make reproduce{profile}"
    try:
        frame = read_file(file, dtype=str, keep_default_na=False)
        if frame.empty or not {"id", "paper", "kind", "claim", "value", "verdict", "control_verdict"} <= set(frame):
            raise UsageError(f"{short(file)} has no claims")
    except UsageError as error:
        of_git = f"; git has one: git checkout {short(file)}" if inside[0] == "report" else ""
        raise UsageError(f"{error}. {made}{of_git}") from None
    if list(frame["id"]) != list(claims.read()) or not set(frame["verdict"]) <= set(VERDICTS):
        raise UsageError(f"{short(file)} is older than conf/claims, which has other claims. {made}")
    return frame


def columns():
    """The width of text in the terminal."""
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 160))


def entry(frame, name):
    """All that the ledger says of one claim, as plain text."""
    (row,) = frame[frame["id"] == name].to_dict("records")
    lines = [f"{name}: {row['verdict']}", row["claim"], *render("claim.md.j2", row=row).splitlines()]
    return "\n".join(textwrap.fill(line, columns(), subsequent_indent="  ") for line in lines if line)


def terminal(frame, width=None):
    """The ledger as plain text, wrapped to `width` columns (default: the terminal's)."""
    width = width or columns()
    names, verdicts = (max(map(len, texts)) for texts in (frame["id"], VERDICTS))
    margin, lines = " " * (names + verdicts + 4), []
    for paper, _, rows in works(frame):
        title = textwrap.wrap(paper, width)
        lines += [*title, "-" * max(map(len, title))]
        for row in rows:
            head = f"{row['id']:<{names}}  {row['verdict']:<{verdicts}}  "
            lines += textwrap.wrap(row["claim"], width, initial_indent=head, subsequent_indent=margin)
            lines += textwrap.wrap(row["value"], width, initial_indent=f"{margin}= ", subsequent_indent=f"{margin}  ")
        lines.append("")
    return "\n".join([*lines, *textwrap.wrap(summary(frame), width)])


def show_all(report):
    """Print the ledger."""
    print(terminal(load(ROOT / report)))


main = command_line(write=write, print=show_all)

if __name__ == "__main__":
    sys.exit(main())
