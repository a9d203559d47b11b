"""Companion of MANet (Xu, Lam, Jia, 2021): lung segmentation, then classification with mask attention."""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # PyTorch's OpenMP threads wait for one another by spinning. Beside any other busy process that costs nearly all
    # of the speed; benchmarks/busy_machine.py measures both cases. Read when torch is loaded, so set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
