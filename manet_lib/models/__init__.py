"""The ten classifiers of Table 2, the ResUNet of stage 1, and their cost."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from manet_lib.models.cbam import cbam_resnet
from manet_lib.models.inception import MaskAttentionInception3, PlainInception3
from manet_lib.models.pretrained import load_torchvision_weights
from manet_lib.models.resnet import mask_attention_resnet, plain_resnet
from manet_lib.models.variants import make_variant
from manet_lib.models.vgg import MaskAttentionVGG, PlainVGG
from manet_lib.params import Params

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet34": lambda **sizes: plain_resnet(34, **sizes),
    "resnet34_ma": lambda **sizes: mask_attention_resnet(34, **sizes),
    "resnet34_cbam": lambda **sizes: cbam_resnet(34, **sizes),
    "resnet50": lambda **sizes: plain_resnet(50, **sizes),
    "resnet50_ma": lambda **sizes: mask_attention_resnet(50, **sizes),
    "resnet50_cbam": lambda **sizes: cbam_resnet(50, **sizes),
    "vgg16": PlainVGG,
    "vgg16_ma": MaskAttentionVGG,
    "inceptionv3": PlainInception3,
    "inceptionv3_ma": MaskAttentionInception3,
}


def model_names() -> tuple[str, ...]:
    """The ten rows of Table 2, in its order."""
    return tuple(_BUILDERS)


def classifier_of(params: Params, name: str, pretrained: str = "none") -> nn.Module:
    """A classifier with the classes and the mask attention of some parameters; see :func:`create_model`."""
    return create_model(
        name,
        len(params.classes),
        count_include_pad=params.count_include_pad,
        variant=params.mask_attention,
        pretrained=pretrained,
    )


def create_model(
    name: str,
    num_classes: int = 5,
    in_channels: int = 1,
    *,
    count_include_pad: bool = True,
    variant: str = "eq1",
    pretrained: str | Path = "none",
) -> nn.Module:
    """Build a classifier with freshly drawn weights (torchvision's initialisation).

    Every classifier is called as ``model(image, mask)`` with ``image`` (B, in_channels, H, W) float in [-1, 1]
    and ``mask`` (B, 1, H, W) float in [0, 1], and returns logits (B, num_classes). Plain and CBAM models ignore
    the mask. ``model.cam_layer`` is the module whose output Grad-CAM looks at.

    Args:
        name: one of :func:`model_names`.
        num_classes: number of logits.
        in_channels: channels of the image; the paper's models have one.
        count_include_pad: count the padding when masks are pooled; of MA models only.
        variant: of mask attention, one of :data:`manet_lib.params.VARIANTS`; of MA models only.
        pretrained: `none`, or the file of a torchvision state dict of the same architecture (`.pth` or
            `.safetensors`); its first layer is converted to ``in_channels``, its classifier dropped where the
            number of classes differs.

    Raises:
        ValueError: the name or the variant is unknown, or the variant is none for this network.
        UserError: the state dict does not fit.
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(_BUILDERS)}")
    sizes: dict[str, int | bool] = {"num_classes": num_classes, "in_channels": in_channels}
    if name.endswith("_ma"):
        sizes["count_include_pad"] = count_include_pad
    model = _BUILDERS[name](**sizes)
    make_variant(model, variant)
    if str(pretrained) != "none":
        load_torchvision_weights(model, Path(pretrained))
    return model
