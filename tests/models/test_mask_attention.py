"""Eq. 1 on its own: the poolings, the maps, the product, and a small network that is given mask attention."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from manet_lib.models.cost import measure_cost
from manet_lib.models.mask_attention import MaskPool, attend, mask_maps


class TinyNet(nn.Module):
    """Mask attention in a CNN of your own, in three steps.

    1. For every layer that enlarges the receptive field, a MaskPool with its kernel, stride and padding.
    2. In ``forward``, all maps at once: they depend on the mask alone.
    3. After batch norm and before the activation, the product with the layer's map. Max poolings pool the mask
       only.
    """

    def __init__(self, num_classes=5, count_include_pad=True):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.max_pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, kernel_size=5, stride=2, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, num_classes)
        layers = (self.conv1, self.max_pool, self.conv2)
        self.mask_pools = nn.ModuleList(MaskPool.like(layer, count_include_pad) for layer in layers)

    def forward(self, image, mask):
        map1, _, map2 = mask_maps(mask, self.mask_pools)
        x = F.relu(attend(self.bn1(self.conv1(image)), map1))
        x = self.max_pool(x)
        x = F.relu(attend(self.bn2(self.conv2(x)), map2))
        return self.fc(x.mean(dim=(2, 3)))


def numpy_windows(x, kernel, stride, padding, fill=0.0):
    """Every window of (C, H, W) under a square kernel, with its place in the output."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    for i, top in enumerate(range(0, x.shape[1] - kernel + 1, stride)):
        for j, left in enumerate(range(0, x.shape[2] - kernel + 1, stride)):
            yield i, j, x[:, top : top + kernel, left : left + kernel]


def numpy_layer(x, kernel, stride, padding, channels, value, fill=0.0):
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[1:])
    out = np.empty((channels, rows, columns))
    for i, j, window in numpy_windows(x, kernel, stride, padding, fill):
        out[:, i, j] = value(window)
    return out


def numpy_conv(x, layer):
    weight = layer.weight.detach().numpy().astype(float)
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    size = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    return numpy_layer(x, *size, len(weight), lambda window: (weight * window).sum(axis=(1, 2, 3)) + bias)


def numpy_norm(x, layer):
    weight, bias, mean, var = (
        value.detach().numpy()[:, None, None]
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    )
    return (x - mean) / np.sqrt(var + layer.eps) * weight + bias


def numpy_average(lung, kernel, stride, padding, count_include_pad):
    # padded places are nan, so that they can be told from places without lung
    def average(window):
        return np.nansum(window) / (window.size if count_include_pad else np.isfinite(window).sum())

    return numpy_layer(lung, kernel, stride, padding, 1, average, fill=np.nan)


def numpy_tiny_net(net, image, mask, count_include_pad):
    """Eq. 1 with loops, for one image (1, H, W)."""
    lung = numpy_average(mask, 3, 1, 1, count_include_pad)
    x = np.maximum(numpy_norm(numpy_conv(image, net.conv1), net.bn1) * lung, 0)
    x = numpy_layer(x, 2, 2, 0, len(x), lambda window: window.max(axis=(1, 2)))
    lung = numpy_average(lung, 2, 2, 0, count_include_pad)
    lung = numpy_average(lung, 5, 2, 2, count_include_pad)
    x = np.maximum(numpy_norm(numpy_conv(x, net.conv2), net.bn2) * lung, 0)
    return net.fc.weight.detach().numpy() @ x.mean(axis=(1, 2)) + net.fc.bias.detach().numpy()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 18, 23, generator=generator) * 2 - 1
    mask = torch.zeros(2, 1, 18, 23)
    mask[0, :, 2:15, 3:9] = mask[0, :, 4:18, 13:23] = mask[1, :, 5:9, :] = 1
    mask[1, :, 12:14] = 0.3  # a map may have any value between 0 and 1
    return image, mask


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_a_network_with_loops_gives_the_same_logits(pair, count_include_pad):
    torch.manual_seed(0)
    net = TinyNet(count_include_pad=count_include_pad)
    with torch.no_grad():
        net(*pair)  # leaves statistics in the batch norms
        net.eval().bn1.bias.uniform_(-1, 1)
        net.bn2.bias.uniform_(-1, 1)
        logits = net(*pair).numpy()
    expected = [
        numpy_tiny_net(net, image, mask, count_include_pad)
        for image, mask in zip(*(part.numpy().astype(float) for part in pair), strict=True)
    ]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_network_of_ones_own_can_be_counted():
    cost = measure_cost(TinyNet(), image_size=20)
    assert cost.params == (9 * 4 + 4) + 8 + 25 * 4 * 6 + 12 + (6 * 5 + 5)
    assert cost.pooled_mask_elements == 20 * 20 + 10 * 10 + 5 * 5
    first = 20 * 20 * 4 * (9 + 1 + 2)  # nine products, a bias, batch norm
    second = 5 * 5 * 6 * (25 * 4 + 2)
    assert cost.flops == first + second + 6 * 5 + cost.pooled_mask_elements


