"""Half the squared W2 distance by exact transport between two batches."""

import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment

from gwf.fields.base import Field


class MinibatchOT(Field):
    r"""F(mu) = W_2^2(mu, nu) / 2, with laws replaced by the batches: V(x_i) = y_{pi(i)} - x_i, pi the optimal assignment.

    Exact for two fixed clouds. With fresh batches at every step it descends E W_2^2 between batches, which is smallest
    for a law wider than nu inside its modes: biased. Batches of different sizes give the barycentric map of the
    optimal plan. Solved on the host, which a GPU awaits. Source: w2fe (discrete assignment); bias measured here, chapter `explicit`.
    """

    title = "minibatch OT"

    def velocity(self, x, y, other=None, generator=None):
        a, b = (t.flatten(1).double().cpu().numpy() for t in (x, y))
        C = ot.dist(a, b, metric="sqeuclidean")
        if len(a) == len(b):
            target = b[linear_sum_assignment(C)[1]]
        else:
            target = len(a) * (ot.emd(np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)), C) @ b)
        return torch.as_tensor(target, dtype=x.dtype, device=x.device).reshape(x.shape) - x

    def work(self, batch, unit):
        """One assignment of a batch to a batch."""
        return batch * batch / 1e6 * unit["assignment"]


class Independent(Field):
    """V(x_i) = y_i - x_i: each point to a data point drawn for it, the pairs of flow matching (`gwf.training.matching`).

    E[V | x] = E y - x: as the velocity of a map it draws all points to the mean.
    """

    title = "independent pairs"

    def velocity(self, x, y, other=None, generator=None):
        return y - x
