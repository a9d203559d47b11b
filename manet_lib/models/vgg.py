"""VGG16 with batch norm, plain and with mask attention, on torchvision's class and parameter names.

Table 3's 134.29 M parameters fit the batch-normalised network with biased convolutions and the full head.
"""

from torch import Tensor, nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from manet_lib.models.mask_attention import MaskPool, attend, mask_maps


class PlainVGG(VGG):
    """torchvision's VGG16-BN, called as ``model(image, mask)``; the mask is ignored."""

    def __init__(self, num_classes: int = 5, in_channels: int = 1) -> None:
        super().__init__(make_layers(cfgs["D"], batch_norm=True), num_classes=num_classes)
        if in_channels != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(self.features[0].weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(self.features[0].bias)

    @property
    def cam_layer(self) -> nn.Module:
        """The last max pooling of the convolutional part."""
        return self.features[-1]

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W)."""
        return super().forward(image)


class MaskAttentionVGG(PlainVGG):
    """Fig. 5a: MA between batch norm and ReLU of all thirteen blocks; max poolings pool the mask only."""

    def __init__(self, num_classes: int = 5, in_channels: int = 1, count_include_pad: bool = True) -> None:
        super().__init__(num_classes, in_channels)
        self.mask_pools = nn.ModuleList(
            MaskPool.like(layer, count_include_pad)
            for layer in self.features
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d)
        )

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes) of an image (B, in_channels, H, W) and its lung mask (B, 1, H, W)."""
        if mask is None:
            raise TypeError("mask attention needs a lung mask: call model(image, mask)")
        maps = iter(mask_maps(mask, self.mask_pools))  # type: ignore[arg-type]
        x = image
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.BatchNorm2d):
                x = attend(x, next(maps))
            elif isinstance(layer, nn.MaxPool2d):
                next(maps)
        return self.classifier(self.avgpool(x).flatten(1))
