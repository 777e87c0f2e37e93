"""The sources of the reading site, from the notebooks and the committed report: Markdown and notebooks for Sphinx.

Command line (`make site` runs it, then Sphinx)::

    python -m website

writes scratch/site/source and scratch/site/extra. The same files give the same bytes, and only what has changed is
written, so that Sphinx reads nothing twice.
"""

import ast
import html
import re
import shutil
from collections import Counter

from companion import driver, form, ledger, params
from companion.claims import KINDS, VERDICTS
from companion.files import write_text
from gwf.paths import NOTEBOOKS, REPORT, ROOT, SCRATCH
from website import demos
from website.evidence import (
    CHAPTERS,
    CLAIMS,
    EXPERIMENTS,
    LEDGER,
    SHEETS,
    badge,
    escaped,
    first_sentence,
    image,
    page_of,
    plain,
    prose_claims,
    table,
)
from website.notebooks import FILES, MODULES, USES, converted, linked

ALSO = params.compose("laptop")["also"]
"""Experiment -> one whose results it reads too."""
SOURCE, EXTRA = SCRATCH / "site" / "source", SCRATCH / "site" / "extra"
WIDE = "---\nhide-toc: true\n---\n\n"


def toctree(*pages, caption=""):
    """The pages below a page, for the navigation at the side."""
    head = f":caption: {caption}\n" if caption else ""
    return "```{toctree}\n:hidden:\n" + head + "\n" + "\n".join(pages) + "\n```\n"


def counts(groups):
    """Counts of verdicts as rows of a table: `groups` is name -> whether a claim is of this group."""
    found = []
    for name, member in groups.items():
        tally = Counter(row["verdict"] for row in CLAIMS.values() if member(row))
        found.append([name, *(str(tally[verdict] or "–") for verdict in VERDICTS)])
    return ["claims", *VERDICTS], found


def by_kind():
    """The counts by kind of evidence."""
    return counts({name: lambda row, name=name: row["kind"] == name for name in KINDS})


def claims_index():
    """The page with every claim in one table."""
    rows = []
    for name, row in CLAIMS.items():
        link = f'<a href="{name.split("-")[0]}.html#{name}">{name}</a>'
        where = row["notebook"].removesuffix(".ipynb")
        place = where and f'<a href="../{where}.html#judged-{name}">{where.split("/")[-1]}</a>'
        rows.append([link, row["claim"], badge(row["verdict"]), row["kind"], place])
    words = [f"{row['published']} {row['check']} {row['finding']}" for row in CLAIMS.values()]
    controlled = sum(row["control_verdict"] not in ("", "not-run") for row in CLAIMS.values())
    header = ["claim", "in our words", "verdict", "kind", "judged in"]
    works = {paper.split(":")[0]: paper for paper in LEDGER["paper"].unique()}
    by_work = counts({name: lambda row, paper=paper: row["paper"] == paper for name, paper in works.items()})
    meaning = "\n".join(f"- {badge(name)}: {words}." for name, words in VERDICTS.items())
    evidence = "\n".join(f"- **{name}**: {words}." for name, words in KINDS.items())
    return f"""{WIDE}# Claims

{ledger.summary(LEDGER)} A claim has its check and its evidence; {controlled} of {len(CLAIMS)} have a control too: the same check
on evidence broken on purpose, which should turn the verdict.

{table(header, rows, "Every claim", find="Find a claim", words=words)}
<p class="files">Everything in one file: <a href="../claims.csv" download>claims.csv</a></p>

## Disputes

Questions on which the works, their code or others disagree, with the claims that speak to each.

{disputes()}

## By work

{table(*by_work, "Verdicts by work")}

## What the words mean

{meaning}

Kinds of evidence:

{evidence}

Every verdict follows from the measured value and a stated band, by one rule for all claims. Claims are in our own words.

{toctree(*dict.fromkeys(name.split("-")[0] for name in CLAIMS))}"""


def disputes():
    """The disputes, with links to claims and runs."""
    rows = []
    for entry in ledger.disputes(LEDGER):
        claims = ", ".join(
            f'<a href="{name.split("-")[0]}.html#{name}">{name}</a> {badge(verdict)}'
            for name, verdict in entry["claims"].items()
        )
        runs = ", ".join(f'<a href="../notebooks/{at}.html">{at.split("/")[1]}</a>' for at in entry["shown"])
        claims = f"<span>{html.escape(entry['answer'])}</span> {claims}" if entry["answer"] else claims
        rows.append([entry["question"], entry["between"], claims, runs or "–", entry["open"]])
    return table(["question", "between", "here", "runs", "open"], rows, "Disputes")


