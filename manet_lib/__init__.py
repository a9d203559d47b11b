"""Reproducible companion of MANet (Xu, Lam, Jia, Neurocomputing 443, 2021)."""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # PyTorch's OpenMP threads wait for one another by spinning. Beside any other busy process that costs nearly
    # all of the speed (benchmarks/busy_machine.py). Read when torch is loaded, so set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
