"""ResNet34 and ResNet50, plain and with mask attention, on torchvision's classes and parameter names."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from manet_lib.models.mask_attention import MaskPool, attend, mask_maps

Block = Callable[..., nn.Module]
_LAYERS = [3, 4, 6, 3]


class PlainResNet(ResNet):
    """torchvision's ResNet, called as ``model(image, mask)``; the mask is ignored."""

    def __init__(self, block: Any, num_classes: int, in_channels: int) -> None:
        super().__init__(block, _LAYERS, num_classes=num_classes)
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    @property
    def cam_layer(self) -> nn.Module:
        """The last residual block (section 4.3)."""
        return self.layer4[-1]

    @property
    def cam_layers(self) -> list[nn.Module]:
        """``cam_layer``, and the last block of the stage before it, whose map is twice as fine."""
        return [self.layer4[-1], self.layer3[-1]]

    def blocks(self) -> Iterator[nn.Module]:
        """The residual blocks, in order."""
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            yield from layer

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W)."""
        return self._forward_impl(image)


class MaskAttentionBasicBlock(BasicBlock):
    """Fig. 5b: MA after both 3×3 convolutions; the shortcut is left alone.

    After the addition, the map of the residual path is used, because it has the larger receptive field.
    ``on_shortcut`` is a variant: the shortcut is multiplied by the same map as what it is added to.
    """

    on_shortcut = False

    def pools(self, count_include_pad: bool) -> list[MaskPool]:
        """The poolings of this block, in order."""
        return [MaskPool.like(conv, count_include_pad) for conv in (self.conv1, self.conv2)]

    def forward(self, x: Tensor, maps: Iterator[Tensor]) -> Tensor:
        """Features (B, C, H, W) and the maps that are still to come."""
        out = self.relu(attend(self.bn1(self.conv1(x)), next(maps)))
        last = next(maps)
        out = attend(self.bn2(self.conv2(out)), last)
        shortcut = x if self.downsample is None else self.downsample(x)
        out += shortcut * last if self.on_shortcut else shortcut
        return self.relu(out)


class MaskAttentionBottleneck(Bottleneck):
    """Fig. 5c: MA once, at the 3×3 convolution; 1×1 convolutions leave the receptive field as it is.

    ``on_shortcut`` is a variant: the shortcut is multiplied by the same map.
    """

    on_shortcut = False

    def pools(self, count_include_pad: bool) -> list[MaskPool]:
        """The pooling of this block."""
        return [MaskPool.like(self.conv2, count_include_pad)]

    def forward(self, x: Tensor, maps: Iterator[Tensor]) -> Tensor:
        """Features (B, C, H, W) and the maps that are still to come."""
        last = next(maps)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(attend(self.bn2(self.conv2(out)), last))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        out += shortcut * last if self.on_shortcut else shortcut
        return self.relu(out)


class MaskAttentionResNet(PlainResNet):
    """ResNet with MA: stem, max pooling and blocks pool the mask with the features."""

    def __init__(self, block: Any, num_classes: int, in_channels: int, count_include_pad: bool) -> None:
        super().__init__(block, num_classes, in_channels)
        pools = [MaskPool.like(self.conv1, count_include_pad), MaskPool.like(self.maxpool, count_include_pad)]
        for residual in self.blocks():
            pools += residual.pools(count_include_pad)  # type: ignore[operator]
        self.mask_pools = nn.ModuleList(pools)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W) and its lung mask (B, 1, H, W)."""
        if mask is None:
            raise TypeError("mask attention needs a lung mask: call model(image, mask)")
        stem, _, *rest = mask_maps(mask, self.mask_pools)  # type: ignore[arg-type]
        x = self.maxpool(self.relu(attend(self.bn1(self.conv1(image)), stem)))
        maps = iter(rest)
        for block in self.blocks():
            x = block(x, maps)
        return self.fc(self.avgpool(x).flatten(1))


def plain_resnet(depth: int, num_classes: int = 5, in_channels: int = 1) -> PlainResNet:
    """ResNet of depth 34 or 50 without attention (first rows of Tables 2 and 3)."""
    return PlainResNet(BasicBlock if depth == 34 else Bottleneck, num_classes, in_channels)


def mask_attention_resnet(
    depth: int, num_classes: int = 5, in_channels: int = 1, count_include_pad: bool = True
) -> MaskAttentionResNet:
    """ResNet of depth 34 or 50 with MA; parameter names are the plain model's."""
    block = MaskAttentionBasicBlock if depth == 34 else MaskAttentionBottleneck
    return MaskAttentionResNet(block, num_classes, in_channels, count_include_pad)
