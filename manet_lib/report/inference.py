"""Notebook 11: predictions for images outside the training distribution, and how well these are detected."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.paths import DEFAULT_PROFILE, recorded_results
from manet_lib.report.style import bare, styled
from manet_lib.report.tables import model_title

SCORES = {
    "maximum probability": "1 minus the highest probability",
    "energy": "minus the log-sum-exp of the logits",
    "lungs: area, brightness, contrast": "the largest deviation of the lungs from the training's",
    "Mahalanobis, stage 2": "distance of the classifier's features",
    "Mahalanobis, stage 1": "distance of the segmenter's features; the one in use",
}
"""The compared scores, each higher for an image that is less like the training's."""


def recorded_runs() -> dict[str, str]:
    """Runs for which benchmarks/out_of_distribution.py has recorded how well such images are detected.

    Returns:
        By name of the run, which network it is and what it was trained on.
    """
    file = recorded_results("out_of_distribution.csv")
    if not file.is_file():
        return {}
    models = pd.read_csv(file).drop_duplicates("run").set_index("run")["model"]
    kinds = {name: "phantoms" if name == DEFAULT_PROFILE else "real radiographs" for name in models.index}
    return {name: f"{model_title(model)} trained on {kinds[name]}" for name, model in models.items()}


def recorded_scores(run: str) -> pd.DataFrame:
    """A row for each score and kind of image of a recorded run, with AUROC and false alarms as fractions."""
    return pd.read_csv(recorded_results("out_of_distribution.csv")).query("run == @run")


def out_of_distribution_table(run: str) -> pd.DataFrame:
    """AUROC of each score and kind of image, and false alarms at 95% detection in percent, of a recorded run."""
    table = recorded_scores(run)
    table["cell"] = [f"{row.auroc:.2f} ({100 * row.false_alarms:.0f})" for row in table.itertuples()]
    kinds = list(dict.fromkeys(table["kind"]))
    wide = table.pivot(index="kind", columns="score", values="cell").loc[kinds, list(SCORES)]
    images = table.drop_duplicates("kind").set_index("kind").loc[kinds, "images"]
    wide.insert(0, "images", images)
    return wide.reset_index()


def predictions_table(
    names: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    distances: NDArray[np.float64],
    warnings: Sequence[Sequence[str]],
) -> pd.DataFrame:
    """What was answered of some images: image, class, its probability, distance, warnings.

    Args:
        names: of the images.
        labels: the predictions.
        probabilities: (N, classes).
        distances: from the training images, (N,).
        warnings: of each image.
    """
    highest, away = map("{:.2f}".format, probabilities.max(axis=1)), map("{:.1f}".format, distances)
    rows = zip(names, labels, highest, away, map("; ".join, warnings), strict=True)
    return pd.DataFrame(rows, columns=["image", "prediction", "probability", "distance", "warnings"])


@styled
def predicted_figure(image: NDArray[np.uint8], words: str, doubtful: bool) -> Figure:
    """One image under the answer to it, in red where that is doubtful.

    Args:
        image: uint8 (S, S).
        words: the answer.
        doubtful: whether there is a warning.
    """
    figure, axes = plt.subplots(figsize=(3.2, 3.4), layout="constrained")
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(words, color="#b2182b" if doubtful else "black")
    bare(axes)
    return figure