def claims_of(paper, rows, named):
    """The page of the claims of one work."""
    tally = Counter(row["verdict"] for row in rows)
    short, _, long = paper.partition(": ")
    head = " · ".join(f"{count} {badge(name)}" for name, count in tally.items())
    return f"# {short}: claims\n\n{long}.\n\n{head}\n\n" + "\n".join(claim(row, named) for row in rows)


def claim(row, named):
    """A claim: what was published, how it is checked, what came out, where, and how to run it."""
    name, page = row["id"], row["notebook"].removesuffix(".ipynb")
    told = {f"Published ({row['trust']})": row["published"], "Check": row["check"]}
    if row["value"]:
        told |= {"Measured": f"{row['value']}. {row['finding']}", "Accepted": row["band"]}
    elif row["finding"]:
        told["Not run"] = row["finding"]
    lines = [f"**{title}**: {escaped(words)}" for title, words in told.items()]
    if row["control_verdict"] not in ("", "not-run"):
        lines.append(f"**Control**: {escaped(row['control'])} Verdict then: {badge(row['control_verdict'])}.")
    if page:
        evidence = page.split("/")[-1]
        links = [
            f'<a href="../{page}.html#judged-{name}">{html.escape(SHEETS.get(evidence, {}).get("title", evidence))}</a>'
        ]
        if (also := ALSO.get(evidence)) in SHEETS:
            links.append(
                f'<a href="../{page_of(EXPERIMENTS[0].with_stem(also))}.html">{html.escape(SHEETS[also]["title"])}</a>'
            )
        lines += [f"**Evidence**: {', '.join(links)}", f"**Command**: `make claim ID={name}`"]
    if others := [other for other in named.get(name, []) if other != page]:
        links = [f'<a href="../{other}.html">{other.split("/")[-1]}</a>' for other in others]
        lines.append(f"**Also named in**: {', '.join(links)}")
    if row["gpu"]:
        lines.append(f"**Published scale**: {escaped(row['gpu'])}")
    text = "\n".join(f"- {line}" for line in lines)
    return f'<span class="anchor" id="{name}"></span>\n\n## {name}\n\n{badge(row["verdict"])} {escaped(row["claim"])}\n\n{text}\n'


def index_rows(pattern):
    """What the notebooks' index says of chapters or experiments: groups of `pattern`."""
    text = "\n".join(form.source(cell) for cell in form.load(NOTEBOOKS / "index.ipynb")["cells"])
    return re.findall(pattern, text, re.M)


def experiments():
    """The gallery of experiments: each with its question and its verdicts."""
    questions, cards = dict(index_rows(r"^\| \[(\w+)\]\(experiments/.+?\) \| (.+?) \|")), []
    for path in (path for path in EXPERIMENTS if path.stem in SHEETS):  # a new one may not have run
        shows, page = SHEETS[path.stem], page_of(path)
        picture = image(path.stem, shows["figures"][0], "experiments") if shows["figures"] else ""
        text = f"<b>{html.escape(plain(shows['title']))}</b><span>{html.escape(plain(questions[path.stem]))}</span>"
        judged = [row for row in CLAIMS.values() if row["notebook"] == f"{page}.ipynb"]
        found = ", ".join(f"{row['id']} {badge(row['verdict'])}" for row in judged)
        cards.append(
            f'<a class="card" href="{page}.html"><span class="thumb">{picture}</span>{text}<span class="files">{found}</span></a>'
        )
    runs = [page for page in FILES if "/runs/" in page]
    return f"""{WIDE}# Experiments

Each page is one notebook: what is asked, what was published, the code, the table, the figure, what the numbers say, and
the claims that it settles. Numbers are those of the laptop profile.

<div class="cards">{"".join(cards)}</div>

{toctree(*map(page_of, EXPERIMENTS), *runs)}"""


def chapters():
    """The chapters in reading order, with what each answers."""
    lines = [
        f"{n}. [{title}](/notebooks/{path}) ({minutes} minutes). {words}\n"
        for n, title, path, words, minutes in index_rows(r"^\| (\d+) \| \[(.+?)\]\((.+?)\) \| (.+?) \| (\d+) \|$")
    ]
    head = "# Chapters\n\nDerivations beside the code that runs them, in reading order.\n\n"
    return head + "\n".join(lines) + "\n" + toctree(*map(page_of, CHAPTERS))


