"""The computed claims by id: how the evidence is got, the check, and its controls."""

import importlib
import pkgutil
from dataclasses import dataclass

from gwf.claims import checks
from gwf.errors import UsageError

_REGISTRY = {}


@dataclass(frozen=True)
class Check:
    """A computed claim.

    Attributes
    ----------
    id : str
    measure : callable (evidence) -> Outcome
    gather : callable (Sources) -> evidence
        Raises `NotRun` where there are no results.
    controls : tuple of callables (evidence) -> evidence
        Ways to break the evidence. At least one must turn the verdict: a check whose verdict survives all of them does
        not depend on what it claims to test. Where the verdict may go either way (a comparison of two methods) there
        are two, one against each side.
    """

    id: str
    measure: callable
    gather: callable
    controls: tuple


def check(claim, gather, *controls):
    """Decorator that registers `measure(evidence) -> Outcome` under the id `claim`; see `Check`."""

    def register(measure):
        if claim in _REGISTRY and _REGISTRY[claim].measure.__qualname__ != measure.__qualname__:
            raise UsageError(f"claim {claim!r} has two checks")
        _REGISTRY[claim] = Check(claim, measure, gather, controls)
        return measure

    return register


def exact(**settings):
    """`gather` of a claim that needs no results: the settings of an exact problem, as a dict."""
    return lambda sources: dict(settings)


def change(**settings):
    """A control that overwrites settings of an exact problem."""
    return lambda evidence: {**evidence, **settings}


def computed():
    """Every registered check, id -> `Check`; imports the modules of `gwf.claims.checks`."""
    for module in sorted(m.name for m in pkgutil.iter_modules(checks.__path__)):
        importlib.import_module(f"{checks.__name__}.{module}")
    return dict(_REGISTRY)
