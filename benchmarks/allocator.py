"""Training on a CPU while freed memory is kept for the next step: speed and memory over those of the default.

    python benchmarks/allocator.py --repeats 5

glibc returns blocks of more than 32 MiB to the kernel as soon as they are freed, and the kernel clears every page
that it hands out again. Every round trains each network in a fresh process with and without KEEPING, in random
order; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from manet_lib.models import create_model
from manet_lib.training.distributed import device_name
from manet_lib.workflow.processes import KEEPING

RESULT = Path(__file__).parent / "results" / "allocator.json"
NETWORKS = ("vgg16", "resnet34", "resnet50")


def train(name: str, steps: int) -> None:
    """Print images a second and the largest memory in MiB; the child process of a measurement."""
    torch.manual_seed(0)
    model = create_model(name).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
    image = torch.rand(16, 1, 64, 64).to(memory_format=torch.channels_last)
    mask, target = torch.ones(16, 1, 64, 64), torch.arange(16) % 5
    for step in range(steps + 2):
        if step == 2:  # after a warm-up
            started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(image, mask), target)
        loss.backward()
        optimiser.step()
    speed = 16 * steps / (time.perf_counter() - started)
    print(json.dumps([speed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, loss.item()]))


def measure(name: str, kept: bool, steps: int) -> list[float]:
    """Speed, memory and last loss of a fresh process."""
    environment = {key: value for key, value in os.environ.items() if key not in KEEPING}
    environment |= KEEPING if kept else {}
    command = [sys.executable, __file__, "--child", name, "--steps", str(steps)]
    return list(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description="Training while freed memory is kept.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child, options.steps)
        return
    rng, results = np.random.default_rng(0), []
    for name in options.networks:
        ratios = []
        for _ in range(options.repeats):
            one = {kept: measure(name, kept, options.steps) for kept in rng.permutation([True, False]).tolist()}
            assert one[True][2] == one[False][2], "the results must not change"
            ratios.append(np.divide(one[True], one[False])[:2])
        speeds, memories = np.transpose(ratios)
        low, middle, high = (round(float(value), 3) for value in np.quantile(speeds, [0, 0.5, 1]))
        memory = round(float(np.median(memories)), 3)
        results.append({"network": name, "speed": middle, "lowest": low, "highest": high, "memory": memory})
        print(results[-1], flush=True)
    record = {
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "command": f"python benchmarks/allocator.py {' '.join(sys.argv[1:])}".strip(),
        "kept": KEEPING,
        "results": results,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
