"""One table of the report: text of numbers, and csv, markdown and LaTeX of the same cells."""

import math
import re
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Table:
    """One table: its data for programs, and the same for people.

    Attributes
    ----------
    name : str
        File name without ending.
    title, caption, reading : str
        Heading; what the numbers are and how they were measured; one sentence on what they say.
    frame : pandas.DataFrame
        The data at full precision, one row per method; written as csv.
    header, rows : list
        Column names and rounded cells, all text; written as markdown and LaTeX and shown on the page.
    """

    name: str
    title: str
    caption: str
    reading: str
    frame: pd.DataFrame
    header: list
    rows: list

    def markdown(self):
        """The table as markdown: heading, caption, cells, reading."""
        lines = [f"### {self.title}", "", self.caption, ""]
        lines.append("| " + " | ".join(self.header) + " |")
        lines.append("| --- |" + " ---: |" * (len(self.header) - 1))
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join([*lines, "", self.reading, ""])

    def latex(self):
        """The table as a LaTeX `table` (packages booktabs and graphicx), caption and reading included."""
        body = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{latex_text(self.title)}. {latex_text(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                r"\resizebox{\linewidth}{!}{%",
                r"\begin{tabular}{l" + "r" * (len(self.header) - 1) + "}",
                r"\toprule",
                " & ".join(latex_text(name) for name in self.header) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}}",
                r"\par\smallskip " + latex_text(self.reading),
                r"\end{table}",
                "",
            ]
        )

    def write(self, folder):
        """Write `<name>.csv`, `.md` and `.tex` into `folder`; the same table gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self.frame.to_csv(folder / f"{self.name}.csv", index=False, lineterminator="\n")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        (folder / f"{self.name}.tex").write_text(self.latex(), encoding="utf-8")


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "±": r"$\pm$",
    "χ²": r"$\chi^2$",
    "W₁": "$W_1$",
    "W₂": "$W_2$",
    "τ": r"$\tau$",
    "∞": r"$\infty$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "<": r"$<$",
    ">": r"$>$",
    "é": r"\'e",
}


def latex_text(text):
    """`text` with LaTeX's special characters and this report's symbols written out."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)


def show(value, digits=1, scale=1):
    """`value * scale` as text with `digits` decimals and a true minus sign; a dash for NaN or None."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value * scale:.{digits}f}".replace("-", "−")


def show_spread(centre, spread, digits=1, scale=1):
    """`mean ± sd` as text; the mean alone where there is no spread (one seed)."""
    text = show(centre, digits, scale)
    return text if math.isnan(spread) else f"{text} ± {show(spread, digits, scale)}"


def show_tau(tau):
    """`tau` as text; infinity is the GAN of the functional. YAML and JSON may hold it as null or as text."""
    value = math.inf if tau is None else float(tau)
    return "∞" if math.isinf(value) else f"{value:g}"
