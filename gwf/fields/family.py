r"""The velocity fields that one outer iteration can run with, by name, and what an iteration of each costs.

| name | V(x) |
| --- | --- |
| `w2` | -grad h of the penalised W2 dual, two networks |
| `w1` | -grad h of a 1-Lipschitz critic |
| `sinkhorn` | B_{mu,nu} - B_{mu,mu'}, mu' an independent second batch |
| `sinkhorn_single` | the same with mu' = mu: the self plan sits on its diagonal |
| `sliced` | sliced W2 |
| `mmd` | MMD^2 / 2 with the energy kernel |
| `minibatch_ot` | y_{pi(i)} - x_i, pi the optimal assignment of the two batches |

Sources: proposal (the family), w2fe (the critics). Chapter `explicit`.
"""

from gwf.errors import nearest
from gwf.fields.learned import CriticField, Direct, DualField
from gwf.fields.mmd import MMD
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.sliced import Sliced
from gwf.nets.plane import PlanePotential

TITLES = {
    "w2": "W2 critic",
    "w1": "W1 critic",
    "sinkhorn": "Sinkhorn",
    "sinkhorn_single": "Sinkhorn, single batch",
    "sliced": "sliced W2",
    "mmd": "MMD",
    "minibatch_ot": "minibatch OT",
}
CRITICS = ("w2", "w1")


class SingleBatch(Sinkhorn):
    """Sinkhorn velocity whose self term compares the batch with itself: V(x) = B_{mu,nu}(x) - B_{mu,mu}(x)."""

    title = "Sinkhorn, single batch"
    needs_other = False

    def velocity(self, x, y, other=None, generator=None):
        """V at x (n, ...), for data y (m, ...)."""
        return super().velocity(x, y, x)


def field(name, *, width=64, critic_steps=5, reg=0.02, iterations=20, directions=32):
    """A new field.

    Parameters
    ----------
    name : str
        A key of `TITLES`; `UsageError` with the nearest one otherwise.
    width, critic_steps : int
        Of the critics.
    reg, iterations : float, int
        Temperature in units of the cost, and updates, of the entropic plans.
    directions : int
        Of the sliced field.
    """
    plans = {"reg": reg, "iterations": iterations, "relative": False}
    return {
        "w2": lambda: DualField(PlanePotential(width=width), PlanePotential(width=width), critic_steps=critic_steps),
        "w1": lambda: CriticField("w1", PlanePotential(width=width), critic_steps=critic_steps),
        "sinkhorn": lambda: Direct(Sinkhorn(**plans)),
        "sinkhorn_single": lambda: Direct(SingleBatch(**plans)),
        "sliced": lambda: Direct(Sliced(directions)),
        "mmd": lambda: Direct(MMD("energy")),
        "minibatch_ot": lambda: Direct("minibatch_ot"),
    }[nearest(name, TITLES, "field")]()


def work(name, batch, persistency, unit, *, critic_steps=5, iterations=20, directions=32):
    """Work of one outer iteration, in regression steps of the map on one batch: a number that no clock enters.

    Critic steps count `unit[name]` regression steps each. A million entries of a matrix (or of a sorted table) that are
    passed over once count `unit["entries"]`, and a million entries of an assignment problem `unit["assignment"]`. A plan
    passes over its matrix 2 (iterations + 1) times; a kernel 4 times.
    """
    entries = batch * batch / 1e6
    return (
        persistency
        + {
            "w2": lambda: critic_steps * unit["w2"],
            "w1": lambda: critic_steps * unit["w1"],
            "sinkhorn": lambda: 4 * (iterations + 1) * entries * unit["entries"],
            "sinkhorn_single": lambda: 4 * (iterations + 1) * entries * unit["entries"],
            "sliced": lambda: 2 * batch * directions / 1e6 * 8 * unit["entries"],
            "mmd": lambda: 8 * entries * unit["entries"],
            "minibatch_ot": lambda: entries * unit["assignment"],
        }[nearest(name, TITLES, "field")]()
    )
