"""Time of `manet predict` on a folder of which a tenth cannot be read, over that of the same without faults.

    python benchmarks/mixed_folder.py --weights networks.safetensors --images 1000 --repeats 5

Both folders hold as many files. Those that cannot be read are empty, cut off, of another kind, or dead links; each
must be named, and all others answered as in the folder without faults. Rounds are interleaved, their order
changes; the ratio is taken round by round. The result is written to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from manet_lib.cli import main as manet
from manet_lib.data.phantom import write_phantoms
from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.training.distributed import device_name

RESULT = Path(__file__).parent / "results" / "mixed_folder.json"


def break_every_tenth(folder: Path) -> set[str]:
    """Spoil every tenth file of a folder in one way after the other; returns the names of those files."""
    chosen = sorted(folder.iterdir())[::10]
    for number, file in enumerate(chosen):
        data = file.read_bytes()
        file.unlink()
        if number % 4 == 0:
            file.write_bytes(b"")
        elif number % 4 == 1:
            file.write_bytes(data[: len(data) // 3])
        elif number % 4 == 2:
            file.write_bytes(b"PK\3\4" + bytes(2000))
        else:
            file.symlink_to(folder / "nowhere" / file.name)
    return {file.name for file in chosen}


def predict(folder: Path, weights: Path, output: Path) -> tuple[float, pd.DataFrame]:
    """Seconds of the command, and the table that it wrote."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        manet(["predict", str(folder), "--weights", str(weights), "--output", str(output), "--accelerator", "cpu"])
    seconds = time.perf_counter() - started
    table = pd.read_csv(output, keep_default_na=False)
    return seconds, table.assign(image=[Path(name).name for name in table["image"]]).set_index("image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a file of `manet export`")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256, help="of the images in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    options = parser.parse_args()
    rng, rounds = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        write_phantoms(root / "drawn", options.images, options.side, seed=0, confounder_strength=0.5)
        folders = {"clean": root / "drawn" / "images", "mixed": root / "mixed"}
        shutil.copytree(folders["clean"], folders["mixed"])
        broken = break_every_tenth(folders["mixed"])
        for _ in range(1 + options.repeats):
            names = list(folders)
            rng.shuffle(names)
            done = {name: predict(folders[name], options.weights, root / f"{name}.csv") for name in names}
            rounds.append((done["mixed"][0], done["clean"][0]))
        clean, mixed = (done[name][1] for name in ("clean", "mixed"))
        assert set(mixed.index[mixed["fault"] != ""]) == broken, "each file that cannot be read is named"
        others = mixed.index[mixed["fault"] == ""]
        assert len(others) == options.images - len(broken)
        assert (mixed.loc[others, "label"] == clean.loc[others, "label"]).all()
    times = np.array(rounds[1:])
    ratio = times[:, 0] / times[:, 1]
    record: dict[str, Any] = {
        "device": device_name(torch.device("cpu")),
        "command": f"python benchmarks/mixed_folder.py {' '.join(sys.argv[1:])}",
        "images": options.images,
        "broken": len(broken),
        "time_over_clean": round(float(np.median(ratio)), 4),
        "interval_95": [round(value, 4) for value in bootstrap_interval(ratio, "median")],
    }
    print(json.dumps(record, indent=2))
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
