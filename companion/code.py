"""What a stage computes with: one text file of its settings and of the *definitions* its code reaches, free of prose.

A stage of the pipeline depends on `results/inputs/<stage>.txt` alone (and on the results it reads). The file holds

- the settings of its case, and of its notebook the cells of its part;
- of gwf, companion and the modules beside the notebooks every function, class and constant that this code names,
  directly or through others. Comments, docstrings and Markdown are left out; a caption is in, as it is printed.

So an edit of prose runs nothing, an edit of one metric runs what measures with it, and one of a divergence its users.

A *table* is a module-level dict with string keys whose values name definitions: `DIVERGENCES = {"kl": KL(), ...}`. A
stage that looks names up in it has the entries whose keys are written in its settings or code, no others; one that goes
through the whole table has all of it. What static reading cannot see (a name composed at run time) is caught by a test
that runs every stage of the smoke profile under a profiler and looks for each executed function in the stage's file.

Command line::

    python -m companion.code results/inputs
"""

import ast
import functools
import json
import sys
from pathlib import Path

from companion import claims, form, params
from companion.files import read_file, short
from companion.form import path_of
from companion.guard import Parser, command_line
from gwf.errors import UsageError
from gwf.paths import CONF, ROOT

ROOMS = ("gwf", "companion", "notebooks")
#: What runs a notebook and talks to people: it reaches messages, paths and progress lines, never a number.
PLUMBING = {
    *("gwf.errors", "gwf.paths", "gwf.progress", "gwf.training.checkpoint"),
    *(f"companion.{name}" for name in ("code", "files", "form", "guard", "notebooks", "params")),
}


@functools.cache
def known_claims():
    """Every claim, as `companion.claims.read`; a file that holds none is named."""
    for path in (CONF / "claims" / f"{name}.yaml" for name in claims.WORKS):
        found = read_file(path)
        listed = found.get("claims") if isinstance(found, dict) and {"key", "paper"} <= set(found) else None
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise UsageError(f"{short(path)} must have a key, a paper and a list of claims")
    return claims.read()


class Module:
    """Names that Python text defines (`definitions`, name -> statements) and `imports` (name -> module, attribute or None).

    `others` are statements that bind nothing: they run whenever the module is imported.
    """

    def __init__(self, name, text):
        self.name, self.text, self.lines = name, text, text.splitlines()
        self.definitions, self.imports, self.others = {}, {}, []
        try:
            self.nodes = ast.parse(text).body
        except SyntaxError as error:
            raise UsageError(f"{name}, line {error.lineno}: this is no Python: {error.msg}") from None
        for node in self.nodes:
            self.enter(node)

    def enter(self, node):
        """Sort in one statement."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.imports |= bound_by(node)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [
                n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            ]
            for name in names:
                self.definitions.setdefault(name.id, []).append(node)
            self.others += [] if names else [node]
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            self.others.append(node)

    def table(self, name):
        """The dict of the table called `name`: its (key, value) nodes, or None if it is no table."""
        nodes = self.definitions.get(name, [])
        value = getattr(nodes[0], "value", None) if len(nodes) == 1 else None
        if not isinstance(value, ast.Dict) or not name.isupper() or not value.keys:
            return None
        by_string = all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in value.keys)
        names = any(isinstance(n, (ast.Name, ast.Lambda)) for entry in value.values for n in ast.walk(entry))
        return (
            [(k.value, entry) for k, entry in zip(value.keys, value.values, strict=True)]
            if by_string and names
            else None
        )

    def source(self, node):
        """Text of a statement, decorators included."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[first - 1 : node.end_lineno]) + "\n"


def bound_by(node):
    """Name -> (module, attribute or None) of an import statement."""
    if isinstance(node, ast.ImportFrom):
        return {a.asname or a.name: (node.module, a.name) for a in node.names}
    heads = {a: a.name if a.asname else a.name.split(".")[0] for a in node.names}
    return {a.asname or head: (head, None) for a, head in heads.items()}


@functools.cache
def module(name):
    """The `Module` of this repository called `name`, or None."""
    if name.split(".")[0] not in ROOMS:
        return None
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return Module(name, path.read_text(encoding="utf-8"))
    return Module(name, "") if base.is_dir() else None


