"""Mask attention against image size: how far the lung map reaches, and what training makes of it.

    python benchmarks/reach.py maps
    python benchmarks/reach.py train --models resnet50 resnet50_ma --sizes 224 --trials 1 2 3
    python benchmarks/reach.py train --name epochs8 --models resnet34 --sizes 64 128 --set epochs=8
    python benchmarks/reach.py train --name peak --models resnet34_ma --sizes 128 --set mask_attention=peak

`maps` measures the lung maps of the four networks, without training, on the masks of phantoms and, where
MANET_CXR_DIR has them, of real radiographs. `train` trains on the images of params/phantoms_224.yaml, at other
sizes and with other settings under a name of their own; finished training runs are not repeated, and a call that
was ended goes on. Everything is recorded in benchmarks/results/reach/, which notebook 08_reach reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from PIL import Image

from manet_lib.attention.scores import attention_scores
from manet_lib.data.manifest import build_manifest
from manet_lib.data.phantom import draw_phantom
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.store import build_store
from manet_lib.params import CLASSES, Params, load_params
from manet_lib.paths import RunPaths, log_of, params_file, recorded_results, sample_dir
from manet_lib.report.reach import SIZES, reach_table
from manet_lib.report.tables import NETWORKS
from manet_lib.training.classification import read_predictions
from manet_lib.training.launch import train
from manet_lib.training.segmentation import predict_raw_masks
from manet_lib.workflow.records import atomic_path, read_done

KEYS = ("settings", "image_size", "model", "trial")
BASE = "phantoms_224"
CONVERGED = "epochs24"
"""Name of the settings of params/phantoms_224.yaml as they are."""
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


def settings_of(name: str, size: int, changed: list[str]) -> Params:
    """The parameters of a training run: those of the base profile, but for the size and what the call changes."""
    own = {key: yaml.safe_load(value) for key, _, value in (part.partition("=") for part in changed)}
    own = {"profile": f"reach_{name}_{size}", "image_size": size, "trials": 100} | own
    return load_params(params_file(BASE), **own)


def train_one(params: Params, key: dict[str, Any], folder: Path) -> None:
    """Run the line as far as one training, and record it in a folder."""
    paths, model, trial = RunPaths.of(params.profile), key["model"], key["trial"]
    build_store(params, paths)
    build_manifest(params, paths)
    train(params, paths)
    predict_raw_masks(params, paths)
    clean_masks(params, paths)
    train(params, paths, model, trial)
    done = read_done(paths.classifier(model, trial)) or {}
    scores = 100 * attention_scores(params, paths, [(model, trial)])[["lung_share", "lesion_share"]].mean()
    images = read_predictions(paths, model, trial)
    assert images is not None
    row = key | {"seed": params.seed, "accuracy": 100 * (images["label"] == images["predicted"]).mean()}
    row |= {"iou": 100 * pd.read_csv(paths.iou)["iou"].mean()}
    row |= {"in_lungs": scores["lung_share"], "in_lesions": scores["lesion_share"]}
    row |= {name: done[name] for name in ("device", "precision", "seconds")}
    columns = [*key, "image_id", "label", "predicted"]
    log = pd.read_csv(log_of(paths.classifier(model, trial)))
    append(folder / "logs.csv", log.assign(**key)[[*key, "epoch", "train_loss", "val_accuracy"]].round(4))
    append(folder / "predictions.csv", images.assign(**key)[columns])
    append(folder / "runs.csv", pd.DataFrame([row]).round(3))


def append(file: Path, rows: pd.DataFrame) -> None:
    """Add rows to a recorded table; those of the same training are replaced."""
    if file.is_file():
        kept = pd.read_csv(file)
        same = (kept[list(KEYS)] == rows[list(KEYS)].iloc[0].to_numpy()).all(axis=1)
        rows = pd.concat([kept[~same], rows])
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        rows.to_csv(temporary, index=False)


def recorded(key: dict[str, Any], folder: Path) -> bool:
    """Whether a training has been recorded."""
    file = folder / "runs.csv"
    if not file.is_file():
        return False
    return bool((pd.read_csv(file)[list(KEYS)] == list(key.values())).all(axis=1).any())


def main() -> None:
    parser = argparse.ArgumentParser(description="Mask attention against image size.")
    parser.add_argument("--output", type=Path, default=recorded_results("reach"), help="folder to record in")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("maps", help="measure lung maps, without training")
    training = commands.add_parser("train", help="train, and record what comes out")
    training.add_argument("--name", default=CONVERGED, help="name of these settings, such as peak")
    training.add_argument("--models", nargs="+", required=True)
    training.add_argument("--sizes", nargs="+", type=int, required=True)
    training.add_argument("--trials", nargs="+", type=int, default=[1])
    training.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changed")
    options = parser.parse_args()
    if options.command == "maps":
        return measure_maps(options.output)
    changed = [one for one in options.changed if not one.startswith("threads=")]
    if changed and options.name == CONVERGED:
        parser.error(f"--set changes the settings of {BASE}.yaml; give them a name of their own by --name")
    for trial in options.trials:
        for size in options.sizes:
            for model in options.models:
                key = dict(zip(KEYS, (options.name, size, model, trial), strict=True))
                if not recorded(key, options.output):
                    train_one(settings_of(options.name, size, options.changed), key, options.output)


if __name__ == "__main__":
    main()
