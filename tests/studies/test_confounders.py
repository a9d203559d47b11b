"""The test phantoms with other markers: the same patients, and nothing but the markers changed."""

import numpy as np
import pandas as pd

from manet_lib.data.manifest import read_manifest
from manet_lib.data.phantom import _SOURCE_ODDS, SOURCES
from manet_lib.data.store import Store
from manet_lib.report.confounders import accuracy_with_markers, confounder_table
from manet_lib.studies.confounders import RARE_SOURCE, TESTS, THUMBNAILS, redrawn, try_other_markers
from manet_lib.training.classification import read_predictions, train_classifier
from manet_lib.workflow.records import read_table


def test_a_rare_source_is_the_one_that_fewest_images_of_the_class_come_from():
    for label, odds in _SOURCE_ODDS.items():
        assert odds[SOURCES.index(RARE_SOURCE[label])] <= 0.2 * max(odds)


def test_redrawn_images_are_those_of_the_run_but_for_their_markers(tiny_run):
    params, manifest = tiny_run.params, read_manifest(tiny_run.paths)
    stored = Store.open(tiny_run.paths.store)
    same = redrawn(params, manifest, "as trained")
    assert np.array_equal(same, stored.images)
    lungs = stored.masks > 0
    for test in TESTS[1:]:
        other = redrawn(params, manifest, test)
        difference = np.abs(other.astype(int) - same)
        assert difference[~lungs].mean() > 20 * difference[lungs].mean(), test
    plain = redrawn(params.model_copy(update={"confounder_strength": 0.0}), manifest, "swapped")
    assert np.array_equal(plain, redrawn(params, manifest, "without"))


def test_every_network_is_tested_on_the_same_images_and_as_trained_as_reported(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    params = run.with_parameters(models=["resnet34"], audit_views=["whole"])
    train_classifier(params, run.paths, "resnet34", 1)
    train_classifier(params.seeing("whole"), run.paths.seeing("whole"), "resnet34", 1)
    assert try_other_markers(params, run.paths)
    assert not try_other_markers(params, run.paths)
    table = read_table(run.paths.confounders / "predictions.csv")
    tested = read_manifest(run.paths).query("split == 'test'")
    groups = table.groupby(["view", "model", "test"])
    assert set(groups.groups) == {
        (view, model, test) for view in ("lungs", "whole") for model in ("resnet34", THUMBNAILS) for test in TESTS
    }
    assert all(part["image_id"].tolist() == tested["image_id"].tolist() for _, part in groups)
    for view, where in (("lungs", run.paths), ("whole", run.paths.seeing("whole"))):
        reported = read_predictions(where, "resnet34", 1)
        mine = groups.get_group((view, "resnet34", "as trained"))
        assert mine["predicted"].tolist() == reported["predicted"].tolist()


def test_accuracies_and_losses_are_those_of_the_counts():
    def part(view, model, test, correct):
        names = [f"image{number}" for number in range(10)]
        predicted = ["tb"] * correct + ["normal"] * (10 - correct)
        table = pd.DataFrame({"image_id": names, "label": "tb", "predicted": predicted})
        return table.assign(view=view, model=model, trial=1, test=test)

    predictions = pd.concat(
        part("whole", model, test, correct)
        for model, counts in (("resnet34", (8, 6, 3)), ("resnet34_ma", (9, 9, 9)))
        for test, correct in zip(TESTS, counts, strict=True)
    )
    accuracy = accuracy_with_markers(predictions).set_index(["model", "test"])["accuracy"]
    assert accuracy["resnet34"].tolist() == [80, 60, 30]
    assert accuracy["resnet34_ma"].tolist() == [90, 90, 90]
    table = confounder_table(predictions, [str(number) for number in range(10)]).set_index("Model")
    assert table.loc["ResNet34", "Swapped minus as trained (points)"].startswith("-50.0 (")
    assert table.loc["ResNet34(MA)", "Swapped minus as trained (points)"] == "+0.0 (+0.0 to +0.0)"
