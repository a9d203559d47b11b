"""How long the notebooks of a run take on this machine, from their arithmetic and the machine's measured speed."""

import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from manet_lib.data.manifest import read_manifest
from manet_lib.models import create_model
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.distributed import own_gpu, pick_device, resolved_precision, set_arithmetic
from manet_lib.workflow.graph import Node, nodes

NOTEBOOK_SECONDS = {
    "01_data": 24.0,
    "02_segmentation": 16.0,
    "03_postprocessing": 11.0,
    "04_classification": 9.0,
    "05_attention_maps": 20.0,
    "06_results": 13.0,
    "07_cost": 33.0,
    "08_reach": 9.0,
    "09_masks": 11.0,
    "10_shortcut_audit": 23.0,
    "11_your_own_xray": 12.0,
}
"""Seconds of two cores for each notebook of the default run, training apart, at ``REFERENCE_SPEED``."""

REFERENCE_SPEED = 29.0
"""Images a second of :func:`speed` on the machine on which ``NOTEBOOK_SECONDS`` were measured."""

BF16_GAIN = 2.0
"""How much faster ResNet50 trains at 128 pixels in bf16 where the device computes it natively."""

SMALL_GAIN = 0.61
"""Arithmetic a second of the default run's training, as a share of ResNet50's at 128 pixels."""


def arithmetic(network: nn.Module, *inputs: torch.Tensor) -> float:
    """Floating point operations of training on the inputs: three forward passes of multiplications and additions.

    Args:
        network: on the meta device, so that nothing is computed.
        inputs: on the meta device, too.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(*inputs)
    return 3.0 * counter.get_total_flops()


def speed(device: torch.device, steps: int = 3, batch: int = 16, side: int = 128) -> float:
    """Images a second at which ResNet50 trains at 128 pixels in fp32 on a device, measured in a few seconds."""
    network = create_model("resnet50").to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    image, mask = (torch.zeros(batch, 1, side, side, device=device) for _ in range(2))
    started = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one prepares
            started = time.perf_counter()
        network(image, mask).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return batch * steps / (time.perf_counter() - started)


def training_operations(node: Node, params: Params, paths: RunPaths) -> float:
    """Floating point operations of a notebook's training run; 0 where it has none or its images are unknown."""
    own = dict(node.own)
    side = params.image_size
    counts = _image_counts(params, paths)
    if counts is None or not (own or node.name == "02_segmentation"):
        return 0.0
    with torch.device("meta"):
        image = torch.zeros(1, 1, side, side)
        if own:
            one = arithmetic(create_model(own["model"], len(params.classes)), image, torch.zeros_like(image))
            return one * params.epochs * (counts["train"] + counts["val"] / 3)
        one = arithmetic(create_segmenter(params.seg_encoder), image)
    return one * (params.seg_epochs * counts["masked"] + counts["all"] / 3)


def _image_counts(params: Params, paths: RunPaths) -> dict[str, float] | None:
    """How many images train and validate stage 2, train stage 1, and there are in all; None if not known yet."""
    if paths.manifest.is_file():
        manifest = read_manifest(paths)
        found = {side: float((manifest["split"] == side).sum()) for side in ("train", "val")}
        return found | {"masked": float((manifest["seg_split"] == "train").sum()), "all": float(len(manifest))}
    if params.data_source != "phantom":
        return None
    count, val = params.phantom_images, params.val_fraction
    found = {"train": count * (1 - val - params.test_fraction), "val": count * val}
    return found | {"masked": count * (1 - params.seg_test_fraction), "all": float(count)}


def estimates(
    params: Params, paths: RunPaths, operations: dict[str, float], images_per_second: float
) -> dict[str, float]:
    """Seconds that each notebook takes of this whole machine, all its cores at work.

    Args:
        params: of the run.
        paths: of the run.
        operations: of the training runs of each notebook to be run.
        images_per_second: of this machine, from :func:`speed`.
    """
    with torch.device("meta"):
        image = torch.zeros(1, 1, 128, 128)
        unit = arithmetic(create_model("resnet50"), image, image)
    device = pick_device(params.accelerator)
    gain = BF16_GAIN if resolved_precision(params.precision, device) in ("bf16", "fp16") else 1.0
    rate, slower = images_per_second * unit * gain * SMALL_GAIN, REFERENCE_SPEED / images_per_second
    known = nodes(params, paths)
    return {
        name: count / rate + NOTEBOOK_SECONDS.get(known[name].source.stem, 10.0) * slower
        for name, count in operations.items()
    }


def estimate(params: Params, paths: RunPaths, names: Sequence[str]) -> tuple[dict[str, float], float, float]:
    """Measure this machine and say what some notebooks of a run cost on it.

    Returns:
        Seconds of each notebook, all cores at work; floating point operations of all training runs; and the speed
        of this machine, see :func:`speed`. A process reads these plain values without loading PyTorch.
    """
    with own_gpu(pick_device(params.accelerator)) as device:
        set_arithmetic("fp32")
        images_per_second = speed(device)
    known = nodes(params, paths)
    operations = {name: training_operations(known[name], params, paths) for name in names}
    seconds = estimates(params, paths, operations, images_per_second)
    return seconds, sum(operations.values()), images_per_second
