"""Mask attention in the four backbones, against tables of their layers written down by hand."""

import copy
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from manet_lib.data.phantom import draw_phantom
from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool
from manet_lib.params import CLASSES


class Row(NamedTuple):
    """A layer beside which the mask is pooled.

    ``layer`` is its name in torchvision's model ("" for a pooling that stands for two layers), ``elements`` the
    size of its map for a mask of 512 × 512, ``weighted`` the module whose output the map weights ("" for none).
    """

    layer: str
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int]
    elements: int
    weighted: str


def square(layer, kernel, stride, padding, side, weighted=""):
    return Row(layer, (kernel, kernel), stride, (padding, padding), side * side, weighted)


def resnet_stem():
    return [square("conv1", 7, 2, 3, 256, "bn1"), square("maxpool", 3, 2, 1, 128)]


STAGES = (("layer1", 3, 128), ("layer2", 4, 64), ("layer3", 6, 32), ("layer4", 3, 16))


def resnet(convolutions):
    rows = resnet_stem()
    for stage, blocks, side in STAGES:
        for block in range(blocks):
            for number in convolutions:
                # torchvision strides in the first 3×3 convolution of layers 2 to 4
                stride = 2 if (block, number) == (0, convolutions[0]) and stage != "layer1" else 1
                name = f"{stage}.{block}"
                rows.append(square(f"{name}.conv{number}", 3, stride, 1, side, f"{name}.bn{number}"))
    return rows


