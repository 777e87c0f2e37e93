r"""Domain adaptation by transport: move labelled source images onto unlabelled target images, then use their labels.

A one-nearest-neighbour classifier fitted on (T(x_i), label of x_i) is tested on the target's test set. T sees no label,
so two things are measured apart: how near the moved images are to the target's law, and whether an image keeps its
label on the way. Optimal transport answers for the first alone. Source: w2fe (experiment and networks); V. Seguy et al.
Large-scale optimal transport and mapping estimation. ICLR 2018.

Images are flat: x (n, d) float64 arrays, d = 256, pixels in [-1, 1].
"""

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import nn

from gwf.data.embedded import to_model
from gwf.errors import UsageError, in_range
from gwf.exact.gaussian import monge_matrix
from gwf.fields.w2 import DualField
from gwf.metrics.arrays import row_blocks

LEAST_STD = 0.02
"""Pixels that vary less than this in the source are shifted, not rescaled: a ratio to noise is noise."""


def flat(images):
    """uint8 images (n, h, w) -> float64 (n, h w) in [-1, 1]."""
    return to_model(images).flatten(1).double().numpy()


# Transports in closed form: fitted on samples, they give a function on points.


def mean_shift(x, y):
    """T(z) = z + mean(y) - mean(x)."""
    shift = y.mean(0) - x.mean(0)
    return lambda z: z + shift


def per_pixel(x, y):
    """T(z)_k = m_k(y) + (z_k - m_k(x)) s_k(y) / s_k(x): optimal transport between Gaussians with diagonal covariances.

    A pixel with s_k(x) < `LEAST_STD` keeps its scale.
    """
    m_x, m_y, s_x, s_y = x.mean(0), y.mean(0), x.std(0), y.std(0)
    ratio = np.where(s_x < LEAST_STD, 1.0, s_y / np.maximum(s_x, LEAST_STD))
    return lambda z: m_y + (z - m_x) * ratio


def gaussian(x, y, ridge=0.0):
    """T(z) = m(y) + M (z - m(x)), the optimal map of the Gaussians with the samples' moments; `ridge` I is added to both
    covariances. If y is the image of x under an affine map with symmetric positive definite matrix and `ridge` is 0, T
    is that map."""
    in_range(ridge, 0, np.inf, "ridge")
    C_x, C_y = (np.cov(t.T, bias=True) + ridge * np.eye(t.shape[1]) for t in (x, y))
    M, m_x, m_y = monge_matrix(C_x, C_y), x.mean(0), y.mean(0)
    return lambda z: m_y + (z - m_x) @ M


# Discrete transports: plans between two samples.


def plan(x, y):
    """(P (n, m), cost) of exact optimal transport with uniform weights and cost |x - y|^2 / 2."""
    import ot

    C = cdist(x, y, "sqeuclidean") / 2
    P = ot.emd(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), C, numItermax=5_000_000)
    return P, float((P * C).sum())


def plan_within_classes(x, y, labels_x, labels_y):
    """(P, cost) of the cheapest plan that keeps every label: optimal transport class by class.

    Each class carries its share of the source; where shares differ between the samples the target's weights are adapted,
    so that the cost has no charge for them. Knows the target's labels: a yardstick, no method.
    """
    P, total = np.zeros((len(x), len(y))), 0.0
    for label in np.unique(labels_x):
        rows, columns = np.flatnonzero(labels_x == label), np.flatnonzero(labels_y == label)
        if not len(columns):
            raise UsageError(f"the target sample has no image of class {label}")
        inner, cost = plan(x[rows], y[columns])
        P[np.ix_(rows, columns)] = inner * (len(rows) / len(x))
        total += cost * len(rows) / len(x)
    return P, total


def agreement(P, labels_x, labels_y):
    """Mass that a plan carries between images of the same label, in [0, 1]."""
    return float(P[labels_x[:, None] == labels_y[None, :]].sum() / P.sum())


def barycentric(P, y):
    """Where a plan sends its sources on average: (P y)_i / (P 1)_i, (n, d)."""
    return P @ y / P.sum(1, keepdims=True)


# What is measured on the moved images.


def nearest_index(points, references):
    """Index of the nearest of `references` for each of `points`, (n,): argmin_j |y_j|^2 / 2 - x_i . y_j."""
    half = np.square(references).sum(1) / 2
    return np.concatenate([(half - rows @ references.T).argmin(1) for rows in row_blocks(points)])


def one_nearest(moved, labels, test, test_labels):
    """Accuracy on (test, test_labels) of the one-nearest-neighbour classifier fitted on (moved, labels)."""
    if len(moved) != len(labels):
        raise UsageError(f"{len(moved)} images and {len(labels)} labels: they must be as many")
    return float((labels[nearest_index(test, moved)] == test_labels).mean())


def sliced_w2(x, y, w):
    r"""(d mean_l W_2^2(x w_l, y w_l))^{1/2} over unit directions w (d, L): in the scale of W2 (a shift counts in full)."""
    levels = (np.arange(min(len(x), len(y))) + 0.5) / min(len(x), len(y))
    along = [np.quantile(t @ w, levels, axis=0, method="hazen") for t in (x, y)]
    return float(np.sqrt(len(w) * np.square(along[0] - along[1]).mean()))


# Learned maps.


class DigitMap(nn.Module):
    """T(x) = x + 2 tanh(N(x)), x (n, d) -> (n, d): layers d-200-500-d with batch norm and ReLU. Source: w2fe.

    Weights start from N(0, .01^2), those of the batch norm included, biases at 0: T starts near the identity.
    """

    def __init__(self, d=256):
        super().__init__()
        sizes, layers = [d, 200, 500], []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], d))
        for layer in self.net:
            if hasattr(layer, "weight"):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        return x + 2 * torch.tanh(self.net(x))


def digit_potential(d=256):
    """p(x), x (n, d) -> (n, 1): layers d-200-500-1 with ReLU, torch's own start. Source: w2fe."""
    return nn.Sequential(nn.Linear(d, 200), nn.ReLU(), nn.Linear(200, 500), nn.ReLU(), nn.Linear(500, 1))


class DigitDualField(DualField):
    """`DualField` with the further term weight_positive E (h(x))_+^2 that w2fe's image experiments have."""

    def __init__(self, p, e, weight=10.0, weight_positive=10.0, **settings):
        super().__init__(p, e, weight=weight, positive=weight_positive, **settings)
