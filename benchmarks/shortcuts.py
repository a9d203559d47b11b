"""Shortcuts, audited: what stage 2 learns from other parts of the image.

    python benchmarks/shortcuts.py --params params/phantoms_224.yaml --name phantoms --models resnet34

Trains on the images of a parameter file with each view, and records what every network says of every test image in
benchmarks/results/shortcuts/views.csv, from which notebook 10_shortcut_audit draws. What is trained stays trained,
and a call that was ended goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from manet_lib.data.manifest import build_manifest
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.store import build_store
from manet_lib.params import Params, load_params
from manet_lib.paths import RunPaths, params_file, recorded_results
from manet_lib.report.audit import VIEWS, run_predictions
from manet_lib.training.launch import train
from manet_lib.training.segmentation import predict_raw_masks
from manet_lib.workflow.records import atomic_path


def prepared(params: Params) -> tuple[Params, RunPaths]:
    """A run up to its clean masks."""
    paths = RunPaths.of(params.profile)
    build_store(params, paths)
    build_manifest(params, paths)
    train(params, paths)
    predict_raw_masks(params, paths)
    clean_masks(params, paths)
    return params, paths


def add_rows(file: Path, rows: pd.DataFrame, keys: list[str]) -> None:
    """Add rows to a table, in place of those with the same keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_file():
        before = pd.read_csv(
            file, dtype=dict.fromkeys(("image_id", "patient", "source"), str), keep_default_na=False
        )
        same = pd.MultiIndex.from_frame(before[keys]).isin(pd.MultiIndex.from_frame(rows[keys]))
        rows = pd.concat([before[~same], rows])
    with atomic_path(file) as temporary:
        rows.to_csv(temporary, index=False)


def views(file: Path, name: str, models: list[str], shown: list[str], output: Path, **changes: Any) -> None:
    """Train each model with each view and record its predictions in views.csv."""
    given = load_params(file, profile=f"shortcuts_{name}", models=models, **changes)
    params, paths = prepared(
        given.model_copy(update={"audit_views": [view for view in shown if view != given.view]})
    )
    for view in shown:
        where = paths if view == params.view else paths.seeing(view)
        for trial in params.trial_numbers:  # all models of a trial, before the next: they are compared
            for model in models:
                train(params.seeing(view), where, model, trial)
                predictions = run_predictions(params, paths).assign(images=name)
                add_rows(output / "views.csv", predictions, ["images", "view", "model", "trial"])
                print(f"{name}, {view}, {model}, trial {trial}: recorded", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Train and record what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=params_file("phantoms_224"), help="of the images")
    parser.add_argument("--name", default="phantoms", help="of the images, in the record")
    parser.add_argument("--models", nargs="+", default=["resnet34"])
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=VIEWS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changed")
    parser.add_argument("--output", type=Path, default=recorded_results("shortcuts"), help="folder to record in")
    options = parser.parse_args(arguments)
    changes = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in options.changed)}
    views(options.params, options.name, options.models, options.views, options.output, **changes)


if __name__ == "__main__":
    main()
