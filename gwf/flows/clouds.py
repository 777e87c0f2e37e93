"""Point clouds as users hand them in, arrays or tensors: checked at one gate, and given back in kind."""

import math

import numpy as np
import ot
import torch
from scipy.spatial.distance import cdist
from sklearn.utils import check_array

from gwf.errors import UsageError
from gwf.validation import _cells, number


def cloud(x, name):
    """`x` as a finite tensor (n, d), n, d >= 1, float32 or float64, where it is; `UsageError` otherwise.

    What is no tensor is copied, and becomes float64 unless it is float32.
    """
    if not torch.is_tensor(x):
        try:
            return torch.from_numpy(np.array(check_array(_cells(x), dtype=[np.float64, np.float32], input_name=name)))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} is no cloud of points (n, d): {str(error).splitlines()[0]}") from None
    if x.dim() != 2 or not x.numel() or x.dtype not in (torch.float32, torch.float64) or not x.isfinite().all():
        raise UsageError(f"{name}, {tuple(x.shape)} of {x.dtype}: it must be (n, d), float32 or float64, and finite")
    return x


def pair(x, y, names=("x", "y")):
    """Both as tensors, `y` in the type of `x`; `UsageError` if columns, their names or the devices of two tensors differ."""
    if hasattr(x, "columns") and hasattr(y, "columns") and list(x.columns) != list(y.columns):
        raise UsageError(
            f"{names[0]} has the columns {list(x.columns)} and {names[1]} {list(y.columns)}: they must agree"
        )
    p, q = cloud(x, names[0]), cloud(y, names[1])
    if p.shape[1] != q.shape[1]:
        raise UsageError(
            f"{names[0]} has d = {p.shape[1]} columns and {names[1]} has d = {q.shape[1]}: they must agree"
        )
    if p.device != q.device and torch.is_tensor(x) and torch.is_tensor(y):
        raise UsageError(f"{names[0]} is on {p.device} and {names[1]} on {q.device}: they must agree")
    return p, q.to(p.device, p.dtype)


def positive(value, what):
    """`value` in (0, inf], else `UsageError`."""
    return number(value, 0, math.inf, what, open_low=True)


def array(x):
    """A float64 array on the CPU, without graph."""
    return x.detach().cpu().double().numpy()


def like(t, given):
    """The tensor or array t as the user gave `given`: a tensor there where that is one, else an array."""
    t = torch.as_tensor(t)
    return t.to(given.device) if torch.is_tensor(given) else t.detach().cpu().numpy()


def standard(*clouds):
    """(t - c) / s, with c the mean of the second cloud and s a power of 2, so that coordinates are at most 1; and s, by the host."""
    centre = clouds[1].detach().mean(0)
    clouds = [t - centre for t in clouds]
    s = 2.0 ** math.frexp(max(float(t.detach().abs().max()) for t in clouds))[1]
    return [t / s for t in clouds], s


def exact_plan(x, y, weights=None):
    """W_2^2 of two clouds, the first with weights (n,), and the plan (n, m), by POT's network simplex, float64."""
    (p, q), s = standard(*(t.detach().cpu().double() for t in (x, y)))
    C = cdist(p, q, "sqeuclidean")
    # The simplex takes small costs for rounding.
    plan = ot.emd([] if weights is None else weights, [], C / (C.max() or 1.0), numItermax=10**7)
    return max(float((C * plan).sum()), 0.0) * s * s, torch.as_tensor(plan, dtype=x.dtype, device=x.device)
