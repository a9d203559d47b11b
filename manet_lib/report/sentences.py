"""What figures and tables of notebooks 01 to 04 show, in a sentence that is computed from what they show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.phantom import Phantom
from manet_lib.evaluation.overlap import grown, outline
from manet_lib.report.tables import class_title

Mask = NDArray[np.bool_]


def findings_in_words(phantoms: Mapping[str, Phantom]) -> str:
    """How much of the lungs is lesion in a phantom of each class, and where; a line of Markdown for each."""
    lines = []
    for label, phantom in phantoms.items():
        lungs, lesions = phantom.lungs, phantom.lesions
        if not lesions.any():
            lines.append(f"- {class_title(label)}: no lesion.")
            continue
        rows = np.flatnonzero(lungs.any(axis=1))
        upper = lesions[: (rows[0] + rows[-1] + 1) // 2].sum() / lesions.sum()
        halves = np.array_split(lesions, 2, axis=1)
        sides = "both lungs" if all(half.sum() > 0.02 * lesions.sum() for half in halves) else "one lung"
        share = 100 * lesions.sum() / lungs.sum()
        where = f"in {sides}, {100 * upper:.0f}% of it in the upper half of their height"
        lines.append(f"- {class_title(label)}: {share:.0f}% of the lungs, {where}.")
    return "\n".join(lines)


def marks_in_words(without: Phantom, marked: Mapping[str, Phantom]) -> str:
    """How many pixels the marks of each source change, and how much of that is seen in the lungs."""
    plain, lungs, parts, most = without.image.astype(int), without.lungs, [], 0
    for name, phantom in marked.items():
        change = np.abs(phantom.image - plain)
        most = max(most, int(change[lungs].max(initial=0)))
        parts.append(f"{name}: {100 * (change > 0).mean():.0f}% of the film")
    changed = f"Pixels that the marks change: {', '.join(parts)}."
    return f"{changed} Inside the lungs no grey value (0 to 255) changes by more than {most}."


def films_in_words(films: pd.DataFrame) -> str:
    """The sources of some films, by class.

    Args:
        films: rows of the manifest.
    """
    parts = []
    for label, part in films.groupby("label", sort=False):
        sources = part["source"].replace("", "no known source").value_counts()
        named = ", ".join(f"{count} from {name}" for name, count in sources.items())
        parts.append(f"{class_title(str(label))} {named}")
    return f"The films shown: {'; '.join(parts)}."


def stage_1_in_words(log: pd.DataFrame) -> str:
    """How the loss of stage 1 falls over the epochs.

    Args:
        log: columns epoch and train_loss.
    """
    first, last = log["train_loss"].iloc[0], log["train_loss"].iloc[-1]
    if len(log) == 1:
        return f"One epoch: its mean Dice loss is {first:.2f}."
    epochs = log["epoch"].iloc[-1]
    return f"The mean Dice loss goes from {first:.2f} in the first epoch to {last:.2f} in epoch {epochs}."


def worst_in_words(predicted: Mask, drawn: Mask, name: str) -> str:
    """Where a predicted mask goes wrong.

    Args:
        predicted: bool (S, S).
        drawn: bool (S, S).
        name: of the pair.
    """
    wrong = predicted != drawn
    if not wrong.any():
        return f"{name}: every pixel is right."
    missed, added = int((drawn & ~predicted).sum()), int((predicted & ~drawn).sum())
    near = grown(outline(drawn), 2) if drawn.any() else np.zeros_like(drawn)
    close = 100 * wrong[near].sum() / wrong.sum()
    return (
        f"{name}: {missed} pixels of lung are missed and {added} added, of {int(drawn.sum())}; "
        f"{close:.0f}% of the wrong pixels lie within two pixels of the drawn outline."
    )


def repairs_in_words(raw: NDArray[np.uint8], clean: NDArray[np.uint8]) -> str:
    """How much post-processing had to do.

    Args:
        raw: predicted masks, 0 or 1, (N, S, S).
        clean: the same after post-processing.
    """
    filled, removed = (raw < clean).sum(axis=(1, 2)), (raw > clean).sum(axis=(1, 2))
    changed, empty = int(((filled + removed) > 0).sum()), int((~clean.any(axis=(1, 2))).sum())
    most = 100 * (filled + removed).max() / raw[0].size
    return (
        f"{changed} of {len(raw)} masks changed: in {int((filled > 0).sum())} a hole was filled, in "
        f"{int((removed > 0).sum())} something small was removed. The largest change is {most:.2f}% of the film; "
        f"{empty} masks are empty afterwards."
        + (" These masks have next to no defects to repair." if changed < 0.05 * len(raw) else "")
    )


def loss_in_words(log: pd.DataFrame, classes: int) -> str:
    """What the losses of stage 2 mean beside that of a network that only guesses.

    Args:
        log: columns epoch, train_loss, val_loss and val_accuracy.
        classes: their number.
    """
    guess, train = np.log(classes), log["train_loss"].to_numpy()
    text = (
        f"Giving each of {classes} classes the same probability costs ln {classes} = {guess:.2f}. "
        f"The training loss goes from {train[0]:.2f} to {train[-1]:.2f}: "
    )
    above = int((train > guess).sum())
    if above == len(train):
        text += "above that in all epochs, so its probabilities were worse than none."
    elif above:
        text += f"above that in {above} of {len(train)} epochs, where it was too sure of wrong answers."
    else:
        text += "below that throughout."
    worst, last = log.loc[log["val_loss"].idxmax()], log.iloc[-1]
    share = float(worst["val_accuracy"])
    if worst["val_loss"] > guess and share < 1:
        wrong = (worst["val_loss"] - share * guess) / (1 - share)  # a film that is right costs ln classes at most
        text += (
            f" The highest validation loss is {worst['val_loss']:.2f}, in epoch {worst['epoch']:.0f} with "
            f"{100 * share:.0f}% of the films right: the others cost {wrong:.1f} or more in the mean, as much as "
            f"giving the true class a probability of {np.exp(-wrong):.2g}."
        )
    return f"{text} The last epoch ends with {last['val_loss']:.2f} and {100 * last['val_accuracy']:.0f}% right."


def confusion_in_words(confusion: pd.DataFrame) -> str:
    """The class that is recognised best, and the most frequent mistake.

    Args:
        confusion: films by actual (rows) and predicted class (columns).
    """
    counts, films = confusion.to_numpy(), confusion.to_numpy().sum(axis=1)
    recall = np.diag(counts) / np.maximum(films, 1)
    wrong = counts - np.diag(np.diag(counts))
    titles = [class_title(str(name)) for name in confusion.index]
    best = [
        f"{titles[one]}, {counts[one, one]} of {films[one]} films"
        for one in np.flatnonzero(recall == recall.max())
    ]
    text = f"Recognised best: {'; '.join(best)}."
    if not wrong.any():
        return f"{text} No film is called something else."
    actual, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    called = f"{wrong[actual, predicted]} of {films[actual]} {titles[actual]} films are called {titles[predicted]}"
    return f"{text} The most frequent mistake: {called}."
