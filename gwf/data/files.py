"""Which published files there may be, and which are absent; cheap to import, as a plan of the pipeline asks it."""

from gwf.paths import DATASETS, ROOT

FILES = {
    "mnist": (
        (
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ),
    ),
    "usps": (("usps.h5",), ("usps.bz2", "usps.t.bz2")),
}
"""External data set -> the sets of files that it can be read from, any one of which is enough."""


def absent(name, folder=None):
    """What is missing of a data set in `folder` (absolute, or relative to the repository; None: `datasets/`): file names.

    Empty where a complete set of files is there, or none is needed; otherwise the missing files of the first set.
    """
    folder = DATASETS if folder is None else ROOT / folder
    missing = [[file for file in files if not (folder / file).is_file()] for files in FILES.get(name, ())]
    return [] if [] in missing else next(iter(missing), [])
