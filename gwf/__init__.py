"""Wasserstein gradient flows for generative modelling: an executable companion to five works.

Uses beside generation, loaded when they are asked for: `impute`, `SinkhornImputer`, `FlowImputer` (missing values),
`anomaly_scores`, `TransportDetector` (anomalies), `robust_flow` (samples from contaminated data).
"""

__all__ = ["FlowImputer", "SinkhornImputer", "TransportDetector", "anomaly_scores", "impute", "robust_flow"]


def __getattr__(name):
    """The public functions, imported at their first use: `import gwf` itself loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'gwf' has no attribute {name!r}")
    from gwf.uses import anomaly, imputation

    return getattr(imputation if hasattr(imputation, name) else anomaly, name)


def __dir__():
    return sorted([*globals(), *__all__])
