"""The schema of a parameter file: flat keys, strict types, the paper's recipe as defaults.

Every key of a file in ``params/`` is a field of :class:`Params`; what a file leaves out keeps the value
that the paper states (or, where the paper is silent, the default that docs/departures.md lists).
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CLASSES = ("normal", "covid19", "tb", "bp", "vp")
"""The five classes of Table 1, in the order of its columns."""

CLASS_TITLES = {"normal": "Normal", "covid19": "COVID-19", "tb": "TB", "bp": "BP", "vp": "VP"}
"""How the paper prints the classes; other class names are printed as they are."""

MODELS = (
    "resnet34",
    "resnet34_ma",
    "resnet34_cbam",
    "resnet50",
    "resnet50_ma",
    "resnet50_cbam",
    "vgg16",
    "vgg16_ma",
    "inceptionv3",
    "inceptionv3_ma",
)
"""The ten rows of Table 2, in its order."""

VARIANTS = ("eq1", "resized", "maximum", "residual", "mean", "peak", "last_stage", "shortcut", "renormalised")
"""Mask attention of the paper, and its variants."""

ModelName = Literal[MODELS]  # type: ignore[valid-type]
Variant = Literal[VARIANTS]  # type: ignore[valid-type]
Fraction = Annotated[float, Field(ge=0, le=1)]
SmallFraction = Annotated[float, Field(gt=0, lt=0.5)]
Positive = Annotated[float, Field(gt=0)]


def printable(text: str) -> str:
    """A text in which every character prints, and in one line: others are written as in Python's literals."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class UserError(ValueError):
    """Something that the reader can mend; the message is one line: what, where, the way out."""

    def __str__(self) -> str:
        """The message, with characters that do not print (line ends, controls, lone surrogates) written out."""
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class Params(BaseModel):
    """All settings of a run. Defaults are the paper's; each field says what it is and where it comes from."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    """Name of the run: `runs/<profile>/` and `figures/<profile>/` are written."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the split, and with trial, epoch and image of everything random."""

    data_source: Literal["phantom", "manifest", "public"] = "phantom"
    """`phantom`: synthetic chest phantoms. `manifest`: a folder with a CSV. `public`: the paper's four sources."""
    data_dir: str = "${MANET_CXR_DIR}"
    """Folder of the images, unless they are drawn; environment variables are expanded."""
    composition: Literal["paper", "all"] = "all"
    """Every image, or from the paper's sources the images that make up its Table 1."""
    download: bool = True
    """Under `data_source: public`: fetch archives that are missing, or say what to fetch by hand."""
    mirror: str = ""
    """Under `data_source: public`: an address to fetch the archives from instead of their publishers."""
    data_csv: str = "index.csv"
    """CSV inside `data_dir` with columns path, label and optionally mask_path, patient, source, original_split."""
    classes: Annotated[list[str], Field(min_length=2)] = list(CLASSES)
    """Class names, in the order of the logits."""
    mask_lungs: Literal["check", "bright", "dark"] = "check"
    """Whether lungs are `bright` or `dark` in the masks of `mask_path`; `check` refuses what looks inverted."""
    max_per_class: Annotated[int, Field(ge=0)] = 0
    """At most so many images of each class, sampled with the seed; 0 takes all."""
    phantom_images: Annotated[int, Field(ge=10)] = 600
    """Phantoms to draw, spread evenly over the five classes."""
    phantom_size: Annotated[int, Field(ge=64, le=1024)] = 128
    """Height and width of a phantom's PNG in pixels."""
    confounder_strength: Fraction = 0.5
    """How visible the markers of the source are outside the lungs; 0 draws none."""

    image_size: Annotated[int, Field(ge=32, le=2048)] = 512
    """Height and width in pixels of what both networks see (section 2.2)."""
    drop_identical: bool = False
    """Use only the first of byte-identical images, as `public` does under `all`; Table 1 counts them all."""
    split: Literal["image", "patient"] = "image"
    """`image`: unstratified over images, as in the paper. `patient`: no patient on two sides."""
    val_fraction: SmallFraction = 0.1
    """Share of the images used for validation (section 2.3: 8:1:1)."""
    test_fraction: SmallFraction = 0.1
    """Share of the images used for testing (section 2.3: 8:1:1)."""
    seg_test_fraction: SmallFraction = 0.1
    """Share of the image-mask pairs kept for testing stage 1 (section 2.2)."""
    normalisation: Literal["min_max", "divide"] = "min_max"
    """Scaling to [0, 1]: per image by its minimum and maximum (section 2.2), or by 255."""

    seg_encoder: Literal["resnet18", "resnet34", "resnet50"] = "resnet34"
    """Encoder of the ResUNet; the paper does not name its depth."""
    seg_epochs: Annotated[int, Field(ge=1)] = 50
    """Epochs of stage 1 (section 4.1)."""
    seg_batch_size: Annotated[int, Field(ge=1)] = 64
    """Images per step of stage 1, over all devices (section 4.1)."""
    seg_learning_rate: Positive = 2.0e-4
    """Constant learning rate of Adam (section 4.1)."""
    seg_weight_decay: Annotated[float, Field(ge=0)] = 1.0e-5
    """Weight decay of Adam (section 4.1)."""
    seg_rotation: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation of a training pair of stage 1, in degrees (section 2.2)."""
    min_object_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Predicted objects smaller than this share of the image are removed (section 2.2 gives no size)."""

    models: Annotated[list[ModelName], Field(min_length=1)] = list(MODELS)
    """Rows of Table 2 to train."""
    trials: Annotated[int, Field(ge=1, le=100)] = 3
    """Training runs of each model, numbered from 1 (Table 2)."""
    epochs: Annotated[int, Field(ge=1)] = 200
    """Epochs of stage 2 (section 4.2)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images per step of stage 2, over all devices (section 4.2)."""
    learning_rate: Positive = 0.01
    """Initial learning rate of SGD, cosine to 0 (section 4.2)."""
    learning_rates: dict[ModelName, Positive] = {}
    """Initial learning rates of single models, by name, in place of `learning_rate`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD (section 4.2)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of SGD; the paper states none."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation of a training pair of stage 2, in degrees (section 2.3)."""
    brightness: Fraction = 0.2
    """Largest relative change of brightness in stage 2 (section 2.3)."""
    contrast: Fraction = 0.2
    """Largest relative change of contrast in stage 2 (section 2.3)."""
    remask: bool = True
    """Multiply by the mask again after the change of brightness, so that the background stays 0."""
    view: Literal["lungs", "whole", "background", "shape"] = "lungs"
    """What stage 2 sees: the `lungs` (the paper); for an audit the whole image, the background, or the shape."""
    audit_views: list[Literal["whole", "background", "shape"]] = []
    """Views with which all models are trained once more, for notebook 10; if empty, it shows recorded runs."""
    attention_mask: Literal["own", "ones", "mismatched"] = "own"
    """Mask of MA: the image's `own` (the paper); in an audit `ones`, or the `mismatched` one of another image."""
    pretrained: str = "none"
    """`none`, or the path of a torchvision state dict to start stage 2 from."""
    count_include_pad: bool = True
    """Count the padding when lung masks are average-pooled (Eq. 1; PyTorch's default)."""
    mask_attention: Variant = "eq1"
    """`eq1`: the paper's Eq. 1. Others are variants of it, see :mod:`manet_lib.models.variants`."""

    shift: Fraction = 0.0625
    """Largest shift of a training pair, as a share of its size (sections 2.2, 2.3)."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest relative change of scale of a training pair (sections 2.2, 2.3)."""
    augment_probability: Fraction = 0.5
    """Probability of each augmentation (sections 2.2, 2.3)."""
    joint_affine: bool = True
    """Shift, scale and rotate together with one probability, or each with its own."""
    border: Literal["constant", "reflect"] = "constant"
    """What comes in at the border under augmentation: black, or the mirrored image."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU if there is one."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share each batch, one per device (section 4.2: four GPUs)."""
    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Machines, each with `devices` processes; with more than one, start the printed command on each of them."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Parts in which each process works through its share of a batch, when memory does not hold it at once."""
    sync_batchnorm: bool = False
    """Share batch-norm statistics between processes; GPUs only."""
    restarts: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often processes that died are started again, from the last checkpoint."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0
    """A checkpoint is taken after an epoch if the last one is at least this old, and at the end of training."""
    timeout_minutes: Positive = 10.0
    """A process that does not answer for this long counts as hung."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; `auto` is bf16 where the device computes it natively, else fp32; `tf32` is
    the rounded fp32 of newer GPUs; fp16 scales the loss."""
    channels_last: bool = True
    """Memory format of the networks; no effect on results beyond rounding."""
    compile: bool = False
    """Compile the networks with torch.compile; gains nothing on a CPU."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of each training run of stage 2, which run side by side as cores allow. 0 takes all cores."""
    num_workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that load images for each device; does not change the result."""

    old_code: Literal["rerun", "keep"] = "rerun"
    """Whether steps of an earlier version of `manet_lib` are done again or kept; a message says if they are."""

    cam_per_class: Annotated[int, Field(ge=1, le=50)] = 4
    """Test images of each class, sampled at random, whose Grad-CAM maps are scored; the first one is shown."""
    probe_per_class: Annotated[int, Field(ge=1, le=20)] = 1
    """Test images of each class whose Grad-CAM maps are probed: faithfulness, and with randomised weights."""
    reference_masks: str = ""
    """Column of ``data_csv`` with other lung masks, on which nothing is trained: stage 1 is compared with them."""
    cost_repeats: Annotated[int, Field(ge=0, le=1000)] = 30
    """Interleaved pairs of training steps behind each running time of Table 3; 0 leaves the times out."""
    published: bool = False
    """The data is the paper's, so its printed numbers stand beside this run's."""
    figure_dpi: Annotated[int, Field(ge=50, le=600)] = 150
    """Resolution of PNG figures."""

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for key in ("classes", "models", "audit_views"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} names something twice; expected each name once")
        unprintable = [name for name in self.classes if name != printable(name)]
        if unprintable:
            raise ValueError(f"classes: {unprintable[0]!r} holds characters that do not print; rename it")
        if self.data_source != "manifest" and self.classes != list(CLASSES):
            raise ValueError(f"classes: {self.classes} need data_source: manifest; others have {list(CLASSES)}")
        if self.composition == "paper" and self.data_source == "phantom":
            raise ValueError(
                "composition: paper needs the paper's sources, not data_source: phantom; expected all"
            )
        if self.composition == "paper" and self.max_per_class:
            raise ValueError(f"max_per_class: {self.max_per_class}, but composition: paper takes all; expected 0")
        if self.data_source != "manifest" and self.max_per_class:
            raise ValueError(f"max_per_class: {self.max_per_class} needs data_source: manifest; expected 0")
        if self.mirror and "://" not in self.mirror:
            raise ValueError(f"mirror: {self.mirror!r} is no address; expected one that begins with https://")
        if self.published and self.composition != "paper":
            raise ValueError("published: true, but only composition: paper is the paper's data; expected false")
        shares = self.nodes * self.devices * self.accumulate
        for key in ("batch_size", "seg_batch_size"):
            if getattr(self, key) % shares:
                raise ValueError(
                    f"{key}: {getattr(self, key)} is not divisible by nodes × devices × accumulate: "
                    f"{self.nodes} × {self.devices} × {self.accumulate}; expected a multiple of {shares}"
                )
        if self.sync_batchnorm and self.accelerator == "cpu":
            raise ValueError("sync_batchnorm: true works on GPUs only, but accelerator is cpu; expected false")
        inception = any(model.startswith("inception") for model in self.models)
        if self.image_size < 75 and inception:
            raise ValueError(f"image_size: {self.image_size} is too small for Inception v3; expected 96 or more")
        if self.image_size % 32:
            raise ValueError(
                f"image_size: {self.image_size} does not fit the ResUNet; expected a multiple of 32, "
                f"such as {32 * max(3 if inception else 1, round(self.image_size / 32))}"
            )
        return self

    @property
    def at_paper_size(self) -> bool:
        """Whether results may stand beside the paper's: its data, at its size."""
        return self.published and self.image_size == 512

    def seeing(self, view: str) -> Params:
        """The same parameters with another ``view``, as an audit trains with them."""
        return self.model_copy(update={"view": view})

    @property
    def trial_numbers(self) -> range:
        """The trials of this run: 1, 2, ..., `trials`."""
        return range(1, self.trials + 1)