def vgg():
    rows, index = [], 0
    for convolutions, side in ((2, 512), (2, 256), (3, 128), (3, 64), (3, 32)):
        for _ in range(convolutions):
            rows.append(square(f"features.{index}", 3, 1, 1, side, f"features.{index + 1}"))
            index += 3  # convolution, batch norm, ReLU
        rows.append(square(f"features.{index}", 2, 2, 0, side // 2))
        index += 1
    return rows


def inception():
    rows = [
        square("Conv2d_1a_3x3.conv", 3, 2, 0, 255, "Conv2d_1a_3x3.bn"),
        square("Conv2d_2a_3x3.conv", 3, 1, 0, 253, "Conv2d_2a_3x3.bn"),
        square("Conv2d_2b_3x3.conv", 3, 1, 1, 253, "Conv2d_2b_3x3.bn"),
        square("maxpool1", 3, 2, 0, 126),
        square("Conv2d_4a_3x3.conv", 3, 1, 0, 124, "Conv2d_4a_3x3.bn"),
        square("maxpool2", 3, 2, 0, 61),
    ]
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        rows.append(square(f"{block}.branch5x5_2.conv", 5, 1, 2, 61, block))
    rows.append(square("Mixed_6a.branch3x3dbl_2.conv", 3, 1, 1, 61))
    rows.append(square("Mixed_6a.branch3x3dbl_3.conv", 3, 2, 0, 30, "Mixed_6a"))
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        rows += [
            Row(f"{block}.branch7x7dbl_2.conv", (7, 1), 1, (3, 0), 900, ""),
            Row(f"{block}.branch7x7dbl_3.conv", (1, 7), 1, (0, 3), 900, ""),
            Row(f"{block}.branch7x7dbl_4.conv", (7, 1), 1, (3, 0), 900, ""),
            Row(f"{block}.branch7x7dbl_5.conv", (1, 7), 1, (0, 3), 900, block),
        ]
    rows.append(Row("Mixed_7a.branch7x7x3_2.conv", (1, 7), 1, (0, 3), 900, ""))
    rows.append(Row("Mixed_7a.branch7x7x3_3.conv", (7, 1), 1, (3, 0), 900, ""))
    rows.append(square("Mixed_7a.branch7x7x3_4.conv", 3, 2, 0, 14, "Mixed_7a"))
    for block in ("Mixed_7b", "Mixed_7c"):
        rows.append(square(f"{block}.branch3x3dbl_2.conv", 3, 1, 1, 14))
        rows.append(square("", 3, 1, 1, 14, block))  # for the parallel 1×3 and 3×1
    return rows


TABLES = {
    "resnet34_ma": resnet((1, 2)),
    "resnet50_ma": resnet((2,)),
    "vgg16_ma": vgg(),
    "inceptionv3_ma": inception(),
}
POOLED = {"resnet34_ma": 226_816, "resnet50_ma": 154_368, "vgg16_ma": 807_168, "inceptionv3_ma": 260_980}
SITES = {  # products: the stem and each block's convolutions, or each block once
    "resnet34_ma": 1 + 2 * (3 + 4 + 6 + 3),
    "resnet50_ma": 1 + 3 + 4 + 6 + 3,
    "vgg16_ma": 13,
    "inceptionv3_ma": 4 + 11,
}
STEM_OUTPUT = {  # module that receives the first weighted features, after their activation
    "resnet34_ma": "maxpool",
    "resnet50_ma": "maxpool",
    "vgg16_ma": "features.3",
    "inceptionv3_ma": "Conv2d_2a_3x3",
}
every_model = pytest.mark.parametrize("name", TABLES)


def both(value):
    return (value, value) if isinstance(value, int) else tuple(value)


@contextmanager
def hooked(hooks):
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def inputs_of(model, names, *pair):
    """What the named modules receive, as it is at that moment."""
    seen = {}

    def keep(name):
        return lambda module, inputs: seen.__setitem__(name, inputs[0].detach().clone())

    hooks = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    with hooked(hooks), torch.no_grad():
        model(*pair)
    return seen


@contextmanager
def mask_attention_by_hooks(plain, table, mask, count_include_pad=True):
    """Turn a plain network into its MA counterpart from outside: Eq. 1 out of place, along the table."""
    hooks = []
    for row in table:
        mask = F.avg_pool2d(mask, row.kernel, row.stride, row.padding, count_include_pad=count_include_pad)
        if row.weighted:

            def weigh(module, inputs, features, lung_map=mask):
                return features * lung_map.to(features.dtype)

            hooks.append(plain.get_submodule(row.weighted).register_forward_hook(weigh))
    with hooked(hooks):
        yield


@every_model
def test_tables_add_up_to_what_the_printed_flops_imply(name):
    assert sum(row.elements for row in TABLES[name]) == POOLED[name]


@every_model
def test_tables_describe_torchvisions_layers(name):
    with torch.device("meta"):
        model = create_model(name)
    for row in TABLES[name]:
        if row.layer:
            layer = model.get_submodule(row.layer)
            found = (both(layer.kernel_size), both(layer.stride), both(layer.padding))
            assert found == (row.kernel, both(row.stride), row.padding), row.layer


@every_model
def test_masks_are_pooled_at_the_layers_of_the_table(name):
    with torch.device("meta"):
        model = create_model(name).eval()
    seen = []

    def note(pool, inputs, output):
        geometry = (both(pool.kernel_size), both(pool.stride), both(pool.padding))
        seen.append((*geometry, output.numel()))

    pools = [module for module in model.modules() if isinstance(module, MaskPool)]
    with hooked([pool.register_forward_hook(note) for pool in pools]):
        model(*(torch.empty(1, 1, 512, 512, device="meta") for _ in range(2)))
    assert seen == [(row.kernel, both(row.stride), row.padding, row.elements) for row in TABLES[name]]


@every_model
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_logits_are_those_of_the_plain_network_weighted_from_outside(classifier, images, name, count_include_pad):
    image, mask = images(name)
    plain = classifier(name.removesuffix("_ma"))
    with torch.no_grad():
        logits = classifier(name, count_include_pad=count_include_pad)(image, mask)
        with mask_attention_by_hooks(plain, TABLES[name], mask, count_include_pad):
            expected = plain(image)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@every_model
def test_under_autocast_maps_are_rounded_like_features(classifier, images, name):
    image, mask = images(name)
    plain = classifier(name.removesuffix("_ma"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = classifier(name)(image, mask).float()
        with mask_attention_by_hooks(plain, TABLES[name], mask):
            expected = plain(image).float()
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-2 * expected.abs().max().item())


@every_model
def test_a_mask_of_ones_changes_no_bit_where_padding_is_not_counted(classifier, images, name):
    image, mask = images(name)
    with torch.no_grad():
        attending = classifier(name, count_include_pad=False)(image, torch.ones_like(mask))
        assert torch.equal(attending, classifier(name.removesuffix("_ma"))(image))


@every_model
def test_a_mask_of_ones_changes_the_border_only_where_padding_is_counted(classifier, images, name):
    image, mask = images(name)
    probe = STEM_OUTPUT[name]
    attending = inputs_of(classifier(name), [probe], image, torch.ones_like(mask))[probe]
    plain = inputs_of(classifier(name.removesuffix("_ma")), [probe], image, mask)[probe]
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.equal(attending[inner], plain[inner])
    # Inception's first convolution pads nothing, so its map has no border
    assert torch.equal(attending, plain) == (name == "inceptionv3_ma")
    assert (attending <= plain).all()


@every_model
def test_without_lung_the_logits_know_nothing_of_the_image(classifier, images, name):
    image, mask = images(name)
    other, _ = images(name, seed=1)
    with torch.no_grad():
        logits = [classifier(name)(given, torch.zeros_like(mask)) for given in (image, other)]
    assert torch.equal(*logits)
    assert logits[0].isfinite().all()


@every_model
def test_one_mask_does_not_reach_another_image(classifier, images, name):
    image, mask = images(name)
    blind = mask.clone()
    blind[1] = 0
    with torch.no_grad():
        logits = [classifier(name)(image, given)[0] for given in (mask, blind)]
    torch.testing.assert_close(*logits, rtol=1e-6, atol=1e-6)


def rightmost_seen(table, count, columns):
    """Last image column in the receptive field of each map column after ``count`` layers of the table."""
    last = torch.arange(columns)
    for row in reversed(table[:count]):
        last = last * row.stride - row.padding[1] + row.kernel[1] - 1
    return last


class Products(TorchFunctionMode):
    """Collects every product that a network forms, as it is at that moment: the next sum may be in place."""

    def __init__(self):
        super().__init__()
        self.results = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.__name__ in ("mul", "mul_"):
            self.results.append(result.clone())
        return result


@every_model
def test_every_product_is_zero_exactly_where_its_receptive_field_holds_no_lung(classifier, name):
    table = TABLES[name]
    # three columns of the last map end just before the lungs
    start = rightmost_seen(table, len(table), 3)[-1].item() + 1
    height, width = (75 if name == "inceptionv3_ma" else 32), start + 96
    image, mask = torch.rand(1, 1, height, width) * 2 - 1, torch.zeros(1, 1, height, width)
    mask[..., start:] = 1
    model = classifier(name)
    with torch.no_grad(), Products() as products:
        model(image, mask)
    counts = {row.weighted: count for count, row in enumerate(table, 1) if row.weighted}
    assert len(counts) == SITES[name]
    for (site, count), features in zip(counts.items(), products.results, strict=True):
        blind = rightmost_seen(table, count, features.shape[3]) < start
        assert blind.sum() >= 3, site
        assert (features[..., blind] == 0).all(), site
        seeing = (features != 0).flatten(0, 2).any(dim=0)
        assert torch.equal(seeing, ~blind), site


@every_model
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_all_maps_stay_between_zero_and_one(classifier, images, name, count_include_pad):
    model = classifier(name, count_include_pad=count_include_pad)
    image, lungs = images(name)
    ranges = []

    def note(pool, inputs, output):
        assert output.shape[1] == 1
        ranges.append((output.min().item(), output.max().item()))

    pools = [module for module in model.modules() if isinstance(module, MaskPool)]
    with hooked([pool.register_forward_hook(note) for pool in pools]), torch.no_grad():
        for mask in (lungs, torch.rand_like(lungs), torch.ones_like(lungs)):
            model(image, mask)
    assert len(ranges) == 3 * len(TABLES[name])
    assert min(low for low, _ in ranges) >= 0
    assert max(high for _, high in ranges) <= 1 + 1e-6


@every_model
def test_the_mask_path_has_no_gradient_and_no_parameter(classifier, images, name):
    model, plain = classifier(name), classifier(name.removesuffix("_ma"))
    image, mask = images(name)
    image, mask = image.requires_grad_(), mask.requires_grad_()
    before = mask.detach().clone()
    model(image, mask).sum().backward()
    model.zero_grad()
    assert mask.grad is None
    assert torch.equal(mask, before)
    assert image.grad.abs().sum() > 0
    outside = image.grad[mask == 0]
    assert outside.isfinite().all()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not any(True for pool in model.mask_pools.modules() for _ in pool.buffers())


def gradients(model, image, mask):
    torch.manual_seed(3)  # dropout draws alike
    loss = F.cross_entropy(model(image, mask), torch.arange(len(image)) % 5)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "vgg" in name else name for name in TABLES]
)
def test_products_in_place_have_the_gradients_of_products_out_of_place(classifier, images, name):
    image, mask = images(name, 3)
    model = copy.deepcopy(classifier(name)).train()
    plain = copy.deepcopy(classifier(name.removesuffix("_ma"))).train()
    loss, grads = gradients(model, image, mask)
    with mask_attention_by_hooks(plain, TABLES[name], mask):
        expected_loss, expected = gradients(plain, image, mask)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    largest = max(grad.abs().max() for grad in expected.values())
    for parameter, grad in grads.items():
        error = (grad - expected[parameter]).norm()
        assert error <= 1e-3 * expected[parameter].norm() + 1e-6 * largest, parameter


@pytest.mark.parametrize(
    ("name", "size", "passes"),
    [
        ("inceptionv3_ma", 128, False),
        ("inceptionv3_ma", 256, True),
        ("resnet34_ma", 64, True),
        ("vgg16_ma", 64, True),
    ],
)
def test_maps_of_zero_stop_the_image_where_no_shortcut_passes_it(name, size, passes):
    """The last map of Inception v3 is zero at 128 pixels, and that of ResNet34 at 64, which has shortcuts."""
    phantoms = [draw_phantom(label, number, size=size) for number, label in enumerate(CLASSES)]
    images = torch.from_numpy(np.stack([one.image for one in phantoms])[:, None]).float() / 127.5 - 1
    masks = torch.from_numpy(np.stack([one.lungs for one in phantoms])[:, None]).float()
    torch.manual_seed(0)
    with torch.no_grad():
        logits = create_model(name).train()(images * masks + masks - 1, masks)
    assert (logits.std(dim=0).mean() > 0.01) == passes
