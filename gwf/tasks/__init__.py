"""What is modelled: data, source, networks and yardsticks of each data set. One file each, named as the data set.

A task offers `networks(stream)`, `data(n, stream)`, `latent(n, stream)`, `score(T)` for the curve, and `measure(T)`
for the table. The training loop (`gwf.train`) and the time steps (`gwf.flows`) know nothing else about data.
"""

import importlib
import pkgutil

from gwf.errors import nearest


def names():
    """Names of all tasks, sorted; nothing is imported."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name):
    """The class `Task` of the data set called `name`; `UsageError` with the nearest valid name if there is none."""
    nearest(name, names(), "data set")
    return importlib.import_module(f"{__name__}.{name}").Task
