"""What a classifier without a network reaches on real radiographs: an RBF support vector machine on thumbnails.

    python benchmarks/thumbnails.py

Takes the whole images of params/cxr_sample.yaml in the paper's composition, resized to 24×24 pixels, in several
splits by image and by patient, records the predicted class of each test image in
benchmarks/results/thumbnails.csv, and prints accuracy and recall of each class in percent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.store import Store, build_store
from manet_lib.evaluation.baseline import thumbnails
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, params_file, recorded_results
from manet_lib.workflow.records import atomic_path

IMAGES = {
    "profile": "thumbnails",
    "composition": "paper",
    "max_per_class": 0,
    "image_size": 64,
    "test_fraction": 0.1,
}
SIDE = 24


def predictions(split: str, seed: int, file: Path) -> pd.DataFrame:
    """Fit to the training images of a split; label and predicted class of each of its test images."""
    params = load_params(file, split=split, seed=seed, **IMAGES)
    paths = RunPaths.of(params.profile)
    build_store(params, paths)
    build_manifest(params, paths)
    manifest, features = read_manifest(paths), thumbnails(Store.open(paths.store).images[:], SIDE)
    train, test = ((manifest["split"] == name).to_numpy() for name in ("train", "test"))
    machine = make_pipeline(StandardScaler(), SVC(C=10)).fit(features[train], manifest["label"][train])
    tested = manifest.loc[test, ["image_id", "label"]].assign(predicted=machine.predict(features[test]))
    return tested.assign(split=split, seed=seed)[["split", "seed", "image_id", "label", "predicted"]]


def main() -> None:
    """Measure and record what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=params_file("cxr_sample"), help="of the images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the splits; 0: as other runs")
    parser.add_argument("--output", type=Path, default=recorded_results("thumbnails.csv"))
    options = parser.parse_args()
    splits = [(split, seed) for split in ("image", "patient") for seed in options.seeds]
    table = pd.concat([predictions(*split, options.params) for split in splits])
    with atomic_path(options.output) as temporary:
        table.to_csv(temporary, index=False)
    right = table.assign(right=100 * (table["label"] == table["predicted"]))
    recall = right.pivot_table(index=["split", "seed"], columns="label", values="right")
    print(recall.assign(accuracy=right.groupby(["split", "seed"])["right"].mean()).round(2))


if __name__ == "__main__":
    main()
