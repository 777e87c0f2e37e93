"""The page to open: tables and figures of the report with what they mean, as one HTML file.

`python -m gwf.page <profile> <report_dir>` reads `tables/tables.json` and `figures/captions.json` in the
report folder and writes `<report_dir>/index.html`. Figures are linked relative to the page, and nothing on it
needs a network.
"""

import os
import sys
from pathlib import Path

import jinja2
import yaml

from gwf import paths
from gwf.claims import ledger
from gwf.errors import UsageError
from gwf.report import PUBLISHED
from gwf.runs import Study, functional_title, method_title
from gwf.table import show

TEMPLATES = Path(__file__).with_name("templates")


def notebooks(study, report_dir):
    """Links to the notebooks there are, `(chapters, runs)`, each a list of `(text, address)`.

    Addresses are relative to the page. A chapter is linked as executed, or else as it is in git.
    """

    def link(path):
        return Path(os.path.relpath(path, report_dir)).as_posix()

    chapters = []
    for source in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        executed = study.folder / source.stem / source.name
        if source.stem not in ("train", "lenet"):
            chapters.append((source.stem, link(executed if executed.exists() else source)))
    runs = []
    for dataset in study.params["datasets"]:
        for functional, step in study.methods_on(dataset):
            names = {seed: paths.run_name(functional, step, dataset, seed) for seed in study.seeds}
            found = {seed: study.folder / name / "train.ipynb" for seed, name in names.items()}
            seeds = [(f"seed {seed}", link(path)) for seed, path in found.items() if path.exists()]
            if seeds:
                runs.append((f"{method_title(functional, step)}, {dataset.replace('_', ' ')}", seeds))
    return chapters, runs


def published():
    """Published tables of gwf: a dict of `title, metric, spread, step_column, columns, notes, tables`.

    Each of `tables` has `where, trust` and `rows`, a list of `(functional title, [cell, ...])` of text.
    Functionals that the project does not have are called as in the paper: MMD, sMMD, ckMMD.
    """
    source = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["gwf"]

    def title(name):
        try:
            return functional_title(name)
        except UsageError:
            return name.replace("mmd", "MMD")

    tables = [
        {
            "where": table["where"],
            "trust": table["trust"],
            "rows": [
                (title(name), [f"{show(mean, 2)} ± {show(spread, 2)}" for mean, spread in row])
                for name, row in table["rows"].items()
            ],
        }
        for table in source["tables"]
    ]
    return {**source, "tables": tables, "notes": [f"{title(name)}: {note}" for name, note in source["notes"].items()]}


def claims(report_dir):
    """The ledger for the page: a list of `(paper, counts, rows)`; `evidence` of a row is a list of `(name, address)`."""
    frame = ledger.read(report_dir)
    frame["evidence"] = [[(Path(path).name, path) for path in text.split()] for text in frame["evidence"]]
    found = []
    for paper, rows in frame.groupby("paper", sort=False):
        counts = rows["verdict"].value_counts()
        found.append(
            (paper, [(name, int(counts[name])) for name in ledger.VERDICTS if name in counts], rows.to_dict("records"))
        )
    return found


def write(study, report_dir):
    """Write `<report_dir>/index.html`; the same files give the same bytes.

    Raises
    ------
    UsageError
        If tables, figures or the metrics of the LeNet are missing, with the command that makes them.
    """
    report_dir = Path(report_dir)
    tables = study.read_json(report_dir / "tables" / "tables.json", "the report", "tables")
    figures = study.read_json(report_dir / "figures" / "captions.json", "the report", "figures")
    lenet = None
    if study.has("digits"):
        lenet = study.read_json(study.folder / "lenet" / "metrics.json", "the LeNet", "lenet")
    chapters, runs = notebooks(study, report_dir)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    sections = {}
    for figure in figures:
        sections.setdefault(figure["section"], []).append(figure)
    text = environment.get_template("page.html").render(
        profile=study.profile,
        seeds=study.seeds,
        params=study.params,
        sections=sections,
        lenet=lenet,
        tables={table["name"]: table for table in tables},
        claims=claims(report_dir),
        studies=[table["name"] for table in tables if table["name"].startswith("study_")],
        published=published(),
        chapters=chapters,
        runs=runs,
        methods=[method_title(*method) for method in study.methods_on("digits")],
    )
    (report_dir / "index.html").write_text(text, encoding="utf-8")


def main(arguments):
    """`python -m gwf.page <profile> <report_dir>`; exit code 2 with one line on stderr where it cannot."""
    if len(arguments) != 2:
        print("usage: python -m gwf.page <profile> <report_dir>", file=sys.stderr)
        return 2
    try:
        write(Study(arguments[0]), arguments[1])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments[1]}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
