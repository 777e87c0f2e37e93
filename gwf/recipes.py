"""Methods by name: a functional and a time step, `<functional>-<step>`.

Every functional has two recipes: `gan` (tau = infinity, no proximal term: the f-GAN, the GAN, the WGAN of that
functional) and `jko` (its generative Wasserstein flow). A functional added to `gwf.functionals` has both at once.
"""

import math
from dataclasses import dataclass

from gwf import functionals
from gwf.errors import UsageError, in_range, nearest
from gwf.flows.jko import JKO, JKOStep

STEPS = {"gan": "no JKO", "jko": "JKO"}


@dataclass(frozen=True)
class Recipe:
    """One choice of functional and time step."""

    functional: str
    step: str

    @property
    def name(self):
        """`<functional>-<step>`."""
        return f"{self.functional}-{self.step}"

    def tau(self, settings):
        """The step: `settings["tau"]` for `jko`, infinity for `gan`."""
        return math.inf if self.step == "gan" else settings["tau"]

    def build(self, T, critic, settings):
        """The `JKOStep` of this recipe for a map and a critic.

        `settings` needs tau, per_dimension, penalty and penalty_every (of R1). W1 uses the weight `lipschitz` at
        every update: its bound holds for Lipschitz critics only, which a rare penalty would not keep.
        """
        functional = functionals.get(self.functional)
        prox = JKO(T, self.tau(settings), settings["per_dimension"])
        weight, every = settings["penalty"], settings["penalty_every"]
        if functional.penalty == "lipschitz":
            weight, every = settings["lipschitz"], 1
        return JKOStep(functional, critic, prox, weight, every, settings["nonsaturating"])


def get(functional, step):
    """The recipe, with a `UsageError` that names the nearest valid functional or step."""
    nearest(functional, functionals.names(), "functional")
    nearest(step, STEPS, "step")
    return Recipe(functional, step)


def names():
    """Names of all recipes."""
    return [f"{functional}-{step}" for functional in functionals.names() for step in STEPS]


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
