"""Methods by name: a functional and a time step, `<functional>-<step>`.

A functional with a variational bound has three recipes: `gan` (tau = infinity, no proximal term: the f-GAN, the GAN,
the WGAN of that functional), `jko` (its generative Wasserstein flow) and `euler` (the explicit flow of its critic:
W1-FE for W1). One with a velocity field (W2, Sinkhorn, sliced W2, MMD, minibatch transport) has `euler` alone: W2-FE,
the Sinkhorn flow, and so on. A functional added to `gwf.functionals` has its recipes at once.
"""

import math

from gwf import functionals
from gwf import training as time_steps
from gwf.errors import UsageError, in_range, nearest

STEPS = {"gan": "no JKO", "jko": "JKO", "euler": "Euler"}


def get(functional, step):
    """The recipe, with a `UsageError` that names the nearest valid functional or step."""
    nearest(functional, functionals.names(), "functional")
    nearest(step, steps(functional), f"step of {functional}" if step in STEPS else "step")
    return time_steps.get(step).Recipe(functional, step)


def implicit():
    """Names of the functionals with a variational bound, which every time step can use."""
    return [name for name in functionals.names() if name not in functionals.FIELDS_ALONE]


def steps(functional):
    """Time steps that a functional allows."""
    return ["euler"] if functional in functionals.FIELDS_ALONE else list(STEPS)


def names():
    """Names of all recipes."""
    return [f"{functional}-{step}" for functional in functionals.names() for step in steps(functional)]


#: Valid range (low, high, low excluded) of every setting of a training run.
RANGES = {
    "updates": (1, 10**8, False),
    "phase": (1, 10**8, False),
    "batch": (2, 65536, False),
    "tau": (0, math.inf, True),
    "lr_map": (0, 1, True),
    "lr_critic": (0, 1, True),
    "penalty": (0, 1e6, False),
    "penalty_every": (1, 10**6, False),
    "lipschitz": (0, 1e6, False),
    "ema": (0, 1, False),
    "evaluate_every": (1, 10**8, False),
    "n_samples": (2, 10**7, False),
    "threads": (1, 1024, False),
}
SWITCHES = {"per_dimension", "nonsaturating", "amp"}


def check(settings):
    """Return `settings` if every one is known, present and in range; otherwise raise `UsageError` that says which."""
    for name in settings:
        nearest(name, {*RANGES, *SWITCHES}, "training setting")
    for name in sorted({*RANGES, *SWITCHES} - set(settings)):
        raise UsageError(f"training setting {name!r} is missing")
    for name in SWITCHES:
        if not isinstance(settings[name], bool):
            raise UsageError(f"{name} = {settings[name]!r}: it must be true or false")
    for name, (low, high, open_low) in RANGES.items():
        in_range(settings[name], low, high, name, open_low=open_low)
    return settings
