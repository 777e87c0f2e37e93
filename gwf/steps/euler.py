r"""The explicit (forward Euler) time step on whole maps, and the steps it is compared with.

One outer iteration improves the velocity field on fresh batches, then freezes a batch z and its pushed samples

    zeta = T(z) + eps V(T(z))                (no gradient through zeta)

and regresses the map on them, `persistency` times on the same z and zeta:

    theta <- theta - lr grad (1 / m) sum_i |T_theta(z_i) - zeta_i|^2.

With V = -grad h one such step has the gradient 2 eps (1 / m) sum J_theta^T grad h(T(z_i)): at persistency 1 it is the
step of a GAN whose generator minimises E h(T(z)), and eps is part of the learning rate (under Adam it is nothing at
all). Further steps on the frozen target are what distinguishes the explicit flow. For an affine map and exact h one
outer iteration is an Euler step of size eps (1 - (1 - 2 lr)^J). Sources: w2fe (W2-FE, W1-FE);
proposal (W-Flow and drifting: the same rule with other V, persistency 1). Chapters `w2flow` and `explicit`.
"""

import torch

from gwf.errors import UsageError, in_range
from gwf.steps.jko import descend


class Euler:
    """Regress the map on its own frozen, pushed samples.

    Parameters
    ----------
    T, field, optimiser : torch.nn.Module, gwf.fields.base.Field, torch.optim.Optimizer
        z (m, ...) -> x (m, ...), its velocity, and the optimiser over its weights.
    eps, persistency : float, int
        Euler step, > 0, of which 1 goes all the way of a W2 field; steps on one frozen target, at least 1.
    """

    def __init__(self, T, field, optimiser, eps=1.0, persistency=1):
        in_range(eps, 0, float("inf"), "eps", open_low=True)
        if not (isinstance(persistency, int) and persistency >= 1):
            raise UsageError(f"persistency = {persistency!r}: it must be a whole number, at least 1")
        self.T, self.field, self.optimiser = T, field, optimiser
        self.eps, self.persistency = eps, persistency

    def update(self, z, y, z_other=None, generator=None):
        """One time step on latents z and data y. Returns the mean of |T(z) - zeta|^2 before it, a scalar tensor.

        `z_other`: latents of the second generated batch, where the field needs it; a batch norm sees the two apart.
        """
        x = self.T(z)
        other = None
        if self.field.needs_other:
            with torch.no_grad():
                other = self.T(z_other)
        target = x.detach() + self.eps * self.field(x.detach(), y, other, generator)
        first = None
        for step in range(self.persistency):
            # T(z) of the target serves the first of the regression steps too.
            x = x if step == 0 else self.T(z)
            loss = descend(self.optimiser, (x - target).square().sum() / len(z))
            first = loss if first is None else first
        return first


class Descent:
    """`steps` generator steps on E h(T(z)), with h fixed and no frozen target: the GAN of the field's functional.

    One step is W2-GAN (for `DualField`) or WGAN (for W1); more are the naive control of persistency, whose target
    moves along with the map. The field must have a potential. Parameters as in `Euler`.
    """

    def __init__(self, T, field, optimiser, steps=1):
        if not hasattr(field, "potential"):
            raise UsageError("this field has no potential to descend: use Euler")
        self.T, self.field, self.optimiser, self.steps = T, field, optimiser, steps

    def update(self, z, y=None, z_other=None, generator=None):
        """`steps` steps on latents z. Returns E h(T(z)) before them, a scalar tensor."""
        first = None
        for _ in range(self.steps):
            loss = descend(self.optimiser, self.field.potential(self.T(z)).mean())
            first = loss if first is None else first
        return first


def iterate(step, data, latent, batch, stream):
    """One outer iteration of any `step` with any field: improve the field, then move the map. Returns the step's loss.

    `step` is an `Euler` or `Descent`; `data` and `latent` are (n, stream) -> Tensor; every draw comes from `stream`.
    """
    field = step.field
    for _ in range(field.critic_steps):
        with torch.no_grad():
            x = step.T(latent(batch, stream))
        field.improve(x, data(batch, stream), stream)
    z_other = latent(batch, stream) if field.needs_other else None
    return step.update(latent(batch, stream), data(batch, stream), z_other, stream)


def particle_flow(field, x, data, eps, steps, generator=None, other=None, batch=None, after=None):
    r"""Euler steps of particles, with no map at all: x_i <- x_i + eps V(x_i), V from the cloud itself and a data batch.

    For V of exact transport to a fixed cloud, the clouds stay on the geodesic and W_2 falls by exactly 1 - eps a step.

    Parameters
    ----------
    field, x : gwf.fields.base.Field, Tensor (n, d)
        Critics, if any, are improved before each step; the start, which is not changed: returned is the end.
    data : Tensor (m, d), or callable (n, generator) -> Tensor
        A fixed cloud, or a sampler of fresh batches.
    eps : float or callable step -> float
    other : {None, "halves", "same"}
        What a field's self term compares with: "halves": the other half of the cloud, an independent sample; "same":
        the cloud itself; None: "halves" where the field needs it.
    batch : int, optional
        Move the cloud in random parts of this size, each against a batch of data of the same size.
    after : callable (step, x), optional
        Looks at the cloud after each step.
    """
    if other not in (None, "halves", "same"):
        raise UsageError(f"other = {other!r}: valid are None, 'halves' and 'same'")
    x = x.clone()
    rate = eps if callable(eps) else lambda step: eps
    for step in range(steps):
        parts = [torch.arange(len(x), device=x.device)]
        if batch is not None:
            parts = torch.randperm(len(x), generator=generator, device=x.device).split(batch)
        for part in parts:
            y = data(len(part), generator) if callable(data) else data
            for _ in range(field.critic_steps):
                field.improve(x[part], y, generator)
            x[part] += rate(step) * _velocity(field, x[part], y, other, generator)
        if after is not None:
            after(step + 1, x)
    return x


def _velocity(field, x, y, other, generator):
    """V at all of x; with "halves" either half is the other one's second batch."""
    if not field.needs_other:
        return field(x, y, None, generator)
    if other == "same":
        return field(x, y, x, generator)
    V, order = torch.empty_like(x), torch.randperm(len(x), generator=generator, device=x.device)
    first, second = order[: len(x) // 2], order[len(x) // 2 :]
    V[first] = field(x[first], y, x[second], generator)
    V[second] = field(x[second], y, x[first], generator)
    return V
