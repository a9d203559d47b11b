"""The two stages as one object: an image in, class probabilities and a heat map out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from manet_lib.attention.maps import grad_cam
from manet_lib.data.images import picture_to_grey, read_grey, stretch
from manet_lib.data.scaling import resize
from manet_lib.evaluation.baseline import lung_statistics
from manet_lib.inference.networks import Networks
from manet_lib.inference.release import STATISTICS, known_networks, networks_of
from manet_lib.training.distributed import pick_device, set_arithmetic

NOTE = "research software, no diagnosis"


@dataclass(frozen=True)
class Predictions:
    """What MANet predicts for some images.

    Attributes:
        labels: the most probable class of each.
        probabilities: float64 (N, classes), in the order of the run's classes; each row adds up to 1.
        masks: clean lung masks at the size of the networks, bool (N, S, S).
        distances: from the training images, 1 at the median of the validation images; NaN where nothing is known
            of these.
        warnings: for each image the reasons not to trust the prediction; usually empty.
        note: the disclaimer that belongs to every prediction.
    """

    labels: list[str]
    probabilities: NDArray[np.float64]
    masks: NDArray[np.bool_]
    distances: NDArray[np.float64]
    warnings: list[tuple[str, ...]]
    note: str = NOTE


@dataclass(frozen=True)
class Prediction:
    """What MANet predicts for one image.

    Attributes:
        label: the most probable class.
        probabilities: of each class, in the order of the run's classes; they add up to 1.
        lung_mask: clean mask, bool, of the image's own size.
        heat_map: Grad-CAM map for ``label``, float32 in [0, 1], of the image's own size.
        warnings: reasons not to trust the prediction, such as an image without lungs; usually empty.
        note: the disclaimer that belongs to every prediction.
    """

    label: str
    probabilities: dict[str, float]
    lung_mask: NDArray[np.bool_]
    heat_map: NDArray[np.float32]
    warnings: tuple[str, ...] = ()
    note: str = NOTE


class MANet:
    """A trained segmenter and a trained classifier (section 3.1). A research tool, not a medical device.

    Attributes:
        networks: both stages, on their device.
    """

    def __init__(self, networks: Networks, accelerator: str = "cpu") -> None:
        device = pick_device(accelerator)
        if device.type == "cuda":  # in full, as temperature and limits were found
            set_arithmetic("fp32")
        self.networks = networks.on(device)

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the probabilities."""
        return self.networks.params.classes

    @classmethod
    def from_run(
        cls, run_dir: str | Path, model: str = "resnet50_ma", trial: int = 1, accelerator: str = "cpu"
    ) -> MANet:
        """The networks of a run, with what :mod:`manet_lib.inference.release` finds out about them, once.

        Args:
            run_dir: a folder ``runs/<profile>``.
            model: one of the classifiers that the run trained.
            trial: which training run of it.
            accelerator: `cpu`, `cuda`, or `auto` for a GPU if there is one.

        Raises:
            UserError: the run has no such training run, or its images are gone.
        """
        return cls(known_networks(Path(run_dir), model, trial), accelerator)

    @classmethod
    def from_file(cls, path: str | Path, accelerator: str = "cpu") -> MANet:
        """The networks of a file ``manet.safetensors``.

        Raises:
            UserError: it cannot be used.
        """
        return cls(Networks.load(Path(path)), accelerator)

    @classmethod
    def bare(cls, run_dir: str | Path, model: str = "resnet50_ma", trial: int = 1) -> MANet:
        """The networks of a run as trained: probabilities without temperature, and no image out of distribution.

        Args:
            run_dir: a folder ``runs/<profile>``.
            model: one of the classifiers that the run trained.
            trial: which training run of it.

        Raises:
            UserError: the run has no such training run.
        """
        return cls(networks_of(Path(run_dir), model, trial))

    def classify(self, images: NDArray[np.uint8]) -> Predictions:
        """Classify some images at once, without heat maps.

        Args:
            images: uint8 (N, S, S), at the size of the networks.
        """
        outputs, usage = self.networks.run(images), self.networks.usage
        probabilities = softmax(outputs.logits / (1.0 if usage is None else usage.temperature), axis=1)
        distances = np.full(len(images), np.nan) if usage is None else usage.typical.distance(outputs.features)
        statistics = lung_statistics(images, outputs.masks)
        return Predictions(
            [self.classes[number] for number in probabilities.argmax(axis=1)],
            probabilities,
            outputs.masks.astype(bool),
            distances,
            [self._warnings(*one) for one in zip(statistics, distances, strict=True)],
        )

    def _warnings(self, statistics: NDArray[np.float64], distance: float) -> tuple[str, ...]:
        if statistics[-1] == 0:
            return ("no lungs were found, so the prediction means nothing",)
        usage = self.networks.usage
        if usage is None:
            return ()
        found = []
        if distance > usage.farthest:
            found.append(
                f"out of distribution: distance {distance:.1f} from the training images (95% of the validation "
                f"images are below {usage.farthest:.1f})"
            )
        for name, value in zip(STATISTICS, statistics, strict=True):
            low, high = usage.limits[name]
            if not low <= value <= high:
                found.append(f"{name} {value:.3g}, in training {low:.3g} to {high:.3g}")
        return tuple(found)

    def predict(self, image: str | Path | Image.Image | NDArray[Any]) -> Prediction:
        """Classify one image.

        Args:
            image: a path (PNG, JPEG, DICOM, ...), a PIL image, or a grey array (H, W) of any numeric dtype.

        Raises:
            UserError: a file cannot be read.
            ValueError: an array is not (H, W), or holds what is no number.
        """
        grey = _grey(image)
        size = self.networks.params.image_size
        small = resize(grey, (size, size))[None]
        predictions = self.classify(small)
        heat = self.heat_maps(small, predictions)[0]
        shape = (grey.shape[0], grey.shape[1])
        stretched = Image.fromarray(heat).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        return Prediction(
            predictions.labels[0],
            dict(zip(self.classes, map(float, predictions.probabilities[0]), strict=True)),
            resize(predictions.masks[0].astype(np.uint8), shape, smooth=False).astype(bool),
            np.asarray(stretched, dtype=np.float32),
            predictions.warnings[0],
        )

    def heat_maps(self, images: NDArray[np.uint8], predictions: Predictions) -> NDArray[np.float32]:
        """Grad-CAM maps of images for the classes of their predictions, float32 (N, S, S) in [0, 1].

        Args:
            images: uint8 (N, S, S), at the size of the networks.
            predictions: from :meth:`classify` of the same images.
        """
        networks = self.networks
        image, lungs = networks.shown(images, predictions.masks.astype(np.uint8))
        targets = torch.from_numpy(predictions.probabilities.argmax(axis=1)).to(networks.device)
        return grad_cam(networks.classifier, image, lungs, targets)


def _grey(image: str | Path | Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_grey(Path(image))
    if isinstance(image, Image.Image):
        return picture_to_grey(image)
    array = np.asarray(image)
    if array.ndim != 2:
        raise ValueError(f"image has shape {array.shape}; expected (H, W)")
    return array if array.dtype == np.uint8 else stretch(array.astype(np.float64))
