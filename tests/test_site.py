"""The reading site in a browser: links, console, width, mathematics, search, tables, demos, and an accessibility checker.

Built here as `make site` builds it. What needs a browser is skipped where there is none.
"""

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from gwf.paths import REPORT, ROOT

NEEDS = (
    "sphinx",
    "myst_nb",
    "furo",
    "sphinxcontrib.bibtex",
    "sphinx-mathjax-offline",
    "playwright",
    "axe_playwright_python",
)
if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
    pytest.skip(f"the tools of the site are not installed ({', '.join(missing)}): make site", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

SITE = REPORT / "site"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: What is opened: every kind of page, and the widest tables.
PAGES = [
    "index",
    "chapters",
    "experiments",
    "play",
    "methods",
    "reproduce",
    "bibliography",
    "claims/index",
    "claims/gwf",
]
PAGES += [
    "claims/vwgf",
    "functions/index",
    "functions/gwf",
    "functions/gwf.exact.gaussian",
    "notebooks/index",
    "notebooks/guide",
]
PAGES += [f"notebooks/chapters/{name}" for name in ("01_jko_gaussian", "03_unifying", "06_sjko", "08_explicit")]
PAGES += [f"notebooks/experiments/{name}" for name in ("digits", "ring", "step_sizes", "anomalies", "porous")]


@pytest.fixture(scope="module")
def site():
    for command in (
        ["website"],
        ["sphinx", "-q", "-c", "website", "-d", "scratch/site/doctrees", "scratch/site/source", SITE],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True)
    return SITE


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser):
    made = browser.new_page(viewport={"width": 1400, "height": 900})
    yield made
    made.close()


