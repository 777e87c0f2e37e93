"""Time steps by name: what a recipe of the step consists of, and how a run of it is updated.

A module of this package has two classes, `Recipe` and `Trainer`. It is imported when asked for, so that a run depends
on the kind of step it takes and an edit of the other one retrains nothing.
"""

import importlib

#: Step -> module of this package.
KINDS = {"gan": "implicit", "jko": "implicit", "euler": "explicit"}


def get(step):
    """The module of the time step called `step`, a key of `KINDS`."""
    return importlib.import_module(f"{__name__}.{KINDS[step]}")
