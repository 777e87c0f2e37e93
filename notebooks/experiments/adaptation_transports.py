r"""Transports between two sets of labelled images that see no label, and what is measured on the moved images.

A one-nearest-neighbour classifier fitted on (T(x_i), label of x_i) is tested on the target's test set. T sees no label,
so two things are measured apart: how near the moved images are to the target's law, and whether an image keeps its
label on the way. Optimal transport answers for the first alone. Images are flat: x (n, d) float64, pixels in [-1, 1].
Source: w2fe (the experiment); V. Seguy et al. Large-scale optimal transport and mapping estimation. ICLR 2018.
"""

import numpy as np
from scipy.spatial.distance import cdist

from gwf.data.embedded import to_model
from gwf.errors import UsageError
from gwf.metrics import energy_distance, sliced_w2
from gwf.metrics.arrays import row_blocks
from gwf.seeding import rng

LEAST_STD = 0.02
"""Pixels that vary less than this in the source are shifted, not rescaled: a ratio to noise is noise."""


def flat(images):
    """uint8 images (n, h, w) -> float64 (n, h w) in [-1, 1]."""
    return to_model(images).flatten(1).double().numpy()


# Transports in closed form: fitted on samples, they give a function on points. (The Gaussian one: gwf.exact.gaussian.fitted_map.)


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


class Judge:
    """Numbers of moved source images, against the target's training images (agreement) and test images (the rest).

    Parameters
    ----------
    seed : int
    labels : ndarray (n,)
        Of the source images.
    train, train_labels, test, test_labels : ndarray
        The target.
    n, directions : int
        Images of either side, at most, and lines that enter the distances. The floors compare as many of the target's
        training images with the same test images.
    """

    def __init__(self, seed, labels, train, train_labels, test, test_labels, n, directions):
        self.labels, self.train, self.train_labels = labels, train, train_labels
        self.test, self.test_labels = test, test_labels
        draw = rng(seed, "judge")
        self.n = min(n, len(labels), len(train), len(test))
        self.w = draw.standard_normal((test.shape[1], directions))
        self.w /= np.linalg.norm(self.w, axis=0)
        self.few = test[draw.permutation(len(test))[: self.n]]
        self.chosen = draw.permutation(len(labels))[: self.n]
        own = train[draw.permutation(len(train))[: self.n]]
        self.floors = {f"{name}_floor": value for name, value in self.distances(own).items()}

    def accuracy(self, moved):
        """One-nearest-neighbour accuracy on all of the target's test set."""
        return one_nearest(moved, self.labels, self.test, self.test_labels)

    def distances(self, few):
        """Energy distance and sliced W2 to as many test images."""
        return {"energy": energy_distance(few, self.few), "sliced": sliced_w2(few, self.few, self.w)}

    def __call__(self, moved):
        """All numbers of a method that moves all source images."""
        few = moved[self.chosen]
        kept = self.train_labels[nearest_index(few, self.train)] == self.labels[self.chosen]
        return {"accuracy": self.accuracy(moved), "label_agreement": float(kept.mean()), **self.distances(few)}

    def discrete(self, P, rows, columns):
        """All numbers of a plan P between the source images `rows` and the target's training images `columns`."""
        moved = barycentric(P, self.train[columns])
        return {
            "accuracy": one_nearest(moved, self.labels[rows], self.test, self.test_labels),
            "label_agreement": agreement(P, self.labels[rows], self.train_labels[columns]),
            **self.distances(moved[: self.n]),
        }
