"""What several files of tests share."""

import pytest
import torch
from hypothesis import settings

# The same examples everywhere: a test must not hang on luck.
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile("fixed")

# Minutes each, as they run the pipeline, a browser or kernels; with two processes one would wait for a late one of these.
LONG = ("pipeline", "dvc_commands", "readme", "site", "notebooks", "errors", "edits", "engines", "pictures")


def pytest_collection_modifyitems(items):
    """The files that take minutes come first; the Makefile tells xdist to keep this order."""
    long = [f"test_{name}.py" for name in LONG]
    items.sort(key=lambda item: long.index(item.path.name) if item.path.name in long else len(long))


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small lose time to a second thread; a file that changes the number gets it back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
