"""The sheet of an experiment or chapter: tables, figures and verdicts, shown in the notebook and written to the report.

A table or figure is named by the id of the Markdown cell that captions it: the cell's heading is the title, the rest
is the caption. A caption is therefore written once, in Markdown, where it is read.
"""

import json
import math
import os
import re

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

from companion import claims, form, style
from companion.files import write_text
from gwf.errors import UsageError, nearest
from gwf.paths import ROOT


class Sheet:
    """What the `show` cells of a notebook write to.

    `notebook` is its name, "porous" for notebooks/experiments/porous.ipynb; `out` the folder for csv, md, tex, png, pdf
    and json; None shows without writing.
    """

    def __init__(self, notebook, out=None):
        self.notebook = form.path_of(notebook)
        self.prose, self.known = form.prose(form.load(self.notebook)), claims.read()
        self.out = None if out is None else ROOT / out
        self.tables, self.figures, self.judged = [], [], []
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        style.use_style()

    def caption(self, name):
        """The name, title and caption of what the Markdown cell with the id `name` captions."""
        text = self.prose[nearest(name, self.prose, f"id of a Markdown cell of {self.notebook.name}")]
        head, _, rest = text.partition("\n")
        title, caption = (head.lstrip("# ").strip(), rest.strip()) if head.startswith("#") else ("", head + rest)
        return {"name": name, "title": title, "caption": caption}

    def table(self, name, frame, reading="", shown=None):
        """Show the table `frame` and write it as csv at full precision, and as markdown and LaTeX for people.

        `reading` is a sentence or two on what the numbers say. `shown` has the same for people, cells as text; default:
        numbers of `frame` to four significant digits.
        """
        cells = frame if shown is None else shown
        rows = [[number(value) for value in row] for row in cells.itertuples(index=False)]
        entry = self.caption(name) | {"reading": reading, "header": [str(column) for column in cells], "rows": rows}
        self.tables.append(entry)
        if self.out is not None:
            frame.to_csv(self.out / f"{name}.csv", index=False, lineterminator="\n")
            head = f"### {entry['title']}\n\n{entry['caption']}\n\n"
            write_text(self.led_from_here(head) + markdown(entry), self.out / f"{name}.md")
            write_text(latex(entry), self.out / f"{name}.tex")
        display(Markdown(markdown(entry)))

    def led_from_here(self, text):
        """`text` with its links, which are relative to the notebook, relative to the sheet's folder."""
        here = lambda found: f"]({os.path.relpath(self.notebook.parent / found[1], self.out)})"
        return re.sub(r"\]\((?!https?:|#)([^)\s]+)\)", here, text)

    def figure(self, name, fig):
        """Show a figure and write it as png and pdf, without date and program version."""
        self.figures.append(self.caption(name))
        if self.out is not None:
            fig.savefig(self.out / f"{name}.png", metadata={"Software": None})
            undated = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
            fig.savefig(self.out / f"{name}.pdf", metadata=undated)
        plt.show()

    def claim(self, name, measure, evidence, *controls, longer=None):
        """Judge a claim and print the verdict: see `companion.claims.judge`."""
        claim = self.known[nearest(name, self.known, "claim")]
        if claim.otherwise:
            raise UsageError(f"claim {name} says otherwise: {claim.otherwise} in conf/claims, and is judged here")
        self.judged.append(claims.judge(claim, measure, evidence, controls, longer))
        print(claims.sentence(self.judged[-1]))

    def close(self):
        """Write what was shown and judged, for the report and the ledger; call it last."""
        title = next(iter(self.prose.values())).splitlines()[0].lstrip("# ")
        head = {"title": title, "notebook": self.notebook.relative_to(ROOT).as_posix()}
        shown = head | {"tables": self.tables, "figures": self.figures}
        for name, content in {"shown": shown, "claims": [vars(judged) for judged in self.judged]}.items():
            if self.out is not None:
                write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", self.out / f"{name}.json")


