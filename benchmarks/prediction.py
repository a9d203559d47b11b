"""Images per second of `manet predict` on a folder over those of the two bare networks, side by side.

    python benchmarks/prediction.py --run runs/phantoms --model resnet50_ma --images 96 --repeats 10

The command reads PNG files, resizes them, finds and cleans lungs, classifies, and says which images are unlike the
training's; the bare networks get tensors that are ready, in batches of the same size, and do nothing else. Rounds
are interleaved, their order changes; the ratio is taken round by round. Without --run, networks are untrained,
whose ragged masks take longer to clean. The result is written to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manet_lib.cli import predict
from manet_lib.data.folder import images_in, read_images
from manet_lib.data.phantom import write_phantoms
from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.inference.networks import Networks
from manet_lib.inference.predict import MANet
from manet_lib.inference.release import BATCH
from manet_lib.models import create_model
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import MODELS, Params
from manet_lib.training.distributed import device_name, pick_device
from manet_lib.training.evaluate import in_batches

RESULTS = Path(__file__).parent / "results"
WARM_UP = 2


def networks(options: argparse.Namespace) -> MANet:
    if options.run is not None:
        return MANet.from_run(options.run, options.model, accelerator=options.accelerator)
    params = Params(profile="bench", image_size=options.image_size, models=[options.model], seg_encoder="resnet18")
    stages = create_segmenter(params.seg_encoder).eval(), create_model(options.model).eval()
    return MANet(Networks(params, *stages), options.accelerator)


def bare(manet: MANet, images: NDArray[np.uint8], batch: int) -> Callable[[], Any]:
    """Both networks on tensors that are ready."""
    own, device = manet.networks, torch.device(manet.networks.device)
    unit = torch.from_numpy(images)[:, None].float().to(device) / 255
    parts = [unit[part] for part in in_batches(len(unit), batch)]
    masks = [(part > 0.5).float() for part in parts]

    def work() -> None:
        with torch.inference_mode():
            for part, mask in zip(parts, masks, strict=True):
                own.segmenter(part)
                own.classifier(part, mask).cpu()

    return work


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="manet predict beside the two bare networks.")
    parser.add_argument("--run", type=Path, help="a finished run; without it, untrained networks")
    parser.add_argument("--model", default="resnet50_ma", choices=MODELS)
    parser.add_argument("--image-size", type=int, default=224, help="of untrained networks")
    parser.add_argument("--file-size", type=int, default=512, help="side of the PNG files")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--output", type=Path, help="JSON file to write instead of the one in benchmarks/results/")
    options = parser.parse_args()
    manet, rng, rounds = networks(options), np.random.default_rng(0), []
    device = pick_device(options.accelerator)
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder), options.images, options.file_size, seed=0, confounder_strength=0.5)
        files = images_in(Path(folder) / "images").images
        images = np.stack([image for _, image in read_images(files, manet.networks.params.image_size)])  # type: ignore[misc]
        works = {
            "predict": lambda: list(predict(manet, files, options.batch)),
            "bare": bare(manet, images, options.batch),
        }
        for _ in range(WARM_UP + options.repeats):
            names = list(works)
            rng.shuffle(names)
            seconds = {name: seconds_of(works[name]) for name in names}
            rounds.append((seconds["predict"], seconds["bare"]))
    times = np.array(rounds[WARM_UP:])
    ratio = times[:, 1] / times[:, 0]
    record: dict[str, Any] = {
        "device": device_name(device),
        "torch": torch.__version__,
        "command": f"python benchmarks/prediction.py {' '.join(sys.argv[1:])}",
        "speed_over_bare_networks": round(float(np.median(ratio)), 4),
        "interval_95": [round(value, 4) for value in bootstrap_interval(ratio, "median")],
        "images": len(images),
    }
    if device.type == "cuda":
        record["images_per_second"] = round(len(images) / float(np.median(times[:, 0])), 1)
    print(json.dumps(record, indent=2))
    (options.output or RESULTS / f"prediction-{device.type}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
