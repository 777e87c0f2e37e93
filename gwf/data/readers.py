"""Readers of the published digit files, for who has them: MNIST (idx, gzip) and USPS (HDF5, or LIBSVM text).

| data set | files in `datasets/` | images |
| --- | --- | --- |
| `mnist` | `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`, `t10k-images-idx3-ubyte.gz`, `t10k-labels-idx1-ubyte.gz` | 60000 + 10000, 28x28 |
| `usps` | `usps.h5` (needs h5py), or `usps.bz2` and `usps.t.bz2` (LIBSVM text) | 7291 + 2007, 16x16 |

None of them is part of the repository: git ignores the folder `datasets/` and no command deletes it. What needs an
absent file is skipped (`gwf.data.files.absent` names it). A known digest (`DIGESTS`) is compared, of a gzip file that of its
content; else the sha256 is printed, so that a result can name what it was made from.
"""

import bz2
import gzip
import hashlib
import sys
import zlib
from pathlib import Path

import numpy as np

from gwf.data import embedded as data
from gwf.data.files import FILES
from gwf.errors import UsageError, nearest
from gwf.paths import ROOT

DIGESTS = {
    "train-images-idx3-ubyte.gz": ("sha256", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte.gz": ("sha256", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte.gz": ("sha256", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte.gz": ("sha256", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    "usps.bz2": ("md5", "ec16c51db3855ca6c91edd34d0e9b197"),
    "usps.t.bz2": ("md5", "8ea070ee2aca1ac39742fdd1ef5ed118"),
}
"""File name -> (hash, its hexadecimal digest), of the files as their authors give them away, unpacked if they are .gz."""

USPS_SIZE = 16


def checked(folder, name):
    """Path of a file in `folder` whose digest is right, or printed if none is known.

    Raises
    ------
    UsageError
        The file is missing (the message says where it belongs), or is not the file that was given away.
    """
    path = ROOT / folder / name
    if not path.is_file():
        raise UsageError(f"{name} is missing: put it at {path}, or choose another folder than {str(folder)!r}")
    kind, wanted = DIGESTS.get(name, ("sha256", None))
    content = unpacked(path, gzip) if path.suffix == ".gz" else path.read_bytes()
    found = hashlib.new(kind, content).hexdigest()
    if wanted is None:
        print(f"{name}: sha256 {found} (none is known to compare with)", file=sys.stderr)
    elif found != wanted:
        raise UsageError(f"{path} is damaged or another file: its {kind} is {found}, not {wanted}")
    return path


def unpacked(path, module):
    """Content of a file that `gzip` or `bz2` (the `module`) has compressed; `UsageError` if it is cut off or no such file."""
    try:
        return module.decompress(Path(path).read_bytes())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(f"{path} is not a whole {module.__name__} file: {error}") from None


def idx(path):
    """A gzipped idx file of unsigned bytes as an array: two zero bytes, the type 8, the number of axes, their lengths
    as big-endian 32-bit numbers, then the values. `UsageError` if it is not that."""
    raw = unpacked(path, gzip)
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise UsageError(f"{path} is not an idx file of unsigned bytes: it begins with {raw[:4]!r}")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw, ">u4", raw[3], 4).astype(int)
    if len(raw) - start != shape.prod():
        raise UsageError(f"{path} has {len(raw) - start} values, its header says {'x'.join(map(str, shape))}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def libsvm(path, pixels=USPS_SIZE**2):
    """(values (n, pixels), labels (n,)) of bzip2-compressed lines `label index:value ...`, indices from 1; float64."""
    values, labels = [], []
    for number, line in enumerate(unpacked(path, bz2).decode(errors="replace").splitlines(), 1):
        row = np.zeros(pixels)
        try:
            label, *pairs = line.split()
            for pair in pairs:
                index, value = pair.split(":")
                if not 1 <= int(index) <= pixels:
                    raise ValueError(f"index {index}")
                row[int(index) - 1] = float(value)
            labels.append(float(label))
        except ValueError as error:
            raise UsageError(
                f"{path}, line {number}: not `label index:value ...` with indices 1 to {pixels} ({error})"
            ) from None
        values.append(row)
    return np.array(values), np.array(labels)


def hdf5(path):
    """{"train": (values, labels), "test": ...} of groups with the arrays `data` and `target`.

    Raises
    ------
    UsageError
        h5py is not installed, or the file has other contents.
    """
    try:
        import h5py
    except ImportError:
        raise UsageError(
            f"{Path(path).name} needs h5py: pip install -c constraints.txt -e '.[hdf5]', or use usps.bz2 and usps.t.bz2"
        ) from None
    try:
        with h5py.File(path) as file:
            return {part: (file[part]["data"][:], file[part]["target"][:]) for part in ("train", "test")}
    except (KeyError, OSError) as error:
        raise UsageError(f"{path} has no groups train and test with the arrays data and target: {error}") from None


def mnist(folder):
    """MNIST as `gwf.data.Images`: uint8 28x28, 60000 to train on and 10000 to test."""
    return data.Images(*(idx(checked(folder, name)) for name in FILES["mnist"][0]))


def usps(folder):
    """USPS as `gwf.data.Images`: uint8 16x16, 7291 to train on and 2007 to test; `usps.h5` first, else the LIBSVM files.

    Values are [0, 1] in HDF5, and [-1, 1] with labels 1 to 10 in LIBSVM; both become round(255 u) with u in [0, 1].
    """
    if (ROOT / folder / "usps.h5").is_file() or not (ROOT / folder / "usps.bz2").is_file():
        parts = hdf5(checked(folder, "usps.h5"))
        pairs = [parts["train"], parts["test"]]
    else:
        parts = [libsvm(checked(folder, name)) for name in FILES["usps"][1]]
        pairs = [((u + 1) / 2, label - 1) for u, label in parts]
    found = []
    for u, label in pairs:
        if u.ndim != 2 or u.shape[1] != USPS_SIZE**2 or label.shape != (len(u),):
            raise UsageError(
                f"USPS in {str(folder)!r}: arrays of shape {u.shape} and {label.shape}; they must be (n, {USPS_SIZE**2}) and (n,)"
            )
        if not (u.min() >= 0 and u.max() <= 1 and label.min() >= 0 and label.max() <= 9):
            raise UsageError(
                f"USPS in {str(folder)!r}: values in [{u.min():g}, {u.max():g}], labels {label.min():g} to {label.max():g}; "
                "they must be within [0, 1] and 0 to 9"
            )
        found += [np.rint(255 * u).astype(np.uint8).reshape(-1, USPS_SIZE, USPS_SIZE), label.astype(np.uint8)]
    return data.Images(*found)


DOMAINS = {
    "optdigits": lambda folder: data.optdigits(16),
    "digits": lambda folder: data.digits(),
    "usps": usps,
    "mnist": mnist,
}
"""Name -> reader (folder) -> `gwf.data.Images`; the first two come with the repository and ignore the folder."""


def domain(name, folder="datasets", size=16):
    """A digit data set at size x size pixels, resized by `gwf.data.bilinear`; `UsageError` for an unknown name."""
    found = DOMAINS[nearest(name, DOMAINS, "domain")](folder)
    return found._replace(train=data.bilinear(found.train, size), test=data.bilinear(found.test, size))
