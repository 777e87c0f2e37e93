"""The machine a run uses: device, threads, memory allocator."""

import ctypes
import os
import platform
import sys

import torch

from gwf.errors import UsageError

# <malloc.h> of the GNU C library
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory():
    """Ask the GNU allocator to keep what is freed; nothing happens with another C library.

    It would return every tensor of more than a few hundred kilobytes to the kernel, which then has to map and clear
    the same pages again at the next update: a quarter of an update's time for the small networks of this project.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def prepare(device="cpu", threads=1, fast=False):
    """Set threads, allocator and whether products may be rounded (TF32, where `fast`), and return the `torch.device`.

    Rounded, distances of close points would lose all their digits. `UsageError` if there is no such device.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    if str(device).startswith("cuda"):
        if not torch.cuda.is_available():
            raise UsageError(f"device = {device!r}, but this machine has no CUDA device: use device = 'cpu'")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device = {device!r} is unknown: use 'cpu', 'cuda' or 'cuda:<index>'") from error


def description():
    """CPU and versions, for the record of a run."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
    return {"cpu": cpu, "system": platform.system(), "python": platform.python_version(), "torch": torch.__version__}
