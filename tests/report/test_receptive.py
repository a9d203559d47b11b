"""What a lung map is an average of, against arithmetic by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool, mask_maps
from manet_lib.report.classification import (
    maps_by_size_figure,
    place_weights,
    receptive_field,
    stage_ends,
    weights_figure,
)

THREE = [MaskPool(3, 1, 1), MaskPool(3, 1, 1)]


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([(7, 2, 3)], 7),
        ([(3, 1, 1), (3, 1, 1)], 5),
        ([(7, 2, 3), (3, 2, 1)], 11),
        ([(7, 2, 3), (3, 2, 1), (3, 1, 1)], 19),
    ],
)
def test_receptive_fields(layers: list[tuple[int, int, int]], field: int) -> None:
    assert receptive_field([MaskPool(*layer) for layer in layers]) == field


def test_two_averages_of_three_weigh_one_two_three_two_one() -> None:
    line = np.array([1, 2, 3, 2, 1]) / 9
    weights = place_weights(THREE, 11)
    assert np.allclose(weights[3:8, 3:8], np.outer(line, line))
    assert np.isclose(weights.sum(), 1)


def test_weights_give_the_place_of_the_map_and_no_other() -> None:
    pools = [MaskPool(7, 2, 3), MaskPool(3, 2, 1), MaskPool(3, 1, 1)]
    mask = torch.from_numpy(np.random.default_rng(0).random((1, 1, 32, 32)))
    last = mask_maps(mask, pools)[-1][0, 0]
    expected = float((mask[0, 0].numpy() * place_weights(pools, 32)).sum())
    assert np.isclose(last[4, 4].item(), expected)


def test_padding_takes_its_share() -> None:
    assert place_weights([MaskPool(5, 1, 2)], 3).sum() == pytest.approx(9 / 25)
    assert place_weights([MaskPool(5, 1, 2, count_include_pad=False)], 3).sum() == pytest.approx(1)


def test_stages_end_where_the_sizes_change() -> None:
    for network in ("resnet34", "resnet50"):
        with torch.device("meta"):
            model = create_model(f"{network}_ma")
        maps = mask_maps(torch.ones(1, 1, 64, 64), model.mask_pools)
        ends = stage_ends(model)
        assert [maps[end - 1].shape[-1] for end in ends.values()] == [32, 16, 8, 4, 2]
        assert ends["layer4"] == len(maps)


def test_the_figures_show_every_layer_and_size() -> None:
    figure = weights_figure({"first": THREE[:1], "both": THREE}, 11)
    assert [axes.get_title() for axes in figure.axes] == [
        "first: receptive field 3 pixels",
        "both: receptive field 5 pixels",
    ]
    for axes in figure.axes:
        nested, alike = (line.get_ydata() for line in axes.lines)
        assert np.isclose(sum(nested), 100)
        assert np.isclose(sum(alike), 100)
    plt.close(figure)
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 8:28] = mask[10:50, 36:56] = 1
    figure = maps_by_size_figure(mask, "resnet50", (32, 64))
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images][:12]
    assert [len(one) for one in shown] == [32, 16, 8, 4, 2, 1, 64, 32, 16, 8, 4, 2]
    assert np.array_equal(shown[6], mask)
    plt.close(figure)
