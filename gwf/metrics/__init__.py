"""How far samples are from data: numbers computed from arrays, with no network and no data set in sight.

Features or points come in as arrays x (n, d) and y (m, d). Every metric raises `UsageError` where their d differ, a
value is not finite, rows are too few or a parameter is out of range. The network that turns digits into features lives
in `gwf.metrics.lenet` and is imported by name, so that a metric of points does not pay for loading it.
"""

from gwf.metrics.classes import class_histogram, total_variation
from gwf.metrics.frechet import FrechetStats, frechet_distance, frechet_from_moments, frechet_from_stats
from gwf.metrics.kid import kid
from gwf.metrics.low_dimension import energy_distance, mode_statistics, sliced_w2, two_sample_floor, wasserstein
from gwf.metrics.precision_recall import precision_recall