def number(value):
    """A cell as text: numbers to four significant digits with a true minus sign, a dash for nothing."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, bool):
        return str(value)
    whole = float(value) == int(value) and abs(value) < 1e6
    return (str(int(value)) if whole else f"{value:.4g}").replace("-", "−")


def spread(centre, deviation, digits=1, scale=1):
    """`mean ± sd` as text with `digits` decimals; the mean alone where there is no spread, a dash for no mean."""
    if pd.isna(centre):
        return "–"
    text = f"{round(centre * scale, digits) + 0.0:.{digits}f}".replace("-", "−")  # no −0.0
    return text if pd.isna(deviation) else f"{text} ± {deviation * scale:.{digits}f}"


def summary(rows, keys, columns, n="n", **constant):
    """A row for each group of `rows` with the same `keys`, in order of appearance; its size stands last, titled `n`.

    Parameters
    ----------
    keys, columns : dict
        Columns to group by -> their titles (or a list); title -> what stands there: a column, for its mean; (column,
        "std"), or another statistic of a Series, or "first"; (column, digits), for `mean ± sd` as text, the mean alone
        where nothing varies; a function of the group's rows. A pair of titles is for a column's mean and deviation.
    constant : str
        Columns with the same text in every row, before `n`.
    """

    def entry(part, what):
        if callable(what):
            return what(part)
        name, how = (what, "mean") if isinstance(what, str) else what
        if isinstance(how, int):
            return spread(part[name].mean(), part[name].std() or math.nan, how)
        return part[name].iloc[0] if how == "first" else getattr(part[name], how)()

    titles, each = keys.values() if isinstance(keys, dict) else keys, {}
    for title, what in columns.items():
        each |= {title: what} if isinstance(title, str) else dict(zip(title, (what, (what, "std")), strict=True))
    return pd.DataFrame(
        dict(zip(titles, key, strict=True))
        | {title: entry(part, what) for title, what in each.items()}
        | constant
        | ({n: len(part)} if n else {})
        for key, part in rows.groupby(list(keys), sort=False, dropna=False)
    )


def led_by(first, frame):
    """`frame` with those of the columns `first` that it has in front: what is seen of a wide table before it is unfolded."""
    return frame[[*(name for name in first if name in frame), *frame.columns.difference(first, sort=False)]]


def markdown(table):
    """A table of `Sheet.table` as markdown, its reading below."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (table["header"], *table["rows"])]
    head, *body = [f"| {' | '.join(row)} |" for row in cells]
    lines = [head, "| --- |" + " ---: |" * (len(table["header"]) - 1), *body, ""]
    return "\n".join([*lines, *([table["reading"], ""] if table["reading"] else [])])


LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$"},
    **{"χ²": r"$\chi^2$", "W₁": "$W_1$", "W₂": "$W_2$", "τ": r"$\tau$", "ε": r"$\varepsilon$", "∞": r"$\infty$"},
    **{"−": "$-$", "–": "--", "×": r"$\times$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "é": r"\'e"},
}


def latex_text(text):
    """`text` with LaTeX's special characters and this report's symbols written out; formulas between $ stay."""
    symbols = "|".join(map(re.escape, LATEX))
    return re.sub(rf"\$[^$]+\$|{symbols}", lambda found: LATEX.get(found[0], found[0]), text)


def latex(table):
    """The table as a LaTeX `table` (packages booktabs and graphicx), caption and reading included."""
    head, *body = [" & ".join(map(latex_text, row)) + r" \\" for row in (table["header"], *table["rows"])]
    lines = [
        *(r"\begin{table}", r"\centering"),
        rf"\caption{{{latex_text(table['title'])}. {latex_text(' '.join(table['caption'].split()))}}}",
        *(rf"\label{{tab:{table['name']}}}", r"\resizebox{\linewidth}{!}{%"),
        *(r"\begin{tabular}{l" + "r" * (len(table["header"]) - 1) + "}", r"\toprule"),
        *(head, r"\midrule", *body),
        *(r"\bottomrule", r"\end{tabular}}", r"\par\smallskip " + latex_text(table["reading"]), r"\end{table}", ""),
    ]
    return "\n".join(lines)
