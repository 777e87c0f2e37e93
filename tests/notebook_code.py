"""Functions of a chapter for tests: its imports, definitions and parameters, without running the chapter."""

import ast
import types

from companion.form import load, source
from companion.sheet import path_of


def definitions(name):
    """The imports, functions and classes of a notebook's code cells and the values of its parameters, as a module."""
    module, kept = types.ModuleType(name), (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    for cell in load(path_of(name))["cells"]:
        if cell["cell_type"] == "code":
            whole = "parameters" in cell["metadata"].get("tags", [])
            body = [node for node in ast.parse(source(cell)).body if whole or isinstance(node, kept)]
            exec(compile(ast.Module(body, []), f"{name}:{cell['id']}", "exec"), module.__dict__)
    return module
