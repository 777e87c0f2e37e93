"""Methods by name: a functional and a time step, `<functional>-<step>`.

A functional with a variational bound has three recipes: `gan` (tau = infinity, no proximal term: the f-GAN, the GAN,
the WGAN of that functional), `jko` (its generative Wasserstein flow) and `euler` (the explicit flow of its critic:
W1-FE for W1). One with a velocity field (W2, Sinkhorn, sliced W2, MMD, minibatch transport) has `euler` alone: W2-FE,
the Sinkhorn flow, and so on. A functional added to `gwf.functionals` has its recipes at once.
"""

import math
from dataclasses import dataclass

from gwf import functionals
from gwf.errors import UsageError, in_range, nearest
from gwf.flows.fields import CriticField, Direct, DualField
from gwf.flows.jko import JKO, JKOStep
from gwf.velocity import Explicit

STEPS = {"gan": "no JKO", "jko": "JKO", "euler": "Euler"}
CRITIC_STEPS = 5
"""Updates of a field's potentials per Euler step, as in w2fe."""


@dataclass(frozen=True)
class Recipe:
    """One choice of functional and time step."""

    functional: str
    step: str

    @property
    def name(self):
        """`<functional>-<step>`."""
        return f"{self.functional}-{self.step}"


class ImplicitRecipe(Recipe):
    """`gan` or `jko`."""

    def tau(self, settings):
        """The step: `settings["tau"]` for `jko`, infinity for `gan`."""
        return math.inf if self.step == "gan" else settings["tau"]

    def record(self, settings):
        """What metrics.json says of the time step."""
        return {"tau": settings["tau"] if self.step == "jko" else "inf"}

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


class ExplicitRecipe(Recipe):
    """`euler`: the step is `settings["tau"]`, the persistency `settings["phase"]`."""

    @property
    def potentials(self):
        """How many networks the field learns: 2 for W2's dual, 1 for a critic, 0 where the velocity is in closed form."""
        if self.functional == "w2":
            return 2
        return 0 if isinstance(functionals.get(self.functional), Explicit) else 1

    def record(self, settings):
        """What metrics.json says of the time step."""
        return {"tau": "inf", "eps": settings["tau"], "persistency": settings["phase"]}

    def field(self, potentials, settings):
        """The velocity field, with its potentials' networks; the penalty's weight is `lipschitz` for W1, else `penalty`."""
        functional, adam = functionals.get(self.functional), (settings["lr_critic"], CRITIC_STEPS, (0.5, 0.9))
        if not potentials:
            return Direct(functional)
        if len(potentials) == 2:
            return DualField(*potentials, settings["penalty"], *adam)
        weight = settings["lipschitz" if functional.penalty == "lipschitz" else "penalty"]
        return CriticField(functional, *potentials, weight, *adam)


def get(functional, step):
    """The recipe, with a `UsageError` that names the nearest valid functional or step."""
    nearest(functional, functionals.names(), "functional")
    nearest(step, steps(functional), f"step of {functional}" if step in STEPS else "step")
    return (ExplicitRecipe if step == "euler" else ImplicitRecipe)(functional, step)


def implicit():
    """Names of the functionals with a variational bound, which every time step can use."""
    return [name for name in functionals.names() if not isinstance(functionals.get(name), Explicit)]


def steps(functional):
    """Time steps that a functional allows."""
    return ["euler"] if isinstance(functionals.get(functional), Explicit) else list(STEPS)


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
