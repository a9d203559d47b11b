"""How processes that compute are started: they end with their parent, and keep the memory that they free."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**11), "THP_MEM_ALLOC_ENABLE": "1"}
"""Environment of a process whose freed memory stays with it; the first two are glibc's, the last PyTorch's."""


def keep_freed_memory() -> None:
    """Let processes that are started from now on keep freed memory, so that training is faster on a CPU.

    Otherwise large tensors are returned to the kernel in each step, which clears every page that it hands out
    again (``benchmarks/allocator.py``). Variables that are set already stay as they are.
    """
    for name, value in KEEPING.items():
        os.environ.setdefault(name, value)


def die_with_parent() -> None:
    """Have this process terminated (SIGTERM) when its parent ends, however that ends; on Linux only.

    Call it when a process starts, or between fork and exec; the setting survives exec.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended just before
        os.kill(os.getpid(), signal.SIGTERM)
