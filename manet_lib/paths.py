"""The name of every file of a run, and of the project's folders; no other module builds such a path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from manet_lib.params import UserError

DEFAULT_PROFILE = "phantoms"
"""The profile of `make reproduce` without PARAMS."""


def project_root() -> Path:
    """The folder that holds ``params/`` and ``notebooks/``, whatever the working directory.

    It is the checkout from which the package is imported, or the nearest folder above the working directory
    that has both.

    Raises:
        UserError: neither is such a folder.
    """
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise UserError(f"{here.name}: not inside the project; change into the checkout and call again")


def output_root() -> Path:
    """Where ``runs/`` and ``figures/`` are written: the environment variable MANET_OUTPUT, or the project."""
    return Path(os.environ.get("MANET_OUTPUT") or project_root()).resolve()


def params_file(profile: str) -> Path:
    """The parameter file of a profile, ``params/<profile>.yaml``."""
    return project_root() / "params" / f"{profile}.yaml"


def reproduce_command(profile: str) -> str:
    """What a person types to run a profile whole; one without a file has its settings in its folder."""
    if profile == DEFAULT_PROFILE:
        return "make reproduce"
    usual = f"make reproduce PARAMS=params/{profile}.yaml"
    try:
        kept, root = RunPaths.of(profile).settings, project_root()
    except UserError:  # this is part of a message, which must not fail outside the project
        return usual
    if params_file(profile).is_file() or not kept.is_file():
        return usual
    return f"make reproduce PARAMS={kept.relative_to(root) if kept.is_relative_to(root) else kept}"


def sample_dir() -> Path:
    """Folder of the sample X-rays: the environment variable MANET_CXR_DIR, default ``../shared/cxr``."""
    return Path(os.environ.get("MANET_CXR_DIR") or project_root() / ".." / "shared" / "cxr")


def recorded_results(name: str) -> Path:
    """Where the results of a script in ``benchmarks/``, or those of all studies, are kept."""
    return project_root() / "benchmarks" / "results" / name


def expand(folder: str) -> Path:
    """A folder named in a parameter file: environment variables expanded, relative to the project root."""
    text = re.sub(r"\$(MANET_CXR_DIR\b|\{MANET_CXR_DIR\})", lambda _: str(sample_dir()), folder)
    return project_root() / os.path.expanduser(os.path.expandvars(text))


def _inside(*parts: str) -> cached_property[Path]:
    return cached_property(lambda run: run.root.joinpath(*parts))


@dataclass(frozen=True)
class RunPaths:
    """Every file that a run writes, by profile."""

    root: Path
    figures: Path
    audit_view: str = ""

    @classmethod
    def of(cls, profile: str) -> RunPaths:
        """The files of ``runs/<profile>/`` and ``figures/<profile>/`` under :func:`output_root`."""
        return cls(output_root() / "runs" / profile, output_root() / "figures" / profile)

    @property
    def recorded(self) -> Path:
        """Results of this profile that come with the project; see :mod:`manet_lib.report.recorded`."""
        return project_root() / "figures" / "recorded" / self.root.name

    settings = _inside("settings.yaml")
    """All parameters of the run, as last used."""

    def executed(self, node: str) -> Path:
        """An executed notebook."""
        return self.root / "notebooks" / f"{node}.ipynb"

    def node_record(self, node: str) -> Path:
        """What an executed notebook shows; see :mod:`manet_lib.workflow.graph`."""
        return self.root / "notebooks" / f"{node}.json"

    ran = _inside("notebooks", "ran")
    """Folder of empty files by which Snakemake knows what has been executed in this call."""
    phantoms = _inside("phantoms")
    """Synthetic phantoms: ``images/``, ``masks/``, ``lesions/`` and ``index.csv``."""
    store = _inside("store")
    """Folder of the image store."""
    manifest_dir = _inside("manifest")
    """Folder of the manifest."""
    manifest = _inside("manifest", "manifest.csv")
    """The manifest: one row per image."""
    segmentation = _inside("segmentation")
    """Folder of stage 1."""
    iou = _inside("segmentation", "iou.csv")
    """Intersection over union of each test pair of stage 1."""
    raw_masks = _inside("raw_masks", "masks.npy")
    """Predicted lung masks of all images, before post-processing (uint8, 0 or 1)."""
    clean_masks = _inside("clean_masks", "masks.npy")
    """Predicted lung masks of all images, after post-processing (uint8, 0 or 1)."""

    def classifier(self, model: str, trial: int) -> Path:
        """Folder of one training run of stage 2."""
        return self.root / "classification" / "-".join(filter(None, (model, str(trial), self.audit_view)))

    def seeing(self, view: str) -> RunPaths:
        """The same run with the training runs of an audit, in which stage 2 sees another part of the images."""
        return replace(self, audit_view=view)

    def predictions(self, model: str, trial: int) -> Path:
        """Probabilities of validation and test images of one training run."""
        return self.classifier(model, trial) / "predictions.csv"

    attention = _inside("attention")
    """Folder of the attention scores."""
    probes = _inside("probes")
    """Folder of the probes of heat maps."""
    mask_scores = _inside("mask_scores")
    """Folder of the scores of stage 1's masks."""
    perturbed_masks = _inside("perturbed_masks")
    """Folder of what stage 2 predicts for images with perturbed masks."""
    confounders = _inside("confounders")
    """Folder of what stage 2 predicts for phantoms with other markers."""

    def release(self, model: str, trial: int) -> Path:
        """The one file of both networks for use elsewhere, with all that is to be known about them."""
        return self.root / "release" / f"{model}-{trial}" / "manet.safetensors"

    cost = _inside("cost")
    """Folder of the measured running times of Table 3."""


def log_of(folder: Path) -> Path:
    """The CSV log of a training run: one row per epoch."""
    return folder / "log.csv"


def timing_of(folder: Path) -> Path:
    """Seconds and images per second of each epoch; apart from the log, which is the same in every run."""
    return folder / "timing.csv"


def weights_of(folder: Path) -> Path:
    """The final weights of a training run."""
    return folder / "weights.safetensors"


def checkpoints_of(folder: Path) -> Path:
    """The folder of a training run's checkpoints."""
    return folder / "checkpoints"


def done_of(folder: Path) -> Path:
    """The file that says that the step of this folder is done."""
    return folder / "done.json"
