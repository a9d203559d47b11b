"""Mask attention (MA), Eq. 1 of the paper.

A convolution with kernel k > 1, stride s and padding p turns features I_i with lung map M_i into

    I_{i+1} = A(BN(conv(I_i; k, s, p)) * M_{i+1}),    M_{i+1} = P(M_i; k, s, p)

where P is average pooling, A the activation and * the element-wise product: each feature is weighted by the
share of its receptive field that is lung. The maps have one channel, no parameter and no gradient, and depend on
the mask alone, so a network computes all of them once per batch, before its features.

To put MA into a CNN of your own, see ``tests/models/test_mask_attention.py::TinyNet`` or notebook 04.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class MaskPool(nn.AvgPool2d):
    """P(M; k, s, p) of Eq. 1: average pooling of a lung map (B, 1, H, W) in [0, 1].

    A subclass of its own so that costs can be counted where masks are pooled; it has no parameters.

    Attributes:
        multiplies: whether features are multiplied by this map; max poolings pool the mask only.
    """

    multiplies = True

    def multiplier(self, lung_map: Tensor) -> Tensor:
        """What features are multiplied by, from this pooling's output (B, 1, H, W): in Eq. 1 that itself."""
        return lung_map

    @classmethod
    def like(cls, layer: nn.Conv2d | nn.MaxPool2d, count_include_pad: bool = True) -> MaskPool:
        """The pooling that follows a convolution or a max pooling: its kernel, stride and padding.

        Args:
            layer: undilated, with numeric padding.
            count_include_pad: count padded zeros in the average, so that maps fade at the border.

        Raises:
            ValueError: the layer is dilated, rounds its size up, or its padding is a word.
        """
        rounds_up = getattr(layer, "ceil_mode", False)
        if _pair(layer.dilation) != (1, 1) or isinstance(layer.padding, str) or rounds_up:
            raise ValueError(
                f"{layer} is dilated, padded by name or rounds up, which mask attention does not support; "
                "give it dilation 1, padding in numbers and ceil_mode=False"
            )
        stride = layer.kernel_size if layer.stride is None else layer.stride
        pool = cls(
            _pair(layer.kernel_size), _pair(stride), _pair(layer.padding), count_include_pad=count_include_pad
        )
        pool.multiplies = isinstance(layer, nn.Conv2d)
        return pool


def mask_maps(mask: Tensor, pools: Iterable[MaskPool]) -> list[Tensor]:
    """Pool a lung mask along the layers of a network: M_1, M_2, ... of Eq. 1.

    Args:
        mask: M_0, float (B, 1, H, W) in [0, 1].
        pools: one per layer that changes the receptive field, in the order of the network.

    Returns:
        One map per pool, float (B, 1, H_i, W_i) in [0, 1] (some variants go beyond 1), without gradient, in the
        dtype that the features have (the autocast dtype where autocast is on; averages are taken in the mask's own
        dtype).
    """
    device = mask.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else mask.dtype
    maps = []
    with torch.no_grad():
        for pool in pools:
            mask = pool(mask)
            maps.append(pool.multiplier(mask).to(dtype))
    return maps


def attend(features: Tensor, lung_map: Tensor) -> Tensor:
    """The product of Eq. 1, in place: features (B, C, H, W) weighted by their lung map (B, 1, H, W).

    In place because neither batch norm nor a sum needs its own output to go backward; the activation that
    follows may then be in place as well. Never apply it to the output of a ReLU that is to be trained.
    """
    return features.mul_(lung_map)
