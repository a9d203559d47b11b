"""Shortcuts, audited: what stage 2 learns from other parts of the image, and from markers that go with the class.

    python benchmarks/shortcuts.py views --params params/phantoms_224.yaml --name phantoms --models resnet34
    python benchmarks/shortcuts.py strengths --models resnet34 resnet34_ma --trials 1 2

`views` trains on the images of a parameter file with each view, and records what every network says of every
test image. `strengths` trains on phantoms whose markers outside the lungs, which go with the class, have one
strength after the other, and tests each network on images as those of training, without markers, and with
the markers of other classes. Everything is recorded in benchmarks/results/shortcuts/, from which notebook
10_shortcut_audit draws; what is trained stays trained, and a call that was ended goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.store import Store, build_store
from manet_lib.inference.predict import MANet
from manet_lib.params import Params, load_params
from manet_lib.paths import RunPaths, params_file, recorded_results
from manet_lib.report.audit import VIEWS, run_predictions
from manet_lib.studies.confounders import TESTS, redrawn
from manet_lib.training.launch import train
from manet_lib.training.segmentation import predict_raw_masks
from manet_lib.workflow.records import atomic_path, read_done

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
BASE = "phantoms_224"
DOSE_EPOCHS = 8
DOSE_SIZE = 64
"""Side of the images in pixels in the dose-response experiment: many training runs, and markers are coarse."""


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


def accuracy(params: Params, paths: RunPaths, model: str, trial: int, images: NDArray[np.uint8]) -> float:
    """Test accuracy in percent of both stages on the test images, drawn with other markers."""
    labels = read_manifest(paths).query("split == 'test'")["label"].to_numpy()
    networks = MANet.bare(paths.root, model, trial, paths.audit_view)
    parts = (images[start : start + params.batch_size] for start in range(0, len(images), params.batch_size))
    predicted = np.concatenate([networks.classify(part).labels for part in parts])
    return 100 * float((predicted == labels).mean())


def strengths(models: list[str], trials: list[int], output: Path, **changes: Any) -> None:
    """Train with each strength, view and model, and record three tests of each in strengths.csv."""
    for strength in STRENGTHS:
        settings: dict[str, Any] = {"profile": f"shortcuts_dose_{round(100 * strength)}", "models": models}
        settings |= {
            "confounder_strength": strength,
            "trials": max(trials),
            "epochs": DOSE_EPOCHS,
            "image_size": DOSE_SIZE,
            "phantom_size": 2 * DOSE_SIZE,
        } | changes
        params, paths = prepared(load_params(params_file(BASE), **settings))
        manifest = read_manifest(paths)
        images = {"as trained": Store.open(paths.store).images[manifest.index[manifest["split"] == "test"]]}
        images |= {test: redrawn(params, manifest[manifest["split"] == "test"], test) for test in TESTS[1:]}
        for view in ("lungs", "whole"):
            shown, where = (params, paths) if view == "lungs" else (params.seeing(view), paths.seeing(view))
            for model in models:
                for trial in trials:
                    train(shown, where, model, trial)
                    done = read_done(where.classifier(model, trial)) or {}
                    row = {"strength": strength, "view": view, "model": model, "trial": trial}
                    found = [
                        row
                        | {"test": test, "accuracy": round(accuracy(shown, where, model, trial, images[test]), 3)}
                        for test in TESTS
                    ]
                    facts = {
                        "images": len(images["without"]),
                        "device": done["device"],
                        "precision": done["precision"],
                    }
                    add_rows(output / "strengths.csv", pd.DataFrame(found).assign(**facts), [*row, "test"])
                    print(f"strength {strength:g}, {view}, {model}, trial {trial}: recorded", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Train and record what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["views", "strengths"])
    parser.add_argument("--params", type=Path, default=params_file(BASE), help="of the images, for views")
    parser.add_argument("--name", default="phantoms", help="of the images, in the record")
    parser.add_argument("--models", nargs="+", default=["resnet34"])
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=VIEWS)
    parser.add_argument("--trials", nargs="+", type=int, default=[1], help="for strengths")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changed")
    parser.add_argument("--output", type=Path, default=recorded_results("shortcuts"), help="folder to record in")
    options = parser.parse_args(arguments)
    if options.changed and options.what == "strengths" and options.output == recorded_results("shortcuts"):
        parser.error(
            "--set changes the settings of the recorded strengths; give them a folder of their own by --output"
        )
    changes = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in options.changed)}
    if options.what == "views":
        views(options.params, options.name, options.models, options.views, options.output, **changes)
    else:
        strengths(options.models, options.trials, options.output, **changes)


if __name__ == "__main__":
    main()
