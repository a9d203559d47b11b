"""OpenMP's threads do not spin: set before PyTorch loads, and a user's own choice is left alone."""

import os
import subprocess
import sys

import pytest


def displayed(code, **environment):
    """What OpenMP says of its settings when PyTorch loads it."""
    mine = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    mine |= {"OMP_DISPLAY_ENV": "VERBOSE"} | environment
    return subprocess.run(
        [sys.executable, "-c", code], env=mine, capture_output=True, text=True, check=True
    ).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch brings another OpenMP elsewhere")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "GOMP_SPINCOUNT = '1000'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_a_plain_import_sets_it_before_torch(environment, expected):
    assert expected in displayed("import manet_lib.models.mask_attention", **environment)
