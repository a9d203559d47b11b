"""Parameters and FLOPs of a network by the rule that gives every cell of Table 3."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from manet_lib.models.mask_attention import MaskPool


class Cost(NamedTuple):
    """What a network costs for one image.

    Attributes:
        params: number of trainable parameters.
        flops: by Table 3's rule; mostly multiply-accumulates.
        pooled_mask_elements: elements of all pooled lung maps, part of ``flops``.
    """

    params: int
    flops: int
    pooled_mask_elements: int


def _convolution(layer: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> int:
    kernel = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
    return outputs.numel() * (kernel + (layer.bias is not None))


def _batch_norm(layer: nn.BatchNorm2d, inputs: Tensor, outputs: Tensor) -> int:
    return 2 * outputs.numel()


def _linear(layer: nn.Linear, inputs: Tensor, outputs: Tensor) -> int:
    return outputs.numel() * layer.in_features


def _adaptive_pool(layer: nn.AdaptiveAvgPool2d, inputs: Tensor, outputs: Tensor) -> int:
    kernel = (inputs.shape[2] // outputs.shape[2]) * (inputs.shape[3] // outputs.shape[3])
    return outputs.numel() * (kernel + 1)


def _mask_pool(layer: MaskPool, inputs: Tensor, outputs: Tensor) -> int:
    return outputs.numel()


Rule = Callable[[Any, Tensor, Tensor], int]

_RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _batch_norm,
    nn.Linear: _linear,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    MaskPool: _mask_pool,
}


def measure_cost(model: nn.Module, image_size: int = 512, in_channels: int = 1) -> Cost:
    """Count parameters and FLOPs of ``model(image, mask)`` for one image (Table 3).

    Convolutions count multiply-accumulates, and one more per output with a bias; batch norm 2 per output;
    linear layers multiply-accumulates; adaptive average pooling k + 1 per output, k the pixels under its window;
    pooling a lung map 1 per element. Activations, max pooling, additions and the product with the map count
    nothing. No arithmetic is done: the model runs on PyTorch's meta device.

    Args:
        model: any network that takes an image and a mask; your own, too. Left as it is.
        image_size: height and width in pixels; Table 3 has 512.
        in_channels: channels of the image.

    Warns:
        UserWarning: layers with parameters that no rule counts, by name.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    counts = {"flops": 0, "mask": 0}

    def count(rule: Rule, layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        flops = rule(layer, inputs[0], outputs)
        counts["flops"] += flops
        counts["mask"] += flops if isinstance(layer, MaskPool) else 0

    uncounted = set()
    for layer in twin.modules():
        rule = next((rule for kind, rule in _RULES.items() if isinstance(layer, kind)), None)
        if rule is not None:
            layer.register_forward_hook(partial(count, rule))
        elif layer._parameters:
            uncounted.add(type(layer).__name__)
    if uncounted:
        warnings.warn(f"no rule counts the FLOPs of {', '.join(sorted(uncounted))}", stacklevel=2)
    with torch.no_grad():
        twin(
            torch.empty(1, in_channels, image_size, image_size, device="meta"),
            torch.empty(1, 1, image_size, image_size, device="meta"),
        )
    params = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(params, counts["flops"], counts["mask"])
