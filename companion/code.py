"""What a stage computes with: one text file of its settings and of the *definitions* its code reaches, free of prose.

A stage of the pipeline depends on this text (and on the results it reads): results/inputs.json has a hash of it, as a
parameter of DVC, and scratch/inputs/<stage>.txt the whole. It holds the settings of its case, of its notebook the cells
of its part, and of gwf, companion and the modules beside the notebooks every function, class and constant that this code
names, directly or through others. Comments, docstrings and Markdown are left out; a caption is in, as it is printed. An
edit of prose runs nothing, one of a metric what measures with it.

A *table* is a module-level dict with string keys whose values name definitions: `DIVERGENCES = {"kl": KL(), ...}`. A
stage that looks names up in it has the entries whose keys are written in its settings or code, no others; one that goes
through the whole table has all of it: too much where a word is a key by chance (`"independent"`, of latents), never too
little. What static reading cannot see (a name composed at run time) is looked for by a test, which runs a small pipeline
under a profiler and asks for each executed function in the stage's file.

Command line::

    python -m companion.code
"""

import ast
import functools
import hashlib
import json
import shutil
import sys

import yaml

from companion import claims, form, params
from companion.files import short, write_text
from companion.guard import command_line
from gwf.errors import UsageError
from gwf.paths import CONF, RESULTS, ROOT, SCRATCH

FILE = RESULTS / "inputs.json"
ROOMS = ("gwf", "companion", "notebooks")
#: What runs a notebook and talks to people: it reaches messages, paths and progress lines, never a number.
PLUMBING = {
    *("gwf.errors", "gwf.paths", "gwf.progress", "gwf.training.checkpoint"),
    *(f"companion.{name}" for name in ("code", "files", "form", "guard", "notebooks", "params")),
}


class Module:
    """Names that a text defines (`definitions`, name -> statements) and `imports` (name -> module, attribute or None).

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
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports |= bound_by(node)
                continue
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                stored = [n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                names = [n.id for n in stored if isinstance(n.ctx, ast.Store)]
            for name in names:
                self.definitions.setdefault(name, []).append(node)
            self.others += [] if names or is_prose(node) else [node]

    def table(self, name):
        """The dict of the table called `name`, key -> value node, or None if it is no table."""
        nodes = self.definitions.get(name, []) if name.isupper() else []
        value = getattr(nodes[0], "value", None) if len(nodes) == 1 else None
        if not isinstance(value, ast.Dict) or not value.keys:
            return None
        by_string = all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in value.keys)
        names = any(isinstance(n, (ast.Name, ast.Lambda)) for entry in value.values for n in ast.walk(entry))
        return {k.value: v for k, v in zip(value.keys, value.values, strict=True)} if by_string and names else None


def is_prose(node):
    """Whether a statement is a docstring, or another value that nothing is done with."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


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


@functools.cache
class References:
    """What the names in a statement stand for: `definitions` and `libraries`; and the `strings` in it.

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
        elif not is_prose(node):
            looked_up = {id(part) for part in tables_looked_up_in(node)}
            within = lookup and isinstance(node, (ast.Tuple, ast.Starred))  # nearest(name, (*TABLE, *OTHERS), ...)
            for child in ast.iter_child_nodes(node):
                self.walk(child, within or id(child) in looked_up)

    def resolve(self, owner, chain, local, lookup):
        """Follow a dotted name to the definition it stands for, if that is in this repository."""
        name, *steps = chain
        if name in owner.definitions and name not in local:
            self.definitions.add((owner, name, not lookup and steps[:1] != ["get"]))
        elif bound := local.get(name) or owner.imports.get(name):
            here, steps = module(bound[0]), [*filter(None, bound[1:]), *steps]
            if here is None:
                self.libraries.add(f"{name}: {'.'.join(filter(None, bound))}")
                return
            while steps and steps[0] not in {*here.definitions, *here.imports}:
                if (below := module(f"{here.name}.{steps[0]}")) is None:
                    break
                here, steps = below, steps[1:]
            if steps:
                self.resolve(here, steps, {}, lookup)


class Bundle:
    """All that is reached from the statements `start` of the cells `root`; settings ask for `strings`."""

    def __init__(self, root, start, strings):
        self.root, self.start, self.strings = root, start, set(strings)
        self.reached, self.whole, self.libraries, seen = set(), set(), set(), set()
        # A string found late may ask for an entry of a table reached early: until nothing is new.
        while new := set(self.statements()) - seen:
            seen |= new
            for found in (References(*one) for one in new):
                self.strings |= found.strings
                self.libraries |= found.libraries
                inside = [entry for entry in found.definitions if entry[0].name not in PLUMBING]
                self.reached |= {(owner, name) for owner, name, _ in inside}
                self.whole |= {(owner, name) for owner, name, through in inside if through}

    def statements(self):
        """What is known to run: (Module, node)."""
        yield from ((self.root, node) for node in self.start)
        for owner, name in self.reached:
            entries = self.entries(owner, name)
            nodes = owner.definitions[name] if entries is None else entries.values()
            yield from ((owner, node) for node in [*nodes, *(owner.others if owner is not self.root else [])])

    def entries(self, owner, name):
        """The entries of a table that are asked for, key -> node; None for another definition and for a whole table."""
        table = None if (owner, name) in self.whole else owner.table(name)
        return table and {key: node for key, node in table.items() if key in self.strings}

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
        texts = {}
        for _, name in sorted((owner.definitions[name][0].lineno, name) for o, name in self.reached if o is owner):
            entries = self.entries(owner, name)
            if entries is None:
                texts["\n".join(plain(owner, node) for node in owner.definitions[name])] = True
            else:
                kept = [f"    {k!r}: {segment(owner, node)},\n" for k, node in entries.items()]
                texts[f"{name} = {{\n{''.join(kept)}}}"] = True
        return texts


@functools.cache
def plain(owner, node):
    """Text of a statement, decorators included, without prose."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return form.prose_free("\n".join(owner.lines[first - 1 : node.end_lineno]) + "\n").rstrip()


