"""How fast images are prepared and loaded, and what that takes of memory.

    python benchmarks/data.py --image-size 512 --images 2000 --repeats 40

Preparing: images per second of building the store, for half of the images and for all (the cost is linear), and
growth of anonymous memory meanwhile. Loading: augmented pairs per second on one core with reseeding, scaling
and all, beside the bare Albumentations call on the same pairs, in interleaved rounds. Images are the sample
images where they are, else phantoms. The result is written to ``benchmarks/results/data.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from manet_lib.data.augment import Pairs, classification_augmentation, segmentation_augmentation
from manet_lib.data.phantom import write_phantoms
from manet_lib.data.store import Store, build_store
from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths, sample_dir
from manet_lib.training.distributed import device_name, pick_device

RESULTS = Path(__file__).parent / "results"
PAIRS = 16
"""Pairs that are loaded in each round."""


def anonymous_memory() -> float:
    """Anonymous resident memory of this process in MB; mapped files do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Peak:
    """The highest anonymous memory while a block runs."""

    def __enter__(self) -> Peak:
        self.start = self.highest = anonymous_memory()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.05):
            self.highest = max(self.highest, anonymous_memory())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def source(folder: Path, images: int) -> tuple[Path, pd.DataFrame]:
    if (sample_dir() / "index.csv").is_file():
        table = pd.read_csv(sample_dir() / "index.csv", dtype=str, keep_default_na=False)
        table = table.sample(min(images, len(table)), random_state=0)
        table["path"] = [str((sample_dir() / name).resolve()) for name in table["path"]]
        table["mask_path"] = [str((sample_dir() / name).resolve()) if name else "" for name in table["mask_path"]]
        return folder, table[["path", "label", "patient", "mask_path"]]
    return folder, write_phantoms(folder, min(images, 500), 224, 0, 0.5)


def prepare(images: int, size: int, folder: Path) -> tuple[dict[str, object], RunPaths]:
    folder, table = source(folder, images)
    measured: dict[str, object] = {"images": len(table), "image_size": size}
    for share, rows in (("half", table.iloc[::2]), ("all", table)):
        rows.to_csv(folder / "index.csv", index=False)
        values = {"profile": "bench", "data_source": "manifest", "data_dir": str(folder), "models": ["vgg16"]}
        paths = RunPaths(folder / share, folder)
        started = time.perf_counter()
        with Peak() as peak:
            build_store(Params(**values, image_size=size), paths)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        measured[f"images_per_second_{share}"] = round(len(rows) / seconds, 1)
        measured[f"anonymous_memory_growth_mb_{share}"] = round(peak.highest - peak.start, 1)
    return measured, paths


def load(paths: RunPaths, repeats: int, *, segmented: bool) -> dict[str, object]:
    params = Params(profile="bench")
    store = Store.open(paths.store)
    rows = np.flatnonzero(store.masks[:400].any(axis=(1, 2)))[:PAIRS]
    images, masks = np.ascontiguousarray(store.images[rows]), np.ascontiguousarray(store.masks[rows])
    augmentation = (classification_augmentation if segmented else segmentation_augmentation)(params)
    data = Pairs(
        images,
        masks,
        np.arange(len(rows)),
        np.zeros(len(rows), np.int64),
        params,
        segmented=segmented,
        augmentation=augmentation,
    )

    def whole(epoch: int) -> float:
        started = time.perf_counter()
        for position in range(len(rows)):
            data[epoch, position]
        return (time.perf_counter() - started) / len(rows)

    def bare(epoch: int) -> float:
        started = time.perf_counter()
        for image, mask in zip(images, masks, strict=True):
            augmentation(image=image, mask=mask)
        return (time.perf_counter() - started) / len(rows)

    for epoch in range(3):
        whole(epoch), bare(epoch)
    seconds = np.array([(whole(epoch), bare(epoch)) for epoch in range(repeats)])
    share = seconds[:, 1] / seconds[:, 0]
    return {
        "pairs_per_second_and_core": round(1 / float(np.median(seconds[:, 0])), 1),
        "bare_albumentations": round(1 / float(np.median(seconds[:, 1])), 1),
        "share_of_bare": round(float(np.median(share)), 3),
        "interval_95": [round(value, 3) for value in bootstrap_interval(share, "median")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of preparing and of loading.")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--output", type=Path, help="JSON file to write instead of the one in benchmarks/results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        preparing, paths = prepare(options.images, options.image_size, Path(folder))
        record = {
            "device": device_name(pick_device("cpu")),
            "command": f"python benchmarks/data.py {' '.join(sys.argv[1:])}",
            "preparing": preparing,
            "loading_stage_1": load(paths, options.repeats, segmented=False),
            "loading_stage_2": load(paths, options.repeats, segmented=True),
        }
    print(json.dumps(record, indent=2))
    (options.output or RESULTS / "data.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
