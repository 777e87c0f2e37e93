"""Methods by name: a functional and a time step, `<functional>-<step>`.

A functional with a variational bound has three recipes: `gan` (tau = infinity, no proximal term: the f-GAN, the GAN,
the WGAN of that functional), `jko` (its generative Wasserstein flow) and `euler` (the explicit flow of its critic:
W1-FE for W1). One with a velocity field (W2, Sinkhorn, sliced W2, MMD, minibatch transport) has `euler` alone: W2-FE,
the Sinkhorn flow, and so on. `js_ns` has no `euler`: its critic is that of `js`, and so would be the flow
(`gwf.fields.learned.FunctionalField` is the field of the loss itself). A functional added to `gwf.divergences` has its recipes at once.
"""

from gwf import divergences, fields
from gwf.errors import UsageError, nearest
from gwf.training.explicit import Euler
from gwf.training.implicit import GAN, JKO

FIELDS_ALONE = ("minibatch_ot", "mmd", "sinkhorn", "sliced", "w2")
"""Functionals with a field of `gwf.fields` and no bound over one critic."""

#: Time step -> its trainer, which has its settings.
STEPS = {"gan": GAN, "jko": JKO, "euler": Euler}


def get(functional, step):
    """The trainer of the time step, with a `UsageError` that names the nearest valid functional or step."""
    nearest(functional, (*divergences.DIVERGENCES, *fields.FIELDS), "functional")
    trainer = STEPS[nearest(step, STEPS, "step")]
    if functional not in fields.FIELDS and not divergences.has_critic(functional):
        raise UsageError(
            f"functional {functional!r} has no bound over critics and no velocity field: it cannot be trained"
        )
    if not trainer.takes(functional):
        raise UsageError(
            f"unknown step of {functional} {step!r}: it has no bound over critics, and explicit steps alone"
        )
    return trainer


def functionals():
    """Names of all functionals: those with a critic, and those with a velocity field alone."""
    return sorted([*divergences.names(), *FIELDS_ALONE])


def functional(name):
    """The functional called `name`: a divergence with a critic, or the class of its velocity field."""
    return divergences.get(name) if divergences.has_critic(name) else fields.FIELDS[name]


def implicit():
    """Names of the functionals with a variational bound, which every time step can use."""
    return [name for name in functionals() if JKO.takes(name)]


def steps(functional):
    """Time steps that a functional allows, and that are methods of its own."""
    twin = {("js_ns", "euler")}
    return [step for step, trainer in STEPS.items() if trainer.takes(functional) and (functional, step) not in twin]


def names():
    """Names of all recipes."""
    return [f"{functional}-{step}" for functional in functionals() for step in steps(functional)]
