"""Detection of out-of-distribution images: AUROC and false alarms, by score and kind of image.

    python benchmarks/out_of_distribution.py --run runs/phantoms --model resnet50 --elsewhere ../shared/cxr

Each score is compared between the run's test images and images of other kinds: the same images rotated, flipped
top to bottom, mirrored, inverted, cut in half, or replaced by noise; photographs that scikit-image brings; and,
with --elsewhere, 200 images of a folder with an ``index.csv`` that the run was not trained on. ``source NAME``
leaves the images of a source out when the score is fitted and asks whether its test images are detected; stage 1
itself was trained with them. AUROC is the share of pairs in which the out-of-distribution image scores higher,
false alarms the share of test images above the score that 95% of the out-of-distribution images exceed. Rows are
added to ``benchmarks/results/out_of_distribution.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from torch import Tensor

from manet_lib.data.folder import read_images
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import resize
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import lung_statistics
from manet_lib.inference.networks import Networks, Outputs
from manet_lib.inference.out_of_distribution import TypicalImages
from manet_lib.inference.release import BATCH, networks_of
from manet_lib.params import MODELS
from manet_lib.paths import RunPaths, recorded_results
from manet_lib.training.distributed import device_name
from manet_lib.training.evaluate import in_batches
from manet_lib.workflow.progress import bar

Images = NDArray[np.uint8]
CHANGES: dict[str, Callable[[Images], Images]] = {
    "rotated by 90°": lambda images: np.rot90(images, axes=(1, 2)),
    "flipped top to bottom": lambda images: images[:, ::-1],
    "mirrored": lambda images: images[:, :, ::-1],
    "inverted": lambda images: 255 - images,
    "left half": lambda images: np.stack(
        [resize(image[:, : image.shape[1] // 2], image.shape) for image in images]
    ),
    "noise": lambda images: np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8),
}
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
_ELSEWHERE = 200
_FEWEST = 20


def photographs(size: int) -> Images:
    """Pictures of other things, each whole and in four quarters."""
    from PIL import Image
    from skimage import data

    from manet_lib.data.images import picture_to_grey

    images = []
    for name in PHOTOGRAPHS:
        grey = picture_to_grey(Image.fromarray(np.asarray(getattr(data, name)()).astype(np.uint8)))
        height, width = (side // 2 for side in grey.shape)
        parts = [grey, grey[:height, :width], grey[:height, width:], grey[height:, :width], grey[height:, width:]]
        images += [resize(np.ascontiguousarray(part), (size, size)) for part in parts]
    return np.stack(images)


def elsewhere(folder: Path, size: int) -> Images:
    """Images of a folder, sampled at random."""
    names = pd.read_csv(folder / "index.csv")["path"].sample(_ELSEWHERE, random_state=0)
    return np.stack([image for _, image in read_images([folder / name for name in names], size)])  # type: ignore[misc]


class Looked:
    """What the networks make of some images, and the features of stage 2's last block."""

    def __init__(self, networks: Networks, images: Images, text: str) -> None:
        kept: list[Tensor] = []
        handle = networks.classifier.cam_layer.register_forward_hook(  # type: ignore[union-attr, operator]
            lambda layer, given, made: kept.append(made.mean(dim=(2, 3)).cpu())
        )
        parts = bar(list(in_batches(len(images), BATCH)), -(-len(images) // BATCH), text)
        self.images = np.ascontiguousarray(images)
        self.outputs = Outputs.joined([networks.run(self.images[part]) for part in parts])
        handle.remove()
        self.features = torch.cat(kept).float().numpy()

    def only(self, chosen: NDArray[np.bool_]) -> Looked:
        """Some of the images."""
        part = object.__new__(Looked)
        part.images, part.features = self.images[chosen], self.features[chosen]
        names = ("masks", "features", "logits")
        part.outputs = Outputs(*(getattr(self.outputs, name)[chosen] for name in names))
        return part


def scores(known: Looked) -> dict[str, Callable[[Looked], NDArray[np.float64]]]:
    """The scores, each higher for an image that is less like the known ones."""
    first, second = (TypicalImages.fit(one, one) for one in (known.outputs.features, known.features))
    statistics = lung_statistics(known.images, known.outputs.masks)
    center, spread = statistics.mean(axis=0), statistics.std(axis=0) + 1e-9

    def beyond(looked: Looked) -> NDArray[np.float64]:
        away = (lung_statistics(looked.images, looked.outputs.masks) - center) / spread
        return np.abs(away).max(axis=1)

    return {
        "maximum probability": lambda looked: 1 - softmax(looked.outputs.logits, axis=1).max(axis=1),
        "energy": lambda looked: -logsumexp(looked.outputs.logits, axis=1),
        "lungs: area, brightness, contrast": beyond,
        "Mahalanobis, stage 2": lambda looked: second.distance(looked.features),
        "Mahalanobis, stage 1": lambda looked: first.distance(looked.outputs.features),
    }


def compared(usual: Looked, others: Looked, known: Looked) -> list[dict[str, Any]]:
    rows = []
    for name, score in scores(known).items():
        inside, outside = score(usual), score(others)
        truth = np.repeat([0, 1], [len(inside), len(outside)])
        auroc = roc_auc_score(truth, np.concatenate([inside, outside]))
        alarms = (inside > np.quantile(outside, 0.05)).mean()
        rows.append({"score": name, "auroc": round(float(auroc), 4), "false_alarms": round(float(alarms), 4)})
    return rows


def measured(run: Path, model: str, folder: Path | None, view: str) -> pd.DataFrame:
    paths, networks = RunPaths(run, run), networks_of(run, model, 1, view)
    manifest, stored = read_manifest(paths), Store.open(paths.store).images
    sides = {side: manifest[manifest["split"] == side] for side in ("train", "test")}
    sides["train"] = sides["train"].sample(min(1000, len(sides["train"])), random_state=0)
    known, usual = (Looked(networks, stored[images.index.to_numpy()], side) for side, images in sides.items())
    size, kinds = networks.params.image_size, {}
    kinds |= {name: change(usual.images) for name, change in CHANGES.items()}
    kinds["photographs"] = photographs(size)
    if folder is not None:
        kinds["images from elsewhere"] = elsewhere(folder, size)
    found: list[dict[str, Any]] = []
    for kind, images in kinds.items():
        rows = compared(usual, Looked(networks, images, kind), known)
        found += [{"kind": kind, "images": len(images)} | row for row in rows]
    for source in sorted(set(sides["test"]["source"])):
        away, fitted = (sides[side]["source"].to_numpy() == source for side in ("test", "train"))
        if min(away.sum(), (~away).sum()) >= _FEWEST:
            rows = compared(usual.only(~away), usual.only(away), known.only(~fitted))
            found += [{"kind": f"source {source}", "images": int(away.sum())} | row for row in rows]
    facts = {"usual": len(usual.images), "device": device_name(torch.device("cpu"))}
    return pd.DataFrame(found).assign(run=run.name, model=model, **facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--model", default="resnet50", choices=MODELS)
    parser.add_argument("--view", default="", help="of an audit, instead of the run's own training")
    parser.add_argument("--elsewhere", type=Path, help="folder of images with index.csv, none of them the run's")
    parser.add_argument("--output", type=Path, default=recorded_results("out_of_distribution.csv"))
    options = parser.parse_args()
    table = measured(options.run, options.model, options.elsewhere, options.view)
    if options.output.is_file():
        before = pd.read_csv(options.output)
        table = pd.concat([before[before["run"] != options.run.name], table])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output, index=False)
    shown = table[table["run"] == options.run.name]
    print(shown.pivot(index="kind", columns="score", values="auroc").to_string())
    print(shown.pivot(index="kind", columns="score", values="false_alarms").to_string())


if __name__ == "__main__":
    main()
