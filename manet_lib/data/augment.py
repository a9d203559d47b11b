"""The augmentations of sections 2.2 and 2.3, and the data sets that apply them.

Every draw is a pure function of seed, trial, epoch and image: neither workers, ranks nor restarts change it.
"""

import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the package registry

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from manet_lib.data.scaling import seen, to_signed, to_unit
from manet_lib.data.seeds import stable_hash
from manet_lib.params import Params

cv2.setNumThreads(0)

_BORDERS = {"constant": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}


def affine(params: Params, rotation: float) -> list[A.BasicTransform]:
    """Shift, scale and rotate (sections 2.2 and 2.3, items 1 to 3), together or each on its own.

    Args:
        params: shift, scale, border, augment_probability, joint_affine.
        rotation: largest angle in degrees.
    """
    shift: dict[str, Any] = {"translate_percent": (-params.shift, params.shift)}
    scale: dict[str, Any] = {"scale": (1 - params.scale, 1 + params.scale), "keep_ratio": True}
    turn: dict[str, Any] = {"rotate": (-rotation, rotation)}
    groups = [shift | scale | turn] if params.joint_affine else [shift, scale, turn]
    same: dict[str, Any] = {
        "border_mode": _BORDERS[params.border],
        "fill": 0,
        "fill_mask": 0,
        "p": params.augment_probability,
    }
    return [A.Affine(**group, **same) for group in groups]


def segmentation_augmentation(params: Params) -> A.Compose:
    """The three augmentations of stage 1 (section 2.2)."""
    return A.Compose(affine(params, params.seg_rotation))


def classification_augmentation(params: Params) -> A.Compose:
    """The four augmentations of stage 2 (section 2.3)."""
    jitter = A.RandomBrightnessContrast(
        brightness_limit=(-params.brightness, params.brightness),
        contrast_limit=(-params.contrast, params.contrast),
        p=params.augment_probability,
    )
    return A.Compose([*affine(params, params.rotation), jitter])


def reseed(augmentation: A.Compose, *key: object) -> None:
    """Make the next draws of an augmentation a pure function of a key.

    Each transform gets a seed of its own. ``Compose.set_random_seed`` would give all of them the same, so that
    their random decisions would coincide: brightness would change only when the image is turned.
    """
    for number, transform in enumerate(augmentation.transforms):
        transform.set_random_seed(stable_hash(*key, number))


class Pairs(Dataset[tuple[Tensor, Tensor, int, int]]):
    """Images and lung masks, augmented if asked.

    An item is asked for by (epoch, position) and is ``image`` (1, S, S) uint8; ``mask`` (1, S, S) uint8, 0 or 1;
    ``target``, the class number; and ``row``, the image's row in the manifest. In stage 2 the image is segmented:
    zero outside the mask, and again after the change of brightness if ``params.remask``. ``params.view`` shows
    another part of it, and ``params.attention_mask`` gives another mask beside it. uint8 needs a
    quarter of the memory of float32; :meth:`scale` converts a whole batch on its device.

    Args:
        images: uint8 (N, S, S), of the whole store.
        masks: uint8 0 or 1 (N, S, S).
        rows: rows of the store that make up this set.
        targets: class number of each of those rows.
        params: normalisation; in stage 2 remask, view, attention_mask.
        segmented: stage 2 (True) or stage 1 (False).
        augmentation: None for evaluation.
        key: what the random draws depend on besides epoch and image: seed and trial.
        names: image_id of each of those rows.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8],
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        params: Params,
        *,
        segmented: bool,
        augmentation: A.Compose | None = None,
        key: tuple[int, int] = (0, 0),
        names: list[str] | None = None,
    ) -> None:
        self.images, self.masks, self.rows, self.targets = images, masks, rows, targets
        self.normalisation = params.normalisation
        self.remask = segmented and augmentation is not None and params.remask
        self.segmented, self.augmentation, self.key = segmented, augmentation, key
        self.view, self.attention_mask = (params.view, params.attention_mask) if segmented else ("whole", "own")
        self.names = names or [str(row) for row in rows]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle memory-mapped files by name: otherwise each spawned worker would receive the whole store."""
        state = dict(self.__dict__)
        for name in ("images", "masks"):
            if isinstance(state[name], np.memmap):
                state[name] = state[name].filename
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("images", "masks"):
            if not isinstance(state[name], np.ndarray):
                state[name] = np.load(state[name], mmap_mode="r")
        self.__dict__ = state

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor, int, int]:
        epoch, position = item
        row = self.rows[position]
        image, mask = np.array(self.images[row]), np.array(self.masks[row])
        if self.segmented:
            image = seen(image, mask, self.view)
        if self.augmentation is not None:
            reseed(self.augmentation, *self.key, epoch, self.names[position])
            pair = self.augmentation(image=image, mask=mask)
            image, mask = pair["image"], pair["mask"]
        if self.remask:
            image = seen(image, mask, self.view)
        if self.attention_mask == "ones":
            mask = np.ones_like(mask)
        elif self.attention_mask == "mismatched":
            mask = np.array(self.masks[self.rows[(position + 1) % len(self.rows)]])
        target = int(self.targets[position])
        return torch.from_numpy(image)[None], torch.from_numpy(mask)[None], target, int(row)

    def scale(self, images: Tensor) -> Tensor:
        """Images of this set as float32, in [0, 1] for stage 1 (section 2.2) or [-1, 1] for stage 2 (2.3)."""
        return (to_signed if self.segmented else to_unit)(images, self.normalisation)


class EpochOrder(Sampler[tuple[int, int]]):
    """Which images a rank sees in an epoch, in which order: a function of seed, trial and epoch alone.

    Training shuffles and drops the last incomplete global batch; rank r of R takes every R-th image of each
    global batch. Evaluation keeps the order and drops nothing: each image is seen once, on one rank.

    Args:
        count: number of images.
        key: seed and trial.
        shuffle: training (True) or evaluation (False).
        batch_size: global batch size; used in training only.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self,
        count: int,
        key: tuple[int, int],
        *,
        shuffle: bool,
        batch_size: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.key, self.shuffle, self.rank, self.world = count, key, shuffle, rank, world
        self.used = count - count % batch_size if shuffle else count
        self.epoch = 0

    def __len__(self) -> int:
        return len(range(self.rank, self.used, self.world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.count)
        if self.shuffle:
            order = np.random.default_rng(stable_hash("order", *self.key, self.epoch)).permutation(self.count)
        return iter([(self.epoch, int(position)) for position in order[self.rank : self.used : self.world]])
