"""Lung maps of the four networks by image size, without training: ``python benchmarks/reach.py``.

On the masks of phantoms and, where MANET_CXR_DIR has them, of real radiographs; recorded in
benchmarks/results/reach/maps.csv, which notebook 08_reach shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from manet_lib.data.phantom import draw_phantom
from manet_lib.params import CLASSES
from manet_lib.paths import recorded_results, sample_dir
from manet_lib.report.reach import SIZES, reach_table
from manet_lib.report.tables import NETWORKS

IMAGES = 60
SIDE = 512


def phantom_masks() -> NDArray[np.uint8]:
    """Lung masks of the first phantoms of each class, at the paper's size: uint8 (N, 512, 512), 0 or 1."""
    pairs = [(CLASSES[number % 5], number) for number in range(IMAGES)]
    return np.stack([draw_phantom(label, patient, size=SIDE).lungs for label, patient in pairs]).astype(np.uint8)


def real_masks(folder: Path) -> NDArray[np.uint8]:
    """Lung masks of real radiographs sampled at random, resized to 512 × 512: uint8 (N, 512, 512), 0 or 1."""
    index = pd.read_csv(folder / "index.csv")
    chosen = index.loc[index["mask_path"].notna(), "mask_path"].sample(IMAGES, random_state=0)
    pictures = (Image.open(folder / name).convert("L").resize((SIDE, SIDE)) for name in chosen)
    return np.stack([np.asarray(picture) > 127 for picture in pictures]).astype(np.uint8)


def measure_maps(folder: Path) -> None:
    """Write maps.csv: the last map of each network, by image size, masks and padding."""
    sets = {"phantoms": phantom_masks()}
    if (sample_dir() / "index.csv").is_file():
        sets["real radiographs"] = real_masks(sample_dir())
    parts = [
        reach_table(masks, NETWORKS, SIZES, count).assign(masks=name, padding="counted" if count else "left out")
        for name, masks in sets.items()
        for count in (True, False)
    ]
    table = pd.concat(parts)
    folder.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(folder / "maps.csv", index=False)
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Lung maps by network and image size.")
    parser.add_argument("--output", type=Path, default=recorded_results("reach"), help="folder to record in")
    measure_maps(parser.parse_args().output)
