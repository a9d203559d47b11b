"""The steps of a run: what each reads, writes and runs, and so what it depends on. No work is done here."""

from functools import partial

from manet_lib.params import Params
from manet_lib.paths import RunPaths, log_of, weights_of
from manet_lib.workflow.digests import device_digest, images_digest, pretrained_digest, reference_masks_digest
from manet_lib.workflow.records import Step


def store_step(params: Params, paths: RunPaths) -> Step:
    """Images and annotated masks, decoded and resized; depends on the user's own files, too."""
    outputs = [paths.store / name for name in ("images.npy", "masks.npy", "index.csv")]
    outside = partial(images_digest, params)
    return Step("store", paths.store, params, [], outputs, ("manet_lib.data.store",), outside=outside)


def manifest_step(params: Params, paths: RunPaths) -> Step:
    """One row per image, and its side of the split."""
    inputs = [store_step(params, paths)]
    return Step("manifest", paths.manifest_dir, params, inputs, [paths.manifest], ("manet_lib.data.manifest",))


def segmentation_step(params: Params, paths: RunPaths) -> Step:
    """Stage 1, trained and tested."""
    inputs = [store_step(params, paths), manifest_step(params, paths)]
    outputs = [weights_of(paths.segmentation), log_of(paths.segmentation), paths.iou]
    modules = ("manet_lib.training.segmentation",)
    return Step("segmentation", paths.segmentation, params, inputs, outputs, modules)


def raw_masks_step(params: Params, paths: RunPaths) -> Step:
    """Lung masks of all images as stage 1 predicts them."""
    inputs = [store_step(params, paths), segmentation_step(params, paths)]
    folder, modules = paths.raw_masks.parent, ("manet_lib.training.segmentation",)
    return Step("raw_masks", folder, params, inputs, [paths.raw_masks], modules)


def clean_masks_step(params: Params, paths: RunPaths) -> Step:
    """Lung masks after post-processing."""
    inputs, folder = [raw_masks_step(params, paths)], paths.clean_masks.parent
    return Step("clean_masks", folder, params, inputs, [paths.clean_masks], ("manet_lib.data.postprocess",))


def classification_step(params: Params, paths: RunPaths, model: str, trial: int) -> Step:
    """One model of stage 2, trained and tested in one trial."""
    params = for_model(params, model)
    folder = paths.classifier(model, trial)
    inputs = [store_step(params, paths), manifest_step(params, paths), clean_masks_step(params, paths)]
    outputs = [weights_of(folder), log_of(folder), paths.predictions(model, trial)]
    modules, extra = ("manet_lib.training.classification",), (("model", model), ("trial", trial))
    outside = partial(pretrained_digest, params)
    return Step("classification", folder, params, inputs, outputs, modules, extra, outside)


def for_model(params: Params, model: str) -> Params:
    """The parameters that a model is trained with: ``learning_rate`` is its own."""
    rate = params.learning_rates.get(model, params.learning_rate)
    return params.model_copy(update={"learning_rate": rate, "learning_rates": {}})


def audit_steps(params: Params, paths: RunPaths) -> list[Step]:
    """Every model and trial of a run, trained once more with each of ``audit_views``."""
    return [
        classification_step(params.seeing(view), paths.seeing(view), model, trial)
        for view in params.audit_views
        for model, trial in grid(params)
    ]


def _networks(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> list[Step]:
    """What is read to look at trained networks: images, masks and weights."""
    before = [store_step(params, paths), manifest_step(params, paths), clean_masks_step(params, paths)]
    return before + [classification_step(params, paths, *pair) for pair in trained]


def attention_step(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> Step:
    """Scores of the heat maps of some training runs."""
    inputs = _networks(params, paths, trained)
    outputs = [paths.attention / "scores.csv", paths.attention / "controls.csv"]
    modules = ("manet_lib.attention.scores", "manet_lib.training.classification")  # whose networks it runs
    return Step("attention", paths.attention, params, inputs, outputs, modules)


def probes_step(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> Step:
    """Probes of the heat maps of some training runs."""
    inputs = _networks(params, paths, trained)
    outputs = [paths.probes / "faithfulness.csv", paths.probes / "sanity.csv"]
    modules = ("manet_lib.attention.probes", "manet_lib.training.classification")
    return Step("probes", paths.probes, params, inputs, outputs, modules)


def mask_scores_step(params: Params, paths: RunPaths) -> Step:
    """Masks of stage 1 beside masks that it was not trained on; depends on the user's reference masks, too."""
    before = (store_step, manifest_step, raw_masks_step, clean_masks_step)
    inputs, outputs = [make(params, paths) for make in before], [paths.mask_scores / "scores.csv"]
    outside = partial(reference_masks_digest, params)
    modules = ("manet_lib.studies.perturbed_masks",)
    return Step("mask_scores", paths.mask_scores, params, inputs, outputs, modules, outside=outside)


def perturbed_masks_step(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> Step:
    """What some training runs predict for the test images with perturbed masks."""
    inputs = _networks(params, paths, trained)
    outputs, modules = [paths.perturbed_masks / "predictions.csv"], ("manet_lib.studies.perturbed_masks",)
    return Step("perturbed_masks", paths.perturbed_masks, params, inputs, outputs, modules)


def confounders_step(params: Params, paths: RunPaths) -> Step:
    """What all training runs of a run predict for its test phantoms with other markers."""
    before = (store_step, manifest_step, segmentation_step, clean_masks_step)
    inputs = [make(params, paths) for make in before]
    inputs += [classification_step(params, paths, *pair) for pair in grid(params)] + audit_steps(params, paths)
    outputs, modules = [paths.confounders / "predictions.csv"], ("manet_lib.studies.confounders",)
    return Step("confounders", paths.confounders, params, inputs, outputs, modules)


def cost_step(params: Params, paths: RunPaths) -> Step:
    """Counts of all models, and running times of the run's; depends on the device, too."""
    outputs = [paths.cost / "counts.csv", paths.cost / "seconds.csv"]
    modules, extra = ("manet_lib.training.cost",), (("threads", params.threads),)
    outside = partial(device_digest, params)
    return Step("cost", paths.cost, params, [], outputs, modules, extra, outside)


def all_steps(params: Params, paths: RunPaths) -> list[Step]:
    """Every step of a run, in an order in which each comes after what it reads."""
    single = (store_step, manifest_step, segmentation_step, raw_masks_step, clean_masks_step)
    runs = [classification_step(params, paths, *pair) for pair in grid(params)]
    runs += audit_steps(params, paths)
    scores = [
        attention_step(params, paths, grid(params)),
        probes_step(params, paths, grid(params)),
        mask_scores_step(params, paths),
        perturbed_masks_step(params, paths, grid(params)),
        confounders_step(params, paths),
    ]
    return [*(make(params, paths) for make in single), *runs, *scores, cost_step(params, paths)]


def grid(params: Params) -> list[tuple[str, int]]:
    """The training runs of stage 2 that a run is made of: (model, trial), in Table 2's order."""
    return [(model, trial) for model in params.models for trial in params.trial_numbers]


def training_runs(params: Params) -> list[tuple[str, str, int]]:
    """All training runs of stage 2, (view, model, trial): the run's own, with view "", and the audit's."""
    return [(seen, model, trial) for seen in ("", *params.audit_views) for model, trial in grid(params)]
