"""Processes that compute: what they are started with."""

import os
import subprocess
import sys

import pytest

from manet_lib.workflow.processes import KEEPING, keep_freed_memory

# Touches, frees and touches again 64 MiB, and prints how many pages the kernel handed out the second time.
PAGES = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_processes_keep_what_they_free_and_a_choice_of_the_user_stays(monkeypatch):
    for name in KEEPING:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    command = [sys.executable, "-c", PAGES]
    returned = int(subprocess.check_output(command))
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    keep_freed_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
    kept = int(subprocess.check_output(command))
    if returned < 1000:
        pytest.skip("this C library, or huge pages, keep it anyway")
    assert kept < 0.1 * returned
