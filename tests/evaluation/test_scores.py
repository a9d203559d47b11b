"""Scores as means over images, against scikit-learn, brute force and simulated coverage."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from manet_lib.evaluation.scores import (
    BINS,
    auc_values,
    brier_interval,
    brier_values,
    calibration_by_chance,
    calibration_values,
    f1_values,
    precision_values,
    ratio_values,
    recall_values,
)
from manet_lib.evaluation.statistics import share_interval


@pytest.fixture
def predictions():
    """Classes (images,) and probabilities (trials, images, classes) that know something of them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 120)
    logits = rng.normal(0, 1, (3, 120, 4)) + 1.5 * np.eye(4)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)


def test_means_over_images_are_scikit_learns_scores(predictions) -> None:
    labels, probabilities = predictions
    predicted = probabilities.argmax(axis=2)
    for trial in range(3):
        expected = sklearn.metrics.precision_recall_fscore_support(labels, predicted[trial])
        for label in range(4):
            actual, taken = np.tile(labels == label, (3, 1)), predicted == label
            found = [
                values(actual, taken)[trial].mean() for values in (precision_values, recall_values, f1_values)
            ]
            np.testing.assert_allclose(found, [row[label] for row in expected[:3]])
            area = sklearn.metrics.roc_auc_score(labels == label, probabilities[trial, :, label])
            rounded = np.round(probabilities[:, :, label], 1)  # many ties
            tied = sklearn.metrics.roc_auc_score(labels == label, rounded[trial])
            assert auc_values(labels == label, probabilities[:, :, label])[trial].mean() == pytest.approx(area)
            assert auc_values(labels == label, rounded)[trial].mean() == pytest.approx(tied)
        scaled = sklearn.metrics.brier_score_loss(labels, probabilities[trial], scale_by_half=False)
        assert brier_values(np.eye(4, dtype=bool)[labels], probabilities)[trial].mean() == pytest.approx(scaled)


def test_a_class_that_is_never_predicted_has_precision_0_and_one_without_images_no_auc() -> None:
    nothing, all_images = np.zeros((2, 5), bool), np.ones((2, 5), bool)
    assert (precision_values(all_images, nothing) == 0).all()
    assert (recall_values(nothing, all_images) == 0).all()
    assert (f1_values(nothing, nothing) == 0).all()
    assert np.isnan(auc_values(nothing[0], np.random.default_rng(0).random((2, 5)))).all()
    assert all(np.isnan(share_interval(np.full((2, 5), np.nan))))


def test_a_images_value_is_what_leaving_it_out_changes(predictions) -> None:
    labels, probabilities = predictions
    actual, taken = np.tile(labels == 1, (3, 1)), probabilities.argmax(axis=2) == 1
    area = auc_values(labels == 1, probabilities[:, :, 1])
    images = len(labels)
    for values, score in (
        (
            precision_values(actual, taken),
            lambda keep: sklearn.metrics.precision_score(actual[0, keep], taken[0, keep]),
        ),
        (f1_values(actual, taken), lambda keep: sklearn.metrics.f1_score(actual[0, keep], taken[0, keep])),
        (area, lambda keep: sklearn.metrics.roc_auc_score(labels[keep] == 1, probabilities[0, keep, 1])),
    ):
        whole = score(np.arange(images))
        left_out = [score(np.delete(np.arange(images), image)) for image in range(images)]
        jackknife = images * whole - (images - 1) * np.array(left_out)
        assert np.corrcoef(jackknife, values[0])[0, 1] > 0.99
        assert values[0].std() == pytest.approx(jackknife.std(), rel=0.1)


