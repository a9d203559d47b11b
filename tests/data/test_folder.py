"""What in a folder is an image is told by content; whatever is left out is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from test_images import _dicom

from manet_lib.data.folder import OWN_PICTURE, images_in
from manet_lib.params import UserError

GREY = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)


def picture(ending: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(GREY).save(path, ending)


def own(path: Path) -> None:
    said = PngImagePlugin.PngInfo()
    said.add_text("Software", OWN_PICTURE)
    Image.fromarray(GREY).save(path, "PNG", pnginfo=said)


IMAGES = {ending: picture(ending) for ending in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG2000")}
IMAGES |= {
    "DICOM": lambda path: path.write_bytes(_dicom(GREY)),
    "bare DICOM": lambda path: path.write_bytes(_dicom(GREY)[132:]),
    "deep": lambda path: Image.fromarray(GREY.astype(np.uint16)).save(path, "TIFF"),
}
NOTHING = {
    "own": own,
    "text": lambda path: path.write_text("P2 is a title, BM another, II* too"),
    "table": lambda path: path.write_text("path,label\na.png,ü\n", encoding="utf-8"),
    "empty": lambda path: path.write_bytes(b""),
}
OTHER = {
    "numbers": lambda path: np.save(path.open("wb"), GREY),
    "archive": lambda path: path.write_bytes(b"PK\3\4" + bytes(range(256))),
    "noise": lambda path: path.write_bytes(b"\0\xff" + np.random.default_rng(1).bytes(500)),
}
KINDS = IMAGES | NOTHING | OTHER
NAMES = st.text("abcXYZ0189_-. äé", min_size=1, max_size=12).filter(lambda name: not name.startswith("."))


@given(data=st.data())
def test_every_file_is_an_image_or_passed_over_by_its_content(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6))
    expected: dict[str, set[Path]] = {"images": set(), "passed over": set()}
    for number, kind in enumerate(kinds):
        folder = root.joinpath(*data.draw(st.lists(st.sampled_from(["a", "b"]), max_size=2)))
        folder.mkdir(parents=True, exist_ok=True)
        # a name says nothing, but for endings of images
        path = folder / f"{number}{data.draw(NAMES)}.x"
        KINDS[kind](path)
        if kind not in NOTHING:
            expected["images" if kind in IMAGES else "passed over"].add(path)
    if not any(expected.values()):
        with pytest.raises(UserError, match="no image in it"):
            images_in(root)
        return
    found = images_in(root)
    assert set(found.images) == expected["images"]
    assert found.images == sorted(found.images)
    assert {path for path, _ in found.passed_over} == expected["passed over"]


def test_broken_files_that_are_named_as_images_stay(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.dcm", "c.tif"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    for name in ("IM0001", "index.csv", "notes.md", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in images_in(tmp_path).images] == ["a.dcm", "b.PNG", "c.tif"]


def test_links_are_followed_once_and_dead_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    picture("PNG")(tmp_path / "far" / "a.png")
    here = tmp_path / "here"
    here.mkdir()
    (here / "linked").symlink_to(tmp_path / "far")
    (here / "circle").symlink_to(here)
    (here / "annexed.png").symlink_to(here / ".git" / "annex" / "nothing")
    found = images_in(here)
    assert [path.relative_to(here).as_posix() for path in found.images] == ["linked/a.png"]
    assert [(path.name, reason) for path, reason in found.passed_over] == [
        ("annexed.png", "annexed.png: a link to a file that is not there")
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert [path.name for path, _ in images_in(tmp_path).passed_over] == ["closed"]


def test_folders_of_systems_and_of_own_pictures_are_left_out(tmp_path: Path) -> None:
    for folder in (".git", "__MACOSX", "predictions", "images"):
        (tmp_path / folder).mkdir()
        picture("PNG")(tmp_path / folder / "a.png")
    software = PngImagePlugin.PngInfo()
    software.add_text("Software", OWN_PICTURE)
    Image.new("L", (40, 40)).save(tmp_path / "predictions" / "a.png", pnginfo=software)
    assert [path.parent.name for path in images_in(tmp_path).images] == ["images"]
