"""The networks of both stages, and what is known of them, in one file: ``manet.safetensors``.

Its tensors are the weights of both stages and the features of usual images. Its header holds, as JSON,
``settings`` (classes, size, normalisation and what else an image goes through), ``usage`` (temperature, and which
images are out of distribution), ``data`` (which images were trained on, with the hash of their manifest)
and ``results`` (how well the networks did on its test images).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from manet_lib.data.postprocess import clean_mask
from manet_lib.data.scaling import seen, to_signed, to_unit
from manet_lib.inference.out_of_distribution import TypicalImages
from manet_lib.models import classifier_of
from manet_lib.models.features import image_features
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import Params, UserError, validate
from manet_lib.workflow.records import atomic_path

FORMAT = "manet 2"
SETTINGS = (
    *("data_source", "classes", "models", "image_size", "normalisation", "seg_encoder", "min_object_fraction"),
    *("view", "attention_mask", "count_include_pad", "mask_attention"),
)
"""Parameters that are needed to apply the networks to an image."""
_TYPICAL = ("mean", "directions", "variances")


@dataclass(frozen=True)
class Usage:
    """What is to be known of two networks besides their weights.

    Attributes:
        temperature: the logits of stage 2 are divided by it.
        typical: features of the training images.
        farthest: distance that 95% of the validation images stay below.
        limits: smallest and largest lung brightness, lung contrast and lung area of the training images.
        data: which images were trained on.
        results: how well the networks did on the test images.
    """

    temperature: float
    typical: TypicalImages
    farthest: float
    limits: dict[str, tuple[float, float]]
    data: dict[str, Any]
    results: dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """What both stages make of some images.

    Attributes:
        masks: clean lung masks, uint8 0 or 1, (N, S, S).
        features: of stage 1, float32 (N, F); see :func:`manet_lib.models.features.image_features`.
        logits: of stage 2, float64 (N, classes).
    """

    masks: NDArray[np.uint8]
    features: NDArray[np.float32]
    logits: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: list[Outputs]) -> Outputs:
        """The outputs of several batches as one."""
        joined = (np.concatenate([getattr(one, name) for one in parts]) for name in cls.__dataclass_fields__)
        return cls(*joined)


@dataclass(frozen=True)
class Networks:
    """Both stages in evaluation mode, the parameters of their run and, if it is known, how to use them."""

    params: Params
    segmenter: nn.Module
    classifier: nn.Module
    usage: Usage | None = None
    device: str = "cpu"

    def on(self, device: torch.device) -> Networks:
        """The same networks on a device."""
        moved = self.segmenter.eval().to(device), self.classifier.eval().to(device)
        return Networks(self.params, *moved, self.usage, str(device))

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Both stages on some images at once, uint8 (N, S, S) of the networks' size."""
        unit = to_unit(torch.tensor(images, device=self.device)[:, None], self.params.normalisation)
        with torch.inference_mode():
            lungs, features = image_features(self.segmenter, unit)
            raw = (lungs[:, 0] > 0).cpu().numpy()
            masks = np.stack([clean_mask(one, self.params.min_object_fraction) for one in raw]).astype(np.uint8)
            logits = self.classifier(*self.shown(images, masks)).double()
        return Outputs(masks, features.float().cpu().numpy(), logits.cpu().numpy())

    def shown(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """What stage 2 is given: images float (N, 1, S, S) in [-1, 1], segmented as in training, and masks."""
        pairs = zip(images, masks, strict=True)
        given = torch.from_numpy(np.stack([seen(image, mask, self.params.view) for image, mask in pairs]))
        lungs = torch.from_numpy(masks).to(self.device)[:, None].float()
        if self.params.attention_mask == "ones":
            lungs = torch.ones_like(lungs)
        return to_signed(given.to(self.device)[:, None], self.params.normalisation), lungs

    @property
    def header(self) -> dict[str, Any]:
        """Settings, usage, data and results, as the file of the networks has them."""
        usage = self.usage
        assert usage is not None, "a file without its usage could not be used"
        plain = {"temperature": usage.temperature, "farthest": usage.farthest, "limits": usage.limits}
        header = {
            "settings": {"profile": self.params.profile} | {name: getattr(self.params, name) for name in SETTINGS},
            "usage": plain | {"rest": usage.typical.rest, "usual": usage.typical.usual},
            "data": usage.data,
            "results": usage.results,
        }
        return json.loads(json.dumps(header))

    def save(self, path: Path) -> None:
        """Write everything to one file.

        Raises:
            UserError: the file cannot be written.
        """
        usage = self.usage
        assert usage is not None, "a file without its usage could not be used"
        tensors = {f"segmenter.{name}": value for name, value in self.segmenter.state_dict().items()}
        tensors |= {f"classifier.{name}": value for name, value in self.classifier.state_dict().items()}
        tensors |= {f"typical.{name}": torch.from_numpy(getattr(usage.typical, name)) for name in _TYPICAL}
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        texts = {name: json.dumps(value) for name, value in self.header.items()}
        with atomic_path(path) as temporary:
            try:
                save_file(kept, temporary, metadata={"format": FORMAT} | texts)
            except SafetensorError as error:  # what it makes of a full disk
                raise OSError(str(error)) from None
            os.umask(umask := os.umask(0))
            temporary.chmod(0o666 & ~umask)  # safetensors writes it for its owner alone

    @classmethod
    def load(cls, path: Path) -> Networks:
        """Read such a file.

        Raises:
            UserError: it is missing, damaged, or another kind of file.
        """
        header, state = _read(path)
        if header.get("format", "").startswith("manet ") and header["format"] != FORMAT:
            raise UserError(
                f"{path.name}: written by another version; `manet export --run RUN {path.name}` replaces it"
            )
        if header.get("format") != FORMAT:
            raise UserError(f"{path.name}: holds no networks of both stages; `manet export` writes such a file")
        try:
            return cls._made_of(header, state, path.name)
        except Exception as error:  # whatever part is damaged
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{path.name}: damaged ({reason}); remove it, then `manet export` writes it anew"
            ) from None

    @classmethod
    def _made_of(cls, header: dict[str, str], state: dict[str, Tensor], name: str) -> Networks:
        parts = {key: json.loads(header[key]) for key in ("settings", "usage", "data", "results")}
        params, usage = validate(parts["settings"], name), parts["usage"]
        arrays = {name: state[f"typical.{name}"].numpy() for name in _TYPICAL}
        typical = TypicalImages(**arrays, rest=usage["rest"], usual=usage["usual"])
        limits = {name: (low, high) for name, (low, high) in usage["limits"].items()}
        segmenter, classifier = create_segmenter(params.seg_encoder), classifier_of(params, params.models[0])
        for part, network in (("segmenter.", segmenter), ("classifier.", classifier)):
            own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
            network.load_state_dict(own)
        known = Usage(usage["temperature"], typical, usage["farthest"], limits, parts["data"], parts["results"])
        return cls(params, segmenter.eval(), classifier.eval(), known)


def is_own(path: Path) -> bool:
    """Whether a file holds networks of this project, of whatever version."""
    try:
        return _metadata(path).get("format", "").startswith("manet ")
    except Exception:  # safetensors has its own
        return False


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def read_header(path: Path) -> dict[str, Any]:
    """Settings, usage, data and results of such a file; nothing of another file."""
    try:
        header = _metadata(path)
        if header.get("format") != FORMAT:
            return {}
        return {name: json.loads(value) for name, value in header.items() if name != "format"}
    except Exception:  # safetensors has its own; a file that cannot be read says nothing
        return {}


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise UserError(
            f"{path.name}: no such file; `manet export --run runs/NAME {path.name}` makes one"
        ) from None
    except Exception as error:  # safetensors has its own
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path.name}: cannot be read as weights: {reason}; `manet export` writes such a file"
        ) from None
