"""How far one gets without looking at a single lung: what a network's accuracy is to be held against."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.evaluation.baseline import lung_statistics, predicted_rightly
from manet_lib.params import Params
from manet_lib.seeds import stable_hash

SHUFFLES = 20
"""How often sources are dealt out anew to see what chance gives."""


def simple_answers(
    manifest: pd.DataFrame, images: NDArray[np.uint8], masks: NDArray[np.uint8], params: Params
) -> pd.DataFrame:
    """Test films whose class is guessed rightly from next to nothing, by logistic regression.

    Args:
        manifest: of the films.
        images: of the same films, uint8 (N, S, S).
        masks: drawn lung masks, 0 or 1, (N, S, S); grey values are left out unless every film has one.
        params: for the seed.

    Returns:
        Columns Known, Right, Test films and Share (%), the last as text.
    """
    test = manifest["split"] == "test"
    frequent = manifest.loc[manifest["split"] == "train", "label"].value_counts().index[0]
    rows = [
        (
            "nothing: always the training's most frequent class",
            int((manifest.loc[test, "label"] == frequent).sum()),
        )
    ]
    known = pd.get_dummies(manifest["source"]).to_numpy(float)
    if known.shape[1] > 1:
        rows.append(("the source of the film, and not one pixel", _right(known, manifest)))
    if masks.any(axis=(1, 2)).all():
        grey = lung_statistics(images, masks)
        rows.append(("mean and spread of the grey values in the lungs, and their area", _right(grey, manifest)))
    table = pd.DataFrame(rows, columns=["Known", "Right"])
    table["Test films"] = int(test.sum())
    table["Share (%)"] = [f"{100 * right / test.sum():.0f}" for right in table["Right"]]
    return table


def source_by_chance(manifest: pd.DataFrame, params: Params) -> tuple[float, float]:
    """Least and largest share of test films that sources get right when they are dealt out to films at random."""
    rng = np.random.default_rng(stable_hash("dealt out", params.seed))
    known = pd.get_dummies(manifest["source"]).to_numpy(float)
    shares = [_right(rng.permutation(known), manifest) for _ in range(SHUFFLES)]
    films = int((manifest["split"] == "test").sum())
    return min(shares) / films, max(shares) / films


def _right(features: NDArray[np.float64], manifest: pd.DataFrame) -> int:
    return int(predicted_rightly(features, manifest, "label").sum())
