"""The functionals F(mu) = D(mu || nu) that the flows descend. One file each; the file's name is the functional's.

Two kinds: those with a variational bound, sup over critics, for the implicit step (`gwf.functionals.base`), and those
with a velocity field on samples, for the explicit step (`gwf.fields.base`).

>>> from gwf import functionals
>>> functionals.names()
['chi2', 'chi2_tight', 'hellinger', 'js', 'js_ns', 'kl', 'kl_dv', 'minibatch_ot', 'mmd', 'reverse_kl', 'sinkhorn', 'sliced', 'w1', 'w2']
>>> functionals.get("kl").conjugate(torch.tensor(1.0))       # f*(s) = exp(s - 1)
tensor(1.)
>>> functionals.get("kl").swapped                            # D(nu || mu) in place of D(mu || nu)

A new functional is one new file in this folder that ends by binding `functional`; training, the tests over all
functionals and the tables pick it up from there. Files are imported when asked for, never all together, so that a
run depends on the one functional it uses (and an edit of another retrains nothing).
"""

import importlib
import pkgutil

from gwf.errors import nearest

_NOT_FUNCTIONALS = {"base"}
FIELDS_ALONE = ("minibatch_ot", "mmd", "sinkhorn", "sliced", "w2")
"""Functionals with a field of `gwf.fields` and no bound over one critic."""


def names():
    """Names of all registered functionals, sorted; nothing is imported."""
    return sorted({m.name for m in pkgutil.iter_modules(__path__)} - _NOT_FUNCTIONALS | set(FIELDS_ALONE))


def get(name):
    """The functional called `name`; `UsageError` with the nearest valid name if there is none."""
    nearest(name, names(), "functional")
    if name in FIELDS_ALONE:
        return importlib.import_module("gwf.fields").FIELDS[name]
    return importlib.import_module(f"{__name__}.{name}").functional
