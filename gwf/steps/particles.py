r"""Particles under a velocity field: the explicit flow with no map at all.

    x_i <- x_i + eps V(x_i),      V from the cloud itself and a data batch.

For V of exact transport to a fixed cloud, the clouds stay on the geodesic and W_2 falls by exactly 1 - eps per step.
"""

import torch

from gwf.errors import UsageError


def flow(field, x, data, eps, steps, generator=None, other=None, batch=None, after=None):
    """Move a cloud for a number of Euler steps.

    Parameters
    ----------
    field : see `gwf.fields.learned`
        Its critics, if any, are improved before each step.
    x : Tensor (n, d)
        Start; not changed.
    data : Tensor (m, d), or callable (n, generator) -> Tensor
        A fixed cloud, or a sampler of fresh batches.
    eps : float or callable step -> float
    steps : int
    generator : torch.Generator, optional
    other : {None, "halves", "same"}
        What a field's self term compares with: "halves": the other half of the cloud, an independent sample; "same": the
        cloud itself; None: "halves" where the field needs it.
    batch : int, optional
        Move the cloud in random parts of this size, each against a batch of data of the same size.
    after : callable (step, x), optional
        Looks at the cloud after each step.

    Returns
    -------
    Tensor (n, d)
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
