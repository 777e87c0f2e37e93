"""What a data set means for a training run: source, networks, samples, settings. One class `Task` per data set."""

from gwf.errors import nearest
from gwf.training import digits, eight_gaussians, fashion

TASKS = {"digits": digits.Task, "fashion": fashion.Task, "eight_gaussians": eight_gaussians.Task}


def get(name):
    """The class `Task` of the data set called `name`; `UsageError` with the nearest valid name if there is none."""
    return TASKS[nearest(name, TASKS, "data set")]
