"""How files are read, written and linked: a damaged one is named with what is wrong, a write is whole or not at all."""

import contextlib
import hashlib
import io
import json
import os
import re
from pathlib import Path

import yaml

from gwf.errors import UsageError
from gwf.paths import ROOT, replace


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML in which 1e-3 is the number that everybody takes it for (YAML 1.1 asks for 1.0e-3), and no name comes twice."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if key.value in names[:i]:
                raise ValueError(f"{key.value!r} is given twice, again in line {key.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d{1,17}(\.\d*)?[eE][-+]?\d{1,3}$"), list("+-0123456789")
)


def short(path):
    """`path` relative to the repository if it lies there."""
    path = Path(path)
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def read_file(path, **options):
    """What a YAML, JSON or csv file holds (`options` are those of pandas); `UsageError` says what is wrong with it."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if found := re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.M):
            raise ValueError(f"git left the marks of a conflict in line {text.count(chr(10), 0, found.start()) + 1}")
        if path.suffix == ".csv":
            import pandas as pd

            if text and not text.endswith("\n"):
                raise ValueError("it breaks off in its last line")
            return pd.read_csv(io.StringIO(text), **options)
        return yaml.load(text, Loader) if path.suffix in (".yaml", ".lock") else json.loads(text)
    except FileNotFoundError:
        raise UsageError(f"there is no {short(path)}") from None
    except (ValueError, yaml.YAMLError) as error:
        words = " ".join(str(error).replace('"<unicode string>", ', "").replace('"<byte string>", ', "").split())
        raise UsageError(f"{short(path)} is damaged: {words}") from None


@contextlib.contextmanager
def shaped(path):
    """Inside, content of the file `path` that is not of the expected form is a `UsageError` that names the file."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UsageError(f"{short(path)} is damaged: its content has not the form it should have ({error!r})") from None


def write_text(text, path):
    """Write `text` to `path` atomically; returns whether the bytes changed."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return True


def checksums(files, base=ROOT):
    """Lines as `sha256sum` writes and checks them: the hash of every file, its path from `base`."""
    return "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(base).as_posix()}\n" for f in files)


def link(path, target):
    """Make `path` a relative link to `target`, which stands when both are moved; what is in its place stays."""
    if path.is_symlink():
        path.unlink()
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))
