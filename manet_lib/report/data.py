"""Notebook 01: Table 1, the sources, what the split leaks, and what simple features predict."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.manifest import same_patient_share, stage_1_share
from manet_lib.data.phantom import Phantom
from manet_lib.data.seeds import stable_hash
from manet_lib.data.sources.public import SOURCES
from manet_lib.data.splits import SPLITS
from manet_lib.evaluation.baseline import lung_statistics, predicted_correctly
from manet_lib.params import Params
from manet_lib.report.style import bare, grid_of_panels, styled
from manet_lib.report.tables import class_title, published

SPLIT_TITLES = {"train": "Training", "val": "Validation", "test": "Test"}


def distribution(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Table 1: images by class and set; with the printed counts behind each where the data is the paper's."""
    counts = pd.crosstab(manifest["split"], manifest["label"])
    counts = counts.reindex(index=list(SPLITS), columns=params.classes, fill_value=0)
    counts.loc["total"] = counts.sum()
    table = pd.DataFrame({"Set": [SPLIT_TITLES.get(name, "Total") for name in counts.index]})
    printed = published("table1_distribution").set_index("set")
    for label in params.classes:
        table[class_title(label)] = counts[label].to_numpy()
        if params.published and label in printed:
            table[f"{class_title(label)}, paper"] = [printed.loc[name, label] for name in counts.index]
    table["All"] = counts.sum(axis=1).to_numpy()
    return table


