"""Post-processing of predicted lung masks (section 2.2): fill holes, remove small objects."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.morphology import remove_small_objects

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.workflow.parameters import view
from manet_lib.workflow.records import atomic_path, new_array
from manet_lib.workflow.steps import clean_masks_step


def clean_mask(mask: NDArray[np.bool_], min_object_fraction: float = 0.01) -> NDArray[np.bool_]:
    """Fill the holes of a predicted mask, then remove its small objects (section 2.2, Fig. 3).

    Neither can separate lungs that the prediction has joined, though the section suggests it.

    Args:
        mask: bool, (H, W).
        min_object_fraction: objects of fewer pixels than this share of the image are removed; objects touch
            by their sides. The paper states no size.

    Returns:
        bool, (H, W). A mask without any object that large comes back empty.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: the mask is not two-dimensional.
    """
    if mask.dtype != np.bool_:
        raise TypeError(f"mask has dtype {mask.dtype}; expected bool")
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; expected (H, W)")
    smallest_kept = int(np.ceil(min_object_fraction * mask.size - 1e-9))
    filled = binary_fill_holes(mask)
    return remove_small_objects(filled, max_size=smallest_kept - 1) if smallest_kept > 1 else filled


def clean_masks(params: Params, paths: RunPaths) -> bool:
    """Post-process every predicted mask of a run; returns whether there was anything to do."""

    def work() -> None:
        fraction = view(params, "clean_masks").min_object_fraction
        raw = np.load(paths.raw_masks, mmap_mode="r")
        with atomic_path(paths.clean_masks) as temporary:
            clean = new_array(temporary, raw.shape)
            for number, mask in enumerate(raw):
                clean[number] = clean_mask(mask.astype(bool), fraction)
            clean.flush()

    return clean_masks_step(params, paths).run(work)
