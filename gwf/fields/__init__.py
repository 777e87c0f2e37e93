r"""Velocity fields V of the functionals F, by name: what one outer iteration of an explicit flow can run with.

| name | V(x) |
| --- | --- |
| `w2` | -grad h of the penalised W2 dual, two networks |
| `w1` | -grad h of a 1-Lipschitz critic |
| `sinkhorn` | B_{mu,nu} - B_{mu,mu'}, mu' an independent second batch |
| `sinkhorn_single` | the same with mu' = mu: the self plan sits on its diagonal |
| `sliced` | sliced W2 |
| `mmd` | MMD^2 / 2 with the energy kernel |
| `mmd_learned`, `mmd_scaled`, `mmd_repulsive` | MMD^2 / 2 between learned features, one network |
| `minibatch_ot` | y_{pi(i)} - x_i, pi the optimal assignment of the two batches |
| `chi2_tight` | -grad of the map's loss, which is not E h of the critic |
| `independent` | y_i - x_i, the batches as they come |
| `drifting`, `drifting_released` | attraction to data minus repulsion from generated points |

`learned.FunctionalField` is the field of any other functional with a critic.

>>> from gwf import fields
>>> fields.get("sinkhorn", reg=0.02, relative=False).iterations
40

Sources: proposal (the family), w2fe (the critics). Chapter `explicit`.
"""

import inspect

from gwf.errors import nearest
from gwf.fields.drifting import Drifting, DriftingReleased
from gwf.fields.kernels import LearnedMMD, RepulsiveMMD, ScaledMMD
from gwf.fields.learned import TightChi2Field, W1Field
from gwf.fields.minibatch_ot import Independent, MinibatchOT
from gwf.fields.mmd import MMD
from gwf.fields.sinkhorn import SingleBatch, Sinkhorn
from gwf.fields.sliced import Sliced
from gwf.fields.w2 import DualField

FIELDS = {
    "w2": DualField,
    "w1": W1Field,
    "sinkhorn": Sinkhorn,
    "sinkhorn_single": SingleBatch,
    "sliced": Sliced,
    "mmd": MMD,
    "mmd_learned": LearnedMMD,
    "mmd_scaled": ScaledMMD,
    "mmd_repulsive": RepulsiveMMD,
    "minibatch_ot": MinibatchOT,
    "chi2_tight": TightChi2Field,
    "independent": Independent,
    "drifting": Drifting,
    "drifting_released": DriftingReleased,
}
SETTINGS = (
    *("betas", "critic_steps", "lr", "penalty_of", "positive", "target", "weight"),
    *("bandwidth", "directions", "iterations", "kernel", "reg", "relative", "relaxation"),
)
"""Everything that some field can be set to; written out, so that a stage depends on the fields that it names alone."""


def names():
    """Names of all fields, in the table's order."""
    return list(FIELDS)


def title(name):
    """The field's name for people: "Sinkhorn", "W2 critic"."""
    field = FIELDS[nearest(name, FIELDS, "field")]
    return field.title + (" critic" if field.potentials else "")


def get(name, potential=None, **settings):
    """A new field.

    Parameters
    ----------
    name : str
        A key of `FIELDS`; `UsageError` with the nearest one otherwise.
    potential : callable () -> torch.nn.Module, optional
        Makes a network x (n, ...) -> (n, 1); called once for each of the field's potentials.
    **settings
        Of the fields' classes. A field takes those that it knows, so that one line of settings serves a comparison of
        several fields; `UsageError` for one that no field knows.
    """
    field = FIELDS[nearest(name, FIELDS, "field")]
    for setting in settings:
        nearest(setting, SETTINGS, "setting of a field")
    known = inspect.signature(field).parameters
    own = {setting: value for setting, value in settings.items() if setting in known}
    return field(*(potential() for _ in field.potentials if potential), **own)