def composition(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Section 2.1: images by class and source, and image-mask pairs; the paper's beside them where fair."""
    images = pd.crosstab(manifest["label"], manifest["source"]).reindex(params.classes, fill_value=0)
    table = pd.DataFrame({"Class": [class_title(label) for label in images.index]})
    for source in images.columns:
        table[source or "no source"] = images[source].to_numpy()
    table["Images"] = images.sum(axis=1).to_numpy()
    pairs = manifest[manifest["mask_path"] != ""]["label"].value_counts().reindex(params.classes, fill_value=0)
    if not params.published:
        return table.assign(**{"With lung mask": pairs.to_numpy()})
    printed = published("table1_distribution").set_index("set").loc["total", params.classes].astype(int)
    table["Images, paper"] = printed.to_numpy()
    table["Difference"] = table["Images"] - table["Images, paper"]
    table["With lung mask"] = pairs.to_numpy()
    masked = published("segmentation_iou").set_index("class")
    counts = masked[["train_pairs", "test_pairs"]].astype(int).sum(axis=1)
    table["With lung mask, paper"] = [int(counts.get(label, 0)) for label in params.classes]
    return table


def leakage(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """What the split leaks: test images, by class, that training has seen in one way or another."""
    patient, mask = "Same patient in training (%)", "Lung mask in stage 1's training (% of those with one)"
    shares = pd.DataFrame({patient: same_patient_share(manifest), mask: stage_1_share(manifest)})
    shown = (100 * shares).reindex(params.classes).map("{:.1f}".format).replace("nan", "–")
    return shown.rename(index=class_title).rename_axis("Class").reset_index()


def collections_card() -> pd.DataFrame:
    """The paper's four public collections: published images by class, terms, and how to cite them."""
    rows = []
    for source in SOURCES:
        images = ", ".join(f"{count} {class_title(label)}" for label, count in source.counts.items())
        rows.append((f"[{source.title}]({source.home})", images, source.licence, source.citation))
    return pd.DataFrame(rows, columns=["Collection", "Images", "Terms", "Citation"])


SHUFFLES = 20
"""How often sources are assigned at random to see what chance gives."""


def simple_baselines(
    manifest: pd.DataFrame, images: NDArray[np.uint8], masks: NDArray[np.uint8], params: Params
) -> pd.DataFrame:
    """Accuracy of logistic regression on test images when it is given next to nothing.

    Args:
        manifest: of the images.
        images: of the same images, uint8 (N, S, S).
        masks: annotated lung masks, 0 or 1, (N, S, S); grey values are left out unless every image has one.
        params: for the seed.

    Returns:
        Columns Known, Correct, Accuracy (%) as text, and Test images; in the last row what a random source gives.
    """
    test = manifest["split"] == "test"
    frequent = manifest.loc[manifest["split"] == "train", "label"].value_counts().index[0]
    most = int((manifest.loc[test, "label"] == frequent).sum())
    correct = {"nothing: always the most frequent class of the training set": most}
    known = pd.get_dummies(manifest["source"]).to_numpy(float)
    if known.shape[1] > 1:
        correct["the source of the image, no pixels"] = _right(known, manifest)
    if masks.any(axis=(1, 2)).all():
        grey = "mean and standard deviation of the lungs' grey values, area of the lungs"
        correct[grey] = _right(lung_statistics(images, masks), manifest)
    rows: list[tuple[str, object, str]] = [
        (name, count, f"{100 * count / test.sum():.0f}") for name, count in correct.items()
    ]
    if known.shape[1] > 1:
        rng = np.random.default_rng(stable_hash("dealt out", params.seed))
        chance = [_right(rng.permutation(known), manifest) for _ in range(SHUFFLES)]
        shares = [100 * value / test.sum() for value in (np.mean(chance), min(chance), max(chance))]
        name = f"the source, shuffled between images ({SHUFFLES} times: mean, range)"
        rows.append((name, f"{np.mean(chance):.1f}", "{:.1f} ({:.1f} to {:.1f})".format(*shares)))
    table = pd.DataFrame(rows, columns=["Known", "Correct", "Accuracy (%)"])
    return table.assign(**{"Test images": int(test.sum())})


def _right(features: NDArray[np.float64], manifest: pd.DataFrame) -> int:
    return int(predicted_correctly(features, manifest, "label").sum())


_LEFT = [("lung apex", 0.36, 0.19), ("rib", 0.20, 0.36), ("patient's right lung", 0.28, 0.52)]
_LEFT += [("diaphragm", 0.27, 0.72), ("liver", 0.30, 0.88)]

_RIGHT = [("collarbone", 0.76, 0.19), ("windpipe and spine", 0.50, 0.26), ("hilum: vessels enter", 0.60, 0.49)]
_RIGHT += [("heart", 0.60, 0.64), ("patient's left lung", 0.78, 0.70), ("gas in the stomach", 0.69, 0.85)]


@styled
def radiograph_figure(phantom: Phantom) -> Figure:
    """A phantom with the names of what a frontal chest radiograph shows; its true lungs are outlined.

    Places are those of the phantom's average anatomy, so a name may be off by a few hundredths of the side.
    """
    middles = np.linspace(0, 1, len(phantom.image))
    figure, axes = plt.subplots(figsize=(6.2, 3.4), layout="constrained")
    axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
    axes.contour(middles, middles, phantom.lungs, [0.5], colors="#66ccee", linewidths=1)
    pointer = {"arrowstyle": "-|>", "color": "#ee7733", "shrinkB": 0}
    for words, edge, align in ((_LEFT, -0.06, "right"), (_RIGHT, 1.06, "left")):
        for number, (word, x, y) in enumerate(words):
            beside = (edge, 0.1 + 0.8 * number / (len(words) - 1))
            axes.annotate(word, (x, y), beside, ha=align, va="center", arrowprops=pointer, annotation_clip=False)
    axes.set(xlim=(-0.42, 1.46), ylim=(1, 0))
    bare(axes)
    return figure


@styled
def findings_figure(phantoms: Mapping[str, Phantom]) -> Figure:
    """A phantom of each class, and below it the same image with its true lesions outlined.

    Args:
        phantoms: by class.
    """
    figure, grid = grid_of_panels(2, len(phantoms), (1.35 * len(phantoms), 3.0))
    for (label, phantom), (above, below) in zip(phantoms.items(), grid.T, strict=True):
        for axes in (above, below):
            axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=255)
            bare(axes)
        above.set_title(class_title(label))
        below.contour(phantom.lungs, [0.5], colors="#66ccee", linewidths=0.6)
        if phantom.lesions.any():
            below.contour(phantom.lesions, [0.5], colors="#ee7733", linewidths=0.8)
    return figure


@styled
def markers_figure(without: Phantom, marked: Mapping[str, Phantom]) -> Figure:
    """One image without and with the markers of some sources, and what these change in grey value.

    Args:
        without: drawn with ``confounder_strength=0``.
        marked: the same image with markers, by source.
    """
    pictures = {"no markers": without} | {f"markers of {name}": one for name, one in marked.items()}
    figure, grid = grid_of_panels(2, len(pictures), (1.45 * len(pictures) + 0.9, 3.2))
    norm = TwoSlopeNorm(0, -160, 160)
    for axes in grid.flat:
        bare(axes)
    for (title, phantom), (above, below) in zip(pictures.items(), grid.T, strict=True):
        above.imshow(phantom.image, cmap="gray", vmin=0, vmax=255)
        above.set_title(title)
        shown = below.imshow(phantom.image.astype(float) - without.image, cmap="RdBu_r", norm=norm)
        below.contour(without.lungs, [0.5], colors="#555555", linewidths=0.6)
    grid[0][0].set_ylabel("image")
    grid[1][0].set_ylabel("difference")
    figure.colorbar(shown, ax=grid[1].tolist(), fraction=0.03, label="grey values")
    return figure
