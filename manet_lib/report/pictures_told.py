"""What pictures of notebooks 05, 09 and 10 show, in sentences that are computed from the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from manet_lib.attention.scores import score_map
from manet_lib.evaluation.metrics import intersection_over_union
from manet_lib.report.tables import class_title, model_title


def heat_maps_in_words(
    maps: Sequence[NDArray[np.float32]],
    masks: NDArray[np.uint8],
    lesions: NDArray[np.bool_],
    classes: Sequence[str],
    models: Sequence[str],
) -> str:
    """How much of each map lies in the lungs, and where it is highest, a sentence for each network.

    Args:
        maps: of each model, float (N, S, S) in [0, 1].
        masks: lung masks, 0 or 1, (N, S, S).
        lesions: true lesions, (N, S, S); empty where there is none or none is known.
        classes: class of each film.
        models: name of each model.
    """
    said = []
    for model, own in zip(models, maps, strict=True):
        drawn = [number for number, one in enumerate(own) if one.any() and masks[number].any()]
        if not drawn:
            said.append(f"{model_title(model)}: the map is all zeros, nothing speaks for the class.")
            continue
        lungs = {number: score_map(own[number], masks[number] > 0) for number in drawn}
        share = {number: 100 * one["share"] for number, one in lungs.items()}
        low, high = min(drawn, key=share.__getitem__), max(drawn, key=share.__getitem__)
        inside = sum(one["pointing"] >= 0.5 for one in lungs.values())
        sick = [number for number in drawn if lesions[number].any()]
        hit = sum(score_map(own[number], lesions[number])["pointing"] >= 0.5 for number in sick)
        first = f"{model_title(model)}: {share[low]:.0f}% of the map"
        if len(drawn) == 1:
            place = "in a lesion" if hit else "in the lungs" if inside else "outside of them"
            said.append(f"{first} lies in the lungs; its highest place is {place}.")
            continue
        first += f" ({class_title(classes[low])}) to {share[high]:.0f}% ({class_title(classes[high])})"
        text = f"{first} lies in the lungs; its highest place does in {inside} of {len(drawn)} films"
        said.append(f"{text}, and in a lesion in {hit} of {len(sick)}." if sick else f"{text}.")
    return " ".join(said)


def given_in_words(masks: Mapping[str, NDArray[np.bool_]]) -> str:
    """How much of the films each mask leaves to be seen, and how it fits the first one.

    Args:
        masks: by name, bool (N, S, S), the film's own first.
    """
    own = next(iter(masks.values()))
    parts = []
    for name, mask in masks.items():
        text = f"{name} {100 * mask.mean():.0f}%"
        if mask is not own:
            text += f" (IoU {intersection_over_union(mask, own).mean():.2f})"
        parts.append(text)
    return (
        f"Share of these films that each mask leaves, and in brackets its IoU with their own: {', '.join(parts)}."
    )


def views_shown_in_words(pictures: Mapping[str, Sequence[NDArray[np.uint8]]]) -> str:
    """How much of the films each view leaves, and with how many different grey values, black among them.

    Args:
        pictures: of each view, uint8 (S, S) films.
    """
    parts = []
    for view, films in pictures.items():
        seen = 100 * np.mean([(film > 0).mean() for film in films])
        parts.append(f"{view} {seen:.0f}% ({len(np.unique(np.stack(films)))} grey values)")
    return f"Pixels of these films that are not black: {', '.join(parts)}."