class Links(HTMLParser):
    """The ids, the links and the pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.targets, self.images = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        self.targets += [given[key] for key in ("href", "src") if given.get(key)]
        self.images += [given] if tag == "img" else []


@functools.cache
def links(path):
    """The `Links` of a page of the built site, read once."""
    return Links(path)


def dead(folder):
    """Relative links below `folder` to a file or a place in it that is not there."""
    pages = {path.resolve(): links(path) for path in sorted(folder.rglob("*.html"))}
    faults = []
    for path, found in pages.items():
        for target in found.targets:
            name, _, part = target.partition("#")
            if re.match(r"[a-z]+:|//", target) or part.startswith("/"):
                continue
            to = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            if not to.exists() or (part and to in pages and unquote(part) not in pages[to].ids):
                faults.append(f"{path.name}: {target}")
    return faults


def test_no_dead_link(site):
    assert dead(site) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a id="x" href="b.html">b</a><a href="#x">x</a><a href="a.html#y">y</a><img src="c.png">'
    )
    assert dead(tmp_path) == ["a.html: b.html", "a.html: a.html#y", "a.html: c.png"]


def test_every_figure_says_what_it_shows(site):
    images = [image for path in site.rglob("*.html") for image in links(path).images]
    images = [image for image in images if "_static/" not in image["src"]]  # of the theme
    assert len(images) > 80
    assert [image["src"] for image in images if len(image.get("alt") or "") < 20] == []


def test_every_claim_has_its_place(site):
    from website.evidence import CLAIMS

    for name in CLAIMS:
        assert name in links(site / "claims" / f"{name.split('-')[0]}.html").ids


def test_the_site_is_light(site):
    assert (site / "index.html").stat().st_size < 300e3
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 40e6


#: What is wrong with the page that is open: too wide, formulas or tables not rendered, more than 12 rows or 8 columns in view.
FAULTS = """() => {
  const faults = [], seen = (x) => x.offsetParent !== null;
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`${document.documentElement.scrollWidth} px wide`);
  for (const x of document.querySelectorAll(".math"))
    if (!x.querySelector("mjx-container")) faults.push(`not rendered: ${x.textContent.slice(0, 80)}`);
  for (const x of document.querySelectorAll("[data-mjx-error]")) faults.push(`formula: ${x.getAttribute("data-mjx-error")}`);
  for (const x of document.querySelectorAll("article p"))
    if (/\\|\\s*[-—]+\\s*\\|/.test(x.textContent)) faults.push(`Markdown: ${x.textContent.slice(0, 80)}`);
  for (const x of document.querySelectorAll(".grid")) {
    if ([...x.querySelectorAll("tbody tr")].filter(seen).length > 12) faults.push(`rows of ${x.ariaLabel}`);
    if ([...x.querySelectorAll("thead th")].filter(seen).length > 8) faults.push(`columns of ${x.ariaLabel}`);
  }
  return faults;
}"""


def faults(page, path, widths=(420, 1400)):
    """What is wrong with a page as a browser shows it, at every width."""
    found = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    # A picture that was to be loaded late is given up when the page changes its width.
    page.on(
        "requestfailed",
        lambda request: request.failure != "net::ERR_ABORTED" and found.append(f"not loaded: {request.url}"),
    )
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri())
        page.evaluate("async () => { await window.MathJax?.startup?.promise }")
        found += [f"{width}: {fault}" for fault in page.evaluate(FAULTS)]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(site, page, name):
    assert faults(page, site / f"{name}.html") == []


def test_a_broken_page_is_found(site, page):
    broken = site / "broken.html"
    rows = "<tr><td>1</td></tr>" * 13
    parts = [
        '<div style="width: 2000px">wide</div>',
        "<script>undefined.x</script>",
        '<span class="math">x</span>',
        "<article><p>| a | b | | — | — |</p></article>",
        '<script src="no.js"></script>',
    ]
    broken.write_text("".join(parts) + f'<div class="grid" aria-label="t"><table><tbody>{rows}</tbody></table></div>')
    try:
        found = "\n".join(faults(page, broken, widths=[420]))
    finally:
        broken.unlink()
    for fault in ("px wide", "not rendered: x", "Markdown", "undefined", "not loaded", "rows of t"):
        assert fault in found


def test_the_first_page_is_short(site, page):
    page.goto((site / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollHeight") < 3 * 900


@pytest.mark.parametrize("claim", ["gwf-C5", "sjko-O2", "proposal-P10"])
def test_search_finds_a_claim_by_its_id(site, page, claim):
    page.goto((site / "index.html").as_uri())
    page.locator(".sidebar-search").fill(claim)
    page.locator(".sidebar-search").press("Enter")
    first = page.locator("ul.search li a").first
    first.wait_for()
    assert f"claims/{claim.split('-')[0]}.html" in first.get_attribute("href")
    assert page.locator("ul.search li a", has_text=claim).count()


def test_tables_sort_open_and_filter(site, page):
    page.goto((site / "claims" / "index.html").as_uri())
    box, rows = page.locator(".grid").first, page.locator(".grid").first.locator("tbody tr:visible")
    assert rows.count() == 12
    page.get_by_role("button", name=re.compile(r"^All \d+ rows")).first.press("Enter")
    assert rows.count() > 60
    box.get_by_role("button", name="verdict").press("Enter")
    verdicts = box.locator("tbody tr:visible td:nth-child(3)").all_inner_texts()
    assert verdicts == sorted(verdicts) and len(set(verdicts)) > 3
    page.get_by_role("searchbox", name="Find a claim").fill("vwgf-I5")
    assert rows.count() == 1


def test_a_search_says_what_it_found(site, page):
    page.goto((site / "claims" / "index.html").as_uri())
    field, status = page.get_by_role("searchbox", name="Find a claim"), page.locator(".tools [role=status]").first
    assert status.inner_text() == ""
    field.fill("Langevin")  # in no cell: the words of a check are searched too
    assert re.fullmatch(r"[1-9]\d? of \d+ rows", status.inner_text())
    field.fill("no such word")
    assert status.inner_text() == "No row has these words."


def test_what_is_missing_sorts_last(site, page):
    page.goto((site / "claims" / "index.html").as_uri())
    box = page.locator(".grid").first
    page.get_by_role("button", name=re.compile(r"^All \d+ rows")).first.press("Enter")
    for _ in range(2):  # up and down
        box.get_by_role("button", name="judged in").press("Enter")
        places = box.locator("tbody tr td:nth-child(5)").all_inner_texts()
        assert "" in places and places[0] and not any(places[places.index("") :])


@pytest.mark.parametrize("name", ["experiments/ring", "experiments/digits", "chapters/08_explicit"])
def test_print_keeps_everything(site, page, name):
    """On the width of a sheet of paper nothing stands out to the right, and collapsed code is seen at once."""
    page.set_viewport_size({"width": 718, "height": 1000})
    page.goto((site / "notebooks" / f"{name}.html").as_uri())
    page.evaluate("async () => { await window.MathJax?.startup?.promise }")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    right = "[...document.querySelectorAll('article td, article pre, mjx-container > svg')].map(x => x.getBoundingClientRect().right)"
    assert max(page.evaluate(right)) < 725
    seen = "[...document.querySelectorAll('details > *')].map(x => [getComputedStyle(x).opacity, x.getBoundingClientRect().height > 0])"
    assert all(opacity == "1" and tall for opacity, tall in page.evaluate(seen))


def test_numbers_sort_as_numbers(site, page):
    page.goto((site / "notebooks" / "experiments" / "digits.html").as_uri())
    box = page.locator("#table-digits .grid")
    box.get_by_role("button", name="FD-LeNet").press("Enter")
    cells = box.locator("tbody tr:visible td:nth-child(3)").all_inner_texts()
    numbers = [float(cell.split(" ")[0]) for cell in cells]
    assert len(numbers) == 12 and numbers == sorted(numbers)


@pytest.mark.parametrize("demo, sliders", [("gaussians", 2), ("modes", 2), ("batches", 2)])
def test_demos_answer_to_the_keyboard(site, page, demo, sliders):
    page.goto((site / "play.html").as_uri())
    words = page.locator(f"#demo-{demo} > output")
    for i in range(sliders):
        before = words.inner_text()
        page.locator(f"#demo-{demo}-{i}").press("ArrowRight")
        assert words.inner_text() != before and re.search(r"\d", before)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        "index",
        "claims/index",
        "claims/gwf",
        "play",
        "notebooks/experiments/digits",
        "notebooks/chapters/04_parametric",
        "functions/gwf",
        "bibliography",
    ],
)
def test_the_accessibility_checker_finds_nothing_serious(site, page, name, theme):
    page.emulate_media(color_scheme=theme)
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate("async () => { await window.MathJax?.startup?.promise }")
    found = Axe().run(page).response["violations"]
    bad = [entry for entry in found if entry["impact"] in ("serious", "critical")]
    assert [(entry["id"], [node["target"] for node in entry["nodes"]][:5]) for entry in bad] == []


def test_the_accessibility_checker_sees_bad_contrast(page):
    page.set_content('<main><p style="color: #999; background: #bbb">hardly seen</p></main>')
    found = Axe().run(page).response["violations"]
    assert "color-contrast" in [entry["id"] for entry in found]
