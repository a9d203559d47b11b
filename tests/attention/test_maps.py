import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from manet_lib.attention.maps import cam_layer_at, grad_cam, places_of
from manet_lib.models import model_names


def by_hand(model, image, mask, target):
    """Selvaraju et al.'s Eqs. 1 and 2 for one image at a time, stretched to [0, 1]."""
    maps, layer = [], cam_layer_at(model, image.shape[-1])
    for one, lung, number in zip(image, mask, target, strict=True):
        kept = []
        hook = layer.register_forward_hook(lambda *call, kept=kept: kept.append(call[2]))
        score = model(one[None], lung[None])[0, number]
        hook.remove()
        (slope,) = torch.autograd.grad(score, kept[0])
        coarse = (slope.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).relu()
        # bilinear between pixel centres, as in OpenCV
        fine = F.interpolate(coarse.detach(), one.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        maps.append((fine - fine.min()) / (fine.max() - fine.min()))
    return torch.stack(maps).numpy()


@pytest.mark.parametrize("name", model_names())
def test_maps_have_the_size_of_the_image_and_reach_from_zero_to_one(classifier, images, name):
    image, mask = images(name, 3)
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
def test_maps_are_those_of_the_definition(classifier, images, name):
    image, mask = images(name, 2)
    target = torch.tensor([1, 3])
    maps = grad_cam(classifier(name), image, mask, target)
    expected = by_hand(classifier(name), image, mask, target)
    for found, wanted in zip(maps, expected, strict=True):
        if np.isfinite(wanted).all():  # else no feature speaks for the class
            np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert np.isfinite(expected).any()


def test_maps_belong_to_the_class_that_is_asked_for(classifier, images):
    image, mask = (part[:1].repeat(5, 1, 1, 1) for part in images("resnet34"))
    maps = grad_cam(classifier("resnet34"), image, mask, torch.arange(5))
    assert len(np.unique(maps.round(4), axis=0)) > 2


def test_maps_of_a_batch_do_not_mix(classifier, images):
    image, mask = images("resnet34_ma", 3)
    target = torch.tensor([0, 1, 2])
    together = grad_cam(classifier("resnet34_ma"), image, mask, target)
    alone = grad_cam(classifier("resnet34_ma"), image[1:2], mask[1:2], target[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_weights_and_hooks_are_left_alone(classifier, images):
    model = copy.deepcopy(classifier("resnet34_ma"))
    grad_cam(model, *images("resnet34_ma"), torch.tensor([0, 1]))
    for name, value in classifier("resnet34_ma").state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_small_score_is_stretched_like_a_large_one(classifier, images):
    faint = copy.deepcopy(classifier("resnet34"))
    with torch.no_grad():
        faint.fc.weight *= 1e-6
    target = torch.tensor([0, 1])
    expected = grad_cam(classifier("resnet34"), *images("resnet34"), target)
    np.testing.assert_allclose(grad_cam(faint, *images("resnet34"), target), expected, atol=1e-2)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(classifier, images):
    model = copy.deepcopy(classifier("resnet34"))
    with torch.no_grad():
        model.fc.weight[1] = -1  # features are not negative after their ReLU
    image, mask = (nn.functional.interpolate(part, size=128) for part in images("resnet34"))
    maps = grad_cam(model, image, mask, torch.tensor([1, 1]))
    assert cam_layer_at(model, 128) is model.layer4[-1]
    assert (maps == 0).all()


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("size", [64, 96, 128, 224])
def test_maps_have_four_places_a_side_where_the_network_has_such_a_layer(classifier, name, size):
    if name.startswith("inception") and size < 75:
        pytest.skip("Inception v3 needs 75 pixels")
    model = classifier(name)
    layer = cam_layer_at(model, size)
    assert places_of(model, layer, size) >= 4 or layer is model.cam_layer
    assert (layer is model.cam_layer) == (size >= 128 or not name.startswith("resnet"))


def test_a_class_that_does_not_exist_is_an_error(classifier, images):
    with pytest.raises((RuntimeError, IndexError)) as caught:
        grad_cam(classifier("resnet34"), *images("resnet34"), torch.tensor([0, 7]))
    assert not isinstance(caught.value, UnboundLocalError)
