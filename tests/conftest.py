"""What several files of tests share."""

import pytest
import torch
from hypothesis import settings

# The same examples everywhere: a test must not hang on luck.
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small lose time to a second thread; a file that changes the number gets it back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
