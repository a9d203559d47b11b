import copy

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from manet_lib.attention import grad_cam, heat_maps, score_attention, share_inside
from manet_lib.data.manifest import read_manifest
from manet_lib.models import model_names
from manet_lib.training.classification import train_classifier


def by_hand(model, image, mask, target):
    """Selvaraju et al.'s Eqs. 1 and 2 for one image at a time, stretched to [0, 1]."""
    maps = []
    for one, lung, number in zip(image, mask, target, strict=True):
        kept = []
        hook = model.cam_layer.register_forward_hook(lambda *call, kept=kept: kept.append(call[2]))
        score = model(one[None], lung[None])[0, number]
        hook.remove()
        (slope,) = torch.autograd.grad(score, kept[0])
        coarse = (slope.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).relu()
        # bilinear between pixel centres, as in OpenCV
        fine = F.interpolate(coarse.detach(), one.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        maps.append((fine - fine.min()) / (fine.max() - fine.min()))
    return torch.stack(maps).numpy()


@pytest.mark.parametrize("name", model_names())
def test_maps_have_the_size_of_the_image_and_reach_from_zero_to_one(classifier, films, name):
    image, mask = films(name, 3)
    maps = grad_cam(classifier(name), image, mask, torch.tensor([0, 2, 4]))
    assert maps.shape == (3, *image.shape[2:])
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    spread = np.ptp(maps, axis=(1, 2))
    # all zeros where no feature speaks for the class, which random weights allow; else the whole range
    assert np.isin(spread.round(3), (0, 1)).all()
    assert spread.max() > 0.99


@pytest.mark.parametrize("name", ["resnet34", "resnet50_cbam", "vgg16_ma", "inceptionv3_ma"])
def test_maps_are_those_of_the_definition(classifier, films, name):
    image, mask = films(name, 2)
    target = torch.tensor([1, 3])
    maps = grad_cam(classifier(name), image, mask, target)
    expected = by_hand(classifier(name), image, mask, target)
    for found, wanted in zip(maps, expected, strict=True):
        if np.isfinite(wanted).all():  # else no feature speaks for the class
            np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert np.isfinite(expected).any()


def test_maps_belong_to_the_class_that_is_asked_for(classifier, films):
    image, mask = (part[:1].repeat(5, 1, 1, 1) for part in films("resnet34"))
    maps = grad_cam(classifier("resnet34"), image, mask, torch.arange(5))
    assert len(np.unique(maps.round(4), axis=0)) > 2


def test_maps_of_a_batch_do_not_mix(classifier, films):
    image, mask = films("resnet34_ma", 3)
    target = torch.tensor([0, 1, 2])
    together = grad_cam(classifier("resnet34_ma"), image, mask, target)
    alone = grad_cam(classifier("resnet34_ma"), image[1:2], mask[1:2], target[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_weights_and_hooks_are_left_alone(classifier, films):
    model = copy.deepcopy(classifier("resnet34_ma"))
    grad_cam(model, *films("resnet34_ma"), torch.tensor([0, 1]))
    for name, value in classifier("resnet34_ma").state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_small_score_is_stretched_like_a_large_one(classifier, films):
    faint = copy.deepcopy(classifier("resnet34"))
    with torch.no_grad():
        faint.fc.weight *= 1e-6
    target = torch.tensor([0, 1])
    expected = grad_cam(classifier("resnet34"), *films("resnet34"), target)
    np.testing.assert_allclose(grad_cam(faint, *films("resnet34"), target), expected, atol=1e-2)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(classifier, films):
    model = copy.deepcopy(classifier("resnet34"))
    with torch.no_grad():
        model.fc.weight[1] = -1  # features are not negative after their ReLU
    maps = grad_cam(model, *films("resnet34"), torch.tensor([1, 1]))
    assert (maps == 0).all()


def test_a_class_that_does_not_exist_is_an_error(classifier, films):
    with pytest.raises((RuntimeError, IndexError)) as caught:
        grad_cam(classifier("resnet34"), *films("resnet34"), torch.tensor([0, 7]))
    assert not isinstance(caught.value, UnboundLocalError)


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


@pytest.fixture(scope="module")
def scored(tiny_run, tmp_path_factory):
    """A copy of the tiny run with two trained models, its scores and the films that they are of."""
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("scored"), patch)
    params = run.params.model_copy(update={"cam_per_class": 2})
    trained = [("resnet34", 1), ("resnet34_ma", 1)]
    for pair in trained:
        train_classifier(params, run.paths, *pair)
    assert score_attention(params, run.paths, trained)
    assert not score_attention(params, run.paths, trained), "done is done"
    manifest = read_manifest(run.paths)
    test = manifest[manifest["split"] == "test"]
    films = pd.concat([test[test["label"] == label][:2] for label in params.classes])
    return run, pd.read_csv(run.paths.attention / "scores.csv"), films


@pytest.mark.slow  # trains two models
class TestScores:
    def test_every_model_is_scored_on_the_same_films(self, scored):
        _, scores, films = scored
        assert films["label"].nunique() == 5
        expected = [
            ("resnet34" + suffix, 1, film.image_id, film.label)
            for suffix in ("", "_ma")
            for film in films.itertuples()
        ]
        assert list(scores[["model", "trial", "image_id", "label"]].itertuples(index=False, name=None)) == expected

    def test_the_area_is_the_mean_of_the_clean_mask(self, scored):
        run, scores, films = scored
        masks = np.load(run.paths.clean_masks)[films.index]
        np.testing.assert_allclose(scores["lung_area"], np.tile(masks.mean(axis=(1, 2)), 2), atol=1e-6)

    def test_the_share_is_that_of_the_heat_maps(self, scored):
        run, scores, films = scored
        masks = np.load(run.paths.clean_masks)[films.index]
        maps, *_ = heat_maps(run.params, run.paths, films, "resnet34_ma", 1)
        with np.errstate(invalid="ignore"):  # 0 / 0 of an empty map
            expected = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
        np.testing.assert_allclose(scores.loc[scores["model"] == "resnet34_ma", "lung_share"], expected, atol=1e-4)
        assert np.isfinite(expected).any()

    def test_lesions_are_scored_where_there_are_some(self, scored):
        run, scores, films = scored
        drawn = [
            np.asarray(Image.open(run.paths.phantoms / path.replace("masks", "lesions"))) > 127
            for path in films["mask_path"]
        ]
        area = np.tile([lesion.mean() for lesion in drawn], 2)  # the tiny run's films are not resized
        np.testing.assert_allclose(scores["lesion_area"].fillna(0), area, atol=1e-6)
        assert (scores["lesion_area"].isna() == (area == 0)).all()
        assert scores.loc[area == 0, "lesion_share"].isna().all()
        assert (area[scores["label"] == "normal"] == 0).all()
        assert (area > 0).any()
        maps, *_ = heat_maps(run.params, run.paths, films, "resnet34", 1)
        share = [heat[lesion].sum() / heat.sum() for heat, lesion in zip(maps, drawn, strict=True) if heat.any()]
        found = scores[scores["model"] == "resnet34"]
        np.testing.assert_allclose(found.loc[maps.any(axis=(1, 2)), "lesion_share"].fillna(0), share, atol=1e-4)