def test_a_network_of_ones_own_learns(pair):
    torch.manual_seed(0)
    net = TinyNet()
    target = torch.tensor([1, 3])
    optimiser = torch.optim.SGD(net.parameters(), 0.5)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(net(*pair), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


LAYERS = [
    nn.Conv2d(3, 5, 3, padding=1),
    nn.Conv2d(3, 5, 7, stride=2, padding=3, bias=False),
    nn.Conv2d(3, 5, (1, 7), padding=(0, 3)),
    nn.Conv2d(3, 5, (7, 1), stride=(2, 1), padding=(3, 0)),
    nn.Conv2d(3, 5, 3, stride=2),
    nn.Conv2d(6, 6, 5, padding=2, groups=6),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d(2),
    nn.MaxPool2d((2, 3), stride=(1, 2)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (21, 18)])
def test_a_map_has_the_size_of_the_features_beside_it(layer, height, width):
    features = layer(torch.rand(1, getattr(layer, "in_channels", 1), height, width))
    lung_map = MaskPool.like(layer)(torch.rand(1, 1, height, width))
    assert lung_map.shape[2:] == features.shape[2:]


@pytest.mark.parametrize("layer", LAYERS[:6], ids=str)
def test_a_map_is_the_convolution_of_the_mask_with_a_uniform_kernel(layer):
    mask = torch.rand(2, 1, 21, 18)
    height, width = layer.kernel_size
    kernel = torch.full((1, 1, height, width), 1 / (height * width))
    expected = F.conv2d(mask, kernel, stride=layer.stride, padding=layer.padding)
    torch.testing.assert_close(MaskPool.like(layer)(mask), expected)
    inside = F.conv2d(torch.ones_like(mask), kernel, stride=layer.stride, padding=layer.padding)
    torch.testing.assert_close(MaskPool.like(layer, count_include_pad=False)(mask), expected / inside)


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_padding_counts_as_no_lung_or_not_at_all(count_include_pad):
    lung_map = MaskPool.like(nn.Conv2d(1, 1, 3, padding=1), count_include_pad)(torch.ones(1, 1, 4, 5))
    corner, edge, centre = lung_map[0, 0, 0, 0], lung_map[0, 0, 0, 2], lung_map[0, 0, 1, 2]
    assert (corner, edge, centre) == ((4 / 9, 6 / 9, 1) if count_include_pad else (1, 1, 1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.MaxPool2d(3, dilation=2),
    ],
    ids=str,
)
def test_layers_that_average_pooling_cannot_follow_are_refused(layer):
    with pytest.raises(ValueError, match="mask attention does not support"):
        MaskPool.like(layer)


def test_maps_are_pooled_one_from_another():
    mask = torch.rand(1, 1, 12, 12)
    first, second = mask_maps(mask, [MaskPool(3, 1, 1), MaskPool(2)])
    assert torch.equal(first, F.avg_pool2d(mask, 3, 1, 1))
    assert torch.equal(second, F.avg_pool2d(first, 2))


def test_maps_carry_no_gradient_and_leave_the_mask_alone():
    mask = torch.rand(1, 1, 8, 8, requires_grad=True)
    before = mask.detach().clone()
    maps = mask_maps(mask, [MaskPool(1), MaskPool(3, 1, 1)])  # the first one is the mask itself
    assert not any(lung_map.requires_grad for lung_map in maps)
    features = torch.rand(1, 4, 8, 8, requires_grad=True)
    attend(features * 1, maps[0]).sum().backward()
    assert mask.grad is None
    assert torch.equal(mask, before)
    assert torch.equal(features.grad, before.expand(1, 4, 8, 8))


def test_maps_follow_autocast_but_are_averaged_in_full_precision():
    mask = torch.ones(1, 1, 64, 64)
    pools = [MaskPool(3, 1, 1) for _ in range(12)]
    with torch.autocast("cpu", torch.bfloat16):
        half = mask_maps(mask, pools)
    full = mask_maps(mask, pools)
    assert {lung_map.dtype for lung_map in half} == {torch.bfloat16}
    assert {lung_map.dtype for lung_map in full} == {torch.float32}
    assert torch.equal(half[-1], full[-1].bfloat16())  # rounded once, not twelve times


def test_the_product_is_in_place_and_spreads_over_channels():
    features, lung_map = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    expected = torch.einsum("bchw,bhw->bchw", features, lung_map[:, 0])
    result = attend(features, lung_map)
    assert result is features
    torch.testing.assert_close(result, expected)
