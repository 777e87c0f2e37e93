r"""What a velocity field is: the steepest descent of a functional F in Wasserstein space, on samples.

    V = -grad of the first variation of F at mu,          x <- x + eps V(x)

moves the law of x downhill. Where V is a plan, a sort or a kernel sum over two batches it is in closed form; where it
is the gradient of a potential, the potential is learned (`gwf.fields.learned`). One loop (`gwf.steps.euler`) runs all.
"""

import torch


class Field:
    """A velocity field: in closed form on samples, unless a subclass learns potentials. Knows nothing about data.

    `title` names its functional for people; `gwf.fields.title` adds "critic" where it is learned. `potentials` names
    the networks that it learns, `critic_steps` counts their updates per time step. `needs_other` says whether `other`,
    a second generated batch that is independent of the first, is looked at.
    """

    title = ""
    potentials = ()
    critic_steps = 0
    needs_other = False

    def velocity(self, x, y, other=None, generator=None):
        """V at generated x (n, ...), for data y (m, ...), shaped as x is; `other` (k, ...) is a second generated batch,
        where `needs_other`, and `generator` draws random directions, where there are any."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, x, y, other=None, generator=None):
        """`velocity`, without graph."""
        return self.velocity(x, y, other, generator)

    def improve(self, x, y, generator=None):
        """One update of the potentials on generated x and data y: here there are none."""

    def work(self, batch, unit):
        """Work of a time step's V on batches of this size, in regression steps of the map: no clock enters.

        `unit`: what a critic step counts under the field's name, a million entries of a matrix or sorted table that
        are passed over once under "entries", and a million entries of an assignment problem under "assignment".
        """
        raise NotImplementedError

    def networks(self):
        """Name -> network."""
        return {}

    def state_dict(self):
        """Everything that a later V depends on."""
        return {}

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""

    def __repr__(self):
        return f"<{type(self).__name__}: {self.title}>"
