"""Variants of mask attention beside Eq. 1."""

import copy

import pytest
import torch
from torch.nn import functional as F

from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool, mask_maps
from manet_lib.models.reach import lung_maps
from manet_lib.params import VARIANTS


def pools_of(name, **options):
    return [module for module in create_model(name, **options).modules() if isinstance(module, MaskPool)]


def lungs(side=96):
    mask = torch.zeros(2, 1, side, side)
    mask[:, :, side // 4 : 3 * side // 4, side // 6 : side // 2] = 1
    return mask


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet50_ma", "vgg16_ma", "inceptionv3_ma"])
@pytest.mark.parametrize("variant", ["resized", "maximum", "residual", "mean", "peak"])
def test_every_pooling_is_replaced_and_maps_fit_the_features(name, variant):
    with torch.device("meta"):  # shapes alone
        model = create_model(name, variant=variant).eval()
        assert model(torch.empty(2, 1, 96, 96), torch.empty(2, 1, 96, 96)).shape == (2, 5)
    kinds = {type(module) for module in model.modules() if isinstance(module, MaskPool)}
    assert len(kinds) == 1
    assert MaskPool not in kinds


def test_resized_maps_are_the_area_average_of_the_mask_itself():
    for one in mask_maps(lungs(64), pools_of("resnet34_ma", variant="resized")):
        torch.testing.assert_close(one, F.interpolate(lungs(64), one.shape[-2:], mode="area"))


def test_maxima_are_one_just_where_the_receptive_field_holds_lung():
    eq1 = mask_maps(lungs(), pools_of("resnet34_ma"))
    for variant in ("maximum", "renormalised"):
        maxima = mask_maps(lungs(), pools_of("resnet34_ma", variant=variant))
        for average, highest in zip(eq1, maxima, strict=True):
            torch.testing.assert_close(highest, (average > 0).float())


def test_a_partial_convolution_is_the_one_written_out_window_by_window():
    torch.manual_seed(2)
    network = create_model("resnet34_ma", variant="renormalised").eval()
    mask_maps(lungs(32), network.mask_pools)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        found = network.conv1(image)
    windows, seen = (F.unfold(F.pad(one, [3] * 4), 7, stride=2) for one in (image * lungs(32), lungs(32)))
    counts = seen.sum(dim=1, keepdim=True)
    expected = network.conv1.weight.reshape(64, -1) @ windows * torch.where(counts > 0, 49 / counts, 0)
    torch.testing.assert_close(found.flatten(2), expected)
    assert (counts == 0).any()


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet50_ma"])
def test_partial_convolutions_are_ordinary_ones_where_all_is_lung(name):
    torch.manual_seed(3)
    partial = create_model(name, variant="renormalised", count_include_pad=False).eval()
    image, everything = torch.rand(2, 1, 64, 64), torch.ones(2, 1, 64, 64)
    with torch.no_grad():
        eq1 = create_model(name, count_include_pad=False).eval()
        eq1.load_state_dict(partial.state_dict())
        torch.testing.assert_close(partial(image, everything), eq1(image, everything))
        assert partial(image, torch.zeros_like(image)).isfinite().all()


def test_partial_convolutions_learn_as_others_do():
    network = create_model("resnet34_ma", variant="renormalised")
    network(torch.rand(2, 1, 64, 64), lungs(64)).sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in network.parameters())


def test_residual_leaves_a_network_without_lungs_a_plain_one():
    torch.manual_seed(0)
    residual = create_model("resnet50_ma", variant="residual").eval()
    plain = create_model("resnet50").eval()
    plain.load_state_dict(residual.state_dict())
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(residual(image, torch.zeros_like(image)), plain(image))
        torch.testing.assert_close(
            mask_maps(lungs(), residual.mask_pools),
            [1 + one for one in mask_maps(lungs(), pools_of("resnet50_ma"))],
        )


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet50_ma"])
def test_last_stage_multiplies_in_layer4_only(name):
    maps = [one for _, one in lung_maps(create_model(name, variant="last_stage"), lungs(64))]
    eq1 = [one for _, one in lung_maps(create_model(name), lungs(64))]
    idle = [bool((one == 1).all()) for one in maps]
    in_last = {"resnet34_ma": 6, "resnet50_ma": 3}[name]
    assert idle == [True] * (len(maps) - in_last) + [False] * in_last
    for one, same in zip(maps[-in_last:], eq1[-in_last:], strict=True):
        torch.testing.assert_close(one, same)


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet50_ma"])
def test_on_shortcuts_nothing_passes_an_empty_mask(name):
    network = create_model(name, variant="shortcut").eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        features = network(image, torch.zeros_like(image))
        assert network(image, lungs(64))[0].isfinite().all()
    if name == "resnet34_ma":  # in a bottleneck the last batch norm comes after the product
        torch.testing.assert_close(features, network.fc.bias.expand(2, 5))


def test_shortcut_equals_the_block_written_out():
    torch.manual_seed(1)
    block = create_model("resnet34_ma", variant="shortcut").eval().layer2[0]
    x, first, last = torch.randn(1, 64, 8, 8), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        deep = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)) * first)))
        expected = F.relu((deep + block.downsample(x)) * last)
        torch.testing.assert_close(block(x, iter([first, last])), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_plain_networks_have_no_variant(variant):
    torch.manual_seed(0)
    reference = create_model("resnet34").state_dict()
    torch.manual_seed(0)
    other = create_model("resnet34", variant=variant)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in reference.items())


@pytest.mark.parametrize(("name", "variant"), [("vgg16_ma", "shortcut"), ("inceptionv3_ma", "last_stage")])
def test_a_variant_for_resnets_is_refused_elsewhere(name, variant):
    with pytest.raises(ValueError, match="ResNets only"):
        create_model(name, variant=variant)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="eq1"):
        create_model("resnet34_ma", variant="eq2")


def test_a_copy_of_a_network_with_partial_convolutions_has_masks_of_its_own():
    torch.manual_seed(4)
    network = create_model("resnet34_ma", variant="renormalised").eval()
    other, image = copy.deepcopy(network), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = network(image, lungs(64))
        network(image, torch.ones_like(image))
        torch.testing.assert_close(other(image, lungs(64)), expected)