def test_auc_has_delongs_variance(predictions) -> None:
    labels, probabilities = predictions
    scores, actual = probabilities[0, :, 2], labels == 2
    wins = (scores[actual][:, None] > scores[~actual]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / actual.sum() + wins.mean(axis=0).var(ddof=1) / (~actual).sum()
    values = auc_values(actual, scores[None])[0]
    assert values.var(ddof=1) / len(values) == pytest.approx(variance, rel=0.05)


def test_calibration_error_is_the_sum_over_bins(predictions) -> None:
    labels, probabilities = predictions
    confidence, right = probabilities.max(axis=2), probabilities.argmax(axis=2) == labels
    for trial in range(3):
        expected = 0.0
        for edge in np.arange(BINS) / BINS:
            inside = (confidence[trial] >= edge) & (confidence[trial] < edge + 1 / BINS)
            if inside.any():
                gap = right[trial, inside].mean() - confidence[trial, inside].mean()
                expected += abs(gap) * inside.mean()
        assert calibration_values(confidence, right)[trial].mean() == pytest.approx(expected)
    assert calibration_values(np.ones((1, 4)), np.ones((1, 4), bool)).mean() == 0


def test_a_calibrated_network_stays_below_chance_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, (1, 180))
    bound = calibration_by_chance(confidence)
    errors = [calibration_values(confidence, rng.random((1, 180)) < confidence).mean() for _ in range(2000)]
    assert 0.93 <= np.mean(np.array(errors) <= bound) <= 0.97
    alike = np.repeat(confidence, 3, axis=0)  # three trials that say the same are one
    assert calibration_by_chance(alike) == pytest.approx(bound, abs=0.005)
    too_sure = [calibration_values(confidence, rng.random((1, 180)) < confidence - 0.2).mean() for _ in range(200)]
    assert np.mean(np.array(too_sure) <= bound) < 0.05


def test_a_ratio_is_the_sum_over_the_sum() -> None:
    part, whole = np.random.default_rng(0).random((2, 3, 20))
    np.testing.assert_allclose(ratio_values(part, whole).mean(axis=1), part.sum(axis=1) / whole.sum(axis=1))


@pytest.mark.parametrize("trials", [1, 3])
def test_intervals_cover_recall_precision_f1_and_auc(trials: int) -> None:
    """Two classes whose scores are normal, apart by 1.5; images differ, training runs add noise of their own."""
    rng = np.random.default_rng(0)
    images, share, cut, spread = 200, 0.3, 0.75, np.sqrt(1 + 0.5**2)
    shown, taken = scipy.stats.norm.sf((cut - 1.5) / spread), scipy.stats.norm.sf(cut / spread)
    hits, false = share * shown, (1 - share) * taken
    truth = {
        "recall": shown,
        "precision": hits / (hits + false),
        "f1": 2 * hits / (hits + false + share),
        "auc": scipy.stats.norm.cdf(1.5 / spread / np.sqrt(2)),
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(1500):
        actual = rng.random(images) < share
        scores = 1.5 * actual + rng.normal(0, 1, images) + rng.normal(0, 0.5, (trials, images))
        sides = np.tile(actual, (trials, 1)), scores > cut
        found = {"recall": recall_values(*sides), "precision": precision_values(*sides), "f1": f1_values(*sides)}
        found["auc"] = auc_values(actual, scores)
        for name, values in found.items():
            _, low, high = share_interval(values)
            covered[name] += low <= truth[name] <= high
    outside = {name: count / 1500 for name, count in covered.items() if not 0.93 <= count / 1500 <= 0.975}
    assert outside == {}


def test_interval_of_brier_covers() -> None:
    rng = np.random.default_rng(0)
    sure = np.linspace(0.5, 1, 101)
    truth, covered = 2 * (sure * (1 - sure)).mean(), 0
    for _ in range(1500):
        chosen = rng.choice(sure, 150)
        actual = np.stack([(right := rng.random(150) < chosen), ~right], axis=1)
        _, low, high = brier_interval(actual, np.stack([chosen, 1 - chosen], axis=1)[None])
        covered += low <= truth <= high
    assert 0.93 <= covered / 1500 <= 0.97
