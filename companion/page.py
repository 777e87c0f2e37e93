"""The page to open: every sheet of the report with what it means, and every claim with its verdict, as one HTML file.

Command line::

    python -m companion.page laptop report

reads `sheets/*/shown.json` and `claims.csv` in the report folder and writes `index.html`. Figures are linked relative to
the page, and nothing on it needs a network.
"""

import os
import re
import sys
from pathlib import Path

import jinja2
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from companion import ledger
from companion.claims import VERDICTS
from companion.files import read_file
from companion.guard import Parser, command_line
from gwf.paths import ROOT

#: The experiments that a reader looks for.
FIRST = ("digits", "eight_gaussians")


def formulas(text, plain=escape):
    """`text` as HTML, with its formulas between $ as MathML and the rest through `plain`."""
    parts = re.split(r"\$([^$]+)\$", text)
    return Markup("".join(convert(part) if i % 2 else plain(part) for i, part in enumerate(parts)))


def rendered(text):
    """Markdown as HTML, formulas included."""
    return Markup(MarkdownIt().render(formulas(text, str)))


def sheets(report):
    """What every notebook showed, chapters and experiments apart: two lists of dicts, see `Sheet.close`."""
    found = []
    files = Path(report).glob("sheets/*/shown.json")
    for file in sorted(files, key=lambda file: (file.parent.name not in FIRST, file.parent.name)):
        shown = read_file(file)
        link = Path(os.path.relpath(ROOT / shown["notebook"], Path(report).resolve())).as_posix()
        found.append(shown | {"name": file.parent.name, "link": link, "chapter": "/chapters/" in shown["notebook"]})
    return [s for s in found if s["chapter"]], [s for s in found if not s["chapter"]]


def verdicts(report):
    """The claims by work: a list of (paper, counts, rows)."""
    frame = ledger.load(report)
    found = []
    for paper, rows in frame.groupby("paper", sort=False):
        counts = rows["verdict"].value_counts()
        counted = [(name, int(counts[name])) for name in VERDICTS if name in counts]
        found.append((paper, counted, rows.to_dict("records")))
    return found, ledger.summary(frame)


def write(profile, report):
    """Write `<report>/index.html`; the same files give the same bytes. `UsageError` if there is no ledger."""
    chapters, experiments = sheets(report)
    works, summary = verdicts(report)
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"markdown": rendered, "formulas": formulas}
    text = environment.from_string(template).render(
        profile=profile, chapters=chapters, experiments=experiments, works=works, summary=summary
    )
    (Path(report) / "index.html").write_text(text, encoding="utf-8")


@command_line()
def main(arguments):
    """Command line; returns the exit status."""
    parser = Parser(prog="python -m companion.page", description="Write the page of a report.")
    parser.add_argument("profile")
    parser.add_argument("report")
    asked = parser.parse_args(arguments)
    write(asked.profile, ROOT / asked.report)
    print(f"{asked.report}/index.html")


if __name__ == "__main__":
    sys.exit(main())
