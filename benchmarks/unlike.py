"""How well films unlike those of the training are told: AUROC and false alarms, by score and kind of film.

    python benchmarks/unlike.py --run runs/phantoms --model resnet50 --elsewhere ../shared/cxr

Each score is compared between the run's test films and films of other kinds: the same films rotated, flipped top
to bottom, mirrored, inverted, cut in half, or replaced by noise; photographs that scikit-image brings; and, with
--elsewhere, 200 films of a folder with an ``index.csv`` that the run was not trained on. ``source NAME`` leaves
the films of a source out when the score is fitted and asks whether its test films are told; stage 1 itself was
trained with them. AUROC is the share of pairs in which the unlike film scores higher, false alarms the share of
test films above the score that 95% of the unlike films exceed. Rows are added to
``benchmarks/results/unlike.csv``.
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

from manet_lib.data.folder import read_films
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import resize
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import lung_statistics
from manet_lib.evaluation.typical import TypicalFilms
from manet_lib.networks import Networks, Outputs
from manet_lib.params import MODELS
from manet_lib.paths import RunPaths, recorded_unlike
from manet_lib.progress import bar
from manet_lib.release import BATCH, networks_of
from manet_lib.training.distributed import device_name
from manet_lib.training.evaluate import in_batches

Films = NDArray[np.uint8]
CHANGES: dict[str, Callable[[Films], Films]] = {
    "rotated by 90°": lambda films: np.rot90(films, axes=(1, 2)),
    "flipped top to bottom": lambda films: films[:, ::-1],
    "mirrored": lambda films: films[:, :, ::-1],
    "inverted": lambda films: 255 - films,
    "left half": lambda films: np.stack([resize(film[:, : film.shape[1] // 2], film.shape) for film in films]),
    "noise": lambda films: np.random.default_rng(0).integers(0, 256, films.shape, dtype=np.uint8),
}
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
_ELSEWHERE = 200
_FEWEST = 20


def photographs(size: int) -> Films:
    """Pictures of other things, each whole and in four quarters."""
    from PIL import Image
    from skimage import data

    from manet_lib.data.images import picture_to_grey

    films = []
    for name in PHOTOGRAPHS:
        grey = picture_to_grey(Image.fromarray(np.asarray(getattr(data, name)()).astype(np.uint8)))
        height, width = (side // 2 for side in grey.shape)
        parts = [grey, grey[:height, :width], grey[:height, width:], grey[height:, :width], grey[height:, width:]]
        films += [resize(np.ascontiguousarray(part), (size, size)) for part in parts]
    return np.stack(films)


def elsewhere(folder: Path, size: int) -> Films:
    """Films of a folder, drawn at random."""
    names = pd.read_csv(folder / "index.csv")["path"].sample(_ELSEWHERE, random_state=0)
    return np.stack([film for _, film in read_films([folder / name for name in names], size)])  # type: ignore[misc]


class Looked:
    """What the networks make of some films, and the features of stage 2's last block."""

    def __init__(self, networks: Networks, films: Films, text: str) -> None:
        kept: list[Tensor] = []
        handle = networks.classifier.cam_layer.register_forward_hook(  # type: ignore[union-attr, operator]
            lambda layer, given, made: kept.append(made.mean(dim=(2, 3)).cpu())
        )
        parts = bar(list(in_batches(len(films), BATCH)), -(-len(films) // BATCH), text)
        self.films = np.ascontiguousarray(films)
        self.outputs = Outputs.joined([networks.run(self.films[part]) for part in parts])
        handle.remove()
        self.features = torch.cat(kept).float().numpy()

    def only(self, chosen: NDArray[np.bool_]) -> Looked:
        """Some of the films."""
        part = object.__new__(Looked)
        part.films, part.features = self.films[chosen], self.features[chosen]
        names = ("masks", "features", "logits")
        part.outputs = Outputs(*(getattr(self.outputs, name)[chosen] for name in names))
        return part


def scores(known: Looked) -> dict[str, Callable[[Looked], NDArray[np.float64]]]:
    """The scores, each higher for a film that is less like the known ones."""
    first, second = (TypicalFilms.fit(one, one) for one in (known.outputs.features, known.features))
    statistics = lung_statistics(known.films, known.outputs.masks)
    center, spread = statistics.mean(axis=0), statistics.std(axis=0) + 1e-9

    def beyond(looked: Looked) -> NDArray[np.float64]:
        away = (lung_statistics(looked.films, looked.outputs.masks) - center) / spread
        return np.abs(away).max(axis=1)

    return {
        "maximum probability": lambda looked: 1 - softmax(looked.outputs.logits, axis=1).max(axis=1),
        "energy": lambda looked: -logsumexp(looked.outputs.logits, axis=1),
        "lungs: area, brightness, contrast": beyond,
        "Mahalanobis, stage 2": lambda looked: second.distance(looked.features),
        "Mahalanobis, stage 1": lambda looked: first.distance(looked.outputs.features),
    }


def compared(usual: Looked, unlike: Looked, known: Looked) -> list[dict[str, Any]]:
    rows = []
    for name, score in scores(known).items():
        inside, outside = score(usual), score(unlike)
        truth = np.repeat([0, 1], [len(inside), len(outside)])
        auroc = roc_auc_score(truth, np.concatenate([inside, outside]))
        alarms = (inside > np.quantile(outside, 0.05)).mean()
        rows.append({"score": name, "auroc": round(float(auroc), 4), "false_alarms": round(float(alarms), 4)})
    return rows


def measured(run: Path, model: str, folder: Path | None, view: str) -> pd.DataFrame:
    paths, networks = RunPaths(run, run), networks_of(run, model, 1, view)
    manifest, images = read_manifest(paths), Store.open(paths.store).images
    sides = {side: manifest[manifest["split"] == side] for side in ("train", "test")}
    sides["train"] = sides["train"].sample(min(1000, len(sides["train"])), random_state=0)
    known, usual = (Looked(networks, images[films.index.to_numpy()], side) for side, films in sides.items())
    size, kinds = networks.params.image_size, {}
    kinds |= {name: change(usual.films) for name, change in CHANGES.items()}
    kinds["photographs"] = photographs(size)
    if folder is not None:
        kinds["films from elsewhere"] = elsewhere(folder, size)
    found: list[dict[str, Any]] = []
    for kind, films in kinds.items():
        rows = compared(usual, Looked(networks, films, kind), known)
        found += [{"kind": kind, "films": len(films)} | row for row in rows]
    for source in sorted(set(sides["test"]["source"])):
        away, fitted = (sides[side]["source"].to_numpy() == source for side in ("test", "train"))
        if min(away.sum(), (~away).sum()) >= _FEWEST:
            rows = compared(usual.only(~away), usual.only(away), known.only(~fitted))
            found += [{"kind": f"source {source}", "films": int(away.sum())} | row for row in rows]
    facts = {"usual": len(usual.films), "device": device_name(torch.device("cpu"))}
    return pd.DataFrame(found).assign(run=run.name, model=model, **facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--model", default="resnet50", choices=MODELS)
    parser.add_argument("--view", default="", help="of an audit, instead of the run's own training")
    parser.add_argument("--elsewhere", type=Path, help="folder of films with index.csv, unlike the run's")
    parser.add_argument("--output", type=Path, default=recorded_unlike())
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
