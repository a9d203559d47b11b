"""How far the lung map reaches: against loops, against what follows from size and layers, and at the edges."""

import numpy as np
import pytest
import torch
from torch import nn

from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool, mask_maps
from manet_lib.models.reach import lung_maps, measure_reach


class OneLayer(nn.Module):
    """Mask attention after one convolution of kernel 3 and stride 1."""

    def __init__(self, count_include_pad=True):
        super().__init__()
        self.pool = MaskPool.like(nn.Conv2d(1, 1, 3, padding=1), count_include_pad)


def chest(size):
    """Two lungs as boxes: a sixth of the image each."""
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, size // 4 : 3 * size // 4, size // 8 : 3 * size // 8] = 1
    mask[:, :, size // 4 : 3 * size // 4, 5 * size // 8 : 7 * size // 8] = 1
    return mask


def test_inside_and_outside_are_means_over_the_mask():
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 2:5, 2:5] = 1
    padded = np.pad(mask[0, 0].numpy(), 1)
    blurred = np.array([[padded[y : y + 3, x : x + 3].mean() for x in range(7)] for y in range(7)])
    inside = mask[0, 0].numpy() > 0
    row = measure_reach(OneLayer(), mask).iloc[0]
    assert row["highest"] == pytest.approx(1)
    assert row["lowest"] == pytest.approx(0)
    assert row["inside"] == pytest.approx(blurred[inside].mean())
    assert row["outside"] == pytest.approx(blurred[~inside].mean())


def test_values_are_averaged_over_masks():
    masks = torch.cat([chest(32), chest(32).flip(3).roll(3, 2)])
    model = create_model("resnet50_ma")
    both = measure_reach(model, masks)
    each = [measure_reach(model, mask[None]) for mask in masks]
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "depths", "side"), [("resnet34_ma", 33, 7), ("resnet50_ma", 17, 7), ("vgg16_ma", 13, 14)]
)
def test_every_product_has_a_row_and_max_poolings_have_none(name, depths, side):
    with torch.device("meta"):
        model = create_model(name)
    table = measure_reach(model, chest(224))
    assert table["depth"].tolist() == list(range(1, depths + 1))
    assert table["side"].iloc[-1] == side


def test_each_block_of_inception_has_one_row():
    with torch.device("meta"):
        model = create_model("inceptionv3_ma")
    table = measure_reach(model, chest(160))
    assert len(table) == 4 + 11  # convolutions of the stem with a kernel above 1, and Mixed blocks
    assert len(list(lung_maps(model, chest(160)))) > len(table)


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet50_ma", "vgg16_ma"])
def test_a_larger_image_leaves_more_of_the_map(name):
    with torch.device("meta"):
        model = create_model(name)
    last = [measure_reach(model, chest(size)).iloc[-1] for size in (64, 128, 256, 512)]
    contrast = [row["inside"] - row["outside"] for row in last]
    assert contrast == sorted(contrast)
    assert contrast[-1] > 0.25


def test_leaving_padding_out_gives_height_and_no_contrast_back():
    rows = {}
    for count in (True, False):
        with torch.device("meta"):
            model = create_model("resnet34_ma", count_include_pad=count)
        rows[count] = measure_reach(model, chest(64)).iloc[-1]
    assert rows[True]["highest"] < 0.02
    assert rows[False]["highest"] == pytest.approx(chest(64).mean().item(), abs=0.03)
    assert rows[False]["inside"] == pytest.approx(rows[False]["outside"], abs=0.01)


def test_a_image_that_is_all_lung_has_no_outside():
    row = measure_reach(OneLayer(count_include_pad=False), torch.ones(1, 1, 8, 8)).iloc[0]
    assert row["inside"] == pytest.approx(1)
    assert np.isnan(row["outside"])


def test_a_network_without_mask_attention_is_refused():
    with pytest.raises(ValueError, match="resnet50_ma"):
        measure_reach(create_model("resnet34"), chest(64))


@pytest.mark.parametrize("by", ["mean", "peak"])
def test_the_controls_keep_contrast_and_take_height_away(by):
    model = create_model("resnet50_ma", variant=by)
    pools = [module for module in model.modules() if isinstance(module, MaskPool)]
    controlled = mask_maps(chest(64), pools)
    for plain, one in zip(mask_maps(chest(64), create_model("resnet50_ma").mask_pools), controlled, strict=True):
        height = one.mean() if by == "mean" else one.amax()
        assert height.item() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(one / one.amax(), plain / plain.amax())


@pytest.mark.parametrize("by", ["mean", "peak"])
def test_the_controls_leave_an_empty_mask_empty(by):
    model = create_model("resnet34_ma", variant=by).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))
    assert torch.isfinite(logits).all()
