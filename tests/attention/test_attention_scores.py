"""Scores of heat maps by hand, against what must come out, and of a run."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manet_lib.attention.maps import chosen_images, heat_maps
from manet_lib.attention.scores import (
    MEASURES,
    attention_scores,
    centre_blob,
    score_attention,
    score_map,
    share_inside,
)
from manet_lib.data.manifest import read_manifest
from manet_lib.training.classification import train_classifier


def test_share_inside_by_hand():
    heat = np.array([[0.0, 0.5], [0.25, 0.25]], dtype=np.float32)
    assert share_inside(heat, np.array([[True, True], [False, False]])) == pytest.approx(0.5)
    assert share_inside(heat, np.array([[True, False], [True, True]])) == pytest.approx(0.5)
    assert share_inside(heat, np.ones((2, 2), bool)) == pytest.approx(1)
    assert share_inside(heat, np.zeros((2, 2), bool)) == 0


def test_share_inside_of_a_uniform_map_is_the_area():
    region = np.random.default_rng(0).random((40, 50)) < 0.3
    assert share_inside(np.full((40, 50), 0.7, np.float32), region) == pytest.approx(region.mean())


def test_share_inside_of_an_empty_map_is_not_a_number():
    assert np.isnan(share_inside(np.zeros((3, 3), np.float32), np.ones((3, 3), bool)))


def test_a_map_is_scored_by_hand():
    heat = np.array([[0.2, 0.0], [1.0, 0.8]], dtype=np.float32)
    found = score_map(heat, np.array([[True, False], [True, False]]))
    # by falling heat: 1.0 in, 0.8 out, 0.2 in, 0.0 out
    expected = {"share": 1.2 / 2, "covered": 0.6, "pointing": 1.0, "precision": (1 / 1 + 2 / 3) / 2}
    assert found == pytest.approx(expected)


def test_the_region_itself_is_the_best_map_and_its_complement_the_worst():
    region = np.random.default_rng(1).random((30, 30)) < 0.2
    assert score_map(region.astype(np.float32), region) == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    worst = score_map((~region).astype(np.float32), region)
    assert (worst["share"], worst["covered"], worst["pointing"]) == (0, 0, 0)
    assert worst["precision"] < region.mean() + 0.01


def test_a_map_without_preference_scores_the_area():
    rng = np.random.default_rng(2)
    region = rng.random((60, 60)) < 0.3
    flat = score_map(np.full((60, 60), 0.5, np.float32), region)
    assert flat == pytest.approx(
        {"share": region.mean(), "covered": 0.5, "pointing": region.mean(), "precision": region.mean()}
    )
    noise = score_map(rng.random((60, 60)).astype(np.float32), region)
    assert noise["precision"] == pytest.approx(region.mean(), abs=0.03)


def test_a_map_of_zeros_covers_nothing_and_has_no_other_score():
    found = score_map(np.zeros((4, 4), np.float32), np.eye(4, dtype=bool))
    assert found.pop("covered") == 0
    assert np.isnan(list(found.values())).all()


def test_the_blob_is_highest_in_the_middle_and_round():
    blob = centre_blob(65)
    assert blob.argmax() == 32 * 65 + 32
    np.testing.assert_allclose(blob, blob.T)
    np.testing.assert_allclose(blob, blob[::-1])
    assert blob[32, 48] == pytest.approx(np.exp(-0.5))  # a quarter of the side


@pytest.fixture(scope="module")
def scored(tiny_run, tmp_path_factory):
    """A copy of the tiny run with two trained models, its scores and the images that they are of."""
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("scored"), patch)
    params = run.params.model_copy(update={"cam_per_class": 2})
    trained = [("resnet34", 1), ("resnet34_ma", 1)]
    for pair in trained:
        train_classifier(params, run.paths, *pair)
    assert score_attention(params, run.paths, trained)
    assert not score_attention(params, run.paths, trained), "done is done"
    images = chosen_images(read_manifest(run.paths), params.classes, 2)
    return run, pd.read_csv(run.paths.attention / "scores.csv"), images


@pytest.mark.slow  # trains two models
class TestScores:
    def test_every_model_is_scored_on_the_same_images(self, scored):
        _, scores, images = scored
        assert images["label"].nunique() == 5
        expected = [
            ("resnet34" + suffix, 1, image.image_id, image.label)
            for suffix in ("", "_ma")
            for image in images.itertuples()
        ]
        assert list(scores[["model", "trial", "image_id", "label"]].itertuples(index=False, name=None)) == expected

    def test_the_area_is_the_mean_of_the_clean_mask(self, scored):
        run, scores, images = scored
        masks = np.load(run.paths.clean_masks)[images.index]
        np.testing.assert_allclose(scores["lung_area"], np.tile(masks.mean(axis=(1, 2)), 2), atol=1e-6)

    def test_the_share_is_that_of_the_heat_maps(self, scored):
        run, scores, images = scored
        masks = np.load(run.paths.clean_masks)[images.index]
        maps, *_ = heat_maps(run.params, run.paths, images, "resnet34_ma", 1)
        with np.errstate(invalid="ignore"):  # 0 / 0 of an empty map
            expected = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
        np.testing.assert_allclose(scores.loc[scores["model"] == "resnet34_ma", "lung_share"], expected, atol=1e-4)
        assert np.isfinite(expected).any()

    def test_lesions_are_scored_where_there_are_some(self, scored):
        run, scores, images = scored
        drawn = [
            np.asarray(Image.open(run.paths.phantoms / path.replace("masks", "lesions"))) > 127
            for path in images["mask_path"]
        ]
        area = np.tile([lesion.mean() for lesion in drawn], 2)  # the tiny run's images are not resized
        np.testing.assert_allclose(scores["lesion_area"].fillna(0), area, atol=1e-6)
        assert (scores["lesion_area"].isna() == (area == 0)).all()
        assert scores.loc[area == 0, "lesion_share"].isna().all()
        assert (area[scores["label"] == "normal"] == 0).all()
        assert (area > 0).any()
        maps, *_ = heat_maps(run.params, run.paths, images, "resnet34", 1)
        share = [heat[lesion].sum() / heat.sum() for heat, lesion in zip(maps, drawn, strict=True) if heat.any()]
        found = scores[scores["model"] == "resnet34"]
        np.testing.assert_allclose(found.loc[maps.any(axis=(1, 2)), "lesion_share"].fillna(0), share, atol=1e-4)

    def test_controls_are_of_the_same_images(self, scored):
        run, scores, images = scored
        controls = pd.read_csv(run.paths.attention / "controls.csv")
        assert set(controls["control"]) == {"untrained", "mismatched mask", "that mask", "centre blob"}
        for (control, model), part in controls.groupby(["control", "model"], dropna=False):
            assert part["image_id"].tolist() == images["image_id"].tolist(), (control, model)
        given = controls[controls["control"] == "that mask"].groupby("model")["lung_area"].apply(list)
        own = scores.groupby("model")["lung_area"].apply(list)
        turn = 2  # masks of another class, as there are two images of each
        for name in ("resnet34", "resnet34_ma"):
            np.testing.assert_allclose(given[name], np.roll(own[name], turn), atol=1e-6)

    def test_an_untrained_network_is_another_one_but_the_same_every_time(self, scored):
        run, scores, _ = scored
        controls = pd.read_csv(run.paths.attention / "controls.csv")
        fresh = controls[(controls["control"] == "untrained") & (controls["model"] == "resnet34")]
        trained = scores[scores["model"] == "resnet34"]
        assert not np.allclose(fresh["heat"], trained["heat"], atol=1e-3)
        again = attention_scores(run.params.model_copy(update={"cam_per_class": 2}), run.paths, [("resnet34", 1)])
        np.testing.assert_allclose(again["lung_share"], trained["lung_share"], atol=1e-5)
