"""Notebooks as pages: prose and code as they stand, what an experiment shows from the committed report."""

import json
import re

from companion import form, params
from gwf.paths import NOTEBOOKS, ROOT
from website.evidence import CHAPTERS, CLAIMS, EXPERIMENTS, SHEETS, badge, claim_link, page_of, plain, shown, up

#: Chapters that read no results; the others are shown as experiments are.
ALONE = set(params.compose("laptop")["chapters"])
SHOWN = re.compile(r"sheet\.(table|figure|claim)\(\s*\"([\w-]+)\"")
FILES = {page_of(path): path for path in sorted(NOTEBOOKS.rglob("*.ipynb"))}
#: What relative links may lead to, beside notebooks; other files are named without a link.
PAGES = {"README.md": "reproduce.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "report/README.md": "index.md"}
PAGES |= {"report/claims.md": "claims/index.md"} | {f"{page}.ipynb": f"{page}.ipynb" for page in FILES}


def modules():
    """Name -> file of the modules of gwf."""
    found = {}
    for path in sorted((ROOT / "gwf").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.read_text(encoding="utf-8").strip() and parts[-1] != "__main__":
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path):
    """The modules of gwf that a notebook computes with."""
    text, names = "\n".join(form.source(cell) for cell in form.cells(path)), set()
    for module, words in re.findall(r"^\s*from (gwf[\w.]*) import (\([^)]*\)|[^\n]*)", text, re.M):
        inside = {f"{module}.{name}" for name in re.findall(r"\w+", words)}
        names |= inside & set(MODULES) or {module}
    return sorted(names & set(MODULES) - {f"gwf.{name}" for name in ("errors", "progress", "seeding", "paths")})


USES = {page: imported(path) for page, path in FILES.items()}


def linked(text, folder):
    """Markdown of a file in `folder` with its relative links as links to pages of the site, or as words alone."""

    def target(found):
        words, (path, _, part) = found[1], found[2].partition("#")
        if re.match(r"[a-z]+:|#", found[2]):
            return found[0]
        place = (folder / path).resolve()
        to = place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else ""
        if sheet := re.match(r"report/sheets/(\w+)/", to):
            to = SHEETS[sheet[1]]["notebook"]
        return f"[{words}](/{PAGES[to]}{part and '#' + part})" if to in PAGES else words

    return re.sub(r"(?<!!)\[([^]]+)\]\(([^)\s]+)\)", target, text)


def words_of_plot(code, heading):
    """What a plot without a caption shows, in words: its section, and the words on its axes and curves in the code."""
    texts = {}
    for name, text in re.findall(r"(title|xlabel|ylabel|label)(?:\(|=)\s*r?f?\"([^\"]+)\"", code):
        if (said := plain(re.sub(r"\{[^}]*\}", "", text))).strip(" =,:"):
            texts.setdefault(name, []).append(said)
    names = {"title": "Panels", "xlabel": "Across", "ylabel": "Upwards", "label": "Curves"}
    said = [f"{word}: {', '.join(dict.fromkeys(texts[key]))}" for key, word in names.items() if key in texts]
    return ". ".join([f"Plot of the section {plain(heading)}", *said])


def stage(page):
    """The stage of the pipeline that makes a page's evidence."""
    name = page.split("/")[-1]
    return f"{'chapter' if name in ALONE else 'show'}@{name}"


def summary(page):
    """What stands under the title of a chapter or experiment: its claims, its command, its code."""
    here = [row for row in CLAIMS.values() if row["notebook"] == f"{page}.ipynb"]
    links = " ".join(f"{claim_link(row['id'], page)} {badge(row['verdict'])}" for row in here)
    code = ", ".join(f'<a href="{up(page)}functions/{name}.html">{name}</a>' for name in USES[page])
    lines = {"Claims judged here": links, "Command": f"<code>dvc repro {stage(page)}</code>", "Computed by": code}
    text = "".join(f"<p><b>{name}:</b> {words}</p>" for name, words in lines.items() if words)
    return f'<div class="summary">{text}</div>\n'


def prose(text, name):
    """A Markdown cell."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def converted(page):
    """The notebook of a page, as text. Code of experiments is collapsed, and cells that follow each other are one."""
    path, cells, heading, used = FILES[page], [], "", set()
    nb, experiment = form.load(path), path in EXPERIMENTS
    for i, cell in enumerate(nb["cells"]):
        text = form.source(cell)
        if cell["cell_type"] == "markdown":
            text = linked(text, path.parent)
            if i:  # a page has one title
                text = re.sub(r"^# ", "## ", text, flags=re.M)
            heading = next(iter(re.findall(r"^#+ (.*)$", text, re.M)), heading)
            cells.append(prose(text, cell["id"]))
            if not i and path in (*CHAPTERS, *EXPERIMENTS):
                cells.append(prose(summary(page), "summary"))
            continue
        outputs = cell["outputs"]
        for what, name in dict.fromkeys(SHOWN.findall(text)):
            if (what, name) not in used and (block := shown(what, name, page)):
                cells.append(prose(block, f"shown-{what}-{name}"))
                outputs = []
            used.add((what, name))
        if experiment and {"show", "lab"} & form.tags(cell):
            outputs = []  # of the small case that the notebook stores
        written = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
        outputs = [output for output, words in zip(outputs, written, strict=True) if not words]
        look, tags = {}, []
        if any("image/png" in output.get("data", {}) for output in outputs):
            look["image"] = {"alt": words_of_plot(text, heading)}
        if experiment:
            if cells[-1]["cell_type"] == "code" and not cells[-1]["outputs"]:
                text = f"{cells.pop()['source']}\n\n\n{text}"
            tags = ["hide-input"]
            look |= dict.fromkeys(("code_prompt_show", "code_prompt_hide"), f"Code, {len(text.splitlines())} lines")
        cells.append(cell | {"source": text, "outputs": outputs, "metadata": {"tags": tags, "mystnb": look}})
        for k, words in enumerate(filter(None, written)):  # what code writes in Markdown is prose
            cells.append(prose(linked(words, path.parent), f"{cell['id']}-written-{k}"))
    return json.dumps(nb | {"cells": cells}, ensure_ascii=False, indent=1)
