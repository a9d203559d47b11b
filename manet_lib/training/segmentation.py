"""Stage 1: train the ResUNet (section 4.1) and predict the lung masks of all images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manet_lib.data.augment import Pairs, segmentation_augmentation
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import to_unit
from manet_lib.data.seeds import stable_hash
from manet_lib.data.store import Store
from manet_lib.evaluation.metrics import intersection_over_union
from manet_lib.models.resunet import create_segmenter, soft_dice_loss
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, weights_of
from manet_lib.training.checkpoint import load_weights, save_weights
from manet_lib.training.distributed import Ranks, run_step
from manet_lib.training.evaluate import evaluate, evaluation_loader, in_batches
from manet_lib.training.loop import Batch, Training, autocast, fit, loss_scaler, memory_named, part_size, prepare
from manet_lib.workflow.parameters import view
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import Step, atomic_path, new_array, write_csv
from manet_lib.workflow.steps import raw_masks_step, segmentation_step


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return soft_dice_loss(model(batch[0]), batch[1])


def _iou(model: nn.Module, batch: Batch) -> Tensor:
    predicted = (model(batch[0]) > 0).cpu().numpy()
    return torch.from_numpy(intersection_over_union(predicted, batch[1].cpu().numpy() > 0.5))[:, None]


def train_segmenter(params: Params, paths: RunPaths) -> bool:
    """Train the ResUNet on the image-mask pairs and measure its test IoU.

    Adam, constant learning rate, Dice loss (section 4.1). The paper has no validation set here; nothing is chosen
    on the test pairs, which are looked at once, after the last epoch.

    Returns:
        Whether there was anything to do.
    """
    step = segmentation_step(params, paths)
    return run_step(step, params, lambda ranks: _train(view(params, "segmentation"), paths, step, ranks))


def _train(params: Params, paths: RunPaths, step: Step, ranks: Ranks) -> None:
    manifest, store = read_manifest(paths), Store.open(paths.store)

    def pairs(side: str) -> Pairs:
        chosen = manifest[manifest["seg_split"] == side]
        rows = chosen.index.to_numpy()
        return Pairs(
            store.images,
            store.masks,
            rows,
            np.zeros(len(rows), np.int64),
            params,
            segmented=False,
            augmentation=segmentation_augmentation(params) if side == "train" else None,
            key=(params.seed, 0),
            names=chosen["image_id"].tolist(),
        )

    torch.manual_seed(stable_hash("stage 1", params.seed))
    model = prepare(create_segmenter(params.seg_encoder), params, ranks.device)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=params.seg_learning_rate, weight_decay=params.seg_weight_decay
    )
    train = pairs("train")
    training = Training(
        folder=paths.segmentation,
        key=step.key(),
        seeds=(params.seed, 0),
        model=model,
        optimiser=optimiser,
        scheduler=torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0),
        loss=_loss,
        validate=lambda model: {},
        data=train,
        epochs=params.seg_epochs,
        batch_size=_batch_size(params, len(train)),
        scaler=loss_scaler(params, ranks.device),
    )
    fit(training, params, ranks)
    loader = evaluation_loader(pairs("test"), params, ranks, params.seg_batch_size)
    rows, scores = evaluate(model, loader, params, ranks, _iou)
    if ranks.leads:
        table = manifest.loc[rows, ["image_id", "label"]].assign(iou=scores[:, 0])
        write_csv(paths.iou, table, "%.6f")
        facts = {"key": training.key, "test_iou": float(table["iou"].mean())}
        save_weights(weights_of(paths.segmentation), model, facts)


def _batch_size(params: Params, pairs: int) -> int:
    """The batch of stage 1; a set with fewer pairs is one batch, as far as it divides among the processes.

    Raises:
        UserError: there are fewer pairs than parts of a batch.
    """
    shares = params.nodes * params.devices * params.accumulate
    if pairs < shares:
        raise UserError(
            f"nodes × devices × accumulate: {params.nodes} × {params.devices} × {params.accumulate}, but stage 1 "
            f"has {pairs} training pairs; expected a product of at most that"
        )
    return min(params.seg_batch_size, pairs - pairs % shares)


def predict_raw_masks(params: Params, paths: RunPaths) -> bool:
    """Predict the lung masks of all images with the trained ResUNet (section 4.1).

    Returns:
        Whether there was anything to do.
    """
    step = raw_masks_step(params, paths)
    return run_step(step, params, lambda ranks: _predict(view(params, "raw_masks"), paths, ranks))


def _predict(params: Params, paths: RunPaths, ranks: Ranks) -> None:
    images = Store.open(paths.store).images
    with atomic_path(paths.raw_masks) as temporary:
        masks = new_array(temporary, images.shape)
        fill_raw_masks(masks, images, params, paths, ranks.device, part_size(params, params.seg_batch_size))
        masks.flush()


def fill_raw_masks(
    masks: NDArray[np.uint8],
    images: NDArray[np.uint8],
    params: Params,
    paths: RunPaths,
    device: torch.device,
    batch_size: int,
) -> None:
    """Write the lung masks that a run's stage 1 predicts for some images into ``masks``, uint8 (N, S, S)."""
    model = create_segmenter(params.seg_encoder)
    load_weights(weights_of(paths.segmentation), model)
    model = prepare(model, params, device).eval()
    slices = list(in_batches(len(images), batch_size))
    with torch.inference_mode(), autocast(params, device):
        for part in bar(slices, len(slices), "predicting lung masks"):
            batch = torch.tensor(images[part])[:, None].to(device)
            with memory_named("lung masks", batch, params):
                logits = model(to_unit(batch, params.normalisation))
            if not logits.isfinite().all():
                raise UserError(
                    "lung masks: the logits are not finite; set precision: bf16 or fp32, and train again"
                )
            masks[part] = (logits[:, 0] > 0).cpu().numpy()
