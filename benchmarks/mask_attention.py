"""What mask attention and CBAM cost in a training step, beside the plain model, in one run.

    python benchmarks/mask_attention.py --image-size 128 --batch-size 16 --repeats 30

Steps are interleaved and their order shuffled within each round; the ratio is taken round by round. The result is
written to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from manet_lib.models import create_model, model_names
from manet_lib.training.distributed import device_name, pick_device
from manet_lib.training.timing import increase, interleaved_steps

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of mask attention in a training step.")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--backbones", nargs="+", default=["resnet34", "resnet50", "vgg16", "inceptionv3"])
    options = parser.parse_args()
    device = pick_device(options.accelerator)
    results = []
    for backbone in options.backbones:
        names = [name for name in model_names() if name.partition("_")[0] == backbone]
        models = {name: create_model(name) for name in names}
        if options.compile:
            models = {name: torch.compile(model) for name, model in models.items()}
        seconds = interleaved_steps(
            models, options.image_size, options.batch_size, options.repeats, device, bf16=options.bf16
        )
        for name in names[1:]:
            median, low, high = increase(seconds, name, backbone)
            results.append({"model": name, "increase_pct": median, "interval_95": [low, high]})
            print(f"{name}: {median:+.2f}% over {backbone} (95% interval {low:+.2f}% to {high:+.2f}%)", flush=True)
    record = {
        "device": device_name(device),
        "torch": torch.__version__,
        **vars(options),
        "results": results,
    }
    mode = ("-bf16" if options.bf16 else "") + ("-compile" if options.compile else "")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"mask_attention-{device.type}-{options.image_size}{mode}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {file.relative_to(RESULTS.parent.parent)}")


if __name__ == "__main__":
    main()
