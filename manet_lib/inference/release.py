"""Calibration, warning limits and test results of a run's networks, and the file that holds them with the weights.

``runs/<profile>/release/<model>-<trial>/`` gets ``manet.safetensors``, see :mod:`manet_lib.inference.networks`,
and a model card, ``README.md``. Temperature and limits are of training and validation images; the test images say
how well they did.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from manet_lib.data.manifest import read_manifest
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import lung_statistics
from manet_lib.evaluation.scores import calibration_values
from manet_lib.evaluation.statistics import share_interval
from manet_lib.inference.calibration import fit_temperature
from manet_lib.inference.model_card import model_card
from manet_lib.inference.networks import Networks, Outputs, Usage, read_header
from manet_lib.inference.out_of_distribution import TypicalImages
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import MODELS, Params, UserError, validate
from manet_lib.paths import RunPaths, reproduce_command, weights_of
from manet_lib.training.checkpoint import load_weights
from manet_lib.training.classification import load_classifier
from manet_lib.training.evaluate import in_batches
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import read_done, write_text
from manet_lib.workflow.source_code import code_of

BATCH = 16
"""Images that go through the networks together."""
STATISTICS = ("lung brightness", "lung contrast", "lung area")
"""What :func:`manet_lib.evaluation.baseline.lung_statistics` measures of an image."""
_IMAGES = 1000
"""Training images that are looked at, sampled at random; more would not move 32 directions much."""
_WITHIN = 0.95
"""Share of the validation images that are not called out of distribution."""


def networks_of(run_dir: Path, model: str, trial: int, view: str = "") -> Networks:
    """The networks of a run as trained, with the parameters that they were made with, whatever its file says now.

    Args:
        run_dir: a folder ``runs/<profile>``.
        model: one of the classifiers that the run trained.
        trial: which training run of it.
        view: of an audit, for that training instead of the run's own.

    Raises:
        UserError: the run has no such training run.
    """
    paths = _paths_of(run_dir)
    paths = paths.seeing(view) if view else paths
    params = _made_with(paths, model, trial)
    segmenter = create_segmenter(params.seg_encoder)
    load_weights(weights_of(paths.segmentation), segmenter)
    return Networks(params, segmenter.eval(), load_classifier(params, paths, model, trial))


def _paths_of(run_dir: Path) -> RunPaths:
    """The files of a run, which is called by its folder's name, also where that is given as ``.``."""
    return RunPaths(run_dir.resolve(), run_dir.resolve())


def _made_with(paths: RunPaths, model: str, trial: int) -> Params:
    folders = [paths.store, paths.segmentation, paths.clean_masks.parent, paths.classifier(model, trial)]
    trained = _trained(paths, trial)
    if trained and model not in trained:
        there = ", ".join(trained)
        raise UserError(f"--model: {model} is not trained in {paths.root.name}, trial {trial}; there are {there}")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", paths.root.name)[:40]  # whatever the folder is called
    values: dict[str, Any] = {"profile": name or "run", "models": [model]}
    for folder in folders:
        done = read_done(folder)
        if done is None:
            command = reproduce_command(paths.root.name)
            raise UserError(f"{paths.root.name}: {folder.name} has not been run; run `{command}`")
        values |= {name: value for name, value in done["parameters"].items() if name in Params.model_fields}
    return validate(values, name)


def _trained(paths: RunPaths, trial: int) -> list[str]:
    return [name for name in MODELS if paths.predictions(name, trial).is_file()]