def validate(values: Mapping[str, Any], origin: str) -> Params:
    """Check a flat mapping of parameters.

    Args:
        values: parameter names and values, as read from YAML or injected into a notebook.
        origin: where they come from, for the message.

    Raises:
        UserError: one line with the key, its value, what was expected and the nearest known key.
    """
    for key, value in values.items():
        if key not in Params.model_fields:
            name = _on_one_line(key)
            near = difflib.get_close_matches(name, Params.model_fields, n=1, cutoff=0.5)
            hint = f"; the nearest known key is {near[0]!r}" if near else ""
            raise UserError(f"{origin}: {name}: {_short(value)} is not a known parameter{hint}")
    try:
        return Params.model_validate(dict(values))
    except ValidationError as error:
        said = [_one_line(item) for item in error.errors(include_url=False)]
        more = [f"and {len(said) - _ERRORS_SAID} more"] if len(said) > _ERRORS_SAID else []
        raise UserError(f"{origin}: " + "; ".join(said[:_ERRORS_SAID] + more)) from None


_ERRORS_SAID = 5


def some_of(names: Iterable[str]) -> str:
    """The first five of some names in one line, and how many more there are."""
    first = list(names)
    more = f" and {len(first) - 5} more" if len(first) > 5 else ""
    return f"{', '.join(first[:5])}{more}"


