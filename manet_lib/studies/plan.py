"""The file of a study, ``params/studies/NAME.yaml``: what is compared, and how it is decided, before it is run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manet_lib.params import ModelName, Params, Positive, UserError, Variant, load_params, read_yaml
from manet_lib.paths import params_file, project_root
from manet_lib.workflow.parameters import NO_EFFECT

TESTS = {
    "as trained": "the test images of the training run's own split",
    "without": "the same phantoms without markers",
    "swapped": "the same phantoms with the markers of a source that is rare in their class",
    "shrunk": "as trained, the lung masks shrunk by 3% of the side",
    "grown": "as trained, the lung masks grown by 3% of the side",
    "mismatched": "as trained, each image with the lung mask of another",
    "outside": "all images of another hospital, whose masks come from the same stage 1",
    "outside, annotated masks": "those of them with an annotated mask, with that mask",
    "outside, matched": "as outside, grey values mapped so that their distribution is that of the training images",
}
"""What the networks of a study are tested on."""

Rows = dict[str, list[str]]
"""Which images of a listing: the values that are kept, by column."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Arm(_Part):
    """One of the networks that are compared; all arms of a condition see the same images in the same order."""

    model: ModelName
    """Its architecture."""
    view: Literal["lungs", "whole", "background", "shape"] = "lungs"
    """What it sees of an image."""
    attention_mask: Literal["own", "ones", "mismatched"] = "own"
    """Mask of its mask attention."""
    count_include_pad: bool = True
    """Count the padding when lung masks are pooled."""
    mask_attention: Variant = "eq1"
    """Eq. 1 or one of its variants."""


class Condition(_Part):
    """Images and settings that all arms share, with everything before stage 2."""

    settings: dict[str, Any] = {}
    """Parameters, in addition to those of the study."""
    images: Rows = {}
    """Which images of the CSV the networks are trained and tested on; all, if not given."""
    outside: Rows = {}
    """Which images of the CSV are another hospital's."""


class Study(_Part):
    """A study as its file says."""

    question: str
    """What is asked."""
    decision: str
    """What would count as an answer, written before the training runs."""
    quantity: Literal["accuracy", "auc"] = "accuracy"
    """What is measured on the test images: the share classified correctly, or the area under the ROC curve."""
    margin: Positive
    """Percentage points; two arms are equivalent if the 90% interval of their difference lies within it."""
    holm: bool = False
    """Whether the p values of a condition's contrasts are adjusted by Holm, as where many variants are tried."""
    contrasts: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Pairs of arms that are compared: the first minus the second."""
    tests: list[str]
    """Names among :data:`TESTS`."""

    heat_maps: bool = False
    """Whether Grad-CAM maps of the test images are scored, too, of the trained and of an untrained network."""

    base: str
    """Parameter file on which the settings build."""
    settings: dict[str, Any] = {}
    """Parameters in place of those of the base."""
    conditions: dict[str, Condition]
    """Images and settings, by name."""
    arms: dict[str, Arm]
    """The networks that are compared, by name."""
    pairs: Annotated[int, Field(ge=2, le=100)]
    """Training runs of each arm in each condition."""
    new_images: bool = True
    """Whether each pair has its own images, split and stage 1; else initial weights and order differ alone."""

    rates: list[Positive]
    """Learning rates that each arm may have; the one with the highest validation accuracy is taken."""
    rates_chosen_in: str = ""
    """Condition in which the learning rates are chosen; each in its own, if not given."""
    rate_seeds: list[int] = [1001, 1002]
    """Seeds of the training runs that choose the learning rates; they have splits, and phantoms, of their own."""

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        compared = [arm for pair in self.contrasts for arm in pair]
        self._known("tests", self.tests, TESTS)
        self._known("contrasts", compared, self.arms)
        self._known("rates_chosen_in", [self.rates_chosen_in] * bool(self.rates_chosen_in), self.conditions)
        for name, condition in self.conditions.items():
            if bool(condition.outside) != any(test.startswith("outside") for test in self.tests):
                raise ValueError(
                    f"conditions: {name}: a test named outside... needs the key `outside` of the condition, "
                    "and the key such a test; add the one, or remove the other"
                )
        return self

    @staticmethod
    def _known(key: str, names: Iterable[str], allowed: Mapping[str, object]) -> None:
        for name in names:
            if name not in allowed:
                raise ValueError(f"{key}: {name!r} is none of {', '.join(allowed)}")

    def params(self, profile: str, condition: str, seed: int) -> Params:
        """The parameters of a training run of some condition.

        Raises:
            UserError: a setting is no parameter, or has a value that it cannot have.
        """
        own = self.settings | self.conditions[condition].settings
        models = list(dict.fromkeys(arm.model for arm in self.arms.values()))
        run = {"profile": profile, "seed": seed, "trials": 100, "audit_views": [], "learning_rates": {}}
        return load_params(params_file(self.base), **run, models=models, **own)

    def settings_of(self, condition: str, arm: str) -> str:
        """A digest of all that a training run's result depends on besides seed, learning rate and code."""
        params = self.params("any", condition, 0).model_dump(exclude_defaults=True)
        settings = [{name: value for name, value in params.items() if name not in NO_EFFECT}, self.tests]
        parts = (self.conditions[condition], self.arms[arm])
        return digest_of([*settings, *(part.model_dump(exclude_defaults=True) for part in parts)])


def digest_of(value: Any) -> str:
    """Twelve hex digits that stand for plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def study_file(name: str) -> Path:
    """The file of a study, ``params/studies/<name>.yaml``."""
    return project_root() / "params" / "studies" / f"{name}.yaml"


def study_names() -> list[str]:
    """The names of all studies of ``params/studies/``."""
    return sorted(file.stem for file in study_file("").parent.glob("*.yaml"))


def load_study(name: str) -> Study:
    """Read and check the file of a study.

    Raises:
        UserError: there is no such study, or its file cannot be used; one line with key and reason.
    """
    file = study_file(name)
    if not file.is_file():
        there = ", ".join(study_names()) or "none"
        raise UserError(f"{name}: no such study in params/studies/; there are {there}")
    try:
        study = Study.model_validate(read_yaml(file))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = " ".join(str(first["msg"]).removeprefix("Value error, ").split())
        raise UserError(f"{file.name}: {key or 'study'}: {reason}") from None
    for condition in study.conditions:
        study.params("checked", condition, 0)
    return study


def slug(text: str) -> str:
    """A name as part of a folder's: letters, digits and underscores."""
    return re.sub(r"\W+", "_", text).strip("_")
