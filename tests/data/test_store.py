from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manet_lib.data import store
from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.store import Store, build_store
from manet_lib.params import CLASSES, Params, UserError
from manet_lib.paths import RunPaths


def _decoded(path: Path, size: int) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L").resize((size, size), Image.Resampling.BILINEAR))


@pytest.fixture
def run(own_images: Callable[..., Path], own_params: Callable[..., Params], paths: RunPaths) -> Any:
    folder = own_images()
    return folder, own_params(folder), paths


def test_holds_what_the_files_hold(run: Any) -> None:
    folder, params, paths = run
    assert build_store(params, paths)
    opened = Store.open(paths.store)
    index = pd.read_csv(folder / "index.csv", keep_default_na=False)
    assert opened.index["path"].tolist() == index["path"].tolist()
    assert opened.images.shape == opened.masks.shape == (8, 32, 32)
    assert opened.images.dtype == opened.masks.dtype == np.uint8
    for number, row in enumerate(opened.index.itertuples()):
        assert np.array_equal(opened.images[number], _decoded(folder / row.path, 32))
        assert (row.width, row.height) == (48, 40)
        assert row.sha256 == hashlib.sha256((folder / row.path).read_bytes()).hexdigest()
        if row.mask_path:
            drawn = np.asarray(Image.open(folder / row.mask_path)) > 127
            assert abs(opened.masks[number].mean() - drawn.mean()) < 0.03
            assert opened.masks[number].max() == 1
        else:
            assert opened.masks[number].max() == 0


