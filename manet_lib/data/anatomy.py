"""The parts of a chest phantom that every image has: a grid to draw on, lungs, heart, ribs, vessels, abdomen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

Array = NDArray[np.floating[Any]]

_SUPERSAMPLING = 3

_NEGLIGIBLE = 16.0
"""Where a term has fallen to exp(-16), it is 0: less than a ten thousandth of a grey value."""

_EXTENT = 0.95


def _pixels(points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return (points / _EXTENT + 1) / 2 * size


@dataclass(frozen=True)
class Grid:
    """Places of the pixels: ``x`` is one row (1, S), ``y`` one column (S, 1), so that most terms stay small."""

    x: Array
    y: Array
    size: int

    @classmethod
    def of(cls, size: int) -> Grid:
        """The grid of an image of a size in pixels."""
        axis = (((np.arange(size) + 0.5) / size * 2 - 1) * _EXTENT).astype(np.float32)
        return cls(axis[None], axis[:, None], size)

    def zeros(self) -> Array:
        """A blank image, float32 (size, size)."""
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
class Anatomy:
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
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """The anatomy of a patient, sampled at random."""
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


def draw_heart(grid: Grid, body: Anatomy) -> Array:
    """The heart, as opacity from 0 to 1."""
    ventricle = grid.blob(0.15 * body.width, 0.25, 0.235 * body.heart, 0.22 * body.heart, 0.35)
    atrium = grid.blob(-0.03, 0.22, 0.15 * body.heart, 0.23, 0.3)
    arch = grid.blob(0.09, -0.27, 0.09, 0.09, 0.35)
    mediastinum = np.exp(-(np.abs(grid.x / 0.11) ** 4)) * (grid.y < 0.5)
    return np.maximum.reduce([ventricle, atrium, 0.8 * arch, 0.75 * mediastinum])


def draw_ribs(grid: Grid, body: Anatomy) -> Array:
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


def draw_shoulder_blades(grid: Grid, body: Anatomy) -> Array:
    """Scapulae and the heads of the upper arms: dim plates at the upper, outer border of the chest."""
    bones = grid.zeros()
    for side in (-1, 1):
        edge = [(0.60, -0.62), (0.86, -0.55), (0.80, -0.30), (0.66, 0.02), (0.58, -0.20)]
        plate = grid.fill(_closed_curve([(side * x * body.width, y * body.height) for x, y in edge]))
        bones += 0.55 * plate + 0.9 * grid.blob(side * 0.93 * body.width, -0.56 * body.height, 0.10, 0.12, 0.3)
    return bones


def draw_abdomen(grid: Grid, rng: np.random.Generator, body: Anatomy, lungs: Array) -> Array:
    """What lies below the lungs: liver and spleen, dense, and often the air of the stomach."""
    below = np.clip((grid.y - 0.38 - body.diaphragm) / 0.12, 0, 1) * (1 - lungs)
    air = grid.blob(0.36 * body.width, 0.68 + body.diaphragm, rng.uniform(0.10, 0.2), rng.uniform(0.05, 0.09), 0.4)
    air *= float(rng.choice((0.0, 0.45, 0.6)))
    return below * (np.float32(0.35) - air * (1 + 0.3 * grid.noise(rng, 0.05)))


def draw_vessels(grid: Grid, rng: np.random.Generator, lungs: Array) -> Array:
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
