from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from manet_lib.evaluation.metrics import (
    classification_report,
    confusion_matrix,
    intersection_over_union,
)
from manet_lib.params import CLASSES
from manet_lib.report.tables import published


def _labels(seed: int, count: int = 200) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    actual = rng.choice(CLASSES, count, p=[0.4, 0.1, 0.1, 0.3, 0.1])
    predicted = np.where(rng.random(count) < 0.7, actual, rng.choice(CLASSES, count))
    return actual.tolist(), predicted.tolist()


@pytest.mark.parametrize("seed", range(5))
class TestAgainstCounting:
    def test_confusion_matrix(self, seed: int) -> None:
        actual, predicted = _labels(seed)
        confusion = confusion_matrix(actual, predicted, CLASSES)
        pairs = Counter(zip(actual, predicted, strict=True))
        assert {(row, column): confusion.loc[row, column] for row in CLASSES for column in CLASSES} == {
            (row, column): pairs[row, column] for row in CLASSES for column in CLASSES
        }
        assert confusion.index.tolist() == confusion.columns.tolist() == list(CLASSES)

    @pytest.mark.parametrize("count", [200, 7, 1])  # with few, classes are missing or never predicted
    def test_report(self, seed: int, count: int) -> None:
        actual, predicted = _labels(seed, count)
        report = classification_report(confusion_matrix(actual, predicted, CLASSES))
        expected = {}
        for label in CLASSES:
            hits = sum(one == two == label for one, two in zip(actual, predicted, strict=True))
            precision = hits / predicted.count(label) if label in predicted else 0
            recall = hits / actual.count(label) if label in actual else 0
            f1 = 2 * precision * recall / (precision + recall) if hits else 0
            expected[label] = [precision, recall, f1, actual.count(label)]
            np.testing.assert_allclose(report.loc[label], expected[label], atol=1e-12)
        average = sum(np.array(row[:3]) * row[3] for row in expected.values()) / count
        np.testing.assert_allclose(report.loc["weighted average"], [*average, count], atol=1e-12)


def test_table_4_follows_from_table_5() -> None:
    confusion = published("table5_confusion_resnet50_ma").set_index("actual").astype(int)
    printed = published("table4_report_resnet50_ma").set_index("class")
    report = classification_report(confusion)
    assert report.index.tolist() == printed.index.tolist()
    for name in ("precision", "recall", "f1"):
        assert [f"{value:.2f}" for value in report[name]] == printed[name].tolist()
    assert report["support"].astype(str).tolist() == printed["support"].tolist()


def test_table_5_is_the_third_trial_of_table_2() -> None:
    confusion = published("table5_confusion_resnet50_ma").set_index("actual").astype(int)
    hits, total = np.trace(confusion), confusion.to_numpy().sum()
    printed = published("table2_test_accuracy").set_index("model")
    assert f"{100 * hits / total:.2f}" == printed.loc["resnet50_ma", "trial3"]
    assert printed[["trial1", "trial2", "trial3"]].to_numpy().astype(float).max() == 100 * round(hits / total, 4)


def test_empty_confusion_matrix_scores_zero() -> None:
    report = classification_report(confusion_matrix([], [], ["a", "b"]))
    assert (report == 0).all(axis=None)


def test_rows_are_actual_and_columns_predicted() -> None:
    confusion = confusion_matrix(["a", "a", "b"], ["b", "b", "b"], ["a", "b"])
    pd.testing.assert_frame_equal(
        confusion, pd.DataFrame([[0, 2], [0, 1]], index=pd.Index(["a", "b"], name="actual"), columns=["a", "b"])
    )


def test_label_outside_the_classes_is_an_error() -> None:
    with pytest.raises(KeyError, match="c"):
        confusion_matrix(["a"], ["c"], ["a", "b"])


@pytest.mark.parametrize("shape", [(4, 6, 5), (3, 1, 4, 4), (2, 30)])
def test_intersection_over_union_against_counting(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    predicted, truth = rng.random(shape) < 0.4, rng.random(shape) < 0.6
    scores = intersection_over_union(predicted, truth)
    assert scores.shape == shape[:1]
    for number in range(shape[0]):
        both = either = 0
        for one, two in zip(predicted[number].ravel().tolist(), truth[number].ravel().tolist(), strict=True):
            both += one and two
            either += one or two
        assert scores[number] == pytest.approx(both / either)


def test_intersection_over_union_of_empty_masks() -> None:
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    assert intersection_over_union(empty, empty).tolist() == [1.0]
    assert intersection_over_union(full, full).tolist() == [1.0]
    assert intersection_over_union(empty, full).tolist() == [0.0]
    assert intersection_over_union(full, empty).tolist() == [0.0]


def test_intersection_over_union_is_of_each_image() -> None:
    truth = np.zeros((2, 2, 2), bool)
    truth[0, 0, 0] = truth[1] = True
    predicted = np.ones((2, 2, 2), bool)
    assert intersection_over_union(predicted, truth).tolist() == [0.25, 1.0]  # pooled, both would be 0.625
