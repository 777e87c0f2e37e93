"""The form that every notebook must have."""

import ast
import re

from companion.form import cells, load, parameters_of, parse, source
from gwf.errors import UsageError

FOLDERS = ("results/", "data/", "report/", "notebooks/", "scratch/", "embedded/", "../", "./")
LONGEST_FUNCTION = 40
READABLE_ID = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?|[0-9a-f]{12,}")


def check(notebook):
    """Faults in the form of the file `notebook`, as a list of readable lines; empty if there are none.

    Checked: a title comes first; the first code cell is tagged `parameters` and assigns literals; the kernel
    is `python3`; ids are readable and unique; no cell ends with `;` (nbval would skip its comparison); plots
    end with `plt.show()`; no path is written out outside the parameters cell; functions have at most
    forty lines; the last code cell shows something; stored outputs are complete, free of errors, and in the order
    of the cells.
    """
    faults, nb = [], load(notebook)

    def fault(cell, text):
        faults.append(f"{notebook}: cell {cell.get('id')!r}: {text}")

    if nb.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        faults.append(f"{notebook}: the kernel must be 'python3'")
    first = nb["cells"][0]
    if first["cell_type"] != "markdown" or not source(first).startswith("# "):
        fault(first, "a notebook begins with a title, a Markdown cell that starts with '# '")
    try:
        parameters_of(notebook)
    except UsageError as error:
        faults.append(str(error))
    ids = [cell.get("id", "") for cell in nb["cells"]]
    for cell, name in zip(nb["cells"], ids, strict=True):
        if not READABLE_ID.fullmatch(name) or RANDOM_ID.fullmatch(name):
            fault(cell, "the id must be readable words in lower case joined by dashes")
        if ids.count(name) > 1:
            fault(cell, "the id is used twice")
    code = cells(notebook)
    for index, cell in enumerate(code):
        tagged = "parameters" in cell.get("metadata", {}).get("tags", [])
        if tagged != (index == 0):
            fault(cell, "the first code cell, and no other, is tagged 'parameters'")
        try:
            tree = parse(notebook, cell)
        except UsageError as error:
            faults.append(str(error))
            continue
        for text in faults_in(cell, tree, tagged):
            fault(cell, text)
    counts = [cell.get("execution_count") for cell in code]
    if any(counts) and counts != list(range(1, len(counts) + 1)):
        faults.append(f"{notebook}: stored outputs are not of one run from top to bottom: make notebooks")
    return faults


def faults_in(cell, tree, tagged):
    """Faults of one code cell whose syntax tree is `tree`; `tagged` if it is the parameters cell."""
    if source(cell).rstrip().endswith(";"):
        yield "no ';' at the end: nbval does not honour it"
    last = ast.unparse(tree.body[-1]) if tree.body else ""
    drawn = any(output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    makes_figure = any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "plt"
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
        for node in ast.walk(statement)
    )
    if (makes_figure or drawn) and last != "plt.show()" and ".figure(" not in last:
        yield "a cell that draws must end with plt.show()"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION:
            yield f"{node.name} has more than {LONGEST_FUNCTION} lines"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            absolute = re.match(r"(/|~/|[A-Za-z]:\\)\w", node.value)
            if absolute or (not tagged and node.value.startswith(FOLDERS)):
                yield f"the path {node.value!r} is written out: take it from gwf.paths"
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            yield f"the stored output is an error, {output['ename']}: {output['evalue']}"
        if output["output_type"] == "stream" and output["name"] == "stderr":
            yield "the stored output has stderr, which differs between machines: make notebooks"
