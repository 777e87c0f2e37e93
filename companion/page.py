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

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from companion import ledger
from companion.files import read_file, write_text
from companion.guard import command_line
from gwf.paths import ROOT

#: The experiments that a reader looks for.
FIRST = ("digits", "eight_gaussians")


def formulas(text, plain=escape):
    """`text` as HTML, with its formulas between $ as MathML and the rest through `plain`."""
    parts = re.split(r"\$([^$]+)\$", text)
    return Markup("".join(convert(part) if i % 2 else plain(part) for i, part in enumerate(parts)))


def sheets(report):
    """What every notebook showed, chapters and experiments apart: see `Sheet.close`."""
    files, found = report.glob("sheets/*/shown.json"), {"chapters": [], "experiments": []}
    for file in sorted(files, key=lambda file: (file.parent.name not in FIRST, file.parent.name)):
        shown = read_file(file)
        link = os.path.relpath(ROOT / shown["notebook"], report.resolve())
        entry = shown | {"name": file.parent.name, "link": Path(link).as_posix()}
        found[Path(shown["notebook"]).parent.name].append(entry)
    return found


def write(profile, report: Path):
    """Write `index.html` into the folder `report`; the same files give the same bytes. `UsageError` if there is no ledger."""
    found = sheets(folder := ROOT / report)
    frame = ledger.load(folder)
    filters = {"formulas": formulas, "markdown": lambda text: Markup(MarkdownIt().render(formulas(text, str)))}
    of = found | {"profile": profile, "summary": ledger.summary(frame), "works": ledger.works(frame)}
    write_text(ledger.render("page.html", filters, **of), folder / "index.html")
    print(f"{report}/index.html")


main = command_line(main=write)

if __name__ == "__main__":
    sys.exit(main())
