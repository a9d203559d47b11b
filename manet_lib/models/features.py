"""What stage 1 makes of an image besides its lungs: numbers by which images can be compared."""

from typing import Any

from torch import Tensor, nn


def image_features(segmenter: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Lung logits of stage 1, and the features of its encoder's last block, averaged over the image.

    Args:
        segmenter: from :func:`manet_lib.models.resunet.create_segmenter`.
        images: float (B, 1, H, W) in [0, 1].

    Returns:
        Logits (B, 1, H, W) and features (B, F).
    """
    kept: list[Tensor] = []

    def keep(encoder: nn.Module, given: Any, made: list[Tensor]) -> None:
        kept.append(made[-1].mean(dim=(2, 3)))

    encoder = segmenter.get_submodule("encoder")
    handle = encoder.register_forward_hook(keep)
    try:
        logits = segmenter(images)
    finally:
        handle.remove()
    return logits, kept[0]
