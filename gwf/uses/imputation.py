r"""Missing values filled in by the gradient flow of a divergence between random halves of the table.

Two random batches of rows of one complete table have the same law. So let the missing cells move until they do:

    minimise over the missing cells    E  D(batch_1, batch_2),        observed cells fixed.

Every row is a particle, and the velocity of the explicit flow (`gwf.fields.base`) is projected on its missing cells. For the
Sinkhorn divergence with uniform weights on n rows the envelope theorem gives the gradient without differentiating any
iteration: the derivative of <P, C> at the optimal plan P is that of C alone, so

    n dS/dx_i = (x_i - B_xy(x_i)) - (x_i - B_xx(x_i)) = B_xx(x_i) - B_xy(x_i) = -V(x_i),

B the barycentric maps of the entropic plans, and the same for the other batch. Sources: B. Muzellec, J. Josse, C. Boyer,
M. Cuturi. Missing data imputation using optimal transport. ICML 2020 (muzellec); proposal. Chapter `proposal`.
"""

import math

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state

from gwf import fields
from gwf.errors import UsageError, nearest, whole
from gwf.fields.entropic import half_squared
from gwf.progress import follow
from gwf.validation import number, offset, table_of, typical


def velocities(x, y, reg, iterations):
    r"""-n dS/dx and -m dS/dy of the Sinkhorn divergence of pairs of batches, by the envelope theorem, without graph.

    The four potentials of a pair (x to y, y to x, x to x, y to y) are updated at once, each as the average of its old and
    its new value, while the temperature falls geometrically from the largest cost to `reg`, in units of |x - y|^2 / 2, where
    the last fifth of the updates is made. x, y (k, n, d) are k pairs, batches of equal size; the result is two such tensors.
    """
    k, n = x.shape[:2]
    across, a, b = (torch.cdist(p, q).square_() / 2 for p, q in ((x, y), (x, x), (y, y)))
    C = torch.cat([across, across.mT.contiguous(), a, b])
    order = torch.cat([torch.arange(k) + k, torch.arange(k), torch.arange(2 * k, 4 * k)])
    potential, log_n = C.new_zeros(4 * k, n), math.log(n)
    top = max(float(across.max()), reg)
    fall = max(0.8 * (iterations - 1), 1)
    for t in [top * (reg / top) ** min(i / fall, 1) for i in range(iterations)]:
        new = t * (log_n - torch.logsumexp((potential[order][:, None, :] - C) / t, 2))
        potential = (potential + new) / 2
    to_y, to_x, x_to_x, y_to_y = (
        torch.softmax((potential[order][:, None, :] - C) / reg, 2) @ torch.cat([y, x, x, y])
    ).split(k)
    return to_y - x_to_x, to_x - y_to_y


def temperature(rows, reg):
    """(reg u)^2, u the median of |x_i - x_j|^2 / 2 over 2000 rows, without equal pairs if most are; 1 if all are."""
    part = rows[:2000]
    unit, exact = half_squared(part, part).median(), torch.pdist(part).square() / 2
    if unit == 0 or exact.median() == 0:
        unit = torch.tensor(typical(exact))
    # Beyond 1e8 u all weights are equal, and float32 ends.
    return min(float((reg * unit) ** 2) or (reg * float(unit)) ** 2 or 1.0, 1e8 * float(unit) or 1.0)