@functools.cache
def segment(owner, node):
    """The text of an expression as it stands."""
    return ast.get_source_segment(owner.text, node)


def tables_looked_up_in(node):
    """The parts of an expression that are tables looked up by a name: TABLE[k], k in TABLE, nearest(k, TABLE, ...)."""
    if isinstance(node, ast.Subscript):
        return [node.value]
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return node.comparators
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("nearest"):
        return node.args[1:2]
    return []


def bundle(name, part, settings=None):
    """The text that a stage depends on: a part ("run", "show", None for all) of a notebook, and `settings`."""
    path = form.path_of(name)
    nb, root, start = notebook(path, part)
    values = form.parameters_of(path) | (settings or {})
    reached = Bundle(root, start, References(root, ast.parse(repr(values), mode="eval")).strings)
    parts = ["# settings\n" + json.dumps(values, indent=1, sort_keys=True) + "\n", reached.text()]
    if part == "show":  # a caption is printed whole; of the notebook's own text the title alone
        written = {text for node in root.nodes for text in References(root, node).strings} - {"title"}
        prose = form.prose(nb)
        title = next(iter(prose.values())).splitlines()[0]
        parts += ["# captions", *(text for name, text in prose.items() if name in written), title]
    read = [path for path in sorted(CONF.glob("*.yaml")) if path.name in reached.strings]
    parts += [json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), indent=1) for path in read]
    parts += [
        f"{claim.id}: {claim.band}{' toy' * claim.toy}"
        for claim in claims.read().values()
        if claim.id in reached.strings
    ]
    return "\n".join(parts)


@functools.cache
def notebook(path, part):
    """Of a notebook: the cells of one part, the `Module` of their code, the statements that run."""
    nb = form.part(form.load(path), part)
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code" and "parameters" not in form.tags(cell)]
    root = Module(f"notebook {path.stem}", "\n".join(map(form.source, code)))
    return nb, root, statements(root, code, part)


def statements(root, cells, part):
    """What runs in any case: all that binds nothing, and the cells tagged `part`; all, where no cell has the tag.

    Definitions of untagged cells are left to be reached.
    """
    tagged, line = set(), 1
    for cell in cells:
        end = line + form.source(cell).count("\n") + 1
        if part in form.tags(cell):
            tagged |= set(range(line, end))
        line = end
    bound = {id(node): node for nodes in root.definitions.values() for node in nodes}.values()
    return sorted([*root.others, *(n for n in bound if not tagged or n.lineno in tagged)], key=lambda node: node.lineno)


def inputs(composed):
    """Stage -> text of what it computes with, for the parameters `composed`."""
    found = {}
    for group, name, case, settings in params.cases(composed):
        if group == "experiments":
            found[f"run-{case}"] = bundle(name, "run", settings)
        else:
            whole = {"settings": {}, "device": composed["device"], "dataset": name} | settings
            found[f"train-{name}-{case}"] = bundle("train", None, whole)
            found[f"measure-{name}-{case}"] = bundle(name, "run", {"case": case})
    for name in [*composed["shows"], *composed["chapters"]]:
        found[f"show-{name}"] = bundle(name, "show")
    bands = [*sorted((CONF / "claims").glob("*.yaml")), CONF / "disputes.yaml"]
    paths = [
        ROOT / "companion" / file for file in ("claims.py", "ledger.py", "claim.md.j2", "claims.md.j2", "report.md.j2")
    ]
    found["claims"] = "\n".join(path.read_text(encoding="utf-8") for path in (*paths, *bands))
    return found


def hashed(text):
    """Hash of what a stage computes with."""
    return hashlib.md5(text.encode()).hexdigest()


def write(texts):
    """Write what every stage (stage -> text) computes with: hashes for DVC to `FILE`, the texts to scratch/inputs."""
    write_text(json.dumps({name: hashed(texts[name]) for name in sorted(texts)}, indent=0) + "\n", FILE)
    shutil.rmtree(SCRATCH / "inputs", ignore_errors=True)
    (SCRATCH / "inputs").mkdir(parents=True)
    for name, text in texts.items():
        (SCRATCH / "inputs" / f"{name}.txt").write_text(text, encoding="utf-8")


def put():
    """Write what every stage computes with, by params.yaml."""
    composed = params.read()
    params.check_training(composed)
    write(texts := inputs(composed))
    print(f"{len(texts)} stages in {short(FILE)}")


main = command_line(main=put)

if __name__ == "__main__":
    sys.exit(main())
