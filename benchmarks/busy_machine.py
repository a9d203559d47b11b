"""Training on a machine that does something else as well: images per second for several ways of waiting.

    python benchmarks/busy_machine.py --repeats 5

PyTorch's OpenMP threads wait for one another at every barrier, by spinning GOMP_SPINCOUNT times and then sleeping.
Every round trains in a fresh process for each setting, alone and beside busy processes (one for each core); the
order changes from round to round. Speeds are given over the one of OpenMP's own default, alone, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from manet_lib.models import create_model
from manet_lib.training.distributed import device_name

RESULT = Path(__file__).parent / "results" / "busy_machine.json"
DEFAULT = "GOMP_SPINCOUNT=300000"  # what libgomp does where nothing is set
SETTINGS = (
    DEFAULT,
    "GOMP_SPINCOUNT=10000",
    "GOMP_SPINCOUNT=1000",
    "GOMP_SPINCOUNT=100",
    "OMP_WAIT_POLICY=PASSIVE",
)


def train(steps: int) -> None:
    """Print the images per second of some training steps; the child process of a measurement."""
    model = create_model("resnet34").to(memory_format=torch.channels_last).train()
    image = torch.rand(16, 1, 64, 64).to(memory_format=torch.channels_last)
    mask, target = torch.ones(16, 1, 64, 64), torch.arange(16) % 5
    for step in range(steps + 2):
        if step == 2:  # after a warm-up
            started = time.perf_counter()
        F.cross_entropy(model(image, mask), target).backward()
    print(16 * steps / (time.perf_counter() - started))


def speed(setting: str, busy: int, steps: int) -> float:
    """Images per second of a fresh process, beside some busy ones."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= dict([setting.split("=")])
    with ExitStack() as ended:
        for _ in range(busy):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            ended.callback(other.wait)
            ended.callback(other.kill)
        command = [sys.executable, __file__, "--child", "--steps", str(steps)]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training beside busy processes.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return train(options.steps)
    cases = [(setting, busy) for setting in SETTINGS for busy in (0, os.cpu_count() or 1)]
    rng, rounds = np.random.default_rng(0), []
    for _ in range(options.repeats):
        speeds = {cases[place]: 0.0 for place in rng.permutation(len(cases))}
        rounds.append({case: speed(*case, options.steps) for case in speeds})
    results = []
    for setting, busy in cases:
        ratios = [one[setting, busy] / one[DEFAULT, 0] for one in rounds]
        low, middle, high = (round(float(value), 3) for value in np.quantile(ratios, [0, 0.5, 1]))
        results.append({"setting": setting, "busy": busy, "speed": middle, "lowest": low, "highest": high})
        print(results[-1], flush=True)
    record = {
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "command": f"python benchmarks/busy_machine.py {' '.join(sys.argv[1:])}",
        "results": results,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
