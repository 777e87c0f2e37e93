"""The code of notebooks for tests, without running the notebook."""

import ast
import types

from companion.form import load, path_of, source, tags


def definitions(name):
    """The imports, functions and classes of a notebook's code cells and the values of its parameters, as a module."""
    module, kept = types.ModuleType(name), (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    for cell in load(path_of(name))["cells"]:
        if cell["cell_type"] == "code":
            whole = "parameters" in tags(cell)
            body = [node for node in ast.parse(source(cell)).body if whole or isinstance(node, kept)]
            exec(compile(ast.Module(body, []), f"{name}:{cell['id']}", "exec"), module.__dict__)
    return module


def load_notebook(name):
    """The imports, functions and classes of the untagged cells of an experiment, as a module."""
    module = types.ModuleType(name)
    for cell in load(path_of(name))["cells"]:
        if cell["cell_type"] == "code" and not tags(cell) & {"parameters", "run", "show", "lab"}:
            exec(compile(source(cell), f"{name}:{cell['id']}", "exec"), module.__dict__)
    return module
