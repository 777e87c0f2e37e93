"""One named random stream per purpose.

Streams are derived from `(seed, purpose)` by hashing, so that adding a stream (a new metric, say) never shifts
the draws of another one, and two runs that differ in their seed share no stream.
"""

import hashlib

import numpy as np
import torch


def derive(seed, purpose):
    """63-bit seed of the stream `purpose` under the run's `seed` (a non-negative int)."""
    digest = hashlib.sha256(f"{int(seed)}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed, purpose, device="cpu"):
    """`torch.Generator` of the named stream, on `device`."""
    return torch.Generator(device=device).manual_seed(derive(seed, purpose))


def rng(seed, purpose):
    """`numpy.random.Generator` of the named stream."""
    return np.random.default_rng(derive(seed, purpose))