class _Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """What both imputers share: the loop over pairs of batches. A subclass says how a pair moves and how far."""

    reg = 0.1  # For the temperature of `transform`; `SinkhornImputer` has its own.

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "imputed_")

    def fit(self, X, y=None):
        """Fill in the table X (n, d), NaN where missing; the result is `imputed_`. Returns self. `UsageError`: no table,
        infinite cells, an empty column, fewer than four rows, a parameter out of range."""
        X = table_of(self, X, reset=True, missing=True, least=4)
        self._check()
        if empty := np.flatnonzero(np.isnan(X).all(0)).tolist():
            raise UsageError(f"columns {empty} of X have no observed cell: leave them out")
        self.mean_, self.scale_ = offset(X), np.ones(X.shape[1])
        if self.standardise:
            self.mean_, deviation = np.nanmean(X, 0), np.nanstd(X, 0)
            self.scale_ = np.where(deviation == 0, 1.0, deviation)
        self.centre_ = np.nanmean((X - self.mean_) / self.scale_, 0)
        if not self.standardise and np.nanmax(np.abs(X - self.mean_)) > 1e15:
            raise UsageError("standardise = False, and X spreads over more than 1e15: divide it by its scale")
        self.imputed_ = self._solve(X)
        return self

    def transform(self, X):
        r"""New rows x, each by itself and the same at every call, from the completed table z of `fit`:

            x_j <- sum_i w_i z_ij,     w_i proportional to exp(-sum_l (x_l - z_il)^2 / (2 temperature)),  l observed,

        the plan of one row, with which nothing competes: the conditional mean, given the observed cells, of the table
        smoothed at the temperature. On halves of wine and iris it errs less than a flow of all new rows against the table.
        """
        X = table_of(self, X, reset=False, missing=True)
        rows, table = (X - self.mean_) / self.scale_, (self.imputed_ - self.mean_) / self.scale_
        seen = ~np.isnan(rows)
        # Without the squares of x, which all weights have in common.
        C = seen @ (table**2).T / 2 - np.where(seen, rows, 0) @ table.T
        filled = softmax(-C / self.temperature_, axis=1) @ table
        return np.where(seen, X, filled * self.scale_ + self.mean_)

    def fit_transform(self, X, y=None):
        """`fit(X).imputed_`: all rows are filled in together, which `fit(X).transform(X)` does not."""
        return self.fit(X).imputed_.copy()

    def _check(self):
        whole(self.steps, 1, 10**9, "steps")
        whole(self.pairs, 1, 10**9, "pairs")
        whole(128 if self.batch is None else self.batch, 2, 10**9, "batch")
        number(self.noise, 0, 1e6, "noise")
        try:
            check_random_state(self.random_state)
        except ValueError as error:
            raise UsageError(f"random_state: {error}") from None
        if not isinstance(self.standardise, bool | np.bool_):
            raise UsageError(f"standardise = {self.standardise!r}: it must be True or False")

    def _solve(self, X):
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        stream = torch.Generator().manual_seed(seed)
        scaled = torch.as_tensor((X - self.mean_) / self.scale_, dtype=torch.float32)
        varies = torch.as_tensor(np.nanstd(X, 0) > 0)  # the cells of a constant column are known
        noise = torch.randn(scaled.shape, generator=stream) * varies
        start = torch.as_tensor(self.centre_, dtype=torch.float32) + self.noise * noise
        rows, missing = torch.where(scaled.isnan(), start, scaled), scaled.isnan() & varies
        self.temperature_ = temperature(rows, self.reg)
        if not np.isnan(X).any():
            return X
        b = min(self.batch or 128, 2 ** int(math.log2(max(len(rows) // 2, 2))), len(rows))
        progress = follow(f"{type(self).__name__}.fit", patience=5)
        for step in range(self.steps):
            with torch.no_grad():
                rows += self._move(self._mean_velocity(rows, b, stream), step) * missing
            if not rows.isfinite().all():
                raise UsageError(
                    f"step {step + 1} of {type(self).__name__} is not finite: take shorter steps (eps or lr)"
                )
            progress(step + 1, self.steps)
        filled = rows.double().numpy() * self.scale_ + self.mean_
        return np.where(np.isnan(X), filled, X)

    def _mean_velocity(self, rows, b, stream):
        """Sum of the velocities of all batches a row is in, over the number of pairs: (n, d)."""
        first, second = (
            torch.stack([torch.randperm(len(rows), generator=stream)[:b] for _ in range(self.pairs)]) for _ in range(2)
        )
        V = self._velocity(rows[first], rows[second], stream)
        total = torch.zeros_like(rows)
        for batch, velocity in zip((first, second), V, strict=True):
            total.index_put_((batch.flatten(),), velocity.flatten(0, 1), accumulate=True)
        return total / self.pairs


class SinkhornImputer(_Imputer):
    """Imputation by the Sinkhorn divergence between random batches, with RMSprop on the missing cells of `imputed_` (n, d).

    Parameters
    ----------
    reg : float
        eps as a multiple of the median of |x_i - x_j|^2 / 2 over the rows with means filled in. The temperature is eps^2, as
        in muzellec's code, which hands eps over as a length (`blur`) and takes .05; twice that was better on wine here.
    steps, pairs : int
        500 steps on wine take about two seconds; pairs of batches per step.
    batch : int or None
        Rows in a batch; None: 128. Never more than the largest power of two in half of the rows.
    lr : float
        Of RMSprop, in standard deviations of a column: no cell moves much faster than that.
    iterations : int
        Sinkhorn updates along the falling temperature; the smaller `reg`, the more are needed (20 at .05).
    noise : float
        Missing cells start from the column's mean plus noise of this standard deviation.
    standardise : bool
        Centre and scale columns by their observed cells first (a gross value sets its column's scale); undone at the end.
    random_state : None, int or numpy.random.RandomState

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 1)) @ [[1.0, 2.0]]
    >>> X[:5, 1] = np.nan
    >>> SinkhornImputer(steps=20, random_state=0).fit_transform(X).shape
    (50, 2)
    """

    def __init__(
        self,
        reg=0.1,
        steps=500,
        batch=None,
        pairs=1,
        lr=0.01,
        iterations=12,
        noise=0.1,
        standardise=True,
        random_state=None,
    ):
        self.reg, self.steps, self.batch, self.pairs, self.lr = reg, steps, batch, pairs, lr
        self.iterations, self.noise, self.standardise, self.random_state = iterations, noise, standardise, random_state

    def _check(self):
        super()._check()
        number(self.reg, 0, 1e6, "reg", open_low=True)
        number(self.lr, 0, 1e6, "lr", open_low=True)
        whole(self.iterations, 1, 10**6, "iterations")
        self._squares = torch.zeros(())

    def _velocity(self, x, y, stream):
        """Minus the gradient in either batch."""
        return tuple(V / x.shape[1] for V in velocities(x, y, self.temperature_, self.iterations))

    def _move(self, V, step):
        self._squares = (0.99 * self._squares).addcmul(V, V, value=0.01)
        return self.lr * V / (self._squares.sqrt() + 1e-8)


class FlowImputer(_Imputer):
    """Imputation by the explicit flow of any functional in closed form: Euler steps of its velocity on the missing cells.

    Parameters
    ----------
    field : str or gwf.fields.base.Field
        "minibatch_ot", "sinkhorn", "sliced", "mmd" (energy distance), or a field of `gwf.fields` with its own settings.
    eps : float
        Euler step; it falls linearly to nothing, which averages the noise of the batches out.
    steps, batch, pairs, noise, standardise, random_state
        As in `SinkhornImputer`.

    Notes
    -----
    Where the field compares with a second generated batch, the batch itself serves: the self term is that of the divergence
    of a pair. Field and step were chosen on the wine table with half of its cells missing: expect less elsewhere.
    """

    def __init__(
        self,
        field="minibatch_ot",
        eps=0.1,
        steps=500,
        batch=None,
        pairs=1,
        noise=0.1,
        standardise=True,
        random_state=None,
    ):
        self.field, self.eps, self.steps, self.batch, self.pairs = field, eps, steps, batch, pairs
        self.noise, self.standardise, self.random_state = noise, standardise, random_state

    def _check(self):
        super()._check()
        number(self.eps, 0, 1e6, "eps", open_low=True)
        try:
            self._field = fields.get(self.field) if isinstance(self.field, str) else self.field
            if self._field.potentials or hasattr(self._field, "prepare"):
                raise TypeError
        except (AttributeError, TypeError):
            raise UsageError(f"field = {self.field!r}: it must be a gwf field in closed form, or its name") from None

    def _velocity(self, x, y, stream):
        """V of either batch towards the other."""
        pairs = list(zip(x, y, strict=True))
        return tuple(
            torch.stack([self._field(*ends, ends[0], stream) for ends in both])
            for both in (pairs, [(q, p) for p, q in pairs])
        )

    def _move(self, V, step):
        return self.eps * (1 - step / self.steps) * V


METHODS = {"sinkhorn": SinkhornImputer, "flow": FlowImputer}


def impute(X, method="sinkhorn", **settings):
    """The table X (n, d), NaN where missing, filled in.

    Parameters
    ----------
    X : array_like (n, d)
    method : {"sinkhorn", "flow"}
        `SinkhornImputer` or `FlowImputer`.
    **settings
        Of the estimator, e.g. `random_state=0`; `UsageError` for an unknown one, and as in `fit`.

    Returns
    -------
    ndarray (n, d)
        Observed cells as they were.
    """
    estimator = METHODS[nearest(method, METHODS, "method")]
    for name in settings:
        nearest(name, estimator._get_param_names(), f"setting of {estimator.__name__}")
    return estimator(**settings).fit_transform(X)
