"""The two stages as one object: a film in, class probabilities and a heat map out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from manet_lib.artifacts import read_done
from manet_lib.attention.maps import grad_cam
from manet_lib.data.images import picture_to_grey, read_grey, stretch
from manet_lib.data.scaling import resize, seen, to_signed, to_unit
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import Params, UserError, validate
from manet_lib.paths import RunPaths, reproduce_command, weights_of
from manet_lib.postprocess import clean_mask
from manet_lib.training.checkpoint import load_weights
from manet_lib.training.classification import load_classifier


@dataclass(frozen=True)
class Prediction:
    """What MANet says of one film.

    Attributes:
        label: the most probable class.
        probabilities: of each class, in the order of the run's classes; they add up to 1.
        lung_mask: post-processed mask, bool, of the film's own size.
        heat_map: Grad-CAM map for ``label``, float32 in [0, 1], of the film's own size.
        warnings: what makes the answer doubtful, such as a film without lungs; mostly none.
    """

    label: str
    probabilities: dict[str, float]
    lung_mask: NDArray[np.bool_]
    heat_map: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


class MANet:
    """A trained segmenter and a trained classifier (section 3.1). A research tool, not a medical device."""

    def __init__(self, params: Params, segmenter: nn.Module, classifier: nn.Module) -> None:
        self.params, self.segmenter, self.classifier = params, segmenter.eval(), classifier.eval()

    @classmethod
    def from_run(cls, run_dir: str | Path, model: str = "resnet50_ma", trial: int = 1, view: str = "") -> MANet:
        """Load the networks of a run.

        Args:
            run_dir: a folder ``runs/<profile>``.
            model: one of the classifiers that the run trained.
            trial: which training of it.
            view: of an audit, to take that training instead of the run's own.

        Raises:
            UserError: the run has no such training.
        """
        paths = RunPaths(Path(run_dir), Path(run_dir))
        paths = paths.seeing(view) if view else paths
        params = _made_with(paths, model, trial)
        segmenter = create_segmenter(params.seg_encoder)
        load_weights(weights_of(paths.segmentation), segmenter)
        return cls(params, segmenter, load_classifier(params, paths, model, trial))

    def classify(self, films: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Classify some films at once, without heat maps.

        Args:
            films: uint8 (N, S, S), at the size of the networks.

        Returns:
            Class probabilities (N, classes) and post-processed lung masks, bool (N, S, S).
        """
        masks = self._lungs(films)
        return self._probabilities(*self._seen(films, masks)), masks.astype(bool)

    def _lungs(self, films: NDArray[np.uint8]) -> NDArray[np.uint8]:
        unit = to_unit(torch.tensor(films)[:, None], self.params.normalisation)
        with torch.inference_mode():
            raw = self.segmenter(unit)[:, 0].numpy() > 0
        return np.stack([clean_mask(one, self.params.min_object_fraction) for one in raw]).astype(np.uint8)

    def _seen(self, films: NDArray[np.uint8], masks: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        shown = np.stack([seen(film, mask, self.params.view) for film, mask in zip(films, masks, strict=True)])
        lungs = torch.from_numpy(masks)[:, None].float()
        if self.params.attention_mask == "ones":
            lungs = torch.ones_like(lungs)
        return to_signed(torch.from_numpy(shown)[:, None], self.params.normalisation), lungs

    def _probabilities(self, image: Tensor, lungs: Tensor) -> NDArray[np.float64]:
        with torch.inference_mode():
            return self.classifier(image, lungs).double().softmax(1).numpy()

    def predict(self, film: str | Path | Image.Image | NDArray[Any]) -> Prediction:
        """Classify one film.

        Args:
            film: a path (PNG, JPEG, DICOM, ...), a PIL image, or a grey array (H, W) of any numeric dtype.

        Raises:
            UserError: a file cannot be read.
            ValueError: an array is not (H, W), or holds what is no number.
        """
        grey = _grey(film)
        size = self.params.image_size
        small = resize(grey, (size, size))[None]
        mask = self._lungs(small)
        image, lungs = self._seen(small, mask)
        scores = self._probabilities(image, lungs)[0]
        mask = mask[0]
        heat = grad_cam(self.classifier, image, lungs, torch.tensor([int(scores.argmax())]))[0]
        none = "no lungs were found, so that the classifier saw a blank film; the answer means nothing"
        shape = (grey.shape[0], grey.shape[1])
        stretched = Image.fromarray(heat).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        return Prediction(
            self.params.classes[int(scores.argmax())],
            dict(zip(self.params.classes, map(float, scores), strict=True)),
            resize(mask, shape, smooth=False).astype(bool),
            np.asarray(stretched, dtype=np.float32),
            () if mask.any() else (none,),
        )


def _made_with(paths: RunPaths, model: str, trial: int) -> Params:
    """The parameters that the networks of a run were made with, whatever its parameter file says now."""
    folders = [paths.store, paths.segmentation, paths.clean_masks.parent, paths.classifier(model, trial)]
    values: dict[str, Any] = {"profile": paths.root.name, "models": [model]}
    for folder in folders:
        done = read_done(folder)
        if done is None:
            command = reproduce_command(paths.root.name)
            raise UserError(f"{paths.root.name}: {folder.name} has not been run; run `{command}`")
        values |= {name: value for name, value in done["parameters"].items() if name in Params.model_fields}
    return validate(values, str(paths.root.name))


def _grey(film: str | Path | Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    if isinstance(film, str | Path):
        return read_grey(Path(film))
    if isinstance(film, Image.Image):
        return picture_to_grey(film)
    array = np.asarray(film)
    if array.ndim != 2:
        raise ValueError(f"film has shape {array.shape}; expected (H, W)")
    return array if array.dtype == np.uint8 else stretch(array.astype(np.float64))
