"""What a stage computes with: one text file of all its code, without comments and docstrings.

A stage of the pipeline depends on `results/code/<name>.txt`: the code cells of its notebook (or its module) and
every module of `gwf` that it imports, directly or not, in the order of their paths. So a stage runs again when its
mathematics changes, and not when prose does: no comment, docstring, blank line or Markdown cell gets into a bundle.
One file per stage also keeps dvc.lock short, which DVC reads and writes at every stage.

Command line::

    python -m gwf.bundle results/code
"""

import argparse
import ast
import sys
from pathlib import Path

from gwf.errors import UsageError
from companion.form import code, prose_free
from gwf.paths import NOTEBOOKS, ROOT

# Their text reaches messages, paths and progress lines and never a number: an edit must not retrain for an hour.
PLUMBING = {"gwf/__init__.py", "gwf/errors.py", "gwf/paths.py", "gwf/progress.py"}
#: Modules run by name, whose stages depend on what they import.
PROGRAMS = ("report", "plot", "page", "claims")


def module_files(name):
    """Files that `import <name>` executes, the packages above it included; empty outside gwf."""
    parts, found = name.split("."), []
    if parts[0] != "gwf":
        return found
    for depth in range(1, len(parts) + 1):
        base = ROOT.joinpath(*parts[:depth])
        if (base / "__init__.py").exists():
            found.append(base / "__init__.py")
        elif base.with_suffix(".py").exists():
            found.append(base.with_suffix(".py"))
    return found


def imported(text):
    """Names of modules that Python text imports, wherever in it, functionals asked for by a literal name included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "functionals.get" and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield f"gwf.functionals.{node.args[0].value}"


def closure(texts):
    """Files of gwf that Python texts import, directly or not, relative to the root, sorted; without the plumbing.

    What is imported by a computed name (`gwf.functionals.get(name)`, `gwf.training.tasks.get`) is not seen, as it should be:
    the stages of one functional must not depend on another one.
    """
    todo, seen = list(texts), set()
    while todo:
        for name in imported(todo.pop()):
            for file in module_files(name):
                relative = file.relative_to(ROOT).as_posix()
                if relative not in seen:
                    seen.add(relative)
                    todo.append(file.read_text(encoding="utf-8"))
    return sorted(seen - PLUMBING)


def asks_by_name(text):
    """Whether Python text calls `functionals.get` with something else than a literal."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return any(
        ast.unparse(call.func) == "functionals.get" and not isinstance(call.args[0], ast.Constant) for call in calls
    )


def named(path):
    """Imports of the functionals that a module gets by a computed name.

    Where it uses velocity fields: those whose name is a string in it, and W2's, which its field knows. Where it asks
    for functionals that its settings name: all that have a variational bound.
    """
    text = path.read_text(encoding="utf-8")
    folder, used = ROOT / "gwf" / "functionals", closure([text])
    files = {file.stem: file for file in folder.glob("*.py") if file.stem not in ("__init__", "base")}
    if "gwf/fields/learned.py" in used:
        words = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        chosen = {"w2"} | {name for name in files if name in words}
    elif any(asks_by_name((ROOT / name).read_text(encoding="utf-8")) for name in used) or asks_by_name(text):
        chosen = {
            name
            for name, file in files.items()
            if "from gwf.fields.base import" not in file.read_text(encoding="utf-8")
        }
    else:
        chosen = set()
    return "".join(f"\nimport gwf.functionals.{name}" for name in sorted(chosen))


def sources():
    """Name of each bundle -> the Python text that its stage executes."""
    found = {path.stem: code(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    tasks = sorted(path.stem for path in (ROOT / "gwf" / "tasks").glob("*.py") if path.stem != "__init__")
    found["train"] += "".join(f"\nimport gwf.training.tasks.{name}" for name in tasks)
    for kind in ("functionals", "steps", "studies"):
        for path in sorted((ROOT / "gwf" / kind).glob("*.py")):
            if path.stem not in ("__init__", "base"):
                found[f"{kind}-{path.stem}"] = f"import gwf.{kind}.{path.stem}" + (
                    named(path) if kind == "studies" else ""
                )
    evidence = sorted(path.stem for path in (ROOT / "gwf" / "evidence").glob("*.py"))
    shown = "".join(f"\nimport gwf.evidence.{name}" for name in evidence if name != "__init__")
    for name in PROGRAMS:
        found[name] = f"import gwf.{name}" + (shown if name in ("report", "plot") else "")
    package = ROOT / "gwf" / "claims"
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent.parent).with_suffix("").parts)
        if path.stem not in ("__init__", "__main__"):
            found["claims"] += f"\nimport {name}"
    return found


def bundle(text):
    """The bundle of Python text: the text and all it imports, free of prose."""
    parts = [prose_free(text)]
    for name in closure([text]):
        parts.append(f"# {name}\n" + prose_free((ROOT / name).read_text(encoding="utf-8")))
    return "\n".join(parts)


def write(folder):
    """Write every bundle to `folder`, remove those whose source is gone; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.txt": bundle(text) for name, text in sources().items()}
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(texts)


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gwf.bundle", description="Write the code of every stage.")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    try:
        print(f"{len(write(asked.folder))} bundles of code in {asked.folder}")
    except (UsageError, SyntaxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
