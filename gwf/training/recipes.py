"""Methods by name: a functional and a time step, `<functional>-<step>`.

| steps | functionals | what they are |
| --- | --- | --- |
| `gan`, `jko` | those with a variational bound over critics | f-GAN, WGAN; generative Wasserstein flows |
| `descent`, `implicit` | those with a velocity field | W2-GAN; gwf's algorithms 1 (no critic) and 2 (MMD-GAN, scaled, repulsive) |
| `ck_gan`, `ck_jko` | `mmd` | CKGAN's form of it |
| `euler` | all | W2-FE, W1-FE, Sinkhorn flow, drifting, ...: regression on frozen targets |
| `sjko`, `uotm_fixed`, `uotm`, `uotm_released` | some f-divergences | S-JKO, its JSD variant; K = 1 (OTM for `w2`); UOTM, as released |
| `increments`, `whole` | those with a bound | vwgf, and a whole map on the same networks |
| `matching`, `gaussian`, `real` | couplings; `w2` | flow matching, and references that nothing trains |
"""

from gwf import divergences, fields
from gwf.errors import UsageError, nearest
from gwf.training.conditional import CKGAN, CKJKO
from gwf.training.explicit import Euler
from gwf.training.implicit import GAN, JKO
from gwf.training.increments import Increments, Whole
from gwf.training.matching import Matching
from gwf.training.proximal import Descent, Proximal
from gwf.training.references import Gaussian, Real
from gwf.training.semidual import SJKO, UOTM, SourceFixed, UOTMReleased

#: Time step -> its trainer, which has its settings.
STEPS = {
    "gan": GAN,
    "jko": JKO,
    "euler": Euler,
    "descent": Descent,
    "implicit": Proximal,
    "ck_gan": CKGAN,
    "ck_jko": CKJKO,
    "sjko": SJKO,
    "uotm_fixed": SourceFixed,
    "uotm": UOTM,
    "uotm_released": UOTMReleased,
    "increments": Increments,
    "whole": Whole,
    "matching": Matching,
    "gaussian": Gaussian,
    "real": Real,
}


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
    """Names of all functionals: those with a critic, and those with a velocity field."""
    return sorted({*divergences.names(), *fields.FIELDS})


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
    return [f"{functional}-{step}" for functional in functionals() for step in steps(functional)]
