"""All that is to be measured on a GPU, in a quarter of an hour: tests, costs, speed, and a part of a study.

    python benchmarks/gpu.py --minutes 12 --images radiographs.tar.xz

Needs no notebook and no network, and beside the project's packages only pytest and hypothesis for the tests
(`pip install -e ".[test]"`); without them that part ends at once, and the others run. Each part has a share of the
time, is ended when that is over, and leaves a record in benchmarks/results/gpu.json, whether it was finished or
not. The time that a part does not need goes to the study, which comes last and whose training runs are recorded
one by one in benchmarks/results/studies/. A later call with `--first study` goes on with the study. With
`--device cpu` all parts but the study are smaller: a rehearsal.

Images stay in main memory; each core of the processor augments about 1200 images of 512 pixels a second
(benchmarks/data.py).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from manet_lib.models import create_model, model_names
from manet_lib.params import Params
from manet_lib.paths import project_root, recorded_results
from manet_lib.training.distributed import device_name, pick_device
from manet_lib.training.timing import interleaved_steps
from manet_lib.workflow.records import read_json, write_json

SHARES = {"tests": 0.2, "cost": 0.12, "cost, compiled": 0.15, "loop": 0.1, "epochs": 0.12}
"""Of the time; the study has the rest."""
TRAINING_IMAGES = 5433
"""Of the paper's Table 1; with 200 epochs, three trials and ten networks they make Table 2."""

GRACE = 30.0
"""Seconds that a part has to end by itself (SIGTERM) before it is killed."""


def commands(device: str, study: str, output: Path) -> dict[str, list[str]]:
    """The command of each part, by name."""
    small = device == "cpu"
    size, repeats = ("64", "2") if small else ("512", "30")
    tests = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/test_gpu.py"]
    cost = ["benchmarks/mask_attention.py", "--accelerator", device, "--bf16", "--image-size", size]
    cost += ["--repeats", repeats, *(["--backbones", "resnet34"] if small else [])]
    loop = ["benchmarks/training.py", "--accelerator", device, "--image-size", size, "--bf16"]
    loop += ["--repeats", repeats, *([] if small else ["--workers", "12", "--batch-size", "64"])]
    return {
        "tests": [*tests, *(["-k", "resnet34"] if small else [])],
        "cost": [*cost, "--output", str(output / "gpu_cost.json")],
        "cost, compiled": [*cost, "--compile", "--output", str(output / "gpu_cost_compiled.json")],
        "loop": [*loop, "--output", str(output / "gpu_loop.json")],
        "epochs": ["benchmarks/gpu.py", "--part", "epochs", "--device", device, "--output", str(output)],
        "study": ["-m", "manet_lib.studies.run", study, "--jobs", "1"],
    }


def run_part(command: list[str], seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a command, end it and its children when its time is over, and say how it went."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=project_root(), env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = str(process.wait(timeout=max(1.0, seconds)))
        except subprocess.TimeoutExpired:
            for number in (signal.SIGTERM, signal.SIGKILL):
                os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=GRACE)
                    break
            code = "ended when its time was over"
        log.seek(0)
        lines = [line.rstrip() for line in log.read().splitlines() if line.strip()]
    return {"exit": code, "seconds": round(time.monotonic() - started, 1), "last_lines": lines[-12:]}


def epochs(device: torch.device, file: Path) -> None:
    """Seconds of an epoch of each network at 512² pixels, from a few training steps; written after each."""
    size, batch, rounds = (64, 8, 2) if device.type == "cpu" else (512, 64, 5)
    params = Params(profile="bench", precision="bf16")
    found: dict[str, float] = {}
    for name in model_names():
        if device.type == "cpu" and not name.startswith("resnet34"):
            continue
        steps = interleaved_steps({name: create_model(name)}, size, batch, rounds, device, params)
        found[name] = round(float(steps[name].median()) * TRAINING_IMAGES / batch, 2)
        hours = 3 * 200 * sum(found.values()) / 3600
        facts = {"device": device_name(device), "image_size": size, "batch_size": batch, "precision": "bf16"}
        write_json(file, facts | {"seconds_an_epoch": found, "hours_of_their_rows_of_table_2": round(hours, 2)})


def main(arguments: list[str] | None = None) -> None:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--images", type=Path, help="archive (.tar.xz) of the folder that MANET_CXR_DIR names")
    parser.add_argument("--study", default="radiographs_resnet50", help="of params/studies/")
    parser.add_argument("--output", type=Path, default=recorded_results(""), help="folder to record in")
    parser.add_argument("--first", choices=[*SHARES, "study"], default="tests", help="part to begin with")
    parser.add_argument("--part", choices=["epochs"], help="this part only, without a limit")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if options.part:
        return epochs(device, options.output / "gpu_epochs.json")
    ends = time.monotonic() + 60 * options.minutes
    file = options.output / "gpu.json"
    environment = os.environ | {"MANET_DEVICE": options.device}
    with tempfile.TemporaryDirectory() as folder:
        if options.images:
            with tarfile.open(options.images) as archive:
                archive.extractall(folder, filter="data")
            environment["MANET_CXR_DIR"] = folder
        parts = commands(options.device, options.study, options.output)
        for name, command in list(parts.items())[list(parts).index(options.first) :]:
            left = ends - time.monotonic()
            seconds = min(left, 60 * options.minutes * SHARES.get(name, 1.0))
            found = run_part(command, seconds, environment)
            made = {"device": device_name(device), "torch": torch.__version__}
            record = read_json(file) or {}
            known = record if made.items() <= record.items() else made  # nothing of another device is kept
            write_json(file, known | {name: found})
            print(f"{name}: {found['exit']}, {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
