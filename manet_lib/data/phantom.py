"""Chest phantoms: drawn frontal images with known lungs, known lesions and known confounders.

Phantoms do not reproduce any real data set. They let every step run anywhere, and because the true lesions and the
source-specific markers outside the lungs are known, they allow experiments that real radiographs cannot.

Attenuation is added up (soft tissue, spine, ribs, heart, vessels, lesions), then turned into image density with
an exposure that varies from image to image, so that brightness says little about the class.

The chest is about 2 units wide, and the image shows its central ``2 * anatomy._EXTENT`` units; x points right and
y down. As in any frontal radiograph, the patient's right lung is on the left.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from manet_lib.data.anatomy import (
    Anatomy,
    Array,
    Grid,
    draw_abdomen,
    draw_heart,
    draw_ribs,
    draw_shoulder_blades,
    draw_vessels,
)
from manet_lib.data.seeds import stable_hash
from manet_lib.params import CLASSES
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import write_csv

SOURCES = ("north", "south", "east")
"""Invented hospitals. Each leaves its own markers outside the lungs; see :func:`_confounders`."""

_SOURCE_ODDS = {
    "normal": (0.70, 0.20, 0.10),
    "covid19": (0.15, 0.75, 0.10),
    "tb": (0.75, 0.15, 0.10),
    "bp": (0.10, 0.10, 0.80),
    "vp": (0.10, 0.10, 0.80),
}


@dataclass(frozen=True)
class Phantom:
    """One drawn image.

    Attributes:
        image: the drawn radiograph, uint8 (S, S); dense tissue is bright, air is dark.
        lungs: true lung mask, bool (S, S); heart and spine are not lung.
        lesions: true lesion mask, bool (S, S), inside the lungs; empty for a normal image.
        source: which of ``SOURCES`` it pretends to come from.
    """

    image: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    source: str


def _covid19(grid: Grid, rng: np.random.Generator, depth: Array) -> Array:
    """Peripheral, bilateral ground glass, mostly in the lower zones."""
    haze = grid.zeros()
    for side in (-1, 1):
        for _ in range(rng.integers(2, 4)):
            y = rng.uniform(-0.25, 0.42)
            x = side * (0.53 + 0.10 * (y + 0.25))
            haze = np.maximum(haze, grid.blob(x, y, rng.uniform(0.09, 0.15), rng.uniform(0.12, 0.2), 0.6))
    periphery = np.exp(-depth / 0.16)
    mottle = np.clip(1 + 0.35 * grid.noise(rng, 0.03), 0.2, 2)
    return 0.95 * haze * (0.35 + 0.65 * periphery) * mottle


def _tb(grid: Grid, rng: np.random.Generator, depth: Array) -> Array:
    """Apical nodules and one cavity: a wall around air, in the upper zone."""
    shadow = grid.zeros()
    sick = int(rng.choice((-1, 1)))
    for side in (-1, 1):
        for _ in range(rng.integers(8, 13) if side == sick else rng.integers(0, 5)):
            radius = rng.uniform(0.024, 0.042)
            x, y = side * rng.uniform(0.20, 0.52), rng.uniform(-0.64, -0.22)
            shadow = np.maximum(shadow, 1.1 * grid.blob(x, y, radius, radius, 0.5))
    x, y, radius = sick * rng.uniform(0.29, 0.40), rng.uniform(-0.50, -0.36), rng.uniform(0.08, 0.115)
    distance = np.hypot(grid.x - x, (grid.y - y) / 0.9)
    wall = np.exp(-(((distance - radius) / 0.026) ** 2))
    return np.where(distance < radius, 0.85 * wall - 0.3 * (1 - wall), np.maximum(0.85 * wall, shadow))


def _bp(grid: Grid, rng: np.random.Generator, depth: Array) -> Array:
    """One lobe consolidated: dense, cut off by a fissure, with air bronchograms."""
    side = int(rng.choice((-1, 1)))
    fissure = rng.uniform(-0.12, 0.08) + rng.uniform(-0.2, 0.2) * (grid.x - side * 0.4)
    below = bool(rng.random() < 0.6)
    inside = 1 / (1 + np.exp((fissure - grid.y if below else grid.y - fissure) / 0.015))
    y = rng.uniform(0.14, 0.28) if below else rng.uniform(-0.38, -0.26)
    body = grid.blob(side * rng.uniform(0.34, 0.46), y, rng.uniform(0.22, 0.30), rng.uniform(0.22, 0.30), 0.4)
    bronchi = np.clip(np.abs(grid.noise(rng, 0.05)) / 0.22, 0, 1)
    return 1.25 * body * inside * (0.72 + 0.28 * bronchi) * (grid.x * side > 0)


def _vp(grid: Grid, rng: np.random.Generator, depth: Array) -> Array:
    """A diffuse interstitial pattern: a fine net of lines through both lungs, denser around the hila."""
    net = grid.zeros()
    for scale in (0.030, 0.045):
        net += np.exp(-((grid.noise(rng, scale) / 0.22) ** 2))
    central = sum(grid.blob(side * 0.28, 0.0, 0.24, 0.45) for side in (-1, 1))
    return 0.75 * net * (0.45 + 0.55 * central)


_FINDINGS: dict[str, Callable[[Grid, np.random.Generator, Array], Array]] = {
    "normal": lambda grid, rng, depth: grid.zeros(),
    "covid19": _covid19,
    "tb": _tb,
    "bp": _bp,
    "vp": _vp,
}


def _confounders(grid: Grid, rng: np.random.Generator, source: str, outside: Array) -> Array:
    """Markers of a source outside the lungs, as grey value to add: a letter, a cable, a border, a haze."""
    markers = Image.new("L", (grid.size, grid.size))
    pen = ImageDraw.Draw(markers)
    size = grid.size
    shift = rng.uniform(-0.03, 0.03, 2) * size
    if source == "north":  # a letter R beside the patient's right shoulder
        x, y = 0.05 * size + shift[0], 0.07 * size + shift[1]
        letter = [(0, 0.12), (0, 0), (0.06, 0), (0.07, 0.03), (0.06, 0.06), (0, 0.06), (0.03, 0.06), (0.07, 0.12)]
        pen.line([(x + a * size, y + b * size) for a, b in letter], fill=255, width=max(1, size // 48))
    elif source == "south":  # electrode leads of a bedside image, across the shoulders
        for side in (0.06, 0.94):
            bend = side + rng.uniform(-0.02, 0.02)
            lead = [(side * size, 0), (bend * size, 0.25 * size), (side * size, 0.6 * size)]
            pen.line(lead, fill=200, width=max(1, size // 64))
            pad = 0.03 * size
            pen.ellipse([bend * size - pad, 0.25 * size - pad, bend * size + pad, 0.25 * size + pad], fill=255)
    else:  # collimator edges: bright bars above and below
        bar = int(rng.uniform(0.03, 0.06) * size)
        pen.rectangle([0, 0, size, bar], fill=170)
        pen.rectangle([0, size - bar, size, size], fill=170)
    haze = {"north": 0.0, "south": 0.25, "east": -0.15}[source] * np.clip(np.abs(grid.x) - 0.55, 0, 1)
    return np.asarray((np.asarray(markers, dtype=np.float32) / 255 + haze) * outside, dtype=np.float32)


def draw_phantom(
    label: str,
    patient: int,
    image: int = 0,
    *,
    size: int = 128,
    seed: int = 0,
    confounder_strength: float = 0.5,
    source: str = "",
) -> Phantom:
    """Draw one image of one patient; the same arguments give the same image.

    Args:
        label: one of the five classes.
        patient: number of the patient; fixes the anatomy.
        image: number of the image; fixes exposure, vessels and lesions.
        size: height and width in pixels.
        seed: seed of the whole set.
        confounder_strength: 0 draws no markers of the source, 1 draws them at full density.
        source: one of ``SOURCES`` instead of one that is drawn with odds that depend on the label.
    """
    grid = Grid.of(size)
    body = Anatomy.draw(np.random.default_rng(stable_hash("anatomy", seed, patient)))
    rng = np.random.default_rng(stable_hash("film", seed, label, patient, image))
    markers = np.random.default_rng(stable_hash("marks", seed, label, patient, image))
    drawn = str(markers.choice(SOURCES, p=_SOURCE_ODDS[label]))
    source = source or drawn

    sides = {side: grid.fill(body.lung(side)) for side in (-1, 1)}
    heart = draw_heart(grid, body)
    lungs = np.clip(sides[-1] + sides[1], 0, 1) * np.clip(1.4 - 1.6 * heart, 0, 1)
    depth = np.minimum(np.abs(0.66 * body.width - np.abs(grid.x)), 0.5)
    lesion = _FINDINGS[label](grid, rng, depth) * lungs

    shoulders = 0.95 * body.width + 0.14 * body.obesity * (0.3 + grid.y)
    neck = 0.30 + 2.6 * np.clip(grid.y + 0.93, 0, 1)
    thorax = 1 / (1 + np.exp((np.abs(grid.x) - np.minimum(shoulders, neck)) / 0.025))
    tissue = thorax * (0.80 + 0.2 * body.obesity - 0.25 * np.clip(np.abs(grid.x) - 0.55, 0, 1))
    spine = np.exp(-((grid.x / 0.085) ** 4)) * (0.75 + 0.25 * np.cos(grid.y * 40)) * thorax
    trachea = np.exp(-((grid.x / 0.05) ** 4)) * (grid.y < -0.22)
    aeration = rng.uniform(0.55, 0.78)
    attenuation = (
        tissue
        - aeration * lungs * (1 + 0.06 * grid.noise(rng, 0.25))
        + 0.42 * heart
        + 0.20 * spine
        - 0.16 * trachea
        + rng.uniform(0.16, 0.26) * (draw_ribs(grid, body) + draw_shoulder_blades(grid, body)) * thorax
        + draw_abdomen(grid, rng, body, lungs) * thorax
        + rng.uniform(0.16, 0.26) * draw_vessels(grid, rng, lungs)
        + rng.uniform(0.34, 0.60) * lesion
        + 0.02 * grid.noise(rng, 0.5)
    )
    density = 1 - np.exp(-rng.uniform(0.9, 1.5) * np.clip(attenuation, 0, None))
    strength, grain = rng.uniform(0.006, 0.015), grid.noise(rng, 0.006)
    grain += 0.5 * rng.standard_normal(density.shape).astype(np.float32)
    density = gaussian_filter(density, 0.003 * size) + strength * grain
    low, high = rng.uniform(0.0, 0.12), rng.uniform(0.82, 1.0)
    span = np.percentile(density, [0.5, 99.5])
    image_values = low + (high - low) * np.clip((density - span[0]) / (span[1] - span[0]), 0, 1)
    marked = confounder_strength * 0.6 * _confounders(grid, markers, source, 1 - lungs)
    image_values = np.clip(image_values + marked, 0, 1)
    truth = lungs > 0.5
    return Phantom(np.round(image_values * 255).astype(np.uint8), truth, (np.abs(lesion) > 0.25) & truth, source)


def write_phantoms(folder: Path, count: int, size: int, seed: int, confounder_strength: float) -> pd.DataFrame:
    """Draw a set of phantoms as PNG files with an ``index.csv``, like any real source on disk.

    Every third patient has two images. Lung masks are in ``masks/``, lesion masks in ``lesions/`` (0 or 255).

    Args:
        folder: written to; existing files of the same set are overwritten.
        count: number of images, spread evenly over the five classes.
        size: height and width in pixels.
        seed: seed of the set; the same arguments give the same bytes.
        confounder_strength: see :func:`draw_phantom`.

    Returns:
        The index: columns path, label, source, patient, mask_path.
    """
    for kind in ("images", "masks", "lesions"):
        (folder / kind).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> tuple[str, ...]:
        label = CLASSES[number % len(CLASSES)]
        turn = number // len(CLASSES)
        patient, image = (turn // 4) * 3 + min(turn % 4, 2), int(turn % 4 == 3)
        name = f"{label}_{patient:04d}_{image}.png"
        key = patient * len(CLASSES) + CLASSES.index(label)
        phantom = draw_phantom(label, key, image, size=size, seed=seed, confounder_strength=confounder_strength)
        masks = {"masks": phantom.lungs, "lesions": phantom.lesions}
        pictures = {"images": phantom.image} | {kind: mask.astype(np.uint8) * 255 for kind, mask in masks.items()}
        for kind, picture in pictures.items():
            file = folder / kind / name
            file.unlink(missing_ok=True)  # another run may share it by a hard link
            Image.fromarray(picture).save(file, compress_level=1 if kind == "images" else 6)
        return f"images/{name}", label, phantom.source, f"{label}_{patient:04d}", f"masks/{name}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(bar(pool.map(write, range(count)), count, "drawing phantoms", unit="phantoms"))
    index = pd.DataFrame(rows, columns=["path", "label", "source", "patient", "mask_path"])
    write_csv(folder / "index.csv", index)
    return index
