"""Inception v3, plain and with mask attention, on torchvision's class and parameter names.

No auxiliary head and no input transform (Table 3's 21.80 M parameters). Inputs need 75 pixels or more.
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models.inception import BasicConv2d, Inception3

from manet_lib.models.mask_attention import MaskPool, attend, mask_maps

_ANY, _STRIDED = (3, 1, 1), (3, 2, 0)
_BRANCHES: dict[str, list[tuple[Any, int, Any]]] = {
    **{name: [(5, 1, 2)] for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d")},
    "Mixed_6a": [_ANY, _STRIDED],
    **{
        name: 2 * [((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3))]
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")
    },
    "Mixed_7a": [((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0)), _STRIDED],
    **{name: [_ANY, _ANY] for name in ("Mixed_7b", "Mixed_7c")},
}
"""Kernel, stride and padding along the branch with the largest receptive field of each Mixed block. In
Mixed_5 that is the 5×5 convolution's; in Mixed_7b and 7c one 3×3 stands for the parallel 1×3 and 3×1."""

_STEM = (
    "Conv2d_1a_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_2b_3x3",
    "maxpool1",
    "Conv2d_3b_1x1",
    "Conv2d_4a_3x3",
    "maxpool2",
)


class PlainInception3(Inception3):
    """torchvision's Inception v3, called as ``model(image, mask)``; the mask is ignored."""

    def __init__(self, num_classes: int = 5, in_channels: int = 1) -> None:
        super().__init__(num_classes=num_classes, aux_logits=False, transform_input=False, init_weights=True)
        if in_channels != 3:
            self.Conv2d_1a_3x3 = BasicConv2d(in_channels, 32, kernel_size=3, stride=2)
            nn.init.trunc_normal_(self.Conv2d_1a_3x3.conv.weight, std=0.1, a=-2, b=2)
        self.avgpool = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1))  # Grad-CAM sees the identity

    @property
    def cam_layer(self) -> nn.Module:
        """The features that are averaged: the last Mixed block's, after mask attention if there is any."""
        return self.avgpool[0]

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W)."""
        return self._forward(image)[0]


class MaskAttentionInception3(PlainInception3):
    """Fig. 5d: stem convolutions one by one, each Mixed block once on its concatenated output.

    The maps multiply after the ReLU, which for maps in [0, 1] equals multiplying before it.
    """

    def __init__(self, num_classes: int = 5, in_channels: int = 1, count_include_pad: bool = True) -> None:
        super().__init__(num_classes, in_channels)
        self._names = [*_STEM, *_BRANCHES]
        pools: dict[str, nn.Module] = {}
        for name in _STEM:
            layer = getattr(self, name)
            layer = layer.conv if isinstance(layer, BasicConv2d) else layer
            if layer.kernel_size not in (1, (1, 1)):
                pools[name] = nn.ModuleList([MaskPool.like(layer, count_include_pad)])
        for name, branch in _BRANCHES.items():
            chain = [MaskPool(*layer, count_include_pad=count_include_pad) for layer in branch]
            for pool in chain[:-1]:
                pool.multiplies = False  # on the way to the block's own map
            pools[name] = nn.ModuleList(chain)
        self.mask_pools = nn.ModuleDict(pools)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W) and its lung mask (B, 1, H, W)."""
        if mask is None:
            raise TypeError("mask attention needs a lung mask: call model(image, mask)")
        maps = iter(mask_maps(mask, [pool for pools in self.mask_pools.values() for pool in pools]))  # type: ignore[attr-defined]
        x = image
        for name in self._names:
            x = getattr(self, name)(x)
            if name not in self.mask_pools:
                continue
            for _ in self.mask_pools[name]:  # type: ignore[attr-defined]
                lung_map = next(maps)
            if name.startswith("Mixed"):
                x = attend(x, lung_map)
            elif not name.startswith("maxpool"):
                x = x * lung_map  # the ReLU before it needs its own output to go backward
        return self.fc(self.dropout(self.avgpool(x)).flatten(1))
