"""Sentences about pictures, against small pictures that can be counted."""

from __future__ import annotations

import numpy as np

from manet_lib.report.pictures_told import given_in_words, heat_maps_in_words, views_shown_in_words

LUNGS = np.zeros((2, 4, 4), np.uint8)
LUNGS[:, :, :2] = 1  # the left half
LESIONS = np.zeros((2, 4, 4), bool)
LESIONS[1, 0, 0] = True


def heat(*places: tuple[int, int, int, float]) -> np.ndarray:
    maps = np.zeros((2, 4, 4), np.float32)
    for place in places:
        maps[place[:3]] = place[3]
    return maps


def test_where_heat_maps_lie() -> None:
    first = heat((0, 0, 0, 1.0), (0, 0, 3, 1 / 3), (1, 0, 0, 1.0))  # 75% and all of it
    second = heat((0, 0, 3, 1.0), (1, 0, 3, 1.0), (1, 1, 1, 1 / 3))  # nothing and 25%
    words = heat_maps_in_words([first, second], LUNGS, LESIONS, ["normal", "tb"], ["vgg16", "vgg16_ma"])
    assert words == (
        "VGG16: 75% of the map (Normal) to 100% (TB) lies in the lungs; its highest place does in 2 of 2 films, "
        "and in a lesion in 1 of 1. "
        "VGG16(MA): 0% of the map (Normal) to 25% (TB) lies in the lungs; its highest place does in 0 of 2 films, "
        "and in a lesion in 0 of 1."
    )


def test_a_single_film_and_maps_of_zeros() -> None:
    one = heat((1, 1, 1, 1.0))
    assert heat_maps_in_words([one], LUNGS, LESIONS, ["normal", "tb"], ["vgg16"]) == (
        "VGG16: 100% of the map lies in the lungs; its highest place is in the lungs."
    )
    assert "in a lesion" in heat_maps_in_words([heat((1, 0, 0, 1.0))], LUNGS, LESIONS, ["tb", "tb"], ["vgg16"])
    assert "outside of them" in heat_maps_in_words([heat((1, 0, 3, 1.0))], LUNGS, LESIONS, ["tb", "tb"], ["vgg16"])
    assert "all zeros" in heat_maps_in_words([heat()], LUNGS, LESIONS, ["tb", "tb"], ["vgg16"])
    unknown = heat_maps_in_words(
        [heat((0, 0, 0, 1.0), (1, 0, 0, 1.0))], LUNGS, LESIONS & False, ["a", "b"], ["own"]
    )
    assert unknown.endswith("in 2 of 2 films.")


def test_what_masks_leave_to_be_seen() -> None:
    own = LUNGS > 0
    half = own.copy()
    half[:, 2:] = False
    assert given_in_words({"its own": own, "half": half, "whole": np.ones_like(own)}) == (
        "Share of these films that each mask leaves, and in brackets its IoU with their own: "
        "its own 50%, half 25% (IoU 0.50), whole 100% (IoU 0.50)."
    )


def test_what_views_leave() -> None:
    film = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    shape = LUNGS[0] * np.uint8(255)
    assert views_shown_in_words({"whole": [film, film], "shape": [shape, shape]}) == (
        "Pixels of these films that are not black: whole 100% (16 grey values), shape 50% (2 grey values)."
    )
