"""Patches of brick, grass and gravel on another ground: a task without lungs, cut out of three photographs.

The photographs come with scikit-image (``brick``, ``grass``, ``gravel``; CC0) and lie in the installed package, so
that nothing is downloaded. A picture shows an irregular patch of one of them, sharp, on a ground of one of the
others, out of focus. What the patch is made of is the class; where it lies is the mask.
"""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from manet_lib.data.seeds import stable_hash
from manet_lib.workflow.records import write_csv

MATERIALS = ("brick", "grass", "gravel")
SIDE = 64
"""Height and width of a picture in pixels."""
_USUAL_GROUND = {"brick": "gravel", "grass": "brick", "gravel": "grass"}
_USUALLY = 0.8
_TILES = 512 // SIDE
_BLUR = 1.7


@cache
def photograph(material: str) -> NDArray[np.float64]:
    """One of the photographs, (512, 512), with a mean of 120 and a spread of 40: brightness tells nothing."""
    grey = getattr(skimage.data, material)().astype(np.float64)
    return 120 + 40 * (grey - grey.mean()) / grey.std()


def _outline(rng: np.random.Generator) -> NDArray[np.bool_]:
    """An irregular patch near the middle of a picture."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(axis - rng.uniform(-0.2, 0.2), axis - rng.uniform(-0.2, 0.2))
    angle, radius = np.arctan2(y, x), rng.uniform(0.45, 0.65)
    waves = sum(
        rng.uniform(0, 0.28 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)) for wave in range(2, 7)
    )
    return np.hypot(x, y) < radius * (1 + waves)


def _tile(photo: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """One of the 64 squares that a photograph is cut into."""
    row, column = divmod(number, _TILES)
    return photo[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def draw_patch(
    label: str, number: int, turn: int, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], str]:
    """Draw one picture.

    Args:
        label: one of ``MATERIALS``.
        number: of the square of the photograph, 0 to 63, that the patch is cut from.
        turn: number of the picture; the square is turned by as many right angles.
        seed: of the outlines and grounds.

    Returns:
        Picture, uint8 (64, 64); patch, bool of the same shape; and the material of the ground.
    """
    rng = np.random.default_rng(stable_hash("piece", seed, label, number, turn))
    others = [name for name in MATERIALS if name not in (label, _USUAL_GROUND[label])]
    ground = _USUAL_GROUND[label] if rng.random() < _USUALLY else others[0]
    patch = _outline(rng)
    behind = gaussian_filter(_tile(photograph(ground), int(rng.integers(_TILES**2))), _BLUR)
    picture = np.where(patch, np.rot90(_tile(photograph(label), number), turn), behind)
    return np.clip(picture + rng.uniform(-20, 20), 0, 255).astype(np.uint8), patch, ground


def write_patches(folder: Path, squares: int = _TILES**2, turns: int = 2, seed: int = 0) -> Path:
    """Draw a folder of pictures and masks with an ``index.csv``, as a user's own would be; what is there stays.

    ``patient`` is the square that a patch was cut from, so that its pictures stay on one side of a split;
    ``source`` is the ground, which goes with the class in four of five pictures, as hospitals go with diseases.

    Args:
        folder: written to.
        squares: of each photograph, at most 64.
        turns: pictures of each square.
        seed: the same arguments give the same files.

    Returns:
        The CSV: columns path, label, mask_path, patient, source.
    """
    csv = folder / "index.csv"
    if csv.is_file():
        return csv
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    rows = []
    for label, number, turn in product(MATERIALS, range(squares), range(turns)):
        picture, patch, ground = draw_patch(label, number, turn, seed)
        name = f"{label}_{number:02d}_{turn}.png"
        Image.fromarray(picture).save(folder / name)
        Image.fromarray(patch.astype(np.uint8) * 255).save(folder / "masks" / name)
        rows.append((name, label, f"masks/{name}", f"{label}_{number:02d}", ground))
    write_csv(csv, pd.DataFrame(rows, columns=["path", "label", "mask_path", "patient", "source"]))
    return csv
