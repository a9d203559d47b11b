"""Which parameters each step reads, and which of them its result depends on."""

from typing import Any

from manet_lib.params import Params

_DATA = (
    *("seed", "data_source", "data_dir", "data_csv", "classes", "max_per_class"),
    *("composition", "download", "mirror"),
)

PHANTOM_ONLY = ("phantom_images", "phantom_size", "confounder_strength")

_MACHINE = (
    *("accelerator", "nodes", "devices", "accumulate", "sync_batchnorm", "restarts", "timeout_minutes"),
    *("precision", "channels_last", "compile", "threads", "num_workers", "checkpoint_minutes", "old_code"),
)

_VIEW = ("view", "attention_mask")

_SHOWN = ("classes", "models", "trials", "normalisation", "count_include_pad", "mask_attention", *_VIEW)

_AFFINE = ("shift", "scale", "augment_probability", "joint_affine", "border")

_FORWARD = ("nodes", "devices", "accumulate", "accelerator", "precision", "channels_last")

READ_BY: dict[str, tuple[str, ...]] = {
    "store": (*_DATA, *PHANTOM_ONLY, "image_size", "mask_lungs"),
    "manifest": (
        *("seed", "classes", "data_source", "composition", "drop_identical", "split"),
        *("val_fraction", "test_fraction", "seg_test_fraction"),
    ),
    "segmentation": (
        *("seed", "normalisation", "seg_encoder", "seg_epochs", "seg_batch_size", "seg_learning_rate"),
        *("seg_weight_decay", "seg_rotation", *_AFFINE, *_MACHINE),
    ),
    "raw_masks": ("normalisation", "seg_encoder", "seg_batch_size", *_FORWARD, "threads"),
    "clean_masks": ("min_object_fraction",),
    "classification": (
        *("seed", "classes", "normalisation", "epochs", "batch_size"),
        *("learning_rate", "learning_rates", "momentum"),
        *("weight_decay", "rotation", "brightness", "contrast", "remask", "pretrained", "count_include_pad"),
        *("mask_attention", *_VIEW, *_AFFINE, *_MACHINE),
    ),
    "attention": (*_SHOWN, "cam_per_class"),
    "probes": (*_SHOWN, "probe_per_class"),
    "mask_scores": ("data_source", "data_dir", "data_csv", "reference_masks"),
    "confounders": (
        *(*_SHOWN, "seed", "image_size", "seg_encoder", "min_object_fraction", "audit_views", *PHANTOM_ONLY),
        *("data_source", "batch_size", *_FORWARD, "threads", "num_workers"),
    ),
    "perturbed_masks": (*_SHOWN, "batch_size", *_FORWARD, "threads", "num_workers"),
    "cost": ("cost_repeats", "models", "image_size", "batch_size", *_FORWARD, "compile", "threads"),
}
"""Which parameters each step reads. A step sees no others, so this list cannot fall behind the code."""

NO_EFFECT = {
    *("accelerator", "num_workers", "threads", "download", "mirror", "restarts", "timeout_minutes"),
    *("checkpoint_minutes", "old_code"),
}
"""Parameters that say where to compute, not what: changing them leaves finished steps valid."""


def view(params: Params, step: str) -> Params:
    """The parameters that ``step`` declares in ``READ_BY``; reading any other raises AttributeError."""
    part = params.model_copy()
    part.__dict__ = {name: getattr(params, name) for name in READ_BY[step]}
    return part


def fingerprint(params: Params, step: str) -> dict[str, Any]:
    """The values on which the result of ``step`` depends, as plain JSON values."""
    return {name: getattr(params, name) for name in READ_BY[step] if name not in NO_EFFECT}


def default_of(name: str) -> Any:
    """The value assumed for records that are older than a parameter: its default; None for an unknown name."""
    field = Params.model_fields.get(name)
    return None if field is None or field.is_required() else field.get_default()
