import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from manet_lib.models import create_model
from manet_lib.models.cbam import CBAM

MODULES = {"resnet34_cbam": 3 + 4 + 6 + 3, "resnet50_cbam": 3 + 4 + 6 + 3}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cbam_by_hand(x, down, up, kernel):
    """Woo et al.'s Eqs. 2 and 3 for one image (C, H, W), in NumPy."""

    def mlp(vector):
        return up @ np.maximum(down @ vector, 0)

    channel = sigmoid(mlp(x.mean(axis=(1, 2))) + mlp(x.max(axis=(1, 2))))
    x = channel[:, None, None] * x
    maps = (x.mean(axis=0), x.max(axis=0))
    place = sum(correlate2d(np.pad(m, 3), k, mode="valid") for m, k in zip(maps, kernel, strict=True))
    return sigmoid(place) * x


@pytest.mark.parametrize(("height", "width"), [(6, 9), (1, 1), (2, 5)])
def test_forward_is_that_of_the_paper(height, width):
    torch.manual_seed(0)
    module = CBAM(32).double()
    x = torch.randn(3, 32, height, width, dtype=torch.float64)
    down, up, kernel = (parameter.detach().numpy() for parameter in module.parameters())
    expected = np.stack([cbam_by_hand(image, down, up, kernel[0]) for image in x.numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_parameters_are_one_shared_mlp_and_one_kernel_without_bias():
    channels = 64
    module = CBAM(channels)
    assert [tuple(parameter.shape) for parameter in module.parameters()] == [
        (channels // 16, channels),
        (channels, channels // 16),
        (1, 2, 7, 7),
    ]
    assert not any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


@pytest.mark.parametrize("name", MODULES)
def test_every_block_has_one_of_its_width_after_its_last_batch_norm(name):
    with torch.device("meta"):
        model = create_model(name)
    blocks = list(model.blocks())
    assert len(blocks) == MODULES[name]
    for block in blocks:
        last = block.bn3 if hasattr(block, "bn3") else block.bn2
        assert block.cbam.mlp[0].in_features == last.num_features
    assert sum(isinstance(module, CBAM) for module in model.modules()) == len(blocks)


@pytest.mark.parametrize("name", MODULES)
def test_attention_acts_between_the_last_batch_norm_and_the_addition(classifier, images, name):
    model = classifier(name)
    block = model.layer1[0]
    last = block.bn3 if hasattr(block, "bn3") else block.bn2
    seen = {}
    hooks = [
        last.register_forward_hook(lambda m, i, o: seen.update(norm=o.clone())),
        block.cbam.register_forward_hook(lambda m, i, o: seen.update(inside=i[0].clone(), deep=o.clone())),
        block.register_forward_hook(lambda m, i, o: seen.update(start=i[0].clone(), end=o.clone())),
    ]
    with torch.no_grad():
        model(*images(name))
        for hook in hooks:
            hook.remove()
        shortcut = seen["start"] if block.downsample is None else block.downsample(seen["start"])
    assert torch.equal(seen["inside"], seen["norm"])
    torch.testing.assert_close(seen["end"], torch.relu(seen["deep"] + shortcut))


def test_weights_are_between_zero_and_one():
    x = torch.randn(2, 32, 8, 8)
    ratio = CBAM(32)(x) / x
    assert ratio.min() > 0
    assert ratio.max() < 1
