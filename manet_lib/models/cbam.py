"""ResNet34 and ResNet50 with CBAM (Woo et al., ECCV 2018), in the form that fits Table 3.

Reduction 16, one shared bias-free MLP for average and maximum, a bias-free 7×7 spatial convolution without batch
norm, after the last batch norm of every residual block and before the addition (Fig. 7). The original code has
biases and a spatial batch norm; with those, Table 3's 26.03 M parameters of ResNet50 would read 26.04.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from manet_lib.models.resnet import PlainResNet


class CBAM(nn.Module):
    """Channel attention, then spatial attention: features (B, C, H, W) in and out."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
        )
        self.spatial = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weight channels by a sigmoid of the shared MLP, then places by a sigmoid of the convolution."""
        channel = self.mlp(self.squeeze(x).flatten(1)) + self.mlp(F.adaptive_max_pool2d(x, 1).flatten(1))
        x = x * torch.sigmoid(channel)[:, :, None, None]
        last = x.permute(0, 2, 3, 1)  # reduced along channels that lie side by side, gradients stay channels last
        place = torch.stack([last.mean(-1), last.max(-1).values], dim=1)
        return x * torch.sigmoid(self.spatial(place))


class CBAMBasicBlock(BasicBlock):
    """A basic block with CBAM on its deep path."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.cbam = CBAM(planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) in and out."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.cbam(self.bn2(self.conv2(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class CBAMBottleneck(Bottleneck):
    """A bottleneck with CBAM on its deep path."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.cbam = CBAM(planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) in and out."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.cbam(self.bn3(self.conv3(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def cbam_resnet(depth: int, num_classes: int = 5, in_channels: int = 1) -> PlainResNet:
    """ResNet of depth 34 or 50 with CBAM in every block."""
    return PlainResNet(CBAMBasicBlock if depth == 34 else CBAMBottleneck, num_classes, in_channels)
