"""Tables of the audit from predictions that are written down here, and from a run."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from manet_lib.data.manifest import read_manifest
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import predicted_correctly, thumbnails
from manet_lib.params import Params
from manet_lib.report import audit
from manet_lib.report.audit import (
    adults_table,
    probe_table,
    recorded_predictions,
    run_predictions,
    sources_table,
    views_table,
)
from manet_lib.training.classification import read_predictions, train_classifier
from manet_lib.workflow.steps import all_steps, audit_steps

IMAGES = [f"image{number:02}" for number in range(20)]
LABELS = ["tb", "normal"] * 10


def said(view: str, wrong: int, trial: int = 1) -> pd.DataFrame:
    """Predictions that are wrong in the last images."""
    right = np.arange(20) < 20 - wrong
    table = pd.DataFrame({"view": view, "model": "resnet34", "trial": trial, "image_id": IMAGES, "label": LABELS})
    table["source"] = ["here", "here", "there", "there"] * 5
    table["patient"] = IMAGES
    return table.assign(predicted=np.where(right, LABELS, "vp"))


def test_views_are_compared_with_the_lungs_image_by_image() -> None:
    predictions = pd.concat([said("shape", 10), said("lungs", 2), said("whole", 0)])
    table = views_table(predictions).set_index("View")
    assert table.index.tolist() == ["lungs", "whole", "shape"]
    assert table.loc["lungs", "Minus lungs (points)"] == "–"
    assert table.loc["whole", "Minus lungs (points)"].startswith("+10.0 (")
    assert table.loc["shape", "Minus lungs (points)"].startswith("-40.0 (")
    assert table["Accuracy (%)"].str.startswith(("90.0", "100.0", "50.0")).all()
    assert table.loc["shape", ["TB", "Normal"]].tolist() == ["50", "50"]


def test_pneumonias_that_are_taken_for_one_another_are_counted_apart() -> None:
    predictions = said("lungs", 0)
    predictions["label"] = ["bp", "vp", "bp", "tb"] * 5
    predictions["predicted"] = ["bp", "bp", "tb", "bp"] * 5
    assert views_table(predictions)["BP and VP confused"].tolist() == ["5 of 15"]


def test_classes_stand_in_the_order_of_the_paper_and_others_after_them() -> None:
    predictions = said("lungs", 0).assign(label=["vp", "own", "tb", "normal"] * 5)
    table = views_table(predictions)
    assert [name for name in table if name in ("VP", "own", "TB", "Normal")] == ["Normal", "TB", "VP", "own"]
    assert sources_table(predictions.assign(source=["a", "b"] * 10)).empty
    both = predictions.assign(source=["a"] * 12 + ["b"] * 8)
    assert sources_table(both)["Class"].drop_duplicates().tolist() == ["Normal", "TB", "VP", "own"]


def test_views_are_compared_in_the_trials_that_both_have() -> None:
    predictions = pd.concat([said("lungs", 2), said("whole", 0, 1), said("whole", 10, 2)])
    shown = views_table(predictions).set_index("View").loc["whole", "Minus lungs (points)"]
    assert shown.startswith("+10.0 (")
    assert (
        views_table(pd.concat([said("lungs", 2), said("whole", 0, 2)]))["Minus lungs (points)"].tolist()
        == ["–"] * 2
    )


def test_trials_on_other_images_are_refused() -> None:
    other = said("lungs", 2, 2)
    other.loc[3, "image_id"] = "another image"
    with pytest.raises(ValueError, match="different images"):
        views_table(pd.concat([said("lungs", 2), other]))


def test_sources_are_compared_within_a_class() -> None:
    predictions = said("lungs", 0)
    predictions.loc[(predictions["source"] == "there") & (predictions["label"] == "tb"), "predicted"] = "bp"
    table = sources_table(predictions).set_index(["Class", "Source"])["Accuracy (%)"]
    assert table["TB", "here"].startswith("100.0")
    assert table["TB", "there"].startswith("0.0")
    assert table["Normal", "there"].startswith("100.0")
    predictions["source"] = predictions["label"]
    assert sources_table(predictions).empty  # nothing to compare


def test_recorded_predictions_are_of_whole_runs() -> None:
    for name in ("phantoms", "cxr_image"):
        predictions = recorded_predictions(name)
        for _, part in predictions.groupby(["view", "model", "trial"]):
            assert part["image_id"].is_unique
            assert set(part["image_id"]) == set(predictions["image_id"])
    assert recorded_predictions("nothing of this name").empty


@pytest.fixture
def audited(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    return run.params.model_copy(update={"models": ["resnet34"], "audit_views": ["shape"]}), run.paths


def test_an_audit_trains_what_it_says_and_leaves_the_run_alone(audited) -> None:
    params, paths = audited
    (step,) = audit_steps(params, paths)
    assert step.folder == paths.root / "classification" / "resnet34-1-shape"
    assert step.folder in [one.folder for one in all_steps(params, paths)]
    train_classifier(params, paths, "resnet34", 1)
    before = paths.predictions("resnet34", 1).read_bytes()
    assert train_classifier(params.seeing("shape"), paths.seeing("shape"), "resnet34", 1)
    assert step.is_done()
    assert paths.predictions("resnet34", 1).read_bytes() == before
    predictions = run_predictions(params, paths)
    assert predictions["view"].unique().tolist() == ["lungs", "shape"]
    shape = read_predictions(paths.seeing("shape"), "resnet34", 1)
    assert shape is not None
    found = predictions[predictions["view"] == "shape"]
    assert found["predicted"].tolist() == shape["predicted"].tolist()
    assert set(found["source"]) <= {"north", "south", "east"}
    lungs = run_predictions(params.model_copy(update={"audit_views": []}), paths)
    assert lungs["view"].unique().tolist() == ["lungs"]


def test_the_probe_is_logistic_regression_on_what_each_view_shows(audited) -> None:
    _, paths = audited
    table = probe_table(paths).set_index("Seen")
    assert table.index.tolist() == ["nothing: the most frequent", *audit.VIEWS]
    manifest, masks = read_manifest(paths), np.load(paths.clean_masks)
    right = predicted_correctly(thumbnails(255 * masks), manifest, "source")
    assert table.loc["shape", "Source (%)"].startswith(f"{100 * right.mean():.1f} (")
    whole = predicted_correctly(thumbnails(Store.open(paths.store).images), manifest, "label")
    assert table.loc["whole", "Class (%)"].startswith(f"{100 * whole.mean():.1f} (")
    frequent = manifest.loc[manifest["split"] == "train", "source"].value_counts().index[0]
    share = (manifest.loc[manifest["split"] == "test", "source"] == frequent).mean()
    assert table.loc["nothing: the most frequent", "Source (%)"] == f"{100 * share:.1f}"


def test_params_refuse_a_view_twice(refused) -> None:
    with pytest.raises(ValueError, match="audit_views"):
        Params(profile="x", audit_views=["whole", "whole"])


def test_the_difference_of_two_shares_is_that_of_statsmodels() -> None:
    """Newcombe's interval, where each image is of a patient of its own and there is one trial."""
    predictions = pd.concat([said("lungs", 0)] * 20, ignore_index=True).assign(label="normal")
    predictions["image_id"] = predictions["patient"] = [f"image{number:03}" for number in range(400)]
    predictions["source"] = np.repeat(["kermany", "shenzhen"], 200)
    predictions["predicted"] = ["normal"] * 180 + ["tb"] * 20 + ["normal"] * 110 + ["tb"] * 90
    row = adults_table(predictions, ["kermany"]).squeeze()
    assert row["Children: images"] == row["Adults: images"] == "200"
    low, high = confint_proportions_2indep(110, 200, 180, 200, method="newcomb")
    shown = [float(part) for part in row["Adults minus children (points)"].split("(")[1].rstrip(")").split(" to ")]
    assert row["Adults minus children (points)"].startswith("-35.0 (")
    assert shown == pytest.approx([100 * low, 100 * high], abs=0.3)  # the library takes t for z
