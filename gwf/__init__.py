"""Wasserstein gradient flows for generative modelling: an executable companion to five works.

Uses beside generation, loaded when they are asked for: `impute`, `SinkhornImputer`, `FlowImputer` (missing values),
`anomaly_scores`, `TransportDetector` (anomalies), `robust_flow` (samples from contaminated data).
"""

import importlib

_PUBLIC = {
    "impute": "gwf.uses.imputation",
    "SinkhornImputer": "gwf.uses.imputation",
    "FlowImputer": "gwf.uses.imputation",
    "anomaly_scores": "gwf.uses.anomaly",
    "TransportDetector": "gwf.uses.anomaly",
    "robust_flow": "gwf.uses.anomaly",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """The public functions, imported at their first use: `import gwf` itself loads nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gwf' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted([*globals(), *_PUBLIC])
