"""The drawings are traced from the modules that run: what they say is what section 3 of the paper says."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from manet_lib.models import create_model
from manet_lib.report import classification
from manet_lib.report.schematics import operations
from manet_lib.report.segmentation import resunet_shapes

CONV_MA = ["conv 3×3", "batch norm", "× lung map", "ReLU"]


@pytest.mark.parametrize(
    ("model", "block", "expected"),
    [
        ("vgg16", "features.0", ["conv 3×3"]),
        (
            "resnet34",
            "layer1.1",
            ["conv 3×3", "batch norm", "ReLU", "conv 3×3", "batch norm", "+ shortcut", "ReLU"],
        ),
        ("resnet34_ma", "layer1.1", [*CONV_MA, "conv 3×3", "batch norm", "× lung map", "+ shortcut", "ReLU"]),
        (
            "resnet50_ma",
            "layer1.1",
            ["conv 1×1", "batch norm", "ReLU", *CONV_MA, "conv 1×1", "batch norm", "+ shortcut", "ReLU"],
        ),
        (
            "resnet34_cbam",
            "layer1.1",
            ["conv 3×3", "batch norm", "ReLU", "conv 3×3", "batch norm", "CBAM", "+ shortcut", "ReLU"],
        ),
    ],
)
def test_blocks_are_traced(model, block, expected):
    assert operations(create_model(model), block) == expected


@pytest.mark.parametrize(("model", "products"), [("vgg16_ma", 13), ("resnet34_ma", 33), ("resnet50_ma", 17)])
def test_whole_networks_multiply_where_table_3_counts(model, products):
    assert operations(create_model(model), "").count("× lung map") == products


def test_tracing_leaves_no_hook():
    model = create_model("resnet34_cbam")
    operations(model, "layer1.1")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_resunet_halves_five_times_and_doubles_back():
    down, up = resunet_shapes("resnet34", 128)
    assert down == [(1, 128), (64, 64), (64, 32), (128, 16), (256, 8), (512, 4)]
    assert up == [(256, 8), (128, 16), (64, 32), (32, 64), (16, 128)]


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def test_pooled_numbers_are_shares_of_the_field():
    figure = classification.pooling_numbers_figure()
    padded, pooled = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_array_equal(padded, np.pad(classification.small_mask(7), 1))
    expected = [[padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].mean() for x in range(4)] for y in range(4)]
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    assert f"{expected[1][1]:.2f}" in texts(figure)
    plt.close(figure)