def front():
    """The first page."""
    stages, costs = driver.stages(params.compose("laptop")), driver.Costs("laptop")
    ran, hours = Counter(stage.kind for stage in stages.values()), sum(map(costs.__getitem__, stages.values())) / 3600
    entries = {
        (name, x["name"]): x for name, shows in SHEETS.items() for what in ("tables", "figures") for x in shows[what]
    }
    points = entries["eight_gaussians", "points"]
    fd, ratios, effects = entries["digits", "digits"], entries["digits", "ratios"], entries["10_jko_effect", "effects"]
    rows = sorted(fd["rows"], key=lambda row: float(row[fd["header"].index("FD-LeNet")].split(" ")[0]))
    return f"""{WIDE}# Wasserstein gradient flows: derived, run, checked

<div class="hero"><div>
<p class="lead">Five works on generative modelling with Wasserstein gradient flows: every derivation beside the code that runs
it, every claim beside the evidence that settles it.</p>
{table(*by_kind(), "Claims by kind and verdict")}
<p>Run for this: {ran["train"]} trainings, {ran["run"]} runs of experiments and {len(CHAPTERS)} chapters, on 2 CPU cores without a GPU, in about
{hours:.0f} processor hours.</p>
<pre>make reproduce   # everything, with its first seed
make lab         # the notebooks, in JupyterLab</pre>
</div><figure><a href="notebooks/experiments/eight_gaussians.html">{image("eight_gaussians", points, "index", late=False)}</a>
<figcaption>Eight Gaussians (circles), and what each functional generates, with the JKO step and without.</figcaption></figure></div>

<p class="ways"><a href="chapters.html">Read the derivations</a> <a href="claims/index.html">Look up a claim</a>
<a href="experiments.html">See the experiments</a> <a href="play.html">Play with the exact flows</a></p>

## Which method comes near real digits?

{{.reading}}
{escaped(fd["reading"])}

<div>{table(fd["header"], rows, fd["title"])}
<p class="files">The whole table: <a href="sheets/digits/digits.csv" download>digits.csv</a>;
<a href="notebooks/experiments/digits.html">the experiment</a></p></div>

## Does the JKO step help?

{{.reading}}
{escaped(effects["reading"])}

What it can do, and each ratio: [chapter 10](/notebooks/chapters/10_jko_effect.ipynb). In the plane: [eight Gaussians](/notebooks/experiments/eight_gaussians.ipynb).
How large a step: [step sizes](/notebooks/experiments/step_sizes.ipynb). Claims: {" ".join(f'<a href="claims/gwf.html#{name}">{name}</a> {badge(CLAIMS[name]["verdict"])}' for name in ("gwf-C10", "gwf-C11", "gwf-C12", "gwf-C14"))}.

<figure>{image("digits", ratios, "index")}<figcaption>FD-LeNet with the JKO step over FD-LeNet without it, paired by seed: each seed, their
mean, and its 95 % interval over seeds. Left of 1 the step helps.</figcaption></figure>

{toctree("Where to start <notebooks/index>", "Ten minutes: the guide <notebooks/guide>", "chapters", caption="Read")}
{toctree("claims/index", "experiments", "play", caption="Evidence")}
{toctree("methods", "functions/index", "reproduce", "CONTRIBUTING", "bibliography", caption="Use")}"""


def reproduce():
    """How to reproduce: sections of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {block.split("\n", 1)[0]: block for block in re.split(r"^## ", text, flags=re.M)}
    names = ("Two commands", "One run, one change", "Data", "Licence, and how to cite", "What this is not")
    return "# How to reproduce\n\n" + linked("\n".join(f"## {found[name]}" for name in names), ROOT)


def methods():
    """The methods by what they choose: functional, velocity field, time step."""
    from gwf import divergences, fields
    from gwf.training import recipes

    def of(thing):
        place = f"functions/{thing.__module__}.html#{thing.__module__}.{thing.__qualname__}"
        doc = html.escape(first_sentence(" ".join((thing.__doc__ or "").split())))
        doc = re.sub(r":math:`(.+?)`", r'<span class="math notranslate nohighlight">\\(\1\\)</span>', doc).replace(
            "`", ""
        )
        return [f'<a href="{place}">{thing.__name__}</a>', f"<span>{doc}</span>"]

    chosen = {name: divergences.get(name) for name in divergences.names()}
    functionals = [[name, divergence.title, *of(type(divergence))] for name, divergence in chosen.items()]
    velocities = [[name, fields.title(name), *of(field)] for name, field in fields.FIELDS.items()]
    steps = [[name, *of(trainer)] for name, trainer in recipes.STEPS.items()]
    return f"""# Methods

