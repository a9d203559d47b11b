"""The ResUNet of stage 1 (section 3.2).

``segmentation_models_pytorch`` also has a class named ``MAnet``; that is another paper's network.
"""

import segmentation_models_pytorch as smp
from torch import Tensor, nn


def create_segmenter(encoder: str = "resnet34") -> nn.Module:
    """A U-Net with a ResNet encoder: image (B, 1, H, W) in [0, 1] in, lung logits (B, 1, H, W) out.

    Convolutions are drawn Kaiming-normal with any bias at 0, batch norms start at weight 1 and bias 0
    (section 4.1); nothing is downloaded. The decoder has plain convolutional blocks, where Fig. 4b shows residual
    ones: a named deviation.

    Args:
        encoder: `resnet18`, `resnet34` or `resnet50`. H and W must be multiples of 32.
    """
    model = smp.Unet(encoder, encoder_weights=None, in_channels=1, classes=1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def soft_dice_loss(logits: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice loss (section 4.1), taken per image and averaged over the batch.

    1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), with p the sigmoid of the logits.

    Args:
        logits: float (B, 1, H, W).
        mask: annotated lung mask, 0 or 1, of the same shape.
        smooth: keeps an empty mask that is predicted empty at a loss of 0.

    Returns:
        A scalar in [0, 1].
    """
    probability = logits.float().sigmoid().flatten(1)
    truth = mask.flatten(1)
    overlap = 2 * (probability * truth).sum(1) + smooth
    return (1 - overlap / (probability.sum(1) + truth.sum(1) + smooth)).mean()
