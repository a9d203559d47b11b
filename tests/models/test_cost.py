import copy

import pytest
import torch
from torch import nn

from manet_lib.models import create_model, model_names
from manet_lib.models.cost import measure_cost
from manet_lib.models.mask_attention import MaskPool
from manet_lib.report.tables import published

PRINTED = published("table3_cost").set_index("model")
POOLED = {"resnet34_ma": 226_816, "resnet50_ma": 154_368, "vgg16_ma": 807_168, "inceptionv3_ma": 260_980}


def on_meta(name):
    with torch.device("meta"):  # counting needs shapes, not weights
        return create_model(name)


@pytest.mark.parametrize("name", model_names())
def test_both_cells_of_table_3_are_exactly_as_printed(name):
    cost = measure_cost(on_meta(name), image_size=512)
    assert f"{cost.params / 1e6:.2f}" == PRINTED.loc[name, "params_m"]
    assert f"{cost.flops / 1e6:.2f}" == PRINTED.loc[name, "flops_m"]


@pytest.mark.parametrize("name", model_names())
def test_pooled_mask_elements_are_those_that_the_printed_flops_imply(name):
    assert measure_cost(on_meta(name), image_size=512).pooled_mask_elements == POOLED.get(name, 0)


@pytest.mark.parametrize("name", POOLED)
def test_mask_attention_adds_the_pooled_elements_and_nothing_else(name):
    plain, attending = (measure_cost(on_meta(model), 160) for model in (name.removesuffix("_ma"), name))
    assert attending.params == plain.params
    assert attending.flops - plain.flops == attending.pooled_mask_elements > 0


class Small(nn.Module):
    """One layer of every counted kind, and some that count nothing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 5), stride=2, padding=(1, 2))
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 1, groups=2, bias=False)
        self.max_pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(2)
        self.mask_pool = MaskPool.like(self.conv)
        self.fc = nn.Linear(24, 3)

    def forward(self, image, mask):
        x = torch.relu(self.norm(self.conv(image)) * self.mask_pool(mask))
        return self.fc(self.average(self.max_pool(self.grouped(x))).flatten(1))


def small_by_hand(side):
    """Every layer of Small, counted on paper for an image of side × side; side a multiple of 4."""
    half, quarter = side // 2, side // 4
    conv = half * half * 4 * (3 * 5 * 1 + 1)
    norm = half * half * 4 * 2
    mask = half * half
    grouped = half * half * 6 * 2
    average = 2 * 2 * 6 * ((quarter // 2) ** 2 + 1)
    linear = 24 * 3
    return conv + norm + mask + grouped + average + linear


@pytest.mark.parametrize("side", [16, 24, 36])
def test_a_small_network_costs_what_paper_and_pencil_say(side):
    cost = measure_cost(Small(), image_size=side)
    assert cost.flops == small_by_hand(side)
    assert cost.params == (15 * 4 + 4) + (4 + 4) + 6 * 2 + (24 * 3 + 3)
    assert cost.pooled_mask_elements == (side // 2) ** 2


def test_frozen_parameters_are_not_trainable():
    model = Small()
    model.fc.requires_grad_(False)
    assert measure_cost(Small(), 16).params - measure_cost(model, 16).params == 75


def test_channels_of_the_image_count():
    one = measure_cost(create_model("resnet34"), 64)
    three = measure_cost(create_model("resnet34", in_channels=3), 64, in_channels=3)
    assert three.params - one.params == 2 * 7 * 7 * 64
    assert three.flops - one.flops == 2 * 7 * 7 * 64 * 32 * 32


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    model = create_model("resnet34_ma").train(training)
    calls = []
    model.conv1.register_forward_pre_hook(lambda *_: calls.append("mine"))
    before = copy.deepcopy(model.state_dict())
    measure_cost(model, 64)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert all(module.training is training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert len(model.conv1._forward_pre_hooks) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
