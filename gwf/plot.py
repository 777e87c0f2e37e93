"""The command that draws the figures of the report.

`python -m gwf.plot <profile> <report_dir>` writes `<report_dir>/figures/*.png`, `*.pdf` and `captions.json`.
The same runs give the same bytes: the files hold no date and no program version.
"""

import json
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from gwf import figures, style
from gwf.errors import UsageError
from gwf.runs import Study


def save(figure, stem):
    """Write `<stem>.png` and `<stem>.pdf` without date and program version, and close the figure."""
    figure.savefig(f"{stem}.png", metadata={"Software": None})
    figure.set_layout_engine("none")  # the layout is found by now, and half of the time it takes is spared
    undated = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
    figure.savefig(f"{stem}.pdf", metadata=undated)
    plt.close(figure)


def write(study, report_dir):
    """Draw every figure of the profile into `<report_dir>/figures`.

    Returns
    -------
    list of dict
        `name, section, title, caption` of each figure in the order of the page, as in `captions.json`.
    """
    folder = Path(report_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    captions = []
    with matplotlib.rc_context(style.STYLE):
        for drawn in figures.every(study):
            save(drawn.figure, folder / drawn.name)
            captions.append({key: getattr(drawn, key) for key in ("name", "section", "title", "caption")})
    text = json.dumps(captions, indent=1, ensure_ascii=False) + "\n"
    (folder / "captions.json").write_text(text, encoding="utf-8")
    return captions


def main(arguments):
    """`python -m gwf.plot <profile> <report_dir>`; exit code 2 with one line on stderr where it cannot."""
    if len(arguments) != 2:
        print("usage: python -m gwf.plot <profile> <report_dir>", file=sys.stderr)
        return 2
    matplotlib.use("Agg")
    try:
        for drawn in write(Study(arguments[0]), arguments[1]):
            print(f"{arguments[1]}/figures/{drawn['name']}.png")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
