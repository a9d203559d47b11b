"""Images to move through with sliders, drawn beforehand: they need no kernel and fetch nothing."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from itertools import product
from json import dumps
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

_COLOURS = 128

_DPI = 90
"""Pixels per inch of figures."""
_WIDTH = 320
"""Pictures of fewer pixels are enlarged to this width, each pixel a square."""


# The handler stands in the attribute, for a script beside the slider is not run by every reader of notebooks.
_MOVE = (
    "const box = this.closest('.frames'), sliders = [...box.querySelectorAll('input')];"
    "const chosen = sliders.reduce((sum, one) => sum * (+one.max + 1) + +one.value, 0);"
    "box.querySelectorAll('img').forEach((one, place) => "
    "{ one.style.display = place === chosen ? '' : 'none'; });"
    "const words = JSON.parse(this.dataset.labels)[this.value];"
    "this.setAttribute('aria-valuetext', words); this.nextElementSibling.textContent = words;"
)


class Frames:
    """What :func:`frames` returns: sliders as HTML, and one picture where no HTML is shown."""

    def __init__(self, html: str, picture: bytes, alt: str) -> None:
        self.html, self.picture, self.alt = html, picture, alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"text/html": self.html, "image/png": b64encode(self.picture).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def frames(
    pictures: Sequence[NDArray[Any] | Figure], sliders: Mapping[str, Sequence[str]], alt: str, first: int = 0
) -> Frames:
    """Pictures with a slider for each thing that varies; to be the last line of a cell, or given to ``display``.

    The pictures stand in the output, so that the sliders move in JupyterLab, in an exported page and in the site
    alike. Where a reader shows no HTML, one picture stands alone.

    Args:
        pictures: one for each combination of the sliders' labels, the last slider's moving fastest: grey (H, W) or
            colours (H, W, 3), uint8 from 0 to 255, or bool or float from 0 to 1; or Matplotlib figures, which are
            closed. All of one size, or the page jumps.
        sliders: name of each slider, and what its places are called.
        alt: what the pictures show, for those who do not see them; the places are added to it.
        first: number of the picture that is shown before anybody moves a slider.

    Raises:
        ValueError: no picture, a slider without a place, no alternative text, or the numbers do not match.
    """
    places = list(product(*sliders.values()))
    if not places or len(pictures) != len(places) or not sliders:
        raise ValueError(f"sliders have {len(places)} places together, but there are {len(pictures)} pictures")
    if not alt.strip():
        raise ValueError("alt is empty; say what the pictures show")
    drawn = [_png(picture) for picture in pictures]
    texts = [f"{alt} ({', '.join(map('{}: {}'.format, sliders, place))})" for place in places]
    images = "".join(
        f'<img src="data:image/png;base64,{b64encode(one).decode()}" alt="{escape(text)}" '
        f'style="{_style(one)}{"" if number == first else "; display: none"}">'
        for number, (one, text) in enumerate(zip(drawn, texts, strict=True))
    )
    starts = map(int, np.unravel_index(first, [len(labels) for labels in sliders.values()]))
    html = f'<div class="frames">{images}{"".join(map(_slider, sliders, sliders.values(), starts))}</div>'
    return Frames(html, _enlarged(drawn[first]), texts[first])


def _slider(name: str, labels: Sequence[str], start: int) -> str:
    return (
        f'<div><label>{escape(name)} <input type="range" min="0" max="{len(labels) - 1}" value="{start}" step="1" '
        f'autocomplete="off" aria-valuetext="{escape(labels[start])}" data-labels="{escape(dumps(list(labels)))}" '
        f'oninput="{escape(_MOVE)}"><output>{escape(labels[start])}</output></label></div>'
    )


def _png(picture: NDArray[Any] | Figure) -> bytes:
    target = BytesIO()
    if isinstance(picture, Figure):
        whole = BytesIO()
        picture.savefig(whole, format="png", dpi=_DPI)
        plt.close(picture)
        Image.open(whole).convert("RGB").quantize(_COLOURS).save(target, "png", optimize=True)
    else:
        levels = picture if picture.dtype == np.uint8 else (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)
        Image.fromarray(levels).save(target, "png", optimize=True)
    return target.getvalue()


def _enlarged(png: bytes) -> bytes:
    """A picture of few pixels as large as the page shows it, for readers without HTML."""
    picture = Image.open(BytesIO(png))
    if picture.width >= _WIDTH:
        return png
    target = BytesIO()
    size = (_WIDTH, round(picture.height * _WIDTH / picture.width))
    picture.resize(size, Image.Resampling.NEAREST).save(target, "png", optimize=True)
    return target.getvalue()


def _style(png: bytes) -> str:
    width = Image.open(BytesIO(png)).width
    enlarged = f"width: {_WIDTH}px; image-rendering: pixelated; " if width < _WIDTH else ""
    return f"{enlarged}max-width: 100%"
