"""Distance from the training images, beside the whole covariance and its inverse."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from manet_lib.inference.out_of_distribution import KEPT, TypicalImages


def features(images, width, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (images, width)) * np.geomspace(5, 0.1, width)).astype(np.float32) + 3


def test_it_is_the_mahalanobis_distance_of_the_covariance_that_it_stands_for():
    known, new = features(200, 50), features(20, 50, seed=1)
    typical = TypicalImages.fit(known, known)
    directions = typical.directions.astype(float)
    across = np.eye(50) - directions.T @ directions
    covariance = directions.T @ np.diag(typical.variances) @ directions + typical.rest * across
    inverse = np.linalg.inv(covariance)
    usual = np.median([mahalanobis(one, typical.mean, inverse) for one in known])
    expected = [mahalanobis(one, typical.mean, inverse) / usual for one in new]
    np.testing.assert_allclose(typical.distance(new), expected, rtol=1e-4)


def test_with_few_features_it_is_that_of_all_of_them():
    known = features(500, 8)
    typical = TypicalImages.fit(known, known[:1])
    inverse = np.linalg.inv(np.cov(known.astype(float), rowvar=False))
    away = [mahalanobis(one, known.mean(axis=0), inverse) for one in known[:10]]
    expected = np.array(away) / away[0]
    np.testing.assert_allclose(typical.distance(known[:10]), expected, rtol=1e-3)


@pytest.mark.parametrize("images", [20, 400])
def test_a_usual_image_is_at_one_and_others_beyond(images):
    """With fewer images than features, too, where images that were fitted are nearer than new ones."""
    typical = TypicalImages.fit(features(images, 100), features(200, 100, seed=1))
    usual, other = typical.distance(features(200, 100, seed=2)), typical.distance(features(200, 100, seed=2) + 2)
    assert np.median(usual) == pytest.approx(1, abs=0.1)
    assert np.median(other) > usual.max()


def test_two_images_and_features_that_never_change_are_enough():
    known = np.zeros((2, 40))
    known[1, :3] = 1
    distances = TypicalImages.fit(known, known).distance(np.vstack([known, known + 1]))
    assert np.isfinite(distances).all()
    assert distances[2:].min() > distances[:2].max()
    assert TypicalImages.fit(features(100, 60), features(1, 60)).directions.shape == (KEPT, 60)
