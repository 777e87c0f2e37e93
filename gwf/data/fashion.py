"""Fashion-MNIST: 10000 grey photographs of clothes, 28x28, of ten classes; its test file, whose size suits a clone.

The files lie in `embedded/fashion` with the weights of the LeNet that measures generated clothes (`gwf.metrics.lenet`).
Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747; licence beside the files.
"""

import gzip
import hashlib

import numpy as np

from gwf.data.embedded import DataError, Images
from gwf.errors import nearest
from gwf.paths import ROOT

FOLDER = ROOT / "embedded" / "fashion"
TRAIN = 8000
SHA256 = {
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "lenet.safetensors": "2d26b17ac58d841a5f7f35479583740d8a6582a78fb2c15efa15437fdebc59a5",
}


def fashion():
    """`Images`: the first 8000 of the file to train on, the last 2000 held out; `DataError` if it is missing or damaged."""
    content = [bytearray(gzip.decompress(verified(name).read_bytes())) for name in SHA256 if name.endswith(".gz")]
    images = np.frombuffer(content[0], np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(content[1], np.uint8, offset=8)
    return Images(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:])


def verified(name):
    """Path of a file of `embedded/fashion` with the right sha256, else `DataError`."""
    path, mend = FOLDER / nearest(name, SHA256, "file of Fashion-MNIST"), "`git checkout embedded` brings it"
    if not path.is_file():
        raise DataError(f"{path} is missing: {mend}")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256[name]:
        raise DataError(f"{path} is damaged: its sha256 is {found}, not {SHA256[name]}; {mend}")
    return path
