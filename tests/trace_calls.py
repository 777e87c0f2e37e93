"""Start-up script of a kernel: write down which functions of gwf are called by cells, one line each.

What runs while a module is imported is left out: it belongs to the module, and not to the stage.
"""

import os
import sys


def trace():
    """Enter functions from the first cell on; a scope of its own, as a notebook's names are the kernel's globals."""
    seen, folders = set(), ("gwf", "companion", "notebooks")
    root, log = os.environ["PYTHONPATH"].split(os.pathsep)[0], os.path.join(os.environ["IPYTHONDIR"], "calls")

    def importing(frame):
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back
        return False

    def enter(frame, event, argument):
        code = frame.f_code
        if event != "call" or code in seen:
            return
        relative = os.path.relpath(code.co_filename, root) if code.co_filename.startswith(root) else ""
        if relative.split(os.sep)[0] in folders:
            if importing(frame):
                return
            with open(log, "a") as file:
                file.write(f"{relative} {code.co_qualname}\n")
        seen.add(code)

    get_ipython().events.register("pre_run_cell", lambda info: sys.setprofile(enter))  # noqa: F821


trace()
