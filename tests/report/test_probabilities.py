"""Scores of a run's predictions, against scikit-learn on the same files."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from manet_lib.params import CLASSES, Params
from manet_lib.paths import RunPaths
from manet_lib.report import probabilities


@pytest.fixture
def predicted(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Two trials of one model on 100 images of 60 patients."""
    rng = np.random.default_rng(0)
    images = [f"image{number:03}" for number in range(100)]
    labels = [CLASSES[number % 5] for number in range(100)]
    manifest = pd.DataFrame({"image_id": images, "split": "test"})
    manifest["patient"] = [f"p{number % 60}" if number % 7 else "" for number in range(100)]
    paths.manifest.parent.mkdir(parents=True)
    manifest.to_csv(paths.manifest, index=False)
    for trial in (1, 2):
        logits = rng.normal(0, 1, (100, 5)) + 1.5 * np.eye(5)[[number % 5 for number in range(100)]]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = pd.DataFrame(shares, columns=[f"p_{name}" for name in CLASSES])
        table["predicted"] = [CLASSES[number] for number in shares.argmax(axis=1)]
        file = paths.predictions("resnet50", trial)
        file.parent.mkdir(parents=True)
        table = table.assign(image_id=images, split="test", label=labels)
        table.sample(frac=1, random_state=trial).to_csv(file, index=False)
    monkeypatch.setattr(probabilities, "trained_models", lambda *_: [("resnet50", 1), ("resnet50", 2)])
    return Params(profile="test", models=["resnet50", "vgg16"], trials=2)


def files(paths: RunPaths) -> list[pd.DataFrame]:
    return [pd.read_csv(paths.predictions("resnet50", trial)) for trial in (1, 2)]


def test_scores_by_class_are_means_over_trials(predicted: Params, paths: RunPaths) -> None:
    table = probabilities.class_scores_table(predicted, paths)
    assert table["Model"].unique().tolist() == ["ResNet50"]  # VGG16 is not trained
    row = table[table["Class"] == "TB"].iloc[0]
    scores = [
        sklearn.metrics.precision_recall_fscore_support(one["label"], one["predicted"], labels=["tb"])
        for one in files(paths)
    ]
    areas = [sklearn.metrics.roc_auc_score(one["label"] == "tb", one["p_tb"]) for one in files(paths)]
    expected = [*np.mean([score[:3] for score in scores], axis=0)[:, 0], np.mean(areas)]
    for name, value in zip(
        ["Precision", "Recall", "F1-score", "AUC, one against the rest"], expected, strict=True
    ):
        shown, low, high = row[name].replace("(", "").replace(")", "").replace("to ", "").split()
        assert shown == f"{value:.2f}"
        assert float(low) <= value <= float(high)
    assert row["Images"] == 20


def test_calibration_table_and_diagram_tell_the_same(predicted: Params, paths: RunPaths) -> None:
    found = probabilities.predictions(predicted, paths, "resnet50")
    assert found is not None
    row = probabilities.calibration_table(predicted, paths).iloc[0]
    both = pd.concat(files(paths))
    assert row["Accuracy"] == f"{(both['label'] == both['predicted']).mean():.2f}"
    actual = sklearn.preprocessing.label_binarize(both["label"], classes=CLASSES)
    brier = ((both[[f"p_{name}" for name in CLASSES]].to_numpy() - actual) ** 2).sum(axis=1).mean()
    assert row["Brier score"].startswith(f"{brier:.2f} (")
    diagram = probabilities.reliability(found)
    assert diagram["share"].sum() == pytest.approx(1)
    assert diagram["confidence"].is_monotonic_increasing
    assert (diagram["share"] * diagram["confidence"]).sum() == pytest.approx(found.confidence.mean())
    assert diagram["accuracy"].between(diagram["low"], diagram["high"]).all()


def test_confusion_over_trials_has_mean_least_and_most(predicted: Params, paths: RunPaths, monkeypatch) -> None:
    found = probabilities.confusions(predicted, paths, "resnet50")
    table = probabilities.confusion_over_trials(found, predicted.classes).set_index("Actual")
    counts = [((one["label"] == "bp") & (one["predicted"] == "vp")).sum() for one in files(paths)]
    assert table.loc["BP", "VP"] == f"{np.mean(counts):.1f} ({min(counts)} to {max(counts)})"
    monkeypatch.setattr(probabilities, "trained_models", lambda *_: [("resnet50", 1)])
    found = probabilities.confusions(predicted, paths, "resnet50")
    table = probabilities.confusion_over_trials(found, predicted.classes).set_index("Actual")
    assert table.loc["BP", "VP"] == str(counts[0])


def test_a_model_that_is_not_trained_has_no_predictions(predicted: Params, paths: RunPaths) -> None:
    assert probabilities.predictions(predicted, paths, "vgg16") is None


def test_a_class_that_is_never_predicted_has_no_precision(predicted: Params, paths: RunPaths, monkeypatch) -> None:
    found = probabilities.predictions(predicted, paths, "resnet50")
    assert found is not None
    changed = found.probabilities.copy()
    changed[:, :, 2] = 0
    monkeypatch.setattr(
        probabilities, "predictions", lambda *_: probabilities.Predictions(found.actual, changed, found.patients)
    )
    row = probabilities.class_scores_table(predicted, paths).set_index("Class").loc["TB"].iloc[0]
    assert row["Precision"] == "–"
    assert row["Recall"].startswith("0.00 (0.00 to ")
