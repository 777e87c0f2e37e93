"""The page to open: every sheet of the report with what it means, and every claim with its verdict, as one HTML file.

Command line::

    python -m companion.page laptop report

reads `sheets/*/shown.json` and `claims.csv` in the report folder and writes `index.html`, which needs no network.
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
        notebook = ROOT / shown["notebook"]
        link = os.path.relpath(notebook, report.resolve())
        found[notebook.parent.name].append(shown | {"name": file.parent.name, "link": link})
    return found


def write(profile, report: Path):
    """Write `index.html`; the same files give the same bytes. `UsageError` if there is no ledger."""
    folder = ROOT / report
    frame = ledger.load(folder)
    filters = {"formulas": formulas, "markdown": lambda text: Markup(MarkdownIt().render(formulas(text, str)))}
    text = ledger.render("page.html", frame, profile, filters, on_page=True, **sheets(folder))
    write_text(text, folder / "index.html")
    print(f"{report}/index.html")


main = command_line(main=write)

if __name__ == "__main__":
    sys.exit(main())
