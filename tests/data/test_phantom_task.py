"""The default task is neither trivial nor hopeless: what the quick run shows means something."""

import pytest

from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.store import Store, build_store
from manet_lib.evaluation.baseline import lung_statistics, predicted_correctly
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.training.classification import read_predictions, train_classifier
from manet_lib.training.segmentation import predict_raw_masks, train_segmenter
from manet_lib.workflow.records import read_table


@pytest.mark.slow
@pytest.mark.exhaustive
def test_without_confounders_a_network_learns_it_and_brightness_does_not_give_it_away(tmp_path):
    changes = {"phantom_images": 300, "epochs": 5, "models": ["resnet34"], "confounder_strength": 0.0}
    params = load_params(project_root() / "params/phantoms.yaml", **changes)
    paths = RunPaths(tmp_path / "run", tmp_path / "figures")
    build_store(params, paths)
    build_manifest(params, paths)
    store = Store.open(paths.store)
    features = lung_statistics(store.images, store.masks)
    assert predicted_correctly(features, read_manifest(paths), "label").mean() < 0.5

    train_segmenter(params, paths)
    assert read_table(paths.iou)["iou"].mean() > 0.9
    predict_raw_masks(params, paths)
    clean_masks(params, paths)
    train_classifier(params, paths, "resnet34", 1)
    test = read_predictions(paths, "resnet34", 1)
    assert 0.6 < (test["label"] == test["predicted"]).mean() < 0.95
