"""What checkpoints cost: size, and the share of a training run's time at several values of ``checkpoint_minutes``.

    python benchmarks/checkpoint.py --repeats 5

Weights, momentum and all else are written, synced to disk and hashed, as in training. The share depends on the
disk; where an epoch takes longer than the interval, there is one checkpoint an epoch and the share is smaller.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manet_lib.models import create_model
from manet_lib.training.checkpoint import save_checkpoint
from manet_lib.training.distributed import device_name

RESULT = Path(__file__).parent / "results" / "checkpoint.json"
MINUTES = (1, 5, 10, 30)


def state_of(name: str) -> dict[str, Any]:
    model = create_model(name)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # from now on there is momentum
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Size and time of checkpoints.")
    parser.add_argument("--models", nargs="+", default=["resnet34", "resnet50", "vgg16", "inceptionv3"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    options = parser.parse_args()
    results = []
    for name in options.models:
        state, seconds = state_of(name), []
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
            for epoch in range(options.repeats):
                started = time.perf_counter()
                save_checkpoint(Path(folder), epoch, state)
                seconds.append(time.perf_counter() - started)
            size = max(path.stat().st_size for path in Path(folder).iterdir())
        median = float(np.median(seconds))
        shares = {f"every {minutes} min": round(100 * median / (60 * minutes + median), 2) for minutes in MINUTES}
        results.append({"model": name, "megabytes": round(size / 1e6), "percent_of_time": shares})
        print(results[-1], flush=True)
    record = {
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "command": f"python benchmarks/checkpoint.py {' '.join(sys.argv[1:])}",
        "results": results,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
