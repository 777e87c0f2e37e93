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
from companion.files import read_file
from companion.guard import command_line
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


def write(profile, report):
    """Write `<report>/index.html`; the same files give the same bytes. `UsageError` if there is no ledger."""
    chapters, experiments = sheets(ROOT / report)
    frame = ledger.load(ROOT / report)
    of = {"profile": profile, "summary": ledger.summary(frame), "works": ledger.works(frame)}
    filters = {"markdown": rendered, "formulas": formulas}
    text = ledger.render("page.html", filters, chapters=chapters, experiments=experiments, **of)
    (ROOT / report / "index.html").write_text(text, encoding="utf-8")
    print(f"{report}/index.html")


main = command_line(main=write)

if __name__ == "__main__":
    sys.exit(main())
