import math

import pytest
import torch
from torch import nn

from manet_lib.models.resunet import create_segmenter, soft_dice_loss

LARGE = 50.0  # a logit whose sigmoid is 0 or 1 to the last bit but one


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return create_segmenter("resnet18")


def loss(probabilities, mask, **options):
    return soft_dice_loss(torch.logit(torch.tensor(probabilities)), torch.tensor(mask), **options).item()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160)])
def test_one_logit_per_pixel(segmenter, height, width):
    with torch.no_grad():
        logits = segmenter.eval()(torch.rand(2, 1, height, width))
    assert logits.shape == (2, 1, height, width)
    assert logits.min() < 0 or logits.max() > 1  # logits, not probabilities


@pytest.mark.parametrize(("encoder", "blocks"), [("resnet18", 8), ("resnet34", 16), ("resnet50", 16)])
def test_encoders_have_their_number_of_residual_blocks(encoder, blocks):
    with torch.device("meta"):
        model = create_segmenter(encoder)
        assert model(torch.empty(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    names = [type(module).__name__ for module in model.modules()]
    assert names.count("BasicBlock") + names.count("Bottleneck") == blocks


def test_nothing_is_fetched(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for weights")

    monkeypatch.setattr("socket.socket.connect", refuse)
    create_segmenter("resnet18")


def test_batch_norms_start_at_weight_one_and_bias_zero(segmenter):
    norms = [module for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 20
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


def test_convolutions_are_kaiming_normal_in_encoder_and_decoder(segmenter):
    layers = [module for module in segmenter.modules() if isinstance(module, nn.Conv2d)]
    large = [layer.weight.detach() for layer in layers if layer.weight.numel() > 10_000]
    assert len(large) > 20
    for weight in large:
        fan_in = weight[0].numel()
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        # a normal distribution, not a uniform one: kurtosis 3 against 1.8
        assert ((weight / weight.std()) ** 4).mean().item() == pytest.approx(3, abs=0.35)
    assert all((layer.bias == 0).all() for layer in layers if layer.bias is not None)


def test_dice_by_hand():
    probabilities, mask = [[[[0.5, 0.25], [0.75, 0.0]]]], [[[[1.0, 0.0], [1.0, 0.0]]]]
    # overlap 0.5 + 0.75, sums 1.5 and 2
    assert loss(probabilities, mask) == pytest.approx(1 - (2 * 1.25 + 1) / (1.5 + 2 + 1))
    assert loss(probabilities, mask, smooth=0.0) == pytest.approx(1 - 2 * 1.25 / 3.5)


def test_a_perfect_mask_costs_nothing_and_its_opposite_nearly_one():
    mask = (torch.rand(3, 1, 32, 32) > 0.5).float()
    assert soft_dice_loss(LARGE * (2 * mask - 1), mask).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_loss(-LARGE * (2 * mask - 1), mask).item() == pytest.approx(1, abs=2e-3)


def test_an_empty_mask_costs_nothing_when_found_empty_and_teaches_when_not():
    empty = torch.zeros(1, 1, 4, 4)
    assert soft_dice_loss(torch.full_like(empty, -LARGE), empty).item() == pytest.approx(0, abs=1e-6)
    logits = torch.zeros_like(empty, requires_grad=True)  # probability 1/2 on 16 pixels: 1 - 1/9
    cost = soft_dice_loss(logits, empty)
    cost.backward()
    assert cost.item() == pytest.approx(8 / 9)
    assert (logits.grad > 0).all()


def test_images_count_alike_whatever_the_size_of_their_lungs():
    small, large = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    small[..., :1, :2] = 1
    mask = torch.cat([small, large])
    logits = torch.cat([torch.full_like(small, -LARGE), torch.full_like(large, LARGE)])
    # per image: 1 - 1/3 for the missed two pixels and 0; pooled it would be 1 - 129/131
    assert soft_dice_loss(logits, mask).item() == pytest.approx((2 / 3 + 0) / 2, abs=1e-6)


def test_half_precision_logits_do_not_overflow():
    mask = torch.ones(1, 1, 512, 512)
    logits = torch.full_like(mask, 9.0, dtype=torch.float16)
    assert 0 <= soft_dice_loss(logits, mask).item() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_down_the_gradient_lowers_the_loss(segmenter, dtype):
    torch.manual_seed(0)
    image, mask = torch.rand(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[:, :, 16:48, 8:56] = 1
    segmenter.train()
    optimiser = torch.optim.Adam(segmenter.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            cost = soft_dice_loss(segmenter(image), mask)
        cost.backward()
        optimiser.step()
        losses.append(cost.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad.isfinite().all() for parameter in segmenter.parameters())
