"""How far the lung mask reaches into a network with mask attention: the lung map of Eq. 1 at every depth.

The maps follow from the mask and from kernels, strides and paddings alone, so this needs no training. Nested
averages blur a mask a little more with every layer, and where padding counts as no lung they fade as well: in a
deep network on a small image the last map is nearly the same small number everywhere. It no longer
separates inside from outside, and it scales the features down.
"""

from collections.abc import Iterator

import pandas as pd
from torch import Tensor, nn
from torch.nn import functional as F

from manet_lib.models.mask_attention import MaskPool, mask_maps


def lung_maps(model: nn.Module, mask: Tensor) -> Iterator[tuple[bool, Tensor]]:
    """The maps of a network in the order of its layers.

    Args:
        model: with mask attention; its ``MaskPool`` modules stand in the order in which a mask goes through.
        mask: float (B, 1, H, W) in [0, 1].

    Yields:
        Whether features are multiplied by the map, and the map, float (B, 1, H_i, W_i).

    Raises:
        ValueError: the network pools no masks.
    """
    pools = [module for module in model.modules() if isinstance(module, MaskPool)]
    if not pools:
        raise ValueError(f"{type(model).__name__} has no mask attention; expected a model such as resnet50_ma")
    yield from zip((pool.multiplies for pool in pools), mask_maps(mask, pools), strict=True)


def measure_reach(model: nn.Module, mask: Tensor) -> pd.DataFrame:
    """What the lung maps of a network still tell, at every depth at which they multiply features.

    Args:
        model: see :func:`lung_maps`.
        mask: float (B, 1, H, W) in [0, 1].

    Returns:
        One row per map: ``depth`` (1, 2, ...), ``side`` (its height in places), and averaged over the masks
        ``highest`` and ``lowest`` place, ``inside`` and ``outside``, all in [0, 1]. A place counts as inside by
        the share of its own area that is lung, without any receptive field: of the mask itself ``inside`` would
        be near 1 and ``outside`` near 0, of a map that tells nothing they are equal. NaN where all is lung, or
        none.
    """
    rows = []
    for depth, one in enumerate((one for multiplies, one in lung_maps(model, mask) if multiplies), start=1):
        share = F.adaptive_avg_pool2d(mask, (one.shape[2], one.shape[3]))
        values, weight = one.flatten(1).double(), share.flatten(1).double()
        inside = (values * weight).sum(1) / weight.sum(1)
        outside = (values * (1 - weight)).sum(1) / (1 - weight).sum(1)
        means = {"highest": values.amax(1), "lowest": values.amin(1), "inside": inside, "outside": outside}
        row = {"depth": depth, "side": one.shape[2]}
        rows.append(row | {name: float(value.mean()) for name, value in means.items()})
    return pd.DataFrame(rows)
