"""Stage 2: train a classifier on segmented images (section 4.2) and write what it predicts."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manet_lib.data.augment import Pairs, classification_augmentation
from manet_lib.data.manifest import read_manifest
from manet_lib.data.seeds import stable_hash
from manet_lib.data.store import Store
from manet_lib.models import classifier_of
from manet_lib.params import Params
from manet_lib.paths import RunPaths, weights_of
from manet_lib.training.checkpoint import load_weights, save_weights
from manet_lib.training.distributed import Ranks, run_step
from manet_lib.training.evaluate import evaluate, evaluation_loader
from manet_lib.training.loop import Batch, Training, fit, loss_scaler, prepare, use_threads
from manet_lib.workflow.parameters import view
from manet_lib.workflow.records import Step, atomic_path, read_table
from manet_lib.workflow.steps import classification_step


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0], batch[1]).float(), batch[2])


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, classes) of a batch, for :func:`manet_lib.training.evaluate.evaluate`."""
    return model(batch[0], batch[1])


def segmented_pairs(
    params: Params, paths: RunPaths, manifest: pd.DataFrame, sides: list[str], trial: int | None = None
) -> Pairs:
    """Segmented images and predicted masks of some sides of the split, as stage 2 sees them.

    Args:
        params: classes, normalisation; for training, those of the augmentation.
        paths: of the run.
        manifest: of the run.
        sides: of `train`, `val`, `test`.
        trial: augmented for the training of this trial, or None for evaluation.
    """
    chosen = manifest[manifest["split"].isin(sides)]
    place = {name: number for number, name in enumerate(params.classes)}
    return Pairs(
        Store.open(paths.store).images,
        np.load(paths.clean_masks, mmap_mode="r"),
        chosen.index.to_numpy(),
        chosen["label"].map(place).to_numpy(np.int64, copy=True),
        params,
        segmented=True,
        augmentation=None if trial is None else classification_augmentation(params),
        key=(0, 0) if trial is None else (params.seed, trial),
        names=chosen["image_id"].tolist(),
    )


def train_classifier(params: Params, paths: RunPaths, model: str, trial: int) -> bool:
    """Train one model in one trial and predict the validation and test images.

    SGD with momentum, cosine from the initial learning rate to 0, cross entropy (section 4.2). The weights of the
    last epoch are tested; nothing is chosen on the validation images.

    Returns:
        Whether there was anything to do.
    """
    step = classification_step(params, paths, model, trial)
    read = view(step.params, "classification")
    return run_step(step, params, lambda ranks: _train(read, paths, step, ranks, model, trial))


def _train(params: Params, paths: RunPaths, step: Step, ranks: Ranks, name: str, trial: int) -> None:
    use_threads(params)
    manifest = read_manifest(paths)
    torch.manual_seed(stable_hash("stage 2", params.seed, trial))
    model = prepare(classifier_of(params, name, params.pretrained), params, ranks.device)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=params.learning_rate,
        momentum=params.momentum,
        weight_decay=params.weight_decay,
    )
    validation = segmented_pairs(params, paths, manifest, ["val"])
    loader = evaluation_loader(validation, params, ranks, params.batch_size)

    def validate(network: nn.Module) -> dict[str, float]:
        _, logits = evaluate(network, loader, params, ranks, logits_of)
        truth = torch.from_numpy(validation.targets)
        scores = torch.from_numpy(logits)
        return {
            "val_loss": F.cross_entropy(scores, truth).item(),
            "val_accuracy": (scores.argmax(1) == truth).double().mean().item(),
        }

    training = Training(
        folder=paths.classifier(name, trial),
        key=step.key(),
        seeds=(params.seed, trial),
        model=model,
        optimiser=optimiser,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=params.epochs),
        loss=_loss,
        validate=validate,
        data=segmented_pairs(params, paths, manifest, ["train"], trial),
        epochs=params.epochs,
        batch_size=params.batch_size,
        scaler=loss_scaler(params, ranks.device),
    )
    history = fit(training, params, ranks)
    held_out = segmented_pairs(params, paths, manifest, ["val", "test"])
    loader = evaluation_loader(held_out, params, ranks, params.batch_size)
    rows, logits = evaluate(model, loader, params, ranks, logits_of)
    if ranks.leads:
        _write(params, paths, manifest.loc[rows], logits, name, trial)
        facts = {"key": training.key, "val_accuracy": float(history["val_accuracy"].iloc[-1])}
        save_weights(weights_of(paths.classifier(name, trial)), model, facts)


def _write(
    params: Params, paths: RunPaths, images: pd.DataFrame, logits: np.ndarray, model: str, trial: int
) -> None:
    probability = torch.from_numpy(logits).double().softmax(1).numpy()
    table = images[["image_id", "split", "label"]].copy()
    table["predicted"] = [params.classes[number] for number in probability.argmax(1)]
    for number, label in enumerate(params.classes):
        table[f"p_{label}"] = probability[:, number]
    with atomic_path(paths.predictions(model, trial)) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")


def read_predictions(paths: RunPaths, model: str, trial: int, side: str = "test") -> pd.DataFrame | None:
    """Predictions of a training run: image_id, split, label, predicted, p_<class>; None if it has not been run."""
    path = paths.predictions(model, trial)
    if not path.is_file():
        return None
    table = read_table(path)
    return table[table["split"] == side].reset_index(drop=True)


def load_classifier(params: Params, paths: RunPaths, model: str, trial: int) -> nn.Module:
    """A trained classifier in evaluation mode, on the processor.

    Raises:
        UserError: it has not been trained.
    """
    network = classifier_of(params, model)
    load_weights(weights_of(paths.classifier(model, trial)), network)
    return network.eval()