Every method moves samples downhill on a functional, the distance of their law to that of the data. It chooses a
functional or a velocity field, and a time step. A training is named by both: `kl_dv-jko`, `sinkhorn-euler`.

## Functionals

{table(["name", "title", "code", "what it is"], functionals, "Functionals")}

## Velocity fields

{table(["name", "title", "code", "what it is"], velocities, "Velocity fields")}

## Time steps

{table(["name", "code", "what it is"], steps, "Time steps")}

How near each comes to real digits: [digits](/notebooks/experiments/digits.ipynb). Where they come from:
[the unifying view](/notebooks/chapters/03_unifying.ipynb).
"""


def said_of(path):
    """The first sentence of a module, in reStructuredText that reads as it stands."""
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    words = re.sub(r":\w+:|`", "", " ".join(words.partition("\n\n")[0].split()))
    return re.sub(r"([|*_\\])", r"\\\1", first_sentence(words))


def functions():
    """Name -> text of the pages of the library, in reStructuredText, as its docstrings are."""
    import gwf

    def title(text):
        return f"{text}\n{'=' * len(text)}\n\n"

    texts = {}
    for name in MODULES:
        used = "".join(f"- :doc:`/{page}`\n" for page, names in USES.items() if name in names)
        texts[name] = f"{title(name)}.. automodule:: {name}\n   :members:\n" + (
            f"\n.. rubric:: Used in\n\n{used}" if used else ""
        )
    listed = "\n".join(f"   gwf.{name}" for name in gwf.__all__)
    docs = "\n".join(f".. auto{'class' if name[0].isupper() else 'function'}:: gwf.{name}\n" for name in gwf.__all__)
    texts["gwf"] = f"{title('gwf: functions to call')}.. autosummary::\n\n{listed}\n\n{docs}"
    tree = "\n".join(f"   {name}" for name in MODULES)
    lead = "The functions to call are in :doc:`gwf`; every other module has its page too.\n\n"
    listed = "\n".join(f"- :doc:`{name}`: {said_of(path)}" for name, path in MODULES.items())
    texts["index"] = f"{title('Functions')}{lead}{listed}\n\n.. toctree::\n   :hidden:\n\n{tree}\n"
    return {f"functions/{name}.rst": text for name, text in texts.items()}


BIBLIOGRAPHY = "# Bibliography\n\nChapters and docstrings cite by these keys.\n\n```{bibliography}\n:all:\n```\n"


def sources():
    """Name -> text of every page."""
    named = prose_claims()
    texts = {"index.md": front(), "claims/index.md": claims_index(), "experiments.md": experiments()}
    for paper, _, rows in ledger.works(LEDGER):
        texts[f"claims/{rows[0]['id'].split('-')[0]}.md"] = claims_of(paper, rows, named)
    texts |= {
        "chapters.md": chapters(),
        "reproduce.md": reproduce(),
        "methods.md": methods(),
        "bibliography.md": BIBLIOGRAPHY,
    }
    texts["play.md"] = (ROOT / "website" / "play.md").read_text(encoding="utf-8")
    texts["CONTRIBUTING.md"] = linked((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), ROOT)
    return texts | {f"{page}.ipynb": converted(page) for page in FILES} | functions()


def write():
    """Write the sources of the site."""
    texts = sources()
    for name, text in texts.items():
        write_text(text.rstrip() + "\n", SOURCE / name)
    for path in [path for path in SOURCE.rglob("*") if path.is_file()]:
        if path.relative_to(SOURCE).as_posix() not in texts:
            path.unlink()
            for built in (REPORT / "site", SCRATCH / "site" / "doctrees"):  # every page lists the others
                shutil.rmtree(built, ignore_errors=True)
    shutil.rmtree(EXTRA, ignore_errors=True)
    shutil.copytree(REPORT / "sheets", EXTRA / "sheets", ignore=shutil.ignore_patterns("*.json", "*.md", "*.tex"))
    shutil.copy(REPORT / "claims.csv", EXTRA)
    write_text(demos.script(), EXTRA / "demos-data.js")
