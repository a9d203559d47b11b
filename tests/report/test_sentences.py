"""Sentences that are computed say what a reader would count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from manet_lib.data.phantom import Phantom
from manet_lib.report import sentences

LUNGS = np.zeros((20, 20), bool)
LUNGS[2:18, 2:8] = LUNGS[2:18, 12:18] = True


def _phantom(lesions: Any = None, change: int = 0) -> Phantom:
    image = np.full((20, 20), 100, np.uint8)
    image[:2] += np.uint8(change)
    sick = np.zeros_like(LUNGS)
    if lesions is not None:
        sick[lesions] = True
    return Phantom(image, LUNGS, sick, "north")


def test_findings() -> None:
    drawn = {"normal": _phantom(), "bp": _phantom(np.s_[8:16, 12:18])}
    drawn["vp"] = Phantom(drawn["normal"].image, LUNGS, LUNGS, "north")
    assert sentences.findings_in_words(drawn).split("\n") == [
        "- Normal: no lesion.",
        "- BP: 25% of the lungs, in one lung, 25% of it in the upper half of their height.",
        "- VP: 100% of the lungs, in both lungs, 50% of it in the upper half of their height.",
    ]


def test_marks() -> None:
    marked = _phantom(change=50)
    marked.image[5, 5] -= 3
    text = sentences.marks_in_words(_phantom(), {"north": marked, "south": _phantom()})
    assert "north: 10% of the film, south: 0% of the film" in text
    assert text.endswith("changes by more than 3.")


def test_films() -> None:
    films = pd.DataFrame({"label": ["normal", "normal", "tb"], "source": ["a", "b", ""]})
    expected = "The films shown: Normal 1 from a, 1 from b; TB 1 from no known source."
    assert sentences.films_in_words(films) == expected


def test_stage_1() -> None:
    log = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.194, 0.046]})
    assert "from 0.19 in the first epoch to 0.05 in epoch 2" in sentences.stage_1_in_words(log)
    assert sentences.stage_1_in_words(log[:1]) == "One epoch: its mean Dice loss is 0.19."


def test_worst_pair() -> None:
    predicted = LUNGS.copy()
    predicted[2] = False  # the rim of both lungs, and a speck far away
    predicted[10, 10] = True
    text = sentences.worst_in_words(predicted, LUNGS, "Film 7")
    assert text.startswith("Film 7: 12 pixels of lung are missed and 1 added, of 192;")
    assert sentences.worst_in_words(LUNGS, LUNGS, "Film 7") == "Film 7: every pixel is right."
    assert sentences.worst_in_words(LUNGS, ~LUNGS & LUNGS, "Film 7").endswith(
        "192 added, of 0; 0% of the wrong pixels lie within two pixels of the drawn outline."
    )


def test_repairs() -> None:
    raw = np.stack([LUNGS] * 4).astype(np.uint8)
    raw[0, 5, 5] = 0
    raw[1, 0, 0] = 1
    raw[2] = 0
    clean = np.stack([LUNGS] * 4).astype(np.uint8)
    clean[2] = 0
    text = sentences.repairs_in_words(raw, clean)
    assert text.startswith("2 of 4 masks changed: in 1 a hole was filled, in 1 something small was removed.")
    assert "The largest change is 0.25% of the film; 1 masks are empty afterwards." in text
    assert "next to no defects" not in text
    assert "next to no defects" in sentences.repairs_in_words(clean, clean)


def _log(train: list[float], val: list[float], accuracy: list[float]) -> pd.DataFrame:
    epochs = range(1, len(train) + 1)
    return pd.DataFrame({"epoch": epochs, "train_loss": train, "val_loss": val, "val_accuracy": accuracy})


def test_losses_beside_a_guess() -> None:
    text = sentences.loss_in_words(_log([2.0, 1.0], [10.0, 1.0], [0.5, 0.75]), 5)
    assert text.startswith("Giving each of 5 classes the same probability costs ln 5 = 1.61.")
    assert "from 2.00 to 1.00: above that in 1 of 2 epochs" in text
    assert "10.00, in epoch 1 with 50% of the films right: the others cost 18.4 or more in the mean" in text
    assert text.endswith("The last epoch ends with 1.00 and 75% right.")
    assert "in all epochs" in sentences.loss_in_words(_log([2.0], [1.0], [0.5]), 5)
    assert "below that throughout" in sentences.loss_in_words(_log([1.0], [1.0], [0.5]), 5)


def test_the_bound_on_wrong_films_holds() -> None:
    # Probabilities of which half are right: the mean loss of the wrong ones is no less than what is said.
    rng = np.random.default_rng(0)
    for _ in range(50):
        probabilities = rng.dirichlet(np.full(5, 0.05), 200).clip(1e-12)
        truth = rng.integers(0, 5, 200)
        loss = -np.log(probabilities[np.arange(200), truth] / probabilities.sum(axis=1))
        right = probabilities.argmax(axis=1) == truth
        text = sentences.loss_in_words(_log([2.0], [loss.mean()], [right.mean()]), 5)
        said = float(text.split("the others cost ")[1].split(" ")[0])
        assert said <= loss[~right].mean() + 0.05


def test_confusion() -> None:
    table = pd.DataFrame([[9, 1], [4, 6]], index=["normal", "tb"], columns=["normal", "tb"])
    assert sentences.confusion_in_words(table) == (
        "Recognised best: Normal, 9 of 10 films. The most frequent mistake: 4 of 10 TB films are called Normal."
    )
    perfect = pd.DataFrame([[3, 0], [0, 2]], index=["normal", "tb"], columns=["normal", "tb"])
    assert sentences.confusion_in_words(perfect) == (
        "Recognised best: Normal, 3 of 3 films; TB, 2 of 2 films. No film is called something else."
    )
