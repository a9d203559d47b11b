"""Films unlike those of the training: what the networks say of them, and how well they are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.paths import DEFAULT_PROFILE, recorded_unlike
from manet_lib.report.figures import STYLE, bare
from manet_lib.report.tables import model_title

SCORES = {
    "maximum probability": "1 less the highest probability",
    "energy": "less the log-sum-exp of the logits",
    "lungs: area, brightness, contrast": "the largest deviation of the lungs from the training's",
    "Mahalanobis, stage 2": "distance of the classifier's features",
    "Mahalanobis, stage 1": "distance of the segmenter's features; the one in use",
}
"""The compared scores, each higher for a film that is less like the training's."""


def recorded_runs() -> list[str]:
    """Runs of which benchmarks/unlike.py has recorded how well unlike films are told."""
    file = recorded_unlike()
    return list(pd.read_csv(file)["run"].unique()) if file.is_file() else []


def run_in_words(run: str) -> str:
    """Which network, and trained on what, a recorded run is.

    Args:
        run: one of :func:`recorded_runs`.
    """
    model = pd.read_csv(recorded_unlike()).set_index("run").loc[[run], "model"].iloc[0]
    return f"{model_title(model)} trained on {'phantoms' if run == DEFAULT_PROFILE else 'real films'} (run {run})"


def unlike_table(run: str) -> pd.DataFrame:
    """AUROC of each score and kind of film, and false alarms at 95% detection in percent, of a recorded run."""
    table = pd.read_csv(recorded_unlike())
    table = table[table["run"] == run]
    table["cell"] = [
        f"{auroc:.2f} ({100 * alarms:.0f})"
        for auroc, alarms in zip(table["auroc"], table["false_alarms"], strict=True)
    ]
    kinds = list(dict.fromkeys(table["kind"]))
    wide = table.pivot(index="kind", columns="score", values="cell").loc[kinds, list(SCORES)]
    films = table.drop_duplicates("kind").set_index("kind").loc[kinds, "films"]
    wide.insert(0, "films", films)
    return wide.reset_index()


def unlike_in_words(run: str) -> str:
    """Which score tells unlike films best on average, how the maximum probability does, and which kind is hardest.

    Args:
        run: one of :func:`recorded_runs`.
    """
    table = pd.read_csv(recorded_unlike())
    table = table[table["run"] == run]
    means = table.groupby("score")["auroc"].mean()
    best = str(means.idxmax())
    kinds = table[table["score"] == best].set_index("kind")["auroc"]
    return (
        f"Run {run}, mean AUROC over {len(kinds)} kinds: highest for {best} ({means.max():.2f}), "
        f"{means['maximum probability']:.2f} for the maximum probability. Hardest for the best of them: "
        f"{kinds.idxmin()} ({kinds.min():.2f})."
    )


def answers_table(
    names: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    distances: NDArray[np.float64],
    warnings: Sequence[Sequence[str]],
) -> pd.DataFrame:
    """What was answered of some films: film, class, its probability, distance, warnings.

    Args:
        names: of the films.
        labels: the answers.
        probabilities: (N, classes).
        distances: from the films of the training, (N,).
        warnings: of each film.
    """
    rows = zip(names, labels, probabilities.max(axis=1), distances, warnings, strict=True)
    return pd.DataFrame(
        [
            (name, label, f"{highest:.2f}", f"{distance:.1f}", "; ".join(said))
            for name, label, highest, distance, said in rows
        ],
        columns=["film", "answer", "probability", "distance", "warnings"],
    )


def answered_figure(film: NDArray[np.uint8], words: str, doubtful: bool) -> Figure:
    """One film under the answer to it, in red where that is doubtful.

    Args:
        film: uint8 (S, S).
        words: the answer.
        doubtful: whether there is a warning.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.2, 3.4), layout="constrained")
        axes.imshow(film, cmap="gray", vmin=0, vmax=255)
        axes.set_title(words, color="#b2182b" if doubtful else "black")
        bare(axes)
    return figure
