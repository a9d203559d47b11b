"""Lung masks damaged on purpose, so that there is something for post-processing to repair."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

Mask = NDArray[np.bool_]


def damaged(mask: Mask, rng: np.random.Generator, holes: int = 3, specks: int = 3, radius: float = 0.025) -> Mask:
    """A lung mask with holes punched into it and specks put beside it, as a worse network would predict it.

    Holes lie whole inside the lungs and specks whole outside, so that neither changes the outline; they may
    overlap one another. Where there is no room, none is made.

    Args:
        mask: bool (H, W).
        rng: places are drawn from it.
        holes: how many.
        specks: how many.
        radius: of each, as a share of the height.

    Returns:
        bool (H, W); the mask that was given is left as it is.
    """
    reach = max(1.0, radius * mask.shape[0])
    broken = mask.copy()
    for count, ground, value in ((holes, mask, False), (specks, ~mask, True)):
        room = np.argwhere(distance_transform_edt(np.pad(ground, 1))[1:-1, 1:-1] > reach + 1)
        for row, column in room[rng.permutation(len(room))[:count]]:
            broken[_disc(mask.shape, row, column, reach)] = value
    return broken


def bridged(mask: Mask, height: int = 3) -> Mask:
    """A lung mask whose two lungs are joined by a bar, as section 2.2 says that predictions sometimes are.

    The bar lies in the row in which the lungs come closest to each other over the middle of the picture.

    Args:
        mask: bool (H, W), nothing of it on the column in the middle where the bar is to be.
        height: of the bar in pixels.

    Returns:
        bool (H, W); unchanged where no row has lung on both sides.
    """
    middle = mask.shape[1] // 2
    both = np.flatnonzero(mask[:, :middle].any(axis=1) & mask[:, middle:].any(axis=1))
    if not len(both):
        return mask.copy()
    ends = [_gap(mask[row], middle) for row in both]
    start = int(np.argmin([right - left for left, right in ends]))
    (left, right), row = ends[start], int(both[start])
    joined = mask.copy()
    joined[max(0, row - height // 2) : row + (height + 1) // 2, left : right + 1] = True
    return joined


def is_separated(mask: Mask, lungs: Mask) -> bool:
    """Whether every object of a mask belongs to one lung only, and each lung has one.

    Args:
        mask: bool (H, W).
        lungs: bool (H, W), two objects: the lungs as they lie apart from each other.
    """
    objects, _ = label(mask)
    left, right = (set(objects[side]) - {0} for side in (label(lungs)[0] == number for number in (1, 2)))
    return bool(left and right and not left & right)


def _gap(line: Mask, middle: int) -> tuple[int, int]:
    """Where the lung on the left of the picture ends and the one on the right begins."""
    return int(np.flatnonzero(line[:middle])[-1]), middle + int(np.flatnonzero(line[middle:])[0])


def _disc(shape: tuple[int, ...], row: int, column: int, reach: float) -> Mask:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= reach**2)
