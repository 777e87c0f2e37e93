"""The sheet of an experiment or chapter: its tables, figures and verdicts, shown in the notebook and written to the report.

A table or figure is named by the id of the Markdown cell that captions it: the cell's heading is the title, the rest
is the caption. A caption is therefore written once, in Markdown, where it is read.
"""

import json
import math
import re

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

from companion import claims, form, style
from companion.form import path_of
from gwf.errors import UsageError, nearest
from gwf.paths import ROOT


def captions(notebook):
    """Id -> (title, caption) of the Markdown cells of a notebook; the title is the heading."""
    found = {}
    for cell in form.load(notebook)["cells"]:
        if cell["cell_type"] == "markdown":
            head, _, rest = form.source(cell).partition("\n")
            found[cell["id"]] = (head.lstrip("# ").strip(), rest.strip()) if head.startswith("#") else ("", head + rest)
    return found


class Sheet:
    """What the `show` cells of a notebook write to.

    Parameters
    ----------
    notebook : str
        Its name, "porous" for notebooks/experiments/porous.ipynb.
    out : str or None
        Folder for csv, md, tex, png, pdf, and for shown.json and claims.json; None shows without writing.
    """

    def __init__(self, notebook, out=None):
        self.notebook = path_of(notebook)
        self.captions, self.known = captions(self.notebook), claims.read()
        self.out = None if out is None else ROOT / out
        self.tables, self.figures, self.judged = [], [], []
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        style.use_style()

    def caption(self, name):
        """(title, caption) of the Markdown cell with the id `name`."""
        return self.captions[nearest(name, self.captions, f"id of a Markdown cell of {self.notebook.name}")]

    def table(self, name, frame, reading="", shown=None):
        """Show a table and write it as csv, markdown and LaTeX.

        Parameters
        ----------
        name : str
            Id of the Markdown cell with title and caption; name of the files.
        frame : DataFrame
            The data at full precision.
        reading : str
            One or two sentences on what the numbers say.
        shown : DataFrame, optional
            The same for people, cells as text; default: numbers of `frame` to four significant digits.
        """
        title, caption = self.caption(name)
        cells = frame if shown is None else shown
        header = [str(column) for column in cells.columns]
        rows = [[number(value) for value in row] for row in cells.itertuples(index=False)]
        entry = {"name": name, "title": title, "caption": caption, "reading": reading, "header": header, "rows": rows}
        self.tables.append(entry)
        if self.out is not None:
            frame.to_csv(self.out / f"{name}.csv", index=False, lineterminator="\n")
            (self.out / f"{name}.md").write_text(f"### {title}\n\n{caption}\n\n{markdown(entry)}", encoding="utf-8")
            (self.out / f"{name}.tex").write_text(latex(entry), encoding="utf-8")
        display(Markdown(markdown(entry)))

    def figure(self, name, fig):
        """Show a figure and write it as png and pdf, without date and program version."""
        title, caption = self.caption(name)
        self.figures.append({"name": name, "title": title, "caption": caption})
        if self.out is not None:
            fig.savefig(self.out / f"{name}.png", metadata={"Software": None})
            undated = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
            fig.savefig(self.out / f"{name}.pdf", metadata=undated)
        plt.show()

    def claim(self, name, measure, evidence, *controls):
        """Judge a claim and print the verdict: see `companion.claims.judge`."""
        claim = self.known[nearest(name, self.known, "claim")]
        if claim.otherwise:
            raise UsageError(
                f"claim {name} says otherwise: {claim.otherwise} in conf/claims, and yet it is judged here"
            )
        judged = claims.judge(claim, measure, evidence, controls)
        self.judged.append(judged)
        print(claims.sentence(judged))

    def close(self):
        """Write what was shown and judged, for the page and the ledger; call it last."""
        if self.out is None:
            return
        notebook = self.notebook.relative_to(ROOT).as_posix()
        title = form.source(form.load(self.notebook)["cells"][0]).splitlines()[0].lstrip("# ")
        texts = {
            "shown.json": {"title": title, "notebook": notebook, "tables": self.tables, "figures": self.figures},
            "claims.json": [vars(judged) for judged in self.judged],
        }
        for name, content in texts.items():
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (self.out / name).write_text(text, encoding="utf-8")


def number(value):
    """A cell as text: numbers to four significant digits with a true minus sign, a dash for nothing."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, bool) or float(value) == int(value) and abs(value) < 1e6:
        return str(int(value) if not isinstance(value, bool) else value).replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def spread(centre, deviation, digits=1, scale=1):
    """`mean ± sd` as text with `digits` decimals; the mean alone where there is no spread (one seed), a dash for none."""
    if centre is None or math.isnan(centre):
        return "–"
    text = f"{round(centre * scale, digits) + 0.0:.{digits}f}".replace("-", "−")  # no −0.0
    if deviation is None or math.isnan(deviation):
        return text
    return f"{text} ± {deviation * scale:.{digits}f}"


def markdown(table):
    """A table of `Sheet.table` as markdown, its reading below."""
    lines = ["| " + " | ".join(table["header"]) + " |"]
    lines.append("| --- |" + " ---: |" * (len(table["header"]) - 1))
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table["rows"]]
    return "\n".join([*lines, "", *([table["reading"], ""] if table["reading"] else [])])


LATEX = {
    **{"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$"},
    **{"χ²": r"$\chi^2$", "W₁": "$W_1$", "W₂": "$W_2$", "τ": r"$\tau$", "ε": r"$\varepsilon$", "∞": r"$\infty$"},
    **{"−": "$-$", "–": "--", "×": r"$\times$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "é": r"\'e"},
}


def latex_text(text):
    """`text` with LaTeX's special characters and this report's symbols written out; formulas between $ stay."""
    parts = re.split(r"(\$[^$]+\$)", text)
    symbols = "|".join(map(re.escape, LATEX))
    return "".join(
        part if i % 2 else re.sub(symbols, lambda found: LATEX[found[0]], part) for i, part in enumerate(parts)
    )


def latex(table):
    """The table as a LaTeX `table` (packages booktabs and graphicx), caption and reading included."""
    body = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in table["rows"]]
    lines = [
        *(r"\begin{table}", r"\centering"),
        rf"\caption{{{latex_text(table['title'])}. {latex_text(' '.join(table['caption'].split()))}}}",
        *(rf"\label{{tab:{table['name']}}}", r"\resizebox{\linewidth}{!}{%"),
        *(r"\begin{tabular}{l" + "r" * (len(table["header"]) - 1) + "}", r"\toprule"),
        *(" & ".join(latex_text(name) for name in table["header"]) + r" \\", r"\midrule", *body),
        *(r"\bottomrule", r"\end{tabular}}", r"\par\smallskip " + latex_text(table["reading"]), r"\end{table}", ""),
    ]
    return "\n".join(lines)
