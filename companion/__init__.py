"""What turns notebooks into a pipeline and a report: parameters, stages, results, claims. Knows no mathematics."""

import importlib.util
import sys

NEEDS = ("torch", "pandas", "yaml", "psutil", "hydra", "papermill", "dvc")
if sys.argv[0] == "-m" and (missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]):
    sys.exit(f"error: this Python has no {', '.join(missing)}: use make, or first `source .venv/bin/activate`")
