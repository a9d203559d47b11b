"""Sliders over pictures drawn beforehand: the places, the order, the words, and that nothing is fetched."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from manet_lib.report.sliders import frames

GREYS = [np.full((4, 6), level, np.uint8) for level in (10, 60, 110, 160, 210, 255)]
SLIDERS = {"image": ["a", "b"], "network": ["plain", 'MA <"1">', "CBAM"]}


def _level(source: str) -> int:
    return int(np.asarray(Image.open(BytesIO(b64decode(source.partition("base64,")[2]))))[0, 0])


def test_one_picture_for_each_combination_the_last_slider_moving_fastest():
    page = BeautifulSoup(frames(GREYS, SLIDERS, "a grey").html, "html.parser")
    found = [(_level(img["src"]), img["alt"]) for img in page.find_all("img")]
    words = [(image, network) for image in SLIDERS["image"] for network in SLIDERS["network"]]
    assert found == [
        (int(grey[0, 0]), f"a grey (image: {image}, network: {network})")
        for grey, (image, network) in zip(GREYS, words, strict=True)
    ]


def test_nothing_is_fetched_and_no_script_is_needed():
    html = frames(GREYS, SLIDERS, "a grey").html
    assert "http" not in html
    assert "<script" not in html


def test_a_reader_without_html_gets_the_first_picture_and_its_words():
    data, metadata = frames(GREYS, SLIDERS, "a grey")._repr_mimebundle_()
    assert _level("base64," + data["image/png"]) == 10
    assert metadata["image/png"]["alt"] == data["text/plain"] == "a grey (image: a, network: plain)"


def test_another_picture_may_be_the_first_to_be_seen():
    shown = frames(GREYS, SLIDERS, "a grey", first=5)
    page = BeautifulSoup(shown.html, "html.parser")
    assert [one["value"] for one in page.find_all("input")] == ["1", "2"]
    assert [one.get_text() for one in page.find_all("output")] == ["b", "CBAM"]
    assert [one["aria-valuetext"] for one in page.find_all("input")] == ["b", "CBAM"]
    assert ["none" in img["style"] for img in page.find_all("img")] == [True] * 5 + [False]
    assert _level("base64," + shown._repr_mimebundle_()[0]["image/png"]) == 255


@pytest.mark.parametrize(
    ("picture", "level"),
    [(np.ones((2, 2), bool), 255), (np.full((2, 2), 0.5), 128), (np.full((2, 2), 3, np.uint8), 3)],
)
def test_grey_levels_of_masks_maps_and_images(picture, level):
    data, _ = frames([picture], {"one": ["x"]}, "level")._repr_mimebundle_()
    assert _level("base64," + data["image/png"]) == level


@pytest.mark.parametrize("side", [8, 64, 319, 320, 400])
def test_without_html_small_pictures_are_as_large_as_with_it(side):
    data, _ = frames([np.eye(side)], {"one": ["x"]}, "a line")._repr_mimebundle_()
    picture = np.asarray(Image.open(BytesIO(b64decode(data["image/png"]))))
    assert picture.shape == (max(side, 320),) * 2
    assert set(np.unique(picture)) == {0, 255}, "each pixel stays a square"


def test_figures_are_drawn_whole_and_closed():
    before = plt.get_fignums()
    figures = [plt.subplots(figsize=(4, 2))[0] for _ in range(2)]
    data, _ = frames(figures, {"stage": ["1", "2"]}, "empty axes")._repr_mimebundle_()
    assert Image.open(BytesIO(b64decode(data["image/png"]))).size == (360, 180)
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("pictures", "sliders", "alt", "says"),
    [
        (GREYS[:5], SLIDERS, "a grey", "6 places together, but there are 5 pictures"),
        ([], {"image": []}, "a grey", "0 places"),
        (GREYS[:1], {}, "a grey", "sliders"),
        (GREYS, SLIDERS, " ", "alt is empty"),
    ],
)
def test_what_does_not_fit_is_refused(pictures, sliders, alt, says):
    with pytest.raises(ValueError, match=says):
        frames(pictures, sliders, alt)
