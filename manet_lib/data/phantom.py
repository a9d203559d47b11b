"""Chest phantoms: drawn frontal images with known lungs, known lesions and known confounders.

A phantom is no reproduction of anything. It lets every step run anywhere, and because the true lesions and the
source-specific markers outside the lungs are known, it allows experiments that real radiographs cannot.

Attenuation is added up (soft tissue, spine, ribs, heart, vessels, lesions), then turned into image density with
an exposure that varies from image to image, so that brightness says little about the class.

Coordinates are those of a chest about 2 wide, of which the image shows the middle ``2 * _EXTENT``; x points to
the right of the picture and y downwards. As on any frontal image, the
patient's right lung is on the left of the picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from manet_lib.data.seeds import stable_hash
from manet_lib.params import CLASSES
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import atomic_path

Array = NDArray[np.floating[Any]]

SOURCES = ("north", "south", "east")
"""Invented hospitals. Each leaves its own markers outside the lungs; see :func:`_confounders`."""

_SOURCE_ODDS = {
    "normal": (0.70, 0.20, 0.10),
    "covid19": (0.15, 0.75, 0.10),
    "tb": (0.75, 0.15, 0.10),
    "bp": (0.10, 0.10, 0.80),
    "vp": (0.10, 0.10, 0.80),
}
_SUPERSAMPLING = 3
_NEGLIGIBLE = 16.0
"""Where a term has fallen to exp(-16), it is 0: less than a ten thousandth of a grey value."""
_EXTENT = 0.95


@dataclass(frozen=True)
class Phantom:
    """One drawn image.

    Attributes:
        image: image, uint8 (S, S); dense tissue is bright, air is dark.
        lungs: true lung mask, bool (S, S); heart and spine are not lung.
        lesions: true lesion mask, bool (S, S), inside the lungs; empty for a normal image.
        source: which of ``SOURCES`` it pretends to come from.
    """

    image: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    source: str


def _pixels(points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return (points / _EXTENT + 1) / 2 * size


@dataclass(frozen=True)
class _Grid:
    """Places of the pixels: ``x`` is one row (1, S), ``y`` one column (S, 1), so that most terms stay small."""

    x: Array
    y: Array
    size: int

    @classmethod
    def of(cls, size: int) -> _Grid:
        axis = (((np.arange(size) + 0.5) / size * 2 - 1) * _EXTENT).astype(np.float32)
        return cls(axis[None], axis[:, None], size)

    def zeros(self) -> Array:
        return np.zeros((self.size, self.size), np.float32)

    def blob(self, x: float, y: float, width: float, height: float, softness: float = 1.0) -> Array:
        """A bump of height 1 at (x, y); ``softness`` 0.2 is nearly a disc, 1 is a Gaussian."""
        reach = (2 * _NEGLIGIBLE) ** (softness / 2)
        columns = self._between(x - reach * width, x + reach * width)
        rows = self._between(y - reach * height, y + reach * height)
        across, down = (self.x[:, columns] - x) / width, (self.y[rows] - y) / height
        squared = np.square(across) + np.square(down)
        bump = self.zeros()
        bump[rows, columns] = np.exp(-(squared ** np.float32(1 / softness)) / 2)
        return bump

    def _between(self, low: float, high: float) -> slice:
        first, last = _pixels(np.array([low, high]), self.size)
        return slice(max(0, int(first)), max(0, int(last) + 1))

    def fill(self, outline: NDArray[np.float64]) -> Array:
        """Coverage in [0, 1] of a closed polygon of (x, y) points."""
        big = self.size * _SUPERSAMPLING
        canvas = Image.new("L", (big, big))
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in _pixels(outline, big).tolist()], fill=255)
        return _coverage(canvas)

    def noise(self, rng: np.random.Generator, scale: float) -> Array:
        """Smooth noise with features about ``scale`` wide, zero mean, unit spread."""
        white = scipy.fft.rfft2(rng.standard_normal((self.size, self.size)).astype(np.float32))
        width = np.pi * scale * self.size / np.sqrt(2)  # of the Gaussian that smooths, in the frequencies
        down, across = scipy.fft.fftfreq(self.size), scipy.fft.rfftfreq(self.size)
        white *= np.exp(-np.square(width * down))[:, None].astype(np.float32)
        white *= np.exp(-np.square(width * across)).astype(np.float32)
        field = scipy.fft.irfft2(white, (self.size, self.size))
        return (field - field.mean()) / max(float(field.std()), 1e-12)


def _coverage(canvas: Image.Image) -> Array:
    """A picture drawn ``_SUPERSAMPLING`` times too large, averaged to its size, in [0, 1]."""
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / np.float32(255)


@lru_cache(maxsize=4)
def _spline(count: int) -> NDArray[np.float64]:
    """What each of some points counts in each of the 240 points of the closed curve through them, (240, count)."""
    knots = np.linspace(0, 1, count + 1)
    corners = np.vstack([np.eye(count), np.eye(count)[:1]])
    return CubicSpline(knots, corners, bc_type="periodic")(np.linspace(0, 1, 240, endpoint=False))


def _closed_curve(points: list[tuple[float, float]]) -> NDArray[np.float64]:
    return _spline(len(points)) @ np.array(points)


@dataclass(frozen=True)
class _Anatomy:
    """What stays the same over the images of one patient."""

    width: float
    height: float
    heart: float
    diaphragm: float
    rib_gap: float
    rib_slope: float
    obesity: float
    jitter: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Anatomy:
        return cls(
            width=rng.uniform(0.86, 1.08),
            height=rng.uniform(0.86, 1.06),
            heart=rng.uniform(0.85, 1.15),
            diaphragm=rng.uniform(-0.05, 0.05),
            rib_gap=rng.uniform(0.125, 0.155),
            rib_slope=rng.uniform(0.15, 0.4),
            obesity=rng.uniform(0.0, 1.0),
            jitter=rng.normal(0, 0.012, (2, 10, 2)),
        )

    def lung(self, side: int) -> NDArray[np.float64]:
        """Outline of the lung on the left (side -1) or right (side 1) of the picture."""
        dome = 0.42 + self.diaphragm + (0.05 if side > 0 else 0.0)
        medial = 0.15 if side < 0 else 0.20
        shape = [
            (0.24, -0.74),
            (0.42, -0.60),
            (0.56, -0.32),
            (0.645, 0.02),
            (0.68, 0.36),
            (0.655, dome + 0.16),
            (0.44, dome + 0.01),
            (0.23, dome + 0.04),
            (medial, 0.10),
            (0.12, -0.45),
        ]
        points = np.array(shape) + self.jitter[(side + 1) // 2]
        points *= (self.width, self.height)
        return _closed_curve([(side * x, y) for x, y in points])


def _heart(grid: _Grid, body: _Anatomy) -> Array:
    ventricle = grid.blob(0.15 * body.width, 0.25, 0.235 * body.heart, 0.22 * body.heart, 0.35)
    atrium = grid.blob(-0.03, 0.22, 0.15 * body.heart, 0.23, 0.3)
    arch = grid.blob(0.09, -0.27, 0.09, 0.09, 0.35)
    mediastinum = np.exp(-(np.abs(grid.x / 0.11) ** 4)) * (grid.y < 0.5)
    return np.maximum.reduce([ventricle, atrium, 0.8 * arch, 0.75 * mediastinum])


def _ribs(grid: _Grid, body: _Anatomy) -> Array:
    """Eleven pairs of ribs, each bent twice, and the clavicles; a curve is drawn where it is, column by column."""
    distance = np.abs(grid.x[0])
    cage = 1 / (1 + np.exp((distance - 0.74 * body.width) / 0.02)) * (distance > 0.08)
    slope = body.rib_slope * distance**1.6
    ribs, columns = grid.zeros(), np.arange(grid.size)
    for index in range(11):
        top = -0.80 + index * body.rib_gap
        posterior = top - 0.10 * np.exp(-(((distance - 0.28) / 0.2) ** 2)) + slope
        anterior = top + 0.25 - 0.75 * (distance - 0.30) * (1 + 0.2 * index / 11)
        for curve, half_width, strength in ((posterior, 0.026, 1.0), (anterior, 0.030, 0.45)):
            reach = half_width * _NEGLIGIBLE**0.25
            first = _pixels(curve - reach, grid.size).astype(int)
            rows = first + np.arange(int(2 * reach / _EXTENT / 2 * grid.size) + 2)[:, None]
            offset = np.square((grid.y[np.clip(rows, 0, grid.size - 1), 0] - curve) / half_width)
            band = np.exp(-offset * offset) * (0.75 + 0.45 * np.minimum(offset, 1))
            inside = (rows >= 0) & (rows < grid.size)
            ribs[rows.clip(0, grid.size - 1), columns] += strength * band * cage * inside
    clavicle = np.abs(grid.y + (0.70 - 0.22 * (distance - 0.1) + 0.25 * (distance - 0.35) ** 2)) / 0.035
    shown = (distance > 0.07) & (distance < 0.80 * body.width)
    return ribs + 1.3 * np.exp(-np.square(np.square(clavicle))) * shown


def _shoulder_blades(grid: _Grid, body: _Anatomy) -> Array:
    """Scapulae and the heads of the upper arms: dim plates at the upper, outer border of the chest."""
    bones = grid.zeros()
    for side in (-1, 1):
        edge = [(0.60, -0.62), (0.86, -0.55), (0.80, -0.30), (0.66, 0.02), (0.58, -0.20)]
        plate = grid.fill(_closed_curve([(side * x * body.width, y * body.height) for x, y in edge]))
        bones += 0.55 * plate + 0.9 * grid.blob(side * 0.93 * body.width, -0.56 * body.height, 0.10, 0.12, 0.3)
    return bones


def _abdomen(grid: _Grid, rng: np.random.Generator, body: _Anatomy, lungs: Array) -> Array:
    """What lies below the lungs: liver and spleen, dense, and often the air of the stomach."""
    below = np.clip((grid.y - 0.38 - body.diaphragm) / 0.12, 0, 1) * (1 - lungs)
    air = grid.blob(0.36 * body.width, 0.68 + body.diaphragm, rng.uniform(0.10, 0.2), rng.uniform(0.05, 0.09), 0.4)
    air *= float(rng.choice((0.0, 0.45, 0.6)))
    return below * (np.float32(0.35) - air * (1 + 0.3 * grid.noise(rng, 0.05)))


def _vessels(grid: _Grid, rng: np.random.Generator, lungs: Array) -> Array:
    """Pulmonary vessels: branching lines from the hila that thin out towards the pleura."""
    big = grid.size * _SUPERSAMPLING
    canvas = Image.new("L", (big, big))
    pen = ImageDraw.Draw(canvas)

    def grow(x: float, y: float, angle: float, width: float, depth: int) -> None:
        length = rng.uniform(0.10, 0.17)
        end = x + length * math.cos(angle), y + length * math.sin(angle)
        ends = [(place / _EXTENT + 1) / 2 * big for place in (x, y, *end)]
        pen.line(ends, fill=int(110 + 120 * width), width=max(1, round(width * 0.022 * big)))
        if depth:
            for turn in (-1, 1):
                grow(*end, angle + turn * rng.uniform(0.15, 0.6), width * rng.uniform(0.6, 0.8), depth - 1)

    for side in (-1, 1):
        for angle in np.linspace(-1.25, 1.35, 5) + rng.normal(0, 0.12, 5):
            grow(side * 0.17, -0.02, angle if side > 0 else np.pi - angle, 1.0, 3)
    lines = _coverage(canvas)
    hila = sum(grid.blob(side * 0.19, -0.02, 0.06, 0.12) for side in (-1, 1))
    return (0.9 * gaussian_filter(lines, 0.4) + 0.45 * hila) * lungs


def _covid19(grid: _Grid, rng: np.random.Generator, depth: Array) -> Array:
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


def _tb(grid: _Grid, rng: np.random.Generator, depth: Array) -> Array:
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


def _bp(grid: _Grid, rng: np.random.Generator, depth: Array) -> Array:
    """One lobe consolidated: dense, cut off by a fissure, with air bronchograms."""
    side = int(rng.choice((-1, 1)))
    fissure = rng.uniform(-0.12, 0.08) + rng.uniform(-0.2, 0.2) * (grid.x - side * 0.4)
    below = bool(rng.random() < 0.6)
    inside = 1 / (1 + np.exp((fissure - grid.y if below else grid.y - fissure) / 0.015))
    y = rng.uniform(0.14, 0.28) if below else rng.uniform(-0.38, -0.26)
    body = grid.blob(side * rng.uniform(0.34, 0.46), y, rng.uniform(0.22, 0.30), rng.uniform(0.22, 0.30), 0.4)
    bronchi = np.clip(np.abs(grid.noise(rng, 0.05)) / 0.22, 0, 1)
    return 1.25 * body * inside * (0.72 + 0.28 * bronchi) * (grid.x * side > 0)


def _vp(grid: _Grid, rng: np.random.Generator, depth: Array) -> Array:
    """A diffuse interstitial pattern: a fine net of lines through both lungs, denser around the hila."""
    net = grid.zeros()
    for scale in (0.030, 0.045):
        net += np.exp(-((grid.noise(rng, scale) / 0.22) ** 2))
    central = sum(grid.blob(side * 0.28, 0.0, 0.24, 0.45) for side in (-1, 1))
    return 0.75 * net * (0.45 + 0.55 * central)


def _normal(grid: _Grid, rng: np.random.Generator, depth: Array) -> Array:
    return grid.zeros()


_FINDINGS: dict[str, Callable[[_Grid, np.random.Generator, Array], Array]] = {
    "normal": _normal,
    "covid19": _covid19,
    "tb": _tb,
    "bp": _bp,
    "vp": _vp,
}


def _confounders(grid: _Grid, rng: np.random.Generator, source: str, outside: Array) -> Array:
    """Markers of a source outside the lungs, as grey value to add: a letter, a cable, a border, a haze."""
    markers = Image.new("L", (grid.size, grid.size))
    pen = ImageDraw.Draw(markers)
    size = grid.size
    shift = rng.uniform(-0.03, 0.03, 2) * size
    if source == "north":  # a letter R beside the patient's right shoulder
        x, y = 0.05 * size + shift[0], 0.07 * size + shift[1]
        letter = [
            (0, 0.12),
            (0, 0),
            (0.06, 0),
            (0.07, 0.03),
            (0.06, 0.06),
            (0, 0.06),
            (0.03, 0.06),
            (0.07, 0.12),
        ]
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
        image: number of the image; fixes pose, exposure and lesions.
        size: height and width in pixels.
        seed: seed of the whole set.
        confounder_strength: 0 draws no markers of the source, 1 draws them at full density.
        source: one of ``SOURCES`` instead of one that is drawn with odds that depend on the label.
    """
    grid = _Grid.of(size)
    body = _Anatomy.draw(np.random.default_rng(stable_hash("anatomy", seed, patient)))
    rng = np.random.default_rng(stable_hash("film", seed, label, patient, image))
    markers = np.random.default_rng(stable_hash("marks", seed, label, patient, image))
    drawn = str(markers.choice(SOURCES, p=_SOURCE_ODDS[label]))
    source = source or drawn

    sides = {side: grid.fill(body.lung(side)) for side in (-1, 1)}
    heart = _heart(grid, body)
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
        + rng.uniform(0.16, 0.26) * (_ribs(grid, body) + _shoulder_blades(grid, body)) * thorax
        + _abdomen(grid, rng, body, lungs) * thorax
        + rng.uniform(0.16, 0.26) * _vessels(grid, rng, lungs)
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
        Image.fromarray(phantom.image).save(folder / "images" / name, compress_level=1)
        Image.fromarray(phantom.lungs.astype(np.uint8) * 255).save(folder / "masks" / name)
        Image.fromarray(phantom.lesions.astype(np.uint8) * 255).save(folder / "lesions" / name)
        return f"images/{name}", label, phantom.source, f"{label}_{patient:04d}", f"masks/{name}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(bar(pool.map(write, range(count)), count, "drawing phantoms", unit="phantoms"))
    index = pd.DataFrame(rows, columns=["path", "label", "source", "patient", "mask_path"])
    with atomic_path(folder / "index.csv") as temporary:
        index.to_csv(temporary, index=False)
    return index