class References:
    """What the names in one statement or expression stand for: `definitions`, `libraries`; and the `strings` in it.

    Definitions are (Module, name, whether a table is gone through and not only looked up in).
    """

    def __init__(self, owner, node):
        self.owner, self.local = owner, {}
        self.definitions, self.strings, self.libraries = set(), set(), set()
        for child in ast.walk(node):
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                self.local |= bound_by(child)
        self.walk(node, lookup=False)

    def walk(self, node, lookup):
        """Depth first; `lookup` says that a table met right here is looked up by name, not gone through."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.strings.add(node.value)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            chain = []
            while isinstance(node, ast.Attribute):
                chain.insert(0, node.attr)
                node = node.value
            if isinstance(node, ast.Name):
                self.resolve(self.owner, [node.id, *chain], self.local, lookup)
            else:
                self.walk(node, False)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            looked_up = {id(part) for part in tables_looked_up_in(node)}
            if lookup and isinstance(node, (ast.Tuple, ast.Starred)):  # nearest(name, (*TABLE, *OTHERS), ...)
                looked_up = {id(child) for child in ast.iter_child_nodes(node)}
            for child in ast.iter_child_nodes(node):
                self.walk(child, id(child) in looked_up)

    def resolve(self, owner, chain, local, lookup):
        """Follow a dotted name to the definition it stands for, if that is in this repository."""
        name, *rest = chain
        if name in owner.definitions and name not in local:
            self.definitions.add((owner, name, not lookup and rest[:1] != ["get"]))
            return
        target, attribute = local.get(name) or owner.imports.get(name) or (None, None)
        if target is None:
            return
        here, steps = module(target), ([attribute] if attribute else []) + rest
        if here is None:
            self.libraries.add(f"{name}: {target}" + (f".{attribute}" if attribute else ""))
            return
        while (
            steps
            and steps[0] not in {*here.definitions, *here.imports}
            and module(f"{here.name}.{steps[0]}") is not None
        ):
            here = module(f"{here.name}.{steps.pop(0)}")
        if steps:
            self.resolve(here, steps, {}, lookup)


@functools.cache
def references(owner, node):
    """`References` of a statement, found once."""
    return References(owner, node)


class Bundle:
    """Everything reached from the statements `start` of the Module `root`, the cells of a notebook.

    Its definitions come in only if they are reached; `strings` are names that the settings ask for.
    """

    def __init__(self, root, start, strings):
        self.root, self.start, self.strings = root, start, set(strings)
        self.reached, self.whole, self.libraries = {}, set(), set()
        before = None
        while before != (before := (len(self.reached), len(self.strings), len(self.whole))):
            # A string found late may ask for an entry of a table reached early: until nothing is new.
            self.follow(root, start)
            for owner, name in list(self.reached):
                self.follow(owner, self.parts(owner, name))

    def parts(self, owner, name):
        """The nodes of a definition; of a table that is looked up in, the entries that are asked for."""
        table = owner.table(name)
        if table is None or (owner, name) in self.whole:
            return owner.definitions[name]
        return [value for key, value in table if key in self.strings]

    def follow(self, owner, nodes):
        """Reach what statements of `owner` name, and what that names."""
        todo = [(owner, node) for node in nodes]
        while todo:
            owner, node = todo.pop()
            found = references(owner, node)
            self.strings |= found.strings
            self.libraries |= found.libraries
            for target, name, through in found.definitions:
                if target.name in PLUMBING:
                    continue
                if through and target.table(name) and (target, name) not in self.whole:
                    self.whole.add((target, name))
                    self.reached.pop((target, name), None)
                if (target, name) not in self.reached:
                    self.reached[target, name] = True
                    others = [] if target is self.root else target.others
                    todo += [(target, part) for part in [*self.parts(target, name), *others]]

    def text(self):
        """The reached definitions by module, without prose, in the order of the files."""
        parts = ["# libraries", *sorted(self.libraries), "# notebook"]
        parts += [plain(self.root, node) for node in self.start]
        parts += self.reached_of(self.root)
        for owner in sorted({o for o, _ in self.reached if o is not self.root}, key=lambda o: o.name):
            parts += [f"# {owner.name}", *self.reached_of(owner)]
            parts += [plain(owner, node) for node in owner.others if not plain(owner, node).startswith("if __name__")]
        return "\n".join(parts)

    def reached_of(self, owner):
        """Texts of the reached definitions of a module, in the order of its file: the same in every process."""
        places = sorted((owner.definitions[name][0].lineno, name) for o, name in self.reached if o is owner)
        return list(dict.fromkeys(self.source(owner, name) for _, name in places))

    def source(self, owner, name):
        """Text of a definition without prose; of a table that is looked up in, the entries whose keys are asked for."""
        nodes = self.parts(owner, name)
        if nodes == owner.definitions[name]:
            return "\n".join(plain(owner, node) for node in nodes)
        keys = {id(value): key for key, value in owner.table(name)}
        kept = [f"    {keys[id(node)]!r}: {ast.get_source_segment(owner.text, node)},\n" for node in nodes]
        return f"{name} = {{\n{''.join(kept)}}}"


@functools.cache
def plain(owner, node):
    """Text of a statement without prose."""
    return form.prose_free(owner.source(node)).rstrip()


def tables_looked_up_in(node):
    """The parts of an expression at which a table is looked up by a name: TABLE[k], k in TABLE, nearest(k, TABLE, ...)."""
    if isinstance(node, ast.Subscript):
        return [node.value]
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return node.comparators
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("nearest"):
        return node.args[1:2]
    return []


def strings_in(value):
    """Every string in nested settings, keys included."""
    if isinstance(value, dict):
        return {text for pair in value.items() for entry in pair for text in strings_in(entry)}
    if isinstance(value, (list, tuple)):
        return {text for entry in value for text in strings_in(entry)}
    return {value} if isinstance(value, str) else set()


def bundle(name, part, settings=None):
    """The text that a stage depends on: notebook `name`, `part` "run", "show" or None for the whole notebook.

    `settings` is what its parameters cell is overridden with.
    """
    nb, root, start, defaults = notebook(name, part)
    values = defaults | (settings or {})
    reached = Bundle(root, start, strings_in(values))
    written = {text for node in root.nodes for text in references(root, node).strings}
    prose = {cell["id"]: form.source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown"}
    # A caption is printed whole; of the notebook's own text the title alone.
    shown = [text for name, text in prose.items() if name in written - {"title"}]
    shown.append(next(iter(prose.values())).splitlines()[0])
    bands = [f"{claim.id}: {claim.band}" for claim in known_claims().values() if claim.id in reached.strings]
    given = "# settings\n" + json.dumps(values, indent=1, sort_keys=True) + "\n"
    return "\n".join([given, reached.text(), *(["# captions", *shown] if part == "show" else []), *bands])


@functools.cache
def notebook(name, part):
    """Of a notebook: the cells of one part, the `Module` of their code, the statements that run, the parameters."""
    path = path_of(name)
    nb = form.part(form.load(path), part)
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    body = [cell for cell in code if "parameters" not in cell["metadata"].get("tags", [])]
    root = Module(f"notebook {name}", "\n".join(form.source(cell) for cell in body))
    return nb, root, statements(root, body, part), form.parameters_of(path)


def statements(root, cells, part):
    """The statements of a notebook that run in any case: all that bind nothing, and those of the cells tagged `part`.

    Definitions of untagged cells are left to be reached; a notebook without parts has all of its statements.
    """
    tagged, line = set(), 1
    for cell in cells:
        end = line + form.source(cell).count("\n") + 1
        if part in cell["metadata"].get("tags", []):
            tagged |= set(range(line, end))
        line = end
    bound = {id(node): node for nodes in root.definitions.values() for node in nodes}.values()
    return sorted([*root.others, *(n for n in bound if not tagged or n.lineno in tagged)], key=lambda node: node.lineno)


def inputs(composed):
    """Stage -> text of what it computes with, for the parameters `composed`."""
    found = {}
    for experiment, cases in composed["experiments"].items():
        for case, settings in cases.items():
            found[f"run-{case}"] = bundle(experiment, "run", settings)
    for dataset, cases in composed["training"].items():
        for case, settings in cases.items():
            whole = {"settings": {}, "device": composed["device"], "dataset": dataset} | settings
            found[f"train-{dataset}-{case}"] = bundle("train", None, whole)
            found[f"measure-{dataset}-{case}"] = bundle(dataset, "run", {"case": case})
    for name in [*composed["shows"], *composed["chapters"]]:
        found[f"show-{name}"] = bundle(name, "show")
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "conf" / "claims").glob("*.yaml"))]
    found["claims"] = "\n".join([module("companion.claims").text, module("companion.ledger").text, *texts])
    found["page"] = "\n".join([module("companion.page").text, (ROOT / "companion" / "page.html").read_text("utf-8")])
    return found


def write(folder, composed):
    """Write the inputs of every stage to `folder`, remove those whose stage is gone; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.txt": text for name, text in inputs(composed).items()}
    for path in folder.iterdir():
        if path.suffix != ".txt":
            raise UsageError(f"{folder} is not for the inputs of stages alone, it has {path.name}: give results/inputs")
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(texts)


@command_line()
def main(arguments):
    """Command line; returns the exit status."""
    parser = Parser(prog="python -m companion.code", description="Write what every stage computes with.")
    parser.add_argument("folder", type=Path)
    folder, composed = ROOT / parser.parse_args(arguments).folder, params.read()
    params.check_training(composed)
    print(f"{len(write(folder, composed))} stages in {short(folder)}")


if __name__ == "__main__":
    sys.exit(main())
