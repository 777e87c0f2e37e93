"""Small training runs, which several files of tests make and update."""

import torch

from gwf.training import recipes, tasks
from gwf.training.settings import complete

SHORT = {"batch": 16, "ema": 0.9, "n_samples": 8}
#: Time step -> a functional that it takes: every kind of update.
KINDS = {
    step: next(name for name in recipes.functionals() if step in recipes.steps(name)) for step in recipes.STEPS
} | {"gan": "js_ns", "jko": "kl_dv", "descent": "mmd_scaled", "implicit": "w2", "increments": "js", "whole": "js"}
#: The steps that train nothing.
REFERENCES = ("gaussian", "real")


def trainer(functional, step, dataset="eight_gaussians", device="cpu", **changes):
    """The trainer of a recipe with seed 0; of the changes, the settings that its step has."""
    of, task = recipes.get(functional, step), tasks.get(dataset)
    device = torch.device(device)
    given = {name: value for name, value in (SHORT | changes).items() if name in of.Settings.__dataclass_fields__}
    return of(functional, task(0, device), complete(of.Settings, task.defaults, given), 0, device)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])
