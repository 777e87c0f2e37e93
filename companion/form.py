"""Notebooks as files: their parameters, the form they must have, their code alone, their normal form."""

import ast
import functools
import io
import math
import os
import re
import tokenize
from pathlib import Path

from companion.files import read_file, shaped, short, write_text
from gwf.errors import UsageError, in_range, nearest
from gwf.paths import CONF, NOTEBOOKS, ROOT


def path_of(name):
    """The notebook called `name`, in notebooks/ or a folder below; `UsageError` with the nearest name."""
    found = {path.stem: path for path in sorted(NOTEBOOKS.glob("**/*.ipynb"))}
    return found[nearest(name, found, "notebook")]


def load(notebook):
    """JSON content of the file `notebook`; raises `UsageError` if there is no such notebook."""
    found = read_file(notebook) if Path(notebook).suffix == ".ipynb" else None
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise UsageError(f"{short(notebook)} is not a notebook")
    return found


def source(cell):
    """Text of a cell, whether stored as one string or as a list of lines."""
    return "".join(cell["source"])


def tags(cell):
    """The tags of a cell."""
    return set(cell["metadata"].get("tags", []))


def cells(notebook):
    """Code cells of the file `notebook` that contain anything."""
    return [cell for cell in load(notebook)["cells"] if cell["cell_type"] == "code" and source(cell).strip()]


def prose(nb):
    """Id -> text of the Markdown cells of the notebook `nb` (JSON content); the first one has the title."""
    return {cell["id"]: source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown"}


def part(nb, name):
    """The notebook `nb` (JSON content) with the code cells of one part alone, "run" or "show"; None is the whole of it.

    Cells tagged `run` compute one case with one seed, those tagged `show` read all cases and hold table, figure and
    claims; what is untagged (imports, functions) belongs to both. A cell tagged `lab` does by hand what another stage
    of the pipeline does, and belongs to the whole notebook alone.
    """
    other = {"run", "show", "lab"} - {name} if name else set()
    return nb | {"cells": [cell for cell in nb["cells"] if cell["cell_type"] != "code" or not other & tags(cell)]}


def parse(notebook, cell):
    """Syntax tree of a code cell; `UsageError` if it is not plain Python."""
    try:
        return ast.parse(source(cell))
    except SyntaxError as error:
        raise UsageError(f"{notebook}: cell {cell.get('id')!r} is not plain Python: {error}") from None


def parameters_of(notebook):
    """Parameters of `notebook` with their defaults, read from the cell tagged `parameters`; nothing is run.

    `UsageError` if there is no such cell, or it contains anything but assignments of literals (`float("inf")` is one).
    """
    tagged = [cell for cell in cells(notebook) if "parameters" in tags(cell)]
    if len(tagged) != 1:
        raise UsageError(f"{notebook}: {len(tagged)} cells are tagged 'parameters', there must be one")
    found = {}
    for node in parse(notebook, tagged[0]).body:
        try:
            (target,) = node.targets
            found[target.id] = ast.literal_eval(ast.unparse(node.value).replace("float('inf')", "1e999"))
        except (AttributeError, TypeError, ValueError):
            found = ast.unparse(node)
            raise UsageError(f"{notebook}: the parameters cell may only assign literals, not: {found}") from None
    return found


@functools.cache
def ranges():
    """Name of a parameter -> its range in conf/ranges.yaml."""
    with shaped(file := CONF / "ranges.yaml"):
        table = {name: entry for entry in read_file(file) for name in [*entry["of"]]}
        for entry in table.values():
            if not all(isinstance(entry.get(limit, 0), (int, float)) for limit in ("above", "from", "to")):
                raise TypeError(f"{entry}: limits are numbers")
    return table


def in_its_range(name, value, of):
    """Raise `UsageError` if the parameter `name` of `of`, or a number in it, is outside its range."""
    if isinstance(value, dict):
        for key, entry in value.items():
            in_its_range(key, entry, of)
    elif isinstance(value, list):
        for entry in value:
            in_its_range(name, entry, of)
    elif name in ranges() and type(value) in (int, float):
        own = ranges()[name]
        low, high = own.get("above", own.get("from")), own.get("to", math.inf)
        in_range(value, low, high, f"parameter {name} of {of}", open_low="above" in own)


def accept(notebook, given, where=None):
    """Return `given` if every name is a parameter of `notebook`, every type that of its default, every number in range.

    An int is accepted where the default is a float, and anything where it is None. Otherwise `UsageError`.
    """
    defaults, of = parameters_of(notebook), Path(notebook).name + (f" ({where})" if where else "")
    for name, value in given.items():
        nearest(name, defaults, f"parameter of {of}")
        kind, found = type(defaults[name]), type(value)
        if kind not in (found, type(None)) and (found, kind) != (int, float):
            raise UsageError(f"parameter {name} = {value!r} of {of} must be of type {kind.__name__}")
        in_its_range(name, value, of)
        if kind is int and value < 0 <= defaults[name]:
            raise UsageError(f"parameter {name} = {value!r} of {of} must not be negative")
    return given


def check(name, names):
    """What `accept` does before a kernel starts, for a notebook run by hand; `names` are the kernel's own, `vars()`.

    A name that papermill was given (`-p`) and that is no parameter is refused too.
    """
    given = set(parameters_of(notebook := path_of(name)))
    for text in names.get("In", ()):
        if text.startswith("# Parameters\n"):  # the cell that papermill puts in
            given |= {node.targets[0].id for node in ast.parse(text).body}
    accept(notebook, {name: names[name] for name in sorted(given)})


def normalise(nb):
    """Return notebook `nb` without anything that differs between two equal runs.

    Dropped: metadata of papermill and of execution, the kernel's version, stderr (the terminal has shown it). Replaced:
    the random id of the injected cell, memory addresses, the repository's own path. Joined: the pieces of stdout.
    """
    import nbformat

    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nb = nbformat.from_dict(nb | {"metadata": language, "nbformat": 4, "nbformat_minor": 5})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if tags(cell) else {})
        if "injected-parameters" in tags(cell):
            cell["id"] = "injected-parameters"
        if cell.cell_type == "code":
            cell.outputs = normal_outputs(cell.outputs)
    return nb


def normal_outputs(outputs):
    """The outputs of a cell, see `normalise`."""
    kept = []
    for output in outputs:
        output.pop("transient", None)
        if output.get("name") == "stdout" and kept and kept[-1].get("name") == "stdout":
            kept[-1].text += output.text
        elif output.get("name") != "stderr":
            kept.append(output)
    for output in kept:
        texts = output if output.output_type == "stream" else output.get("data", {})
        for kind, text in texts.items():
            if kind.startswith("text") and isinstance(text, str):
                texts[kind] = plain(text)
    return kept


def plain(text):
    """`text` without memory addresses, overwritten parts of a line, and the repository's path."""
    text = re.sub(r"[^\n]*\r(?!\n|$)", "", text)
    text = re.sub(r" at 0x[0-9a-f]{6,}", " at 0x0", text)
    return text.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".")


def write(nb, path):
    """Write notebook `nb` to `path` atomically; returns whether the bytes changed."""
    import nbformat

    return write_text(nbformat.writes(nb).rstrip("\n") + "\n", path)


def prose_free(text):
    """Python text without comments, docstrings and blank lines. What it computes stays the same.

    Works on the text itself, not on `ast.unparse`, whose quotes and parentheses change between versions of Python.
    """
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            before = lines[node.lineno - 1].encode()[: node.col_offset]
            if not before.strip():
                lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"
