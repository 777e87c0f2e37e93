"""Settings of a training run: one table of ranges, and what every time step has.

A step adds its own beside its trainer, as a frozen dataclass on top of `Settings` whose defaults are those of the
laptop profile; a data set overrides what depends on it (`defaults` of `gwf.training.tasks`).
"""

import dataclasses
import math
from dataclasses import dataclass

from gwf.errors import UsageError, in_range, nearest, whole

#: Setting -> (lowest, highest, whether the lowest is excluded); its annotation says whether it is a whole number.
RANGES = {
    "updates": (1, 10**8, False),
    "phase": (1, 10**8, False),
    "persistency": (1, 10**8, False),
    "batch": (2, 65536, False),
    "tau": (0, math.inf, True),
    "eps": (0, math.inf, True),
    "lr_map": (0, 1, True),
    "lr_critic": (0, 1, True),
    "penalty": (0, 1e6, False),
    "noise": (0, 10, False),
    "ode_steps": (1, 10**4, False),
    "penalty_every": (1, 10**6, False),
    "lipschitz": (0, 1e6, False),
    "ema": (0, 1, False),
    "evaluate_every": (1, 10**8, False),
    "n_samples": (2, 10**7, False),
    "threads": (1, 1024, False),
}


@dataclass(frozen=True)
class Settings:
    """What every time step has. Each value is checked when an object is made: `UsageError` names one out of range."""

    updates: int = 2000  # of the map
    batch: int = 64  # samples and data per update
    lr_map: float = 1e-3  # learning rates of Adam
    lr_critic: float = 1e-3
    penalty: float = 0.2  # weight of the critic's penalty
    lipschitz: float = 10.0  # weight of the one-sided gradient penalty that stands for W1's constraint
    ema: float = 0.998  # decay of the map's average, which is what is sampled and stored
    evaluate_every: int = 500  # updates between two evaluations
    n_samples: int = 4000  # samples per evaluation
    threads: int = 1  # of the CPU
    amp: bool = False  # networks in mixed precision: bfloat16 products; weights and losses in float32

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field.name, getattr(self, field.name), field.type))


def checked(name, value, kind):
    """`value` of the setting `name` as the `kind` bool, int or float; `UsageError` if it is none or out of range."""
    if kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} = {value!r}: it must be true or false")
        return value
    low, high, open_low = RANGES[name]
    if kind is int:
        return whole(value, low, high, name)
    if isinstance(value, bool):
        raise UsageError(f"{name} = {value!r}: it must be a number")
    return float(in_range(value, low, high, name, open_low=open_low))


def complete(kind, defaults, given):
    """Settings of the class `kind`: its own defaults, then those of the data set that it knows, then what is given.

    `UsageError` for a setting that `kind` has not (with the nearest one), or a value out of range.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        nearest(name, known, "training setting")
    return kind(**{name: value for name, value in defaults.items() if name in known} | given)
