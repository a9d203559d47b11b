"""How well two lung masks agree: in area and along their outline."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from manet_lib.evaluation.metrics import intersection_over_union


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice coefficient of each pair of masks, bool (B, ...): float64 (B,) in [0, 1]; 1 for two empty masks."""
    share = intersection_over_union(first, second)
    return 2 * share / (1 + share)


def surface_distance(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Average symmetric surface distance: mean distance from each outline's pixels to the other outline.

    Args:
        first: mask, bool (H, W).
        second: of the same shape.

    Returns:
        In pixels; 0 for two empty masks, NaN where only one is empty.
    """
    if not first.any() or not second.any():
        return 0.0 if first.any() == second.any() else float("nan")
    one, other = outline(first), outline(second)
    distances = [distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]]
    return float(np.concatenate(distances).mean())


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask, bool (H, W), that touch by a side what is outside of it or the border."""
    return mask & ~binary_erosion(mask)


def grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """A mask, bool (H, W), grown by so many pixels in all directions, or shrunk if that is negative."""
    if not mask.any() or not pixels:
        return mask.copy()
    if pixels < 0:
        inside = np.pad(mask, 1)  # the border counts as outside
        return np.asarray(distance_transform_edt(inside)[1:-1, 1:-1] > -pixels)
    return np.asarray(distance_transform_edt(~mask) <= pixels)
