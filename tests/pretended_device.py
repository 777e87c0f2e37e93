"""A device that exists on paper: tensors that say `pretended:0`, hold CPU memory, and refuse to mix with CPU tensors.

Real numbers are computed, so that a whole update runs where there is no GPU; a tensor made on the CPU beside arguments
that live elsewhere raises `Mixed`. Noted is every value that the host reads, and every tensor that it copies to the device: a
real device would wait for either.

    with pretended() as seen:
        net.to(DEVICE); stream = generator(0, "x", DEVICE); ...
    seen.reads        names of the operations that read, among them those whose output's size is a value
    seen.copies       names of the operations that copied from the host, and shapes
"""

import contextlib

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
COPIES = {aten.copy_, aten._to_copy}
#: A GPU waits for these: they return a number, make as many rows as a value says, or look for an error.
READS = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten.repeat_interleave}
READS |= {aten._unique2, aten.unique_dim, aten.unique_consecutive, aten._linalg_check_errors, aten._linalg_eigh}
#: With a mask as index, which they look up.
INDEXED = {aten.index, aten.index_put, aten.index_put_}


class _Backend(backend_registration._DummyBackendModule):
    @staticmethod
    def get_amp_supported_dtype():
        return [torch.bfloat16, torch.float16]


backend_registration._setup_privateuseone_for_python_backend("pretended", backend_module=_Backend())
DEVICE = torch.device("pretended", 0)


class Mixed(RuntimeError):
    """An operation on a tensor of the device and one of the CPU."""


class Elsewhere(torch.Tensor):
    """A tensor of the device around the CPU tensor `held`."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        form = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        self = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=DEVICE, **form)
        self.held = held
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Pretended.now.__torch_dispatch__(func, types, args, kwargs)

    def __repr__(self):
        return f"Elsewhere({self.held!r})"


class Pretended(TorchDispatchMode):
    """Carries out every operation on the CPU, as if it happened where its arguments are."""

    now = None

    def __init__(self):
        super().__init__()
        self.reads, self.copies = [], []

    def unnoted(self, function):
        """`function`, whose copies are not noted."""

        def call(*args, **kwargs):
            before = len(self.copies)
            out = function(*args, **kwargs)
            del self.copies[before:]
            return out

        return call

    def __enter__(self):
        Pretended.now = self
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        ours = any(isinstance(t, Elsewhere) for t in leaves)
        others = [t for t in leaves if isinstance(t, torch.Tensor) and not isinstance(t, Elsewhere)]
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        to_ours = ours if device is None else device.type == DEVICE.type
        if not ours and not to_ours:
            return func(*args, **kwargs)
        packet, into_ours = func._overloadpacket, to_ours
        if packet is aten.copy_:
            into_ours = isinstance(args[0], Elsewhere)
        # A tensor without axes is a number, as on a GPU.
        if ours and packet not in COPIES and any(t.dim() for t in others):
            raise Mixed(f"{func} on {[tuple(t.shape) for t in others]} of the CPU")
        masked = packet in INDEXED and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if packet in READS or masked or (ours and not into_ours):
            self.reads.append(str(func))
        if packet in COPIES and into_ours and others:
            self.copies.append(f"{func} of {tuple(others[0].shape)}")
        if device is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        held = lambda t: t.held if isinstance(t, Elsewhere) else t
        out = func(*tree_map(held, args), **tree_map(held, kwargs))
        returns = func._schema.returns
        if returns and returns[0].alias_info and returns[0].alias_info.is_write and isinstance(args[0], torch.Tensor):
            return args[0]
        return tree_map(lambda t: Elsewhere(t) if isinstance(t, torch.Tensor) and to_ours else t, out)


class HostGenerator(torch._C.Generator):
    """A CPU generator that says it is on the device it was asked for."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls, device="cpu")
        self.where = torch.device(device)
        return self

    def __init__(self, device="cpu"):
        pass

    device = property(lambda self: self.where)


@contextlib.contextmanager
def pretended():
    """The device is there; `torch.Generator` can be made for it."""
    real, torch.Generator = torch.Generator, HostGenerator
    try:
        with Pretended() as seen:
            yield seen
    finally:
        torch.Generator = real
