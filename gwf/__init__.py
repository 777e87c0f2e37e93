"""Wasserstein gradient flows for generative modelling: an executable companion to five works.

Public functions, loaded when they are asked for. Particles: `flow`, `velocity`, `jko_step`. Measures: `minibatch_bias`,
`ksd`, `sliced_energy_distance`, `l2_uvp`, `frechet_distance`. Tables: `impute`, `SinkhornImputer`, `FlowImputer` (missing
values), `anomaly_scores`, `TransportDetector` (anomalies), `robust_flow` (samples from contaminated data).
"""

import importlib
import importlib.metadata

#: Public name -> the module that has it.
_PLACES = {
    "FlowImputer": "uses.imputation",
    "SinkhornImputer": "uses.imputation",
    "TransportDetector": "uses.anomaly",
    "anomaly_scores": "uses.anomaly",
    "flow": "flows.particles",
    "frechet_distance": "flows.measures",
    "impute": "uses.imputation",
    "jko_step": "flows.steps",
    "ksd": "flows.measures",
    "l2_uvp": "flows.measures",
    "minibatch_bias": "flows.measures",
    "robust_flow": "uses.anomaly",
    "sliced_energy_distance": "flows.measures",
    "velocity": "flows.particles",
}
__all__ = list(_PLACES)


def __getattr__(name):
    """The public functions, imported at their first use: `import gwf` itself loads nothing."""
    if name == "__version__":
        return importlib.metadata.version("gwf")
    if name not in _PLACES:
        raise AttributeError(f"module 'gwf' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gwf.{_PLACES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
