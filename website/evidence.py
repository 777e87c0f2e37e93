"""The committed report in HTML: its tables, figures and verdicts, and where on the site each has its place."""

import html
import re
import struct

from companion import form, ledger
from companion.claims import ID
from companion.files import read_file
from gwf.paths import NOTEBOOKS, REPORT, ROOT

ROWS, COLUMNS = 12, 8
"""Of a table in view; `static/site.js` shows the rest."""

CHAPTERS, EXPERIMENTS = (sorted(NOTEBOOKS.glob(f"{folder}/*.ipynb")) for folder in ("chapters", "experiments"))
LEDGER = ledger.load(REPORT)
CLAIMS = {row["id"]: row for row in LEDGER.to_dict("records")}
SHEETS = {file.parent.name: read_file(file) for file in sorted(REPORT.glob("sheets/*/shown.json"))}


def page_of(path):
    """The page of a notebook, without its ending."""
    return path.relative_to(ROOT).as_posix().removesuffix(".ipynb")


def prose_claims():
    """Claim -> the pages whose notebook names it."""
    found = {}
    for path in (*CHAPTERS, *EXPERIMENTS):
        text = "\n".join(form.source(cell) for cell in form.load(path)["cells"])
        for name in sorted({match[0] for match in re.finditer(rf"\b{ID.pattern}", text)} & set(CLAIMS)):
            found.setdefault(name, []).append(page_of(path))
    return found


NAMES = {"tau": "τ", "mu": "μ", "nu": "ν", "lambda": "λ", "varepsilon": "ε", "alpha": "α", "sigma": "σ", "chi": "χ"}
NAMES |= {"to": "→", "infty": "∞", "cdot": "·", "times": "×", "le": "≤", "ge": "≥", "pm": "±"}


def plain(text):
    """Markdown with formulas as plain text, for what is read aloud."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\([a-z]+)", lambda found: NAMES.get(found[1], found[1]), text)
    return " ".join(re.sub(r"[$*`{}\\]|(?<=\W)_|^#+ ", "", text).split())


def first_sentence(text):
    """The first sentence of plain text."""
    return re.split(r"(?<=[.?])\s(?=[A-Z\d(])", text, maxsplit=1)[0]


def escaped(text):
    """`text` as Markdown that reads as it stands; formulas between $ stay formulas."""
    parts = re.split(r"(\$[^$]+\$)", text)
    return "".join(part if i % 2 else re.sub(r"([*<>|\[\]])", r"\\\1", part) for i, part in enumerate(parts))


def badge(verdict):
    """A verdict as a coloured word."""
    return f'<span class="verdict {verdict}">{verdict}</span>'


def up(page):
    """The way from a page of the site back to its top."""
    return "../" * page.count("/")


def claim_link(name, page):
    """A link from `page` to a claim."""
    return f'<a href="{up(page)}claims/{name.split("-")[0]}.html#{name}">{name}</a>'


def table(header, rows, label, find="", words=()):
    """A table: `site.js` shows some rows and columns and sorts it; with `find` it has a field to search in.

    The search is in the cells, and in `words`, a text for each row.

    Cells are text, or HTML where they begin with `<`. Columns without numbers are set to the left. Of a table that is wider
    than the view, columns with one value in all rows stand above it.
    """
    above, same = "", []
    if len(header) > COLUMNS and len(rows) > 1:
        same = [i for i in range(1, len(header)) if len({row[i] for row in rows}) == 1]
    if same:
        shared = "; ".join(f"{header[i]}: {rows[0][i]}" for i in same)
        above = f'<p class="same">In every row: {html.escape(shared)}.</p>'
    columns = [(i, kind_of(row[i] for row in rows)) for i in range(len(header)) if i not in same]
    head = "".join(f'<th scope="col" class="{look}">{html.escape(header[i])}</th>' for i, look in columns)
    said = [f' data-words="{html.escape(text)}"' for text in words] or [""] * len(rows)
    body = "".join(
        f"<tr{text}>{''.join(cell(row[i], i, look) for i, look in columns)}</tr>"
        for row, text in zip(rows, said, strict=True)
    )
    named = f'aria-label="{html.escape(label)}"' + (f' data-find="{find}"' if find else "")
    return (
        f'{above}<div class="grid" data-rows="{ROWS}" data-columns="{COLUMNS}" tabindex="0" role="region" {named}>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def kind_of(column):
    """The look of a column: of numbers, of words, or of sentences."""
    texts = [re.sub(r"<[^>]+>", "", text) for text in column]
    if all(re.match(r"[−+–∞<>≤≥]|\d|\.\d|[τε] =", text) or not text for text in texts):
        return "number"
    return "words" if max(map(len, texts)) <= 24 else "sentences"


def cell(text, column, look):
    """A cell of a table; the first of a row is its heading."""
    inside = text if text.startswith("<") else html.escape(text)
    return f'<th scope="row" class="{look}">{inside}</th>' if not column else f'<td class="{look}">{inside}</td>'


def alt(figure):
    """What a figure shows, in words: its title and the first sentence of its caption."""
    return f"{plain(figure['title'])}. {first_sentence(plain(figure['caption']))}"


def image(folder, figure, page, late=True):
    """A figure of the report; a `late` one is loaded when it is scrolled to."""
    name = f"sheets/{folder}/{figure['name']}.png"
    width, height = struct.unpack(">II", (REPORT / name).read_bytes()[16:24])
    # Drawn at 160 points an inch; a page has 100.
    size = f'width="{width * 5 // 8}" height="{height * 5 // 8}"' + (' loading="lazy"' if late else "")
    return f'<img class="plot" src="{up(page)}{name}" alt="{html.escape(alt(figure))}" {size}>'


def shown(what, name, page):
    """What a notebook shows (a table, a figure, a claim), from the report, as Markdown; nothing where it is not there."""
    if what == "claim":
        if (row := CLAIMS.get(name)) is None:
            return ""
        words = f"{row['value']}. {row['finding']}" if row["value"] else row["finding"]
        head = f"{claim_link(name, page)} {badge(row['verdict'])} {html.escape(row['claim'])}"
        return f'<div class="judged" id="judged-{name}"><p>{head}</p><p>{html.escape(words)}</p></div>\n'
    folder = page.split("/")[-1]
    entries = SHEETS.get(folder, {}).get(f"{what}s", [])
    entry = next((entry for entry in entries if entry["name"] == name), None)
    if entry is None:
        return ""
    at = f"{up(page)}sheets/{folder}/{name}"
    if what == "figure":
        link = f'<figcaption><a href="{at}.pdf">{name}.pdf</a></figcaption>'
        return f'<figure id="figure-{name}">{image(folder, entry, page)}{link}</figure>\n'
    reading = f"{{.reading}}\n{escaped(entry['reading'])}\n\n" if entry["reading"] else ""
    files = f'<p class="files">The whole table: <a href="{at}.csv" download>{name}.csv</a></p>'
    return (
        f'{reading}<div id="table-{name}">{table(entry["header"], entry["rows"], plain(entry["title"]))}{files}</div>\n'
    )