def best_trained(run_dir: Path, trial: int = 1) -> str:
    """The paper's best network of a run, ResNet50(MA), or else the first with mask attention, or the first.

    Raises:
        UserError: there is no such run, or it has trained none.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such folder; `make reproduce` makes runs/phantoms")
    paths = _paths_of(run_dir)
    trained = sorted(_trained(paths, trial), key=lambda name: (name != "resnet50_ma", not name.endswith("_ma")))
    if not trained:
        raise UserError(
            f"{paths.root.name}: no network is trained in trial {trial}; "
            f"run `{reproduce_command(paths.root.name)}`"
        )
    return trained[0]


def released(run_dir: Path, model: str, trial: int) -> Path:
    """The file of a run's networks; made now, unless it is there and of these weights, images and code.

    Raises:
        UserError: the run has no such training run, its images are gone, or the file cannot be written.
    """
    file = _paths_of(run_dir).release(model, trial)
    whole = _found_out(run_dir, model, trial)
    if whole is not None:
        _keep(whole, file)
    return file


def known_networks(run_dir: Path, model: str, trial: int) -> Networks:
    """A run's networks from their file, or computed now; kept in a file where the run can be written.

    Raises:
        UserError: the run has no such training run, or its images are gone.
    """
    file = _paths_of(run_dir).release(model, trial)
    whole = _found_out(run_dir, model, trial)
    if whole is None:
        return Networks.load(file)
    try:
        _keep(whole, file)
    except UserError as error:
        print(f"warning: {error}; calibration and limits will be computed again next time", file=sys.stderr)
    return whole


def _keep(whole: Networks, file: Path) -> None:
    whole.save(file)
    write_text(file.with_name("README.md"), model_card(whole))


def _found_out(run_dir: Path, model: str, trial: int) -> Networks | None:
    """A run's networks with how to use them; None if their file is up to date."""
    paths = _paths_of(run_dir)
    data = _data(_made_with(paths, model, trial), paths, model, trial)
    if read_header(paths.release(model, trial)).get("data") == data:
        return None
    networks = networks_of(run_dir, model, trial)
    return replace(networks, usage=_usage(networks, paths, data))


def _data(params: Params, paths: RunPaths, model: str, trial: int) -> dict[str, Any]:
    """Which images the networks are made of, and hashes of all that the file depends on."""
    made = (paths.segmentation, paths.classifier(model, trial), paths.manifest_dir)
    outputs = {folder.name: (read_done(folder) or {"outputs": {}})["outputs"] for folder in made}
    weights = {name: files["weights.safetensors"]["sha256"] for name, files in list(outputs.items())[:2]}
    manifest = read_manifest(paths)
    return {
        "source": params.data_source,
        "images": {side: int((manifest["split"] == side).sum()) for side in ("train", "val", "test")},
        "manifest_sha256": sha256_of(paths.manifest),
        "weights_sha256": weights,
        "code": code_of(__name__),
    }


def _usage(networks: Networks, paths: RunPaths, data: dict[str, Any]) -> Usage:
    manifest = read_manifest(paths)
    train = manifest[manifest["split"] == "train"]
    sides = {side: manifest[manifest["split"] == side] for side in ("val", "test")}
    sides["train"] = train.sample(min(_IMAGES, len(train)), random_state=0).sort_index()
    pixels = {side: Store.open(paths.store).images[images.index] for side, images in sides.items()}
    outputs = {side: _outputs(networks, pixels[side], side) for side in sides}
    typical = TypicalImages.fit(outputs["train"].features, outputs["val"].features)
    statistics = lung_statistics(pixels["train"], outputs["train"].masks)
    if (statistics[:, -1] > 0).any():  # an image without lungs would make every limit 0
        statistics = statistics[statistics[:, -1] > 0]
    limits = {
        name: (float(column.min()), float(column.max()))
        for name, column in zip(STATISTICS, statistics.T, strict=True)
    }
    place = {name: number for number, name in enumerate(networks.params.classes)}
    targets = {side: images["label"].map(place).to_numpy(np.int64) for side, images in sides.items()}
    temperature = fit_temperature(outputs["val"].logits, targets["val"])
    farthest = float(np.quantile(typical.distance(outputs["val"].features), _WITHIN))
    results = _results(outputs["test"].logits, targets["test"], sides["test"]["patient"], temperature)
    far = typical.distance(outputs["test"].features) > farthest
    results["called out of distribution"] = round(float(far.mean()), 4)
    return Usage(temperature, typical, farthest, limits, data, results)


def _outputs(networks: Networks, images: NDArray[np.uint8], side: str) -> Outputs:
    parts = bar(list(in_batches(len(images), BATCH)), -(-len(images) // BATCH), f"looking at {side} images")
    return Outputs.joined([networks.run(np.asarray(images[part])) for part in parts])


def _results(
    logits: NDArray[np.float64], targets: NDArray[np.int64], patients: pd.Series, temperature: float
) -> dict[str, Any]:
    right = (logits.argmax(axis=1) == targets)[None]
    mean, low, high = share_interval(right, patients.tolist())
    errors = {
        name: round(float(calibration_values(softmax(logits / by, axis=1).max(axis=1)[None], right).mean()), 4)
        for name, by in (("as trained", 1.0), ("calibrated", temperature))
    }
    accuracy = [round(value, 4) for value in (mean, low, high)]
    return {"test images": len(targets), "test accuracy": accuracy, "expected calibration error": errors}
