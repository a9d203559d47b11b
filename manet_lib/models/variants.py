"""Variants of mask attention: Eq. 1 with one thing changed, to find out what makes its maps fade.

None of them is in the paper. Eq. 1 averages averages, so that in a deep network on a small image the last maps are
nearly the same small number everywhere. Each variant keeps one property of the mask that this loses.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from manet_lib.models.mask_attention import MaskPool
from manet_lib.params import VARIANTS


class Resized(MaskPool):
    """Each map averaged from the one before over the area of each place: padding and kernel play no part.

    Where sizes divide, as in a ResNet, this is the mask itself resized to the features.
    """

    def forward(self, mask: Tensor) -> Tensor:
        """The mask (B, 1, H, W) at the size of the features."""
        height, width = super().forward(mask).shape[-2:]
        return F.adaptive_avg_pool2d(mask, (height, width))


class Maximum(MaskPool):
    """1 where the receptive field holds any lung, so that nothing fades and the map grows with depth."""

    def forward(self, mask: Tensor) -> Tensor:
        """The highest value in each window of the mask (B, 1, H, W)."""
        return F.max_pool2d(mask, self.kernel_size, self.stride, self.padding)


class Residual(MaskPool):
    """Features times 1 + M: places without lung keep their features, lungs have up to twice as much."""

    def multiplier(self, lung_map: Tensor) -> Tensor:
        """1 + M, in [1, 2]."""
        return 1 + lung_map


class DividedByMean(MaskPool):
    """Each map divided by its mean over the image: the contrast is kept, the scale is removed."""

    def multiplier(self, lung_map: Tensor) -> Tensor:
        """M / mean(M)."""
        return lung_map / lung_map.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)


class DividedByPeak(MaskPool):
    """Each map divided by its highest value: the contrast is kept, the scale is removed."""

    def multiplier(self, lung_map: Tensor) -> Tensor:
        """M / max(M), in [0, 1]."""
        return lung_map / lung_map.amax(dim=(2, 3), keepdim=True).clamp_min(1e-6)


class Idle(MaskPool):
    """Pools the mask and leaves the features as they are."""

    def multiplier(self, lung_map: Tensor) -> Tensor:
        """1 everywhere."""
        return lung_map.new_ones(lung_map.shape)


class Renormalised(MaskPool):
    """Partial convolution (Liu et al., 2018): the convolution sees lungs only, divided by the share that it sees.

    Of a binary mask its map is that of :class:`Maximum`. ``mask`` and ``share`` are those of the last batch, for
    the convolution.
    """

    mask: Tensor
    share: Tensor

    def forward(self, mask: Tensor) -> Tensor:
        """1 where the window of the mask (B, 1, H, W) holds any lung."""
        self.mask, self.share = mask, super().forward(mask)
        return (self.share > 0).to(mask.dtype)


class PartialConv(nn.Conv2d):
    """A convolution of the masked features, times the reciprocal of the share of its window that is lung.

    It uses the mask that its pooling was given last, and so works only inside the network's forward pass.

    Args:
        conv: without bias; its weights are taken over.
        pool: the pooling of the mask with the same kernel, stride and padding.
    """

    def __init__(self, conv: nn.Conv2d, pool: Renormalised) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=False,
        )
        self.weight = conv.weight
        self.pool = (pool,)  # no child: it is one of the network already

    def forward(self, input: Tensor) -> Tensor:
        """Features (B, C, H, W); 0 where the window holds no lung."""
        (pool,) = self.pool
        features, share = super().forward(input * pool.mask.to(input.dtype)), pool.share
        return features * torch.where(share > 0, 1 / share, 0).to(features.dtype)


_POOLS: dict[str, type[MaskPool]] = {
    "resized": Resized,
    "maximum": Maximum,
    "residual": Residual,
    "mean": DividedByMean,
    "peak": DividedByPeak,
}


def make_variant(model: nn.Module, variant: str) -> None:
    """Turn a network with the mask attention of Eq. 1 into a variant, in place; plain networks stay as they are.

    Some are for ResNets only: `last_stage`, MA in the last stage alone, `shortcut`, MA on the shortcuts as well,
    and `renormalised`, partial convolutions in place of those with a kernel > 1.

    Args:
        model: from :func:`manet_lib.models.create_model`.
        variant: one of :data:`manet_lib.params.VARIANTS`.

    Raises:
        ValueError: the variant is unknown, or is for ResNets only and this is none.
    """
    if variant not in VARIANTS:
        raise ValueError(f"mask_attention: {variant!r} is none of {', '.join(VARIANTS)}")
    if variant == "eq1" or not any(isinstance(module, MaskPool) for module in model.modules()):
        return
    if variant in _POOLS:
        _replace_pools(model, _POOLS[variant])
        return
    if not isinstance(model, ResNet):
        raise ValueError(f"mask_attention: {variant} is for ResNets only, not for {type(model).__name__}")
    if variant == "shortcut":
        for block in model.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                block.on_shortcut = True
    elif variant == "renormalised":
        _replace_pools(model, Renormalised)
        _replace_convolutions(model)
    else:
        in_last = sum(len(block.pools(True)) for block in model.layer4)
        _replace_pools(model, Idle, len(model.mask_pools) - in_last)


def _replace_pools(model: nn.Module, kind: type[MaskPool], first: int | None = None) -> None:
    """Put poolings of a kind in the places of the first so many of a network, or of all."""
    places = [
        (parent, name, pool)
        for parent in model.modules()
        for name, pool in parent.named_children()
        if isinstance(pool, MaskPool)
    ]
    for parent, name, pool in places[:first]:
        new = kind(pool.kernel_size, pool.stride, pool.padding, count_include_pad=pool.count_include_pad)
        new.multiplies = pool.multiplies
        setattr(parent, name, new)


def _replace_convolutions(model: nn.Module) -> None:
    """Put partial convolutions in the places of those that pool the mask, each with its pooling."""
    pools = [pool for pool in model.modules() if isinstance(pool, Renormalised) and pool.multiplies]
    places = [
        (parent, name, conv)
        for parent in model.modules()
        for name, conv in parent.named_children()
        if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1)
    ]
    for (parent, name, conv), pool in zip(places, pools, strict=True):
        setattr(parent, name, PartialConv(conv, pool))