def test_is_memory_mapped_and_read_only(run: Any) -> None:
    _, params, paths = run
    build_store(params, paths)
    opened = Store.open(paths.store)
    assert isinstance(opened.images, np.memmap)
    assert isinstance(opened.masks, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.images[0, 0, 0] = 1


def test_images_of_the_size_of_the_store_are_kept_as_they_are(paths: RunPaths) -> None:
    params = Params(profile="x", phantom_images=10, phantom_size=64, image_size=64, models=["vgg16"])
    build_store(params, paths)
    opened = Store.open(paths.store)
    assert opened.index["label"].tolist() == list(CLASSES) * 2
    for number, row in enumerate(opened.index.itertuples()):
        assert np.array_equal(opened.images[number], np.asarray(Image.open(paths.phantoms / row.path)))
        assert np.array_equal(opened.masks[number] * 255, np.asarray(Image.open(paths.phantoms / row.mask_path)))


def test_is_built_once(run: Any) -> None:
    _, params, paths = run
    assert build_store(params, paths)
    assert not build_store(params, paths)
    assert not build_store(params.model_copy(update={"epochs": 7, "split": "patient"}), paths)
    assert build_store(params.model_copy(update={"image_size": 64}), paths)
    assert Store.open(paths.store).images.shape == (8, 64, 64)


def test_bad_files_are_listed_at_once_and_leave_nothing(run: Any, refused: Any) -> None:
    folder, params, paths = run
    whole = {name: (folder / name).read_bytes() for name in ("healthy1.png", "sick2.png", "mask_sick0.png")}
    (folder / "healthy1.png").write_bytes(b"")
    (folder / "sick2.png").write_bytes(whole["sick2.png"][:300])
    (folder / "mask_sick0.png").write_bytes(whole["healthy1.png"][:9])
    with refused("3 files cannot be used", *whole, "0 bytes", "truncated"):
        build_store(params, paths)
    assert [path.name for path in paths.store.iterdir()] == [".part"]
    for name, data in whole.items():
        (folder / name).write_bytes(data)
    assert build_store(params, paths)
    assert len(Store.open(paths.store).index) == 8


def test_a_bad_image_does_not_hide_its_bad_mask(run: Any, refused: Any) -> None:
    folder, params, paths = run
    for name in ("sick0.png", "mask_sick0.png"):
        (folder / name).write_bytes(b"no image")
    with refused("2 files", "sick0.png", "mask_sick0.png"):
        build_store(params, paths)


def test_an_interrupted_build_goes_on_where_it_was(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, params, paths = run
    build_store(params, paths)
    expected = {name: (paths.store / name).read_bytes() for name in ("images.npy", "masks.npy", "index.csv")}
    shutil.rmtree(paths.store)
    monkeypatch.setattr(store, "_CHUNK", 2)
    read: list[str] = []

    def load(folder: Path, path: str, mask_path: str, size: int, dark: bool) -> Any:
        if len(read) >= 5:
            raise KeyboardInterrupt
        read.append(path)
        return original(folder, path, mask_path, size, dark)

    original = store._load
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(store, "_load", load)
    with pytest.raises(KeyboardInterrupt):
        build_store(params, paths)
    facts = paths.store / ".part" / "facts.csv"
    facts.write_text(facts.read_text() + "6,48,4")  # a line that was cut off
    first, second = read[:2]
    (folder / first).write_bytes((folder / second).read_bytes())  # an image that has changed since
    read.clear()
    monkeypatch.setattr(store, "_load", lambda *pair: read.append(pair[1]) or original(*pair))
    build_store(params, paths)
    assert read == [first, *Store.open(paths.store).index["path"][4:]]
    assert (paths.store / "masks.npy").read_bytes() == expected["masks.npy"]
    images = Store.open(paths.store).images
    assert np.array_equal(images[0], images[1])
    assert images[1:].tobytes() == expected["images.npy"][-images[1:].nbytes :]
    assert sorted(path.name for path in paths.store.iterdir()) == sorted([*expected, "done.json"])


def test_a_changed_file_or_csv_is_read_again(run: Any) -> None:
    folder, params, paths = run
    build_store(params, paths)
    (folder / "sick3.png").write_bytes((folder / "sick2.png").read_bytes())
    assert build_store(params, paths)
    assert np.array_equal(*Store.open(paths.store).images[-2:])
    table = pd.read_csv(folder / "index.csv", keep_default_na=False)
    table[:-1].to_csv(folder / "index.csv", index=False)
    assert build_store(params, paths)
    assert len(Store.open(paths.store).index) == 7


def test_many_bad_files_stay_readable(own_images: Any, own_params: Any, paths: RunPaths, refused: Any) -> None:
    folder = own_images(each=30, masked=0)
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    names = [path.name for path in folder.glob("*.png")]
    with refused("60 files cannot be used", *names) as caught:
        build_store(own_params(folder), paths)
    assert str(caught.value).count("0 bytes") == 1, "one cause is stated once"


def test_masks_of_the_two_lungs_are_merged(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, params, paths = run
    for name, columns in (("left.png", slice(0, 20)), ("right.png", slice(26, 48))):
        drawn = np.zeros((40, 48), np.uint8)
        drawn[:, columns] = 255
        Image.fromarray(drawn).save(folder / name)
    rows = pd.DataFrame(
        {"path": ["sick0.png"], "label": "sick", "source": "", "patient": "1", "mask_path": "left.png;right.png"}
    )
    monkeypatch.setattr("manet_lib.data.store.find_rows", lambda params, phantoms: (folder, rows))
    build_store(params.model_copy(update={"mask_lungs": "bright"}), paths)
    columns = (np.arange(32) + 0.5) / 32 * 48
    expected = (columns < 20) | (columns > 26)
    assert np.array_equal(Store.open(paths.store).masks[0], np.tile(expected, (32, 1)))


def test_mask_that_does_not_fit_is_named(run: Any, refused: Any) -> None:
    folder, params, paths = run
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(folder / "mask_sick1.png")
    with refused("mask_sick1.png", "40×48", "48×40"):
        build_store(params, paths)


def test_failed_rebuild_is_not_taken_for_done(run: Any, refused: Any) -> None:
    folder, params, paths = run
    build_store(params, paths)
    (folder / "sick2.png").write_bytes(b"")
    larger = params.model_copy(update={"image_size": 64})
    with refused("sick2.png"):
        build_store(larger, paths)
    with refused("sick2.png"):
        build_store(larger, paths)


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png"],
        ["one/a.png", "two/a.png"],
        ["a.png", "a.jpg"],
        ["x/a/b.png", "x_a/b.png"],
        ["0001.png", "001.png"],
    ],
)
def test_every_image_has_a_name_of_its_own(
    tmp_path: Path, own_params: Any, paths: RunPaths, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 100).save(tmp_path / name)
    pd.DataFrame({"path": names, "label": ["healthy", "sick"]}).to_csv(tmp_path / "index.csv", index=False)
    build_store(own_params(tmp_path), paths)
    identity = Store.open(paths.store).index["image_id"]
    assert identity.is_unique
    assert all("/" not in str(name) for name in identity)


def _numbered(folder: Path) -> None:
    """Images called 0000.png, 0001.png, ... of the classes 0 and 1, patients 00 and 01."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        name = f"{number:04d}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / name)
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(folder / f"m{name}")
        rows.append((name, str(number % 2), f"m{name}", f"{number // 2:02d}"))
    pd.DataFrame(rows, columns=["path", "label", "mask_path", "patient"]).to_csv(folder / "index.csv", index=False)


def test_names_that_look_like_numbers_stay_text(tmp_path: Path, own_params: Any, paths: RunPaths) -> None:
    _numbered(tmp_path)
    params = own_params(tmp_path, classes=["0", "1"], test_fraction=0.2, batch_size=8)
    build_store(params, paths)
    build_manifest(params, paths)
    for table in (Store.open(paths.store).index, read_manifest(paths)):
        assert set(table["patient"]) == {f"{number:02d}" for number in range(10)}
        assert table["image_id"].tolist() == [f"{number:04d}" for number in range(20)]
        assert set(table["label"]) == {"0", "1"}


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_threads_does_not_matter(run: Any, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, params, paths = run
    monkeypatch.setattr("os.cpu_count", lambda: workers)
    build_store(params, paths)
    opened = Store.open(paths.store)
    expected = [_decoded(run[0] / name, 32) for name in opened.index["path"]]
    assert np.array_equal(opened.images, np.stack(expected))


def test_files_of_the_same_name_in_two_folders_are_told_apart(run: Any, refused: Any) -> None:
    folder, params, paths = run
    table = pd.read_csv(folder / "index.csv", keep_default_na=False)
    for place in ("a", "b"):
        (folder / place).mkdir()
    (folder / "sick0.png").rename(folder / "a/0.png")
    (folder / "b/0.png").write_bytes(b"no image")
    table.loc[table["path"] == "sick0.png", ["path", "mask_path"]] = "a/0.png", "b/0.png"
    table.to_csv(folder / "index.csv", index=False)
    with refused("1 file cannot be used: b/0.png: not an image"):
        build_store(params, paths)


def test_what_older_code_has_read_is_read_again(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, params, paths = run
    (folder / "healthy1.png").rename(folder / "away.png")
    with pytest.raises(UserError):
        build_store(params, paths)
    (folder / "away.png").rename(folder / "healthy1.png")
    read: list[str] = []
    original = store._load
    monkeypatch.setattr(store, "_load", lambda *pair: read.append(pair[1]) or original(*pair))
    newer = {"manet_lib.data.images": "0" * 12}
    monkeypatch.setattr("manet_lib.workflow.records.Step.code", lambda _: newer)
    build_store(params, paths)
    assert len(read) == 8


def test_an_image_that_changes_while_it_is_read_is_named(
    run: Any, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    _, params, paths = run
    original = store._load

    def load(folder: Path, path: str, *more: Any) -> Any:
        found = original(folder, path, *more)
        if path == "sick2.png":
            os.utime(folder / path, (1, 1))
        return found

    monkeypatch.setattr(store, "_load", load)
    with refused("sick2.png: changed while being read"):
        build_store(params, paths)