def _on_one_line(value: object) -> str:
    """A value as text; of a list or mapping, which may hold another many times over, only the beginning."""
    try:
        return " ".join((reprlib.repr(value) if isinstance(value, list | dict) else str(value)).split())
    except ValueError:  # an integer of thousands of digits
        return f"a very long {type(value).__name__}"


def _short(value: object) -> str:
    text = _on_one_line(f"'{value}'" if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: Any) -> str:
    message = " ".join(str(error["msg"]).removeprefix("Value error, ").split())
    if not error["loc"]:
        return message
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{key} is missing; expected a value such as {key}: phantoms"
    hint = ""
    if isinstance(error["input"], str) and error["type"] == "float_type" and _is_number(error["input"]):
        number = yaml.safe_dump(float(error["input"])).split()[0]
        hint = f"; YAML reads it as text, write it with a decimal point as {number}"
    if error["type"] == "string_type" and isinstance(error["input"], bool | int | float | date | None):
        hint = "; YAML reads yes, no, null, numbers and dates without quotes as other than text, so quote it"
    return f"{key}: {_short(error['input'])}: {message[0].lower()}{message[1:]}{hint}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, where YAML would silently keep the last, and lists given by name.

    A list of lists of lists that are each named again and again is a few bytes of YAML and does not fit memory.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor
            if isinstance(self.anchors.get(name), yaml.CollectionNode):
                raise UserError(f"*{name} repeats a list or mapping; write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise UserError(f"{_on_one_line(key_node.value)} is given twice; keep one line of it")
            seen.add(str(key_node.value))
        return super().construct_mapping(node, deep)


_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What loading a file raises that is not YAML."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat parameter file into a dictionary, unchecked but for its form.

    Raises:
        UserError: the file is missing, is not YAML, or is not a flat mapping.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        folder = path.resolve().parent
        there = ", ".join(sorted(one.name for one in folder.glob("*.yaml"))) or "none"
        meant = f"; is it params/{path.name}?" if (folder / "params" / path.name).is_file() else ""
        raise UserError(
            f"{path.name}: no such parameter file in {folder.name}/; there are {there}{meant}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from None
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None
    except _NOT_YAML as error:
        raise UserError(f"{path.name}: is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        raise UserError(f"{path.name}: the file is empty; expected lines of `key: value`, at least profile")
    if not isinstance(values, dict):
        raise UserError(f"{path.name}: expected lines of `key: value`, got {type(values).__name__}")
    return values


def load_params(path: str | Path, **overrides: Any) -> Params:
    """Read and validate a parameter file; keyword arguments take precedence over its lines.

    Raises:
        UserError: see :func:`read_yaml` and :func:`validate`.
    """
    path = Path(path)
    return validate({**read_yaml(path), **overrides}, path.name)
