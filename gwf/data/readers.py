"""Readers of the published digit files, for who has them: MNIST (idx, gzip) and USPS (HDF5, or LIBSVM text).

| data set | files in `datasets/` | images |
| --- | --- | --- |
| `mnist` | `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`, `t10k-images-idx3-ubyte.gz`, `t10k-labels-idx1-ubyte.gz` | 60000 + 10000, 28x28 |
| `usps` | `usps.h5` (needs h5py), or `usps.bz2` and `usps.t.bz2` (LIBSVM text) | 7291 + 2007, 16x16 |

None of them is part of the repository: git ignores the folder `datasets/` and no command deletes it. What needs an
absent file is skipped (`gwf.data.files.absent` names it). Where the digest of a file is known (`DIGESTS`) it is compared; else the
file's sha256 (of a .gz: its content's) is printed, so that a result can name what it was made from.
"""

import bz2
import gzip
import hashlib
import io
import math
import sys
import zlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_svmlight_file

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
"""File name -> (hash, its hexadecimal digest): of what a .gz holds, as gzip writes names and times into the file, which
are others for whoever packs it; of a .bz2 itself, which has none and whose content no list gives a digest of."""

USPS_SIZE = 16


def checked(folder, name):
    """Path of a file in `folder` whose digest is right, or printed if none is known; `UsageError` if it is missing (the
    message says where it belongs), or is not the file that was given away."""
    path = ROOT / folder / name
    if not path.is_file():
        raise UsageError(f"{name} is missing: put it at {path}, or choose another folder than {str(folder)!r}")
    kind, wanted = DIGESTS.get(name, ("sha256", None))
    raw = unpacked(path, gzip) if name.endswith(".gz") else path.read_bytes()
    found = hashlib.new(kind, raw).hexdigest()
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
    if len(raw) < (start := 4 + 4 * raw[3]):
        raise UsageError(f"{path} ends within its header, after {len(raw)} bytes of {start}")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).tolist()
    if len(raw) - start != math.prod(shape):
        raise UsageError(f"{path} has {len(raw) - start} values, its header says {'x'.join(map(str, shape))}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def libsvm(path, pixels=USPS_SIZE**2):
    """(values (n, pixels), labels (n,)) of bzip2-compressed lines `label index:value ...`, indices from 1; float64."""
    raw = io.BytesIO(unpacked(path, bz2))
    try:
        values, labels = load_svmlight_file(raw, n_features=pixels, zero_based=False)
    except ValueError as error:
        raise UsageError(f"{path} has not lines `label index:value ...`, indices 1 to {pixels}: {error}") from None
    return values.toarray(), labels


def hdf5(path):
    """(values, labels) of each of the groups train and test, arrays called data and target; `UsageError` without these
    or without h5py."""
    try:
        import h5py
    except ImportError:
        raise UsageError(
            f"{Path(path).name} needs h5py: pip install -c constraints.txt -e '.[hdf5]', or use usps.bz2 and usps.t.bz2"
        ) from None
    try:
        with h5py.File(path) as file:
            return [(file[part]["data"][:].astype(float), file[part]["target"][:]) for part in ("train", "test")]
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"{path} has no groups train and test with the arrays data and target: {said}") from None


def upright(pixels, labels, where):
    """Refuse 16x16 images on their sides: their class means would be more like ours, of a hundred images or more, turned."""
    ours = data.optdigits(USPS_SIZE)
    classes = [c for c in range(10) if (labels == c).sum() >= 100]
    means = [(pixels[labels == c].mean(0), ours.train[ours.train_labels == c].mean(0)) for c in classes]
    if sum(((u.T - u) * v).sum() for u, v in means) > 0:
        raise UsageError(f"{where}: the images lie on their sides: transpose each of them")


def split(where, size, *pairs):
    """`gwf.data.Images` of (pixels, labels) to train on and to test, pixels as bytes or in [0, 1], square or a row each.

    `UsageError` for other shapes or lengths, labels other than 0 to 9 (one-hot ones, say), pixels out of range or NaN.
    """
    found = []
    for part, (u, label) in zip(("train", "test"), pairs, strict=True):
        here = f"{where}, {part}"
        u = u.reshape(-1, size, size) if u.shape[1:] == (size * size,) else u
        if u.shape[1:] != (size, size) or not len(u) or label.shape != u.shape[:1]:
            raise UsageError(f"{here}: labels {label.shape} of images {u.shape}, not (n,) of (n, {size}, {size})")
        if not np.isin(label, range(10)).all():
            raise UsageError(f"{here}: labels {np.unique(label)[:12].tolist()}, not whole numbers of 0 to 9")
        if u.dtype != np.uint8:
            if not (u.min() >= 0 and u.max() <= 1):
                raise UsageError(f"{here}: pixels in [{u.min():g}, {u.max():g}], not within [0, 1]")
            u = np.rint(255 * u).astype(np.uint8)
        found += [u, label.astype(np.uint8)]
    return data.Images(*found)


def mnist(folder):
    """MNIST as `gwf.data.Images`: uint8 28x28, 60000 to train on and 10000 to test."""
    train, train_labels, test, test_labels = (idx(checked(folder, name)) for name in FILES["mnist"][0])
    return split(f"MNIST in {str(folder)!r}", 28, (train, train_labels), (test, test_labels))


def usps(folder):
    """USPS as `gwf.data.Images`: uint8 16x16, 7291 to train on and 2007 to test; `usps.h5` first, else the LIBSVM files.

    Values are [0, 1] in HDF5, and [-1, 1] with labels 1 to 10 in LIBSVM; both become round(255 u) with u in [0, 1].
    """
    if (ROOT / folder / "usps.h5").is_file() or not (ROOT / folder / "usps.bz2").is_file():
        pairs = hdf5(checked(folder, "usps.h5"))
    else:
        parts = [libsvm(checked(folder, name)) for name in FILES["usps"][1]]
        pairs = [((u + 1) / 2, label - 1) for u, label in parts]
    found = split(where := f"USPS in {str(folder)!r}", USPS_SIZE, *pairs)
    upright(found.train, found.train_labels, where)
    return found


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
