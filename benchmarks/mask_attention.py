"""What mask attention and CBAM cost in a training step, beside the plain model, in one run.

    python benchmarks/mask_attention.py --image-size 128 --batch-size 16 --repeats 30

Steps are interleaved and their order shuffled within each round; the ratio is taken round by round. The result is
written to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from manet_lib.models import create_model, model_names
from manet_lib.params import Params
from manet_lib.training.distributed import device_name, pick_device
from manet_lib.training.timing import increase, interleaved_steps
from manet_lib.workflow.records import write_json

RESULTS = Path(__file__).parent / "results"


def multiplications(model: nn.Module, options: argparse.Namespace, device: torch.device) -> float:
    """Seconds that the products with the lung maps take by themselves, forward and backward: memory traffic."""
    shapes: list[torch.Size] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function in (torch.Tensor.mul_, torch.Tensor.mul, torch.Tensor.__mul__):
                shapes.append(args[0].shape)
            return function(*args, **(kwargs or {}))

    pair = [torch.empty(options.batch_size, 1, options.image_size, options.image_size, device="meta")] * 2
    with Watch(), torch.no_grad():
        copy.deepcopy(model).to("meta")(*pair)
    total = 0.0
    for shape in shapes:
        dtype = torch.bfloat16 if options.bf16 else torch.float32
        features = torch.rand(shape, dtype=dtype, device=device).to(memory_format=torch.channels_last)
        lung_map = torch.rand(shape[0], 1, *shape[2:], dtype=dtype, device=device)
        rounds = []
        for _ in range(7):
            started = time.perf_counter()
            features.mul_(lung_map)
            features * lung_map
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            rounds.append(time.perf_counter() - started)
        total += sorted(rounds)[3]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of mask attention in a training step.")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--backbones", nargs="+", default=["resnet34", "resnet50", "vgg16", "inceptionv3"])
    parser.add_argument("--output", type=Path, help="JSON file to write instead of the one in benchmarks/results/")
    options = parser.parse_args()
    device = pick_device(options.accelerator)
    params = Params(profile="bench", precision="bf16" if options.bf16 else "fp32", compile=options.compile)
    mode = ("-bf16" if options.bf16 else "") + ("-compile" if options.compile else "")
    file = RESULTS / f"mask_attention-{device.type}-{options.image_size}{mode}.json"
    results, rounds = [], {}
    for backbone in options.backbones:
        names = [name for name in model_names() if name.partition("_")[0] == backbone]
        models = {name: create_model(name) for name in names}
        products = multiplications(models[f"{backbone}_ma"], options, device)
        seconds = interleaved_steps(
            models, options.image_size, options.batch_size, options.repeats, device, params
        )
        rounds |= {name: seconds[name].round(4).tolist() for name in names}
        for name in names[1:]:
            median, low, high = increase(seconds, name, backbone)
            result = {
                "model": name,
                "increase_pct": round(median, 2),
                "interval_95": [round(low, 2), round(high, 2)],
            }
            if name.endswith("_ma"):
                result["multiplications_alone_pct"] = round(100 * products / seconds[backbone].median(), 2)
            results.append(result)
            print(result, flush=True)
        record = {
            "device": device_name(device),
            "torch": torch.__version__,
            "command": f"python benchmarks/mask_attention.py {' '.join(sys.argv[1:])}",
            "results": results,
            "seconds_of_each_round": rounds,
        }
        if options.output:  # after each backbone: a call that is ended keeps what it has measured
            write_json(options.output, record)
    if not options.output:
        write_json(file, record)


if __name__ == "__main__":
    main()
