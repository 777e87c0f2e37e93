"""Start-up script of a kernel: write down which functions of gwf are called by cells, one line each.

What runs while a module is imported is left out: it belongs to the module, and not to the stage.
"""

import os
import sys

SEEN = set()
FOLDERS = ("gwf", "companion", "notebooks")


def importing(frame):
    """Whether a frame is below the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def profile(frame, event, argument):
    """Enter a function that is called for the first time."""
    code = frame.f_code
    if event != "call" or code in SEEN:
        return
    root = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    relative = os.path.relpath(code.co_filename, root) if code.co_filename.startswith(root) else ""
    if relative.split(os.sep)[0] not in FOLDERS or importing(frame):
        if not relative:
            SEEN.add(code)
        return
    SEEN.add(code)
    with open(os.environ["GWF_PROGRESS"] + ".calls", "a") as file:
        file.write(f"{relative} {code.co_qualname}\n")


get_ipython().events.register("pre_run_cell", lambda info: sys.setprofile(profile))  # noqa: F821
