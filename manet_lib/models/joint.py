"""Both stages as one small network, to be trained apart or end to end: a further direction that the paper names.

In the paper stage 2 starts when stage 1 is done: it is given a mask of zeros and ones, and what it gets wrong
never reaches the network that drew the mask. Here the mask may be the sigmoid of stage 1's logits, and then it
does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manet_lib.models.mask_attention import MaskPool

_SEGMENTER = (8, 16, 32)
_CLASSIFIER = ((16, 2), (32, 1), (32, 2), (64, 1), (96, 2))


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class SmallSegmenter(nn.Module):
    """Stage 1: a U-Net of three sizes, image (B, 1, H, W) in [0, 1] in, lung logits (B, 1, H, W) out.

    H and W are multiples of 4.
    """

    def __init__(self) -> None:
        super().__init__()
        high, middle, low = _SEGMENTER
        self.first, self.second, self.third = _block(1, high), _block(high, middle, 2), _block(middle, low, 2)
        self.back, self.last = _block(low + middle, middle), _block(middle + high, high)
        self.head = nn.Conv2d(high, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Lung logits (B, 1, H, W)."""
        high = self.first(image)
        middle = self.second(high)
        x = F.interpolate(self.third(middle), scale_factor=2.0)
        x = F.interpolate(self.back(torch.cat([x, middle], dim=1)), scale_factor=2.0)
        return self.head(self.last(torch.cat([x, high], dim=1)))


class SmallClassifier(nn.Module):
    """Stage 2: five convolutions with mask attention (Eq. 1), image and mask (B, 1, H, W) in, class logits out.

    Unlike in :func:`manet_lib.models.mask_attention.mask_maps`, gradients flow through the pooled masks as well.
    """

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        sizes = [1, *(channels for channels, _ in _CLASSIFIER)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
            for inside, (outside, stride) in zip(sizes, _CLASSIFIER, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels, _ in _CLASSIFIER)
        self.pools = nn.ModuleList(MaskPool.like(conv) for conv in self.convolutions)  # type: ignore[arg-type]
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, num_classes) of an image in [0, 1] that the mask in [0, 1] segments."""
        x = image * mask
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            mask = pool(mask)
            x = F.relu(norm(convolution(x)) * mask)
        return self.head(x.mean(dim=(2, 3)))


class JointMANet(nn.Module):
    """Both stages in one network, so that one loss can train them.

    Attributes:
        segmenter: stage 1.
        classifier: stage 2.
    """

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.segmenter = SmallSegmenter()
        self.classifier = SmallClassifier(num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Lung logits (B, 1, H, W) and class logits (B, num_classes) of an image (B, 1, H, W) in [0, 1]."""
        lungs = self.segmenter(image)
        return lungs, self.classifier(image, lungs.sigmoid())
