"""Sphinx configuration of the reading site, whose sources `pages.py` writes."""

import importlib.util
import re
import sys
from pathlib import Path

from docutils import nodes
from myst_nb import sphinx_ext
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.addnodes import pending_xref

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

project = html_title = "gwf"
extensions = [
    *("myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"),
    *("sphinx.ext.mathjax", "sphinxcontrib.bibtex"),
]
# What a link to `gwf.exact.gaussian` looks for.
default_role = "py:obj"
suppress_warnings = ["docutils", "ref.python", "toc.duplicate_entry", "mystnb.unknown_mime_type"]
highlight_language = "none"

nb_execution_mode = "off"
# Where pictures of notebooks are unpacked; the default is beside the site, in report/.
sphinx_ext.OUTPUT_FOLDER = str(HERE.parent / "scratch" / "site" / "pictures")
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_block"]
myst_dmath_double_inline = True
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
bibtex_bibfiles = ["../references.bib"]
bibtex_default_style = "keys"

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_static_path = [
    "static",
    str(
        importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0] + "/static/mathjax/tex-svg.js"
    ),
]
html_extra_path = [str(HERE.parent / "scratch" / "site" / "extra")]
html_search_scorer = str(HERE / "static" / "scorer.js")
html_css_files, html_js_files = ["site.css"], [("site.js", {"defer": "defer"})]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
# Summaries of search results are fetched, which a browser refuses to pages opened as files.
html_show_search_summary = False
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
# SVG needs no fonts, which some browsers refuse to pages opened as files.
mathjax_path = "tex-svg.js"
mathjax3_config = {
    "tex": {"macros": {}},
    "svg": {"fontCache": "global"},
    "options": {"enableMenu": False, "menuOptions": {"settings": {"assistiveMml": True}}},
}


class Key(BaseLabelStyle):
    """Entries are labelled by the keys that chapters and docstrings cite."""

    def format_labels(self, entries):
        return (entry.key for entry in entries)


class Keys(Style):
    default_label_style = Key


register_plugin("pybtex.style.formatting", "keys", Keys)


def list_table(rows):
    """Lines of a table in reStructuredText, from the rows of one in Markdown."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))] for row in rows]
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in [cells[0], *cells[2:]]:
        lines += [f"   {'*' if not i else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


def docstring(app, what, name, obj, options, lines):
    """Tables of Markdown as tables, notes numbered within their function, bars as bars, notebooks as links; formulas that
    are set off in the docstring of a module keep their lines."""
    found, rows, literal = [], [], None
    for line in [*lines, ""]:
        indent = len(line) - len(line.lstrip())
        if what == "module" and indent >= 4 and literal is None and not (found and found[-1].strip()):
            found += ["::", ""]
            literal = 0
        if line.startswith("| ") and line.rstrip().endswith("|"):
            rows.append(line)
            continue
        if rows:
            found += list_table(rows) if len(rows) > 2 else rows
            rows = []
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None and not line.lstrip().startswith(">>>"):
            line = re.sub(r"\[(\d+)\](_?)", rf"[#{name.replace('.', '-')}-\1]\2", line)
            line = re.sub(r"notebooks/(chapters|experiments)/(\w+)\.ipynb", r":doc:`\2 </notebooks/\1/\2>`", line)
            line = "".join(
                part if i % 2 else re.sub(r"(?<!\\)\|", r"\\|", part)
                for i, part in enumerate(re.split(r"(`[^`]*`)", line))
            )
        if literal is None and (line.lstrip().startswith(".. math::") or line.rstrip().endswith("::")):
            literal = indent
        found.append(line)
    lines[:] = found


def link_names(app, doctree):
    """Names of gwf's modules and functions in the prose of notebooks become links to their pages."""
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        if re.fullmatch(r"gwf(\.\w+)+", name) and not isinstance(literal.parent, (pending_xref, nodes.reference)):
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=name, refexplicit=False, refdoc=app.env.docname
            )
            literal.replace_self(link)
            link += literal


def backlinks(app, pagename, templatename, context, doctree):
    """From source to documentation: Sphinx takes the module of the first page that documents a function for its own."""

    def mended(found):
        page, module, name = found[1], found[2], found[3]
        return found[0] if f"gwf.{name}".startswith(f"{module}.") else f"{page}#{module}.{name}"

    if pagename.startswith("_modules/"):
        context["body"] = re.sub(r"((gwf[\w.]*)\.html)#gwf\.([\w.]+)", mended, context["body"])


def setup(app):
    app.connect("html-page-context", backlinks)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("doctree-read", link_names)
