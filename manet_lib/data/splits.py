"""Training, validation and test sets; drawn once from the seed and written into the manifest."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from manet_lib.data.seeds import stable_hash
from manet_lib.params import UserError

SPLITS = ("train", "val", "test")


def split_images(count: int, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The paper's split (section 2.3): over images, unstratified; Table 1's set sizes at 8:1:1.

    Validation takes the integer part of its share, and so does what is left for training; the test set takes
    the rest, so that 6792 images give 5433, 679 and 680.

    Args:
        count: number of images.
        val_fraction: share of the validation set.
        test_fraction: share of the test set.
        seed: of the permutation.

    Returns:
        `train`, `val` or `test` for each image.
    """
    validation = int(count * val_fraction + 1e-9)
    train = int(count * (1 - val_fraction - test_fraction) + 1e-9)
    order = np.random.default_rng(stable_hash("split", seed)).permutation(count)
    sides = np.empty(count, dtype=object)
    sides[order[:train]] = "train"
    sides[order[train : train + validation]] = "val"
    sides[order[train + validation :]] = "test"
    return sides.tolist()


def split_patients(
    labels: pd.Series, patients: pd.Series, val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """A split in which no patient is on two sides, each class divided as evenly as whole patients allow.

    Patients with several images go first, so that all sides have such patients. Each goes to a side drawn among
    those with room in the patient's commonest class; the odds are the images that the side lacks, of all classes
    plus of this class. Those with one image then fill the side that lags most.

    Args:
        labels: class of each image.
        patients: patient of each image.
        val_fraction: share of the validation set.
        test_fraction: share of the test set.
        seed: of the order.

    Returns:
        `train`, `val` or `test` for each image.
    """
    wanted = np.array([1 - val_fraction - test_fraction, val_fraction, test_fraction])
    table = pd.crosstab(patients, labels)
    sizes = table.sum(axis=1)
    order = sorted(table.index, key=lambda patient: (-sizes[patient], stable_hash("split", seed, patient)))
    rng = np.random.default_rng(stable_hash("split over patients", seed))
    totals = table.sum().to_numpy()
    filled = np.zeros((3, table.shape[1]))
    side_of = {}
    for patient in order:
        counts = table.loc[patient].to_numpy()
        main = int(np.argmax(counts))
        of_class = wanted * totals[main] - filled[:, main]
        lag = of_class + wanted * totals.sum() - filled.sum(axis=1)
        odds = np.clip(lag, 0, None) * (of_class >= sizes[patient] / 2)
        drawn = sizes[patient] > 1 and odds.any()
        side = int(rng.choice(len(SPLITS), p=odds / odds.sum()) if drawn else np.argmax(lag))
        filled[side] += counts
        side_of[patient] = SPLITS[side]
    _spread(side_of, table.loc[order])
    return [side_of[patient] for patient in patients]


def _spread(side_of: dict[str, str], table: pd.DataFrame) -> None:
    """Give each side a patient of each class that has three or more: of the fullest side, one with few images.

    Args:
        side_of: side of each patient; changed in place.
        table: images by patient (rows) and class.
    """
    sizes = table.sum(axis=1)
    for label in table.columns:
        having = [patient for patient in table.index if table.loc[patient, label]]
        for side in SPLITS:
            places = [side_of[patient] for patient in having]
            if len(having) >= len(SPLITS) and side not in places:
                donor = max(SPLITS, key=places.count)
                side_of[min((one for one in having if side_of[one] == donor), key=sizes.__getitem__)] = side


def missing_classes(labels: pd.Series, sides: list[str], classes: list[str]) -> dict[str, list[str]]:
    """The sides that have no image of a class, by class; classes that are on all sides are left out."""
    found = set(zip(labels, sides, strict=True))
    lacking = {label: [side for side in SPLITS if (label, side) not in found] for label in classes}
    return {label: absent for label, absent in lacking.items() if absent}


def join_patients(patients: pd.Series, hashes: pd.Series) -> pd.Series:
    """One name for patients who share a byte-identical image, so that they go to the same side.

    Args:
        patients: patient of each image.
        hashes: hash of each image's file.

    Returns:
        The first name of each group, by image.
    """
    patient, names = pd.factorize(patients)
    image, images = pd.factorize(hashes)
    size = len(names) + len(images)
    links = coo_array((np.ones(len(patient)), (patient, len(names) + image)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    first = pd.Series(names).groupby(group[: len(names)]).first()
    return pd.Series(first.loc[group[patient]].to_numpy(), index=patients.index)


def split_pairs(has_mask: pd.Series, sides: list[str], split: str, test_fraction: float, seed: int) -> list[str]:
    """The split of stage 1 over image-mask pairs (section 2.2): 90% train, 10% test, unstratified.

    Under ``split: patient``, pairs of stage 2's test patients test stage 1 and no others, so that no test
    patient of stage 2 is in the training of stage 1.

    Args:
        has_mask: which images have an annotated lung mask.
        sides: the split of stage 2.
        split: `image` or `patient`.
        test_fraction: share of the pairs used for testing.
        seed: of the permutation.

    Returns:
        `train`, `test`, or "" for an image without a mask.

    Raises:
        UserError: fewer than two pairs, or all on one side.
    """
    pairs = np.flatnonzero(has_mask)
    if len(pairs) < 2:
        raise UserError(
            f"mask_path: images with a lung mask: {len(pairs)}; stage 1 needs two or more, one of them for testing"
        )
    result = np.full(len(has_mask), "", dtype=object)
    if split == "patient":
        result[pairs] = ["test" if sides[pair] == "test" else "train" for pair in pairs]
    else:
        order = np.random.default_rng(stable_hash("pairs", seed)).permutation(pairs)
        count = int(np.ceil(len(pairs) * test_fraction))
        result[order[:count]] = "test"
        result[order[count:]] = "train"
    if len({*result[pairs]}) < 2:
        raise UserError(f"mask_path: all {len(pairs)} pairs fall on one side of the split; add images with masks")
    return result.tolist()
