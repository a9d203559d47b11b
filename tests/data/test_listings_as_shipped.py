"""Tables, folders and archives as spreadsheets, other systems and other collections leave them."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.sources import find_rows, kermany
from manet_lib.data.sources.public import gather
from manet_lib.data.splits import SPLITS, split_images
from manet_lib.data.store import Store, build_store
from manet_lib.params import Params
from manet_lib.paths import RunPaths

ROWS = [
    ("images/a.png", "healthy", "masks/a.png", "Ann"),
    ("images/b.png", "healthy", "", "Ben"),
    ("images/c.png", "sick", "masks/c.png;masks/d.png", "Cy"),
    ("images/d.png", "sick", "masks/d.png", "Dee"),
]
HEADER = ("path", "label", "mask_path", "patient")


def _picture(path: Path, number: int, *, mask: bool = False, shape: tuple[int, int] = (40, 48)) -> None:
    """An image of its own noise, or a mask of its own size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    lungs = np.zeros(shape, np.uint8)
    lungs[5 : 20 + number % 10, 8:30] = 255
    Image.fromarray(lungs if mask else noise).save(path, "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images and three masks, without a table."""
    for number, name in enumerate("abcd"):
        _picture(tmp_path / f"own/images/{name}.png", number)
        _picture(tmp_path / f"own/masks/{name}.png", number, mask=True)
    return tmp_path / "own"


def _table(
    rows: list[tuple[str, ...]] = ROWS, header: tuple[str, ...] = HEADER, comma: str = ",", end: str = "\n"
) -> str:
    """A table, each cell that holds the separator in quotes."""
    return "".join(
        comma.join(f'"{cell}"' if comma in cell else cell for cell in row) + end for row in [header, *rows]
    )


def _rows(params: Params) -> pd.DataFrame:
    return find_rows(params, Path("unused"))[1]


def _each_cell(edit: Callable[[str], str]) -> list[tuple[str, ...]]:
    return [tuple(map(edit, row)) for row in ROWS]


def _backslashes() -> list[tuple[str, ...]]:
    return [(path.replace("/", "\\"), label, mask.replace("/", "\\"), who) for path, label, mask, who in ROWS]


class TestTables:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(_table(), id="plain"),
            pytest.param(_table(end=",\n").replace("patient,", "patient"), id="comma at the end of each row"),
            pytest.param(
                _table(end=",,\n").replace("patient,,", "patient"), id="two commas at the end of each row"
            ),
            pytest.param(_table(end=",\n"), id="comma at the end of every line"),
            pytest.param(_table(comma=";"), id="semicolons"),
            pytest.param(_table(comma=";", end=";\n"), id="semicolons, one at the end"),
            pytest.param(_table(comma="\t"), id="tabs"),
            pytest.param(_table(comma="\t", end="\r\n"), id="tabs and Windows line ends"),
            pytest.param(_table(_backslashes()), id="backslashes"),
            pytest.param(_table(_backslashes(), comma=";", end="\r\n"), id="semicolons and backslashes"),
            pytest.param("\ufeff" + _table(), id="byte order mark"),
            pytest.param("\ufeff" + _table(comma=";"), id="byte order mark and semicolons"),
            pytest.param(_table(_each_cell(lambda cell: f" {cell}" if cell else "")), id="blank before each cell"),
            pytest.param(_table(_each_cell(lambda cell: f"{cell}  ")), id="blanks after each cell"),
            pytest.param(_table(header=("path ", " label", " mask_path", "patient\t")), id="blanks in the header"),
            pytest.param(_table().replace("c.png;masks", "c.png; masks"), id="blank between two masks"),
            pytest.param(_table().replace('masks/d.png"', 'masks/d.png;"'), id="nothing after the last mask"),
            pytest.param(_table() + "\n\n\n", id="empty lines at the end"),
            pytest.param(_table() + ",,,\n,,,\n", id="rows of commas at the end"),
            pytest.param(_table(comma=";") + ";;;\n", id="a row of semicolons at the end"),
            pytest.param(_table() + "  \n", id="a line of blanks at the end"),
            pytest.param(_table().rstrip("\n"), id="no line end at the end"),
            pytest.param(_table([(f"./{row[0]}", *row[1:]) for row in ROWS]), id="./ before each path"),
        ],
    )
    def test_the_store_is_that_of_the_plain_table(
        self, content: str, folder: Path, own_params: Any, paths: RunPaths, tmp_path: Path
    ) -> None:
        plain = RunPaths(tmp_path / "plain", tmp_path / "plain_figures")
        (folder / "index.csv").write_text(_table(), newline="")
        build_store(own_params(folder), plain)
        (folder / "index.csv").write_text(content, encoding="utf-8", newline="")
        build_store(own_params(folder), paths)
        ours, expected = Store.open(paths.store), Store.open(plain.store)
        assert ours.index["label"].tolist() == [row[1] for row in ROWS]
        assert ours.index["patient"].tolist() == [row[3] for row in ROWS]
        assert [Path(path).as_posix() for path in ours.index["path"]] == [row[0] for row in ROWS]
        assert np.array_equal(ours.images, expected.images)
        assert np.array_equal(ours.masks, expected.masks)
        assert not build_store(own_params(folder), paths)

    @pytest.mark.parametrize(
        ("name", "comma", "encoding"),
        [
            pytest.param("Müller", ",", "latin-1", id="Latin-1"),
            pytest.param("Müller", ";", "latin-1", id="Latin-1 and semicolons"),
            pytest.param("Šimek – “Žofie”", ",", "cp1252", id="Windows-1252"),
            pytest.param("Müller", ",", "utf-8", id="UTF-8"),
            pytest.param("Müller", ";", "utf-8-sig", id="UTF-8 with its mark and semicolons"),
            pytest.param("Doe, Jane", ";", "utf-8", id="a comma in a name, semicolons"),
            pytest.param("Doe, Jane", ",", "utf-8", id="a comma in a name, in quotes"),
            pytest.param("Doe; Jane", ",", "utf-8", id="a semicolon in a name"),
            pytest.param("O\\'Neill", ",", "utf-8", id="a backslash in a name"),
        ],
    )
    def test_names_of_patients_are_kept(
        self, name: str, comma: str, encoding: str, folder: Path, own_params: Any
    ) -> None:
        table = _table([(*row[:3], name) for row in ROWS], comma=comma)
        (folder / "index.csv").write_bytes(table.encode(encoding))
        rows = _rows(own_params(folder))
        assert rows["path"].tolist() == [row[0] for row in ROWS]
        assert set(rows["patient"]) == {name}

    def test_two_columns_are_enough_with_a_comma_at_the_end(self, folder: Path, own_params: Any) -> None:
        lines = ["path,label", *(f"{row[0]},{row[1]}," for row in ROWS)]
        (folder / "index.csv").write_text("\n".join(lines))
        assert _rows(own_params(folder))["label"].tolist() == [row[1] for row in ROWS]

    @pytest.mark.parametrize("comma", [",", ";", "\t"], ids=["commas", "semicolons", "tabs"])
    @pytest.mark.parametrize("end", [False, True], ids=["plain", "one more at the end"])
    def test_a_wrong_label_is_named_with_its_line(
        self, comma: str, end: bool, folder: Path, own_params: Any, refused: Any
    ) -> None:
        rows = [*ROWS[:2], ("images/c.png", "sik", "", "Cy"), ROWS[3]]
        table = _table(rows, comma=comma, end=f"{comma}\n" if end else "\n")
        (folder / "index.csv").write_text(table)
        with refused("index.csv", "'sik'", "line 4", "healthy, sick"):
            _rows(own_params(folder))

    def test_lines_are_counted_as_an_editor_does(self, folder: Path, own_params: Any, refused: Any) -> None:
        lines = _table([*ROWS[:3], ("images/d.png", "sik", "", "Dee")]).splitlines()
        (folder / "index.csv").write_text("\n".join([*lines[:2], "", *lines[2:]]))
        with refused("'sik'", "line 6"):
            _rows(own_params(folder))

    @pytest.mark.parametrize("column", ["label", "path", "mask_path"])
    @pytest.mark.parametrize("comma", [",", ";"], ids=["commas", "semicolons"])
    def test_a_second_column_of_one_name_is_refused(
        self, column: str, comma: str, folder: Path, own_params: Any, refused: Any
    ) -> None:
        table = _table([(*row, "sick") for row in ROWS], (*HEADER, column), comma)
        (folder / "index.csv").write_text(table)
        with refused("index.csv", "column", repr(column)) as caught:
            _rows(own_params(folder))
        assert "no column" not in str(caught.value)

    @pytest.mark.parametrize(
        "again",
        [
            "images/a.png",
            "./images/a.png",
            "images//a.png",
            "images/../images/a.png",
            "images\\a.png",
            " images/a.png",
        ],
    )
    @pytest.mark.parametrize("label", ["healthy", "sick"], ids=["same label", "another label"])
    def test_a_image_listed_twice_is_refused(
        self, again: str, label: str, folder: Path, own_params: Any, refused: Any
    ) -> None:
        (folder / "index.csv").write_text(_table([*ROWS, (again, label, "", "Ann")]))
        with refused("index.csv", "twice", "images/a.png"):
            _rows(own_params(folder))

    @pytest.mark.parametrize(
        "content", [_table(comma=";"), _table(_backslashes())], ids=["semicolons", "backslashes"]
    )
    @pytest.mark.parametrize("name", ["images/b.png", "masks/a.png"])
    def test_a_changed_file_is_read_again(
        self, content: str, name: str, folder: Path, own_params: Any, paths: RunPaths
    ) -> None:
        (folder / "index.csv").write_text(content)
        build_store(own_params(folder), paths)
        _picture(folder / name, 7, mask="masks" in name)
        assert build_store(own_params(folder), paths)


class TestRareClass:
    @pytest.fixture
    def built(self, tmp_path: Path, own_params: Any, paths: RunPaths) -> Callable[..., tuple[Params, RunPaths]]:
        """The store of 33 common and 3 rare images, each with a mask and a patient of its own."""

        def make(**changes: Any) -> tuple[Params, RunPaths]:
            rows = []
            for number in range(36):
                _picture(tmp_path / f"own/{number}.png", number, shape=(32, 32))
                _picture(tmp_path / f"own/m{number}.png", number, mask=True, shape=(32, 32))
                rows.append((f"{number}.png", "rare" if number < 3 else "common", f"m{number}.png", f"p{number}"))
            pd.DataFrame(rows, columns=list(HEADER)).to_csv(tmp_path / "own/index.csv", index=False)
            params = own_params(tmp_path / "own", classes=["common", "rare"], batch_size=8, **changes)
            build_store(params, paths)
            return params, paths

        return make

    @staticmethod
    def _lacking(seed: int) -> set[str]:
        """The sides without a rare image; rows 0, 1 and 2 are rare."""
        return {*SPLITS} - set(split_images(36, 0.1, 0.1, seed)[:3])

    @pytest.mark.parametrize("lacking", [("val",), ("test",), ("val", "test"), ("train", "val")], ids=" and ".join)
    def test_a_side_without_it_is_named_with_the_way_out(
        self, lacking: tuple[str, ...], built: Any, capsys: Any
    ) -> None:
        seed = next(seed for seed in range(1000) if self._lacking(seed) == {*lacking})
        params, paths = built(seed=seed)
        build_manifest(params, paths)
        said = capsys.readouterr().out
        assert f"rare has no image in {' and '.join(lacking)}; " in said
        assert all(way in said for way in ("add images", "fraction", "seed", "split: patient"))
        assert "common" not in said

    def test_a_seed_that_gives_every_side_one_is_taken(self, built: Any) -> None:
        params, paths = built(seed=next(seed for seed in range(1000) if not self._lacking(seed)))
        build_manifest(params, paths)
        assert (read_manifest(paths)["label"] == "rare").sum() == 3

    def test_by_patients_every_side_has_one(self, built: Any) -> None:
        params, paths = built(split="patient")
        build_manifest(params, paths)
        manifest = read_manifest(paths)
        assert Counter(manifest.loc[manifest["label"] == "rare", "split"]) == dict.fromkeys(SPLITS, 1)


METADATA = "patientid,finding,view,modality,folder,filename,notes\n"


def _cohen(folder: Path, *names: str, notes: str = "", encoding: str = "utf-8", there: bool = True) -> None:
    """Cohen's collection with these images."""
    for number, name in enumerate(names if there else ()):
        _picture(folder / "images" / name, number)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{n},Pneumonia/Viral/COVID-19,PA,X-ray,images,{name},{notes}" for n, name in enumerate(names)]
    (folder / "metadata.csv").write_bytes((METADATA + "\n".join(lines) + "\n").encode(encoding))


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    """All four public collections, two or three images of each, in their original layouts."""
    data = tmp_path / "data"
    for number, name in enumerate(("MCUCXR_0001_0.png", "MCUCXR_0002_1.png")):
        _picture(data / "MontgomerySet/CXR_png" / name, number)
        for side in ("left", "right"):
            _picture(data / f"MontgomerySet/ManualMask/{side}Mask" / name, number, mask=True)
    for number, name in enumerate(("CHNCXR_0001_0", "CHNCXR_0002_1")):
        _picture(data / f"ChinaSet_AllFiles/CXR_png/{name}.png", number)
        _picture(data / f"ChinaSet_AllFiles/mask/{name}_mask.png", number, mask=True)
    for side in ("train", "val", "test"):
        _picture(data / f"chest_xray/{side}/NORMAL/IM-0001-{side}.jpeg", 1)
        for kind in ("bacteria", "virus"):
            _picture(data / f"chest_xray/{side}/PNEUMONIA/person1_{kind}_{side}.jpeg", 2)
    _cohen(data / "covid-chestxray-dataset", "a.jpg", "b.png")
    _picture(data / "covid-chestxray-dataset/annotations/lungVAE-masks/a_mask.png", 1, mask=True)
    return data


def _gathered(data: Path) -> pd.DataFrame:
    return gather(data, download=False)


def _litter(data: Path) -> None:
    """What macOS and Windows leave beside every image and mask, and in a tree of its own."""
    for path in sorted(data.rglob("*")):
        relative = path.relative_to(data)
        shadow = data / "__MACOSX" / relative.with_name(f"._{path.name}")
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(shadow.read_bytes())
        elif not path.name.startswith("."):
            for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
                (path / name).write_bytes(b"\xd0\xcf\x11\xe0")
            inner = path / "__MACOSX" / path.name
            inner.mkdir(parents=True)
            for child in sorted(path.iterdir()):
                if child.is_file():
                    (inner / f"._{child.name}").write_bytes(shadow.read_bytes())


def _pack(data: Path, shelf: Path) -> None:
    """The publishers' archives of these collections, each with the other systems' trees in it, these first."""
    shelf.mkdir()
    for archive, part in {
        "NLM-MontgomeryCXRSet.zip": "MontgomerySet",
        "ChinaSet_AllFiles.zip": "ChinaSet_AllFiles/CXR_png",
        "8gf9vpkhgy-2.zip": "ChinaSet_AllFiles/mask",
        "ChestXRay2017.zip": "chest_xray",
        "covid-chestxray-dataset.zip": "covid-chestxray-dataset",
    }.items():
        with zipfile.ZipFile(shelf / archive, "w") as opened:
            for root in (data / "__MACOSX" / part, data / part):
                for path in sorted(root.rglob("*")):
                    if path.is_file():
                        opened.write(path, path.relative_to(data).as_posix())


class TestArchives:
    def test_the_layouts_are_read(self, collections: Path) -> None:
        rows = _gathered(collections)
        assert rows["source"].value_counts().to_dict() == {
            "kermany": 9,
            "montgomery": 2,
            "shenzhen": 2,
            "cohen": 2,
        }
        assert (rows["mask_path"] != "").sum() == 5

    @pytest.mark.parametrize(
        "inside", ["", "unpacked", "a/b"], ids=["as they are", "in a folder", "two folders down"]
    )
    def test_files_of_other_systems_are_passed_over(self, collections: Path, inside: str, tmp_path: Path) -> None:
        expected = _gathered(collections)
        data = tmp_path / "littered"
        shutil.copytree(collections, data / inside)
        _litter(data)
        rows = _gathered(data)
        prefix = f"{inside}/" if inside else ""
        for column in ("path", "mask_path"):
            joined = [
                ";".join(prefix + name for name in cell.split(";")) if cell else "" for cell in expected[column]
            ]
            assert rows[column].tolist() == joined
        assert rows["label"].tolist() == expected["label"].tolist()

    def test_files_of_other_systems_in_an_archive_are_passed_over(self, collections: Path, tmp_path: Path) -> None:
        expected = _gathered(collections)
        _litter(collections)
        _pack(collections, tmp_path / "shelf")
        rows = _gathered(tmp_path / "shelf")
        assert [Path(path).name for path in rows["path"]] == [Path(path).name for path in expected["path"]]
        assert (rows["mask_path"] != "").sum() == (expected["mask_path"] != "").sum()
        assert not rows["path"].str.contains("__MACOSX").any()
        assert all((tmp_path / "shelf" / path).is_file() for path in rows["path"])

    def test_such_files_alone_are_no_image(self, tmp_path: Path, refused: Any) -> None:
        folder = tmp_path / "chest_xray/train/NORMAL"
        folder.mkdir(parents=True)
        (folder / "._IM-0001-0001.jpeg").write_bytes(b"\0\5\x16\7")
        with refused("kermany: no image found"):
            kermany.read(tmp_path)


OTHERS = {
    "another collection": b"patientid,finding,view,modality,notes,imagename\nX1,COVID-19,PA,X-ray,,b.png\n",
    "tables of something else": b"id;value\n1;2\n",
    "Latin-1": "größe,länge\n1,2\n".encode("latin-1"),
    "no text": b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x00",
    "empty": b"",
}


class TestCohen:
    @pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
    @pytest.mark.parametrize("place", [".", "Actualmed-COVID-chestxray-dataset", "other/deep", "zzz"])
    def test_another_metadata_csv_is_passed_over(self, collections: Path, content: bytes, place: str) -> None:
        expected = _gathered(collections)
        (collections / place / "images").mkdir(parents=True)
        (collections / place / "metadata.csv").write_bytes(content)
        pd.testing.assert_frame_equal(_gathered(collections), expected)

    def test_another_metadata_csv_alone_is_not_taken_for_it(self, collections: Path, refused: Any) -> None:
        (collections / "covid-chestxray-dataset/metadata.csv").write_bytes(OTHERS["another collection"])
        with refused("data_dir", "lacks", "cohen", "covid-chestxray-dataset.zip"):
            _gathered(collections)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
    def test_metadata_in_other_encodings_are_read(self, collections: Path, encoding: str) -> None:
        expected = _gathered(collections)
        _cohen(
            collections / "covid-chestxray-dataset", "a.jpg", "b.png", notes="Hôpital à Genève", encoding=encoding
        )
        pd.testing.assert_frame_equal(_gathered(collections), expected)

    @pytest.mark.parametrize(
        ("listed", "file"),
        [
            pytest.param("c.jpeg", "c.jpg", id="jpg for jpeg"),
            pytest.param("c.jpg", "c.jpeg", id="jpeg for jpg"),
            pytest.param("c.jpg", "c.JPG", id="capitals"),
            pytest.param("c.png", "c.jpg", id="jpg for png"),
            pytest.param("a-b_1.2.jpeg", "a-b_1.2.jpg", id="a point in the name"),
        ],
    )
    def test_a_image_with_another_ending_is_found(self, collections: Path, listed: str, file: str) -> None:
        folder = collections / "covid-chestxray-dataset"
        _cohen(folder, "a.jpg", listed, there=False)
        _picture(folder / "images" / file, 5)
        (folder / "images" / f"._{file}").write_bytes(b"\0\5\x16\7")
        _picture(folder / f"annotations/lungVAE-masks/{Path(listed).stem}_mask.png", 5, mask=True)
        rows = _gathered(collections)
        row = rows[rows["path"] == f"covid-chestxray-dataset/images/{file}"].iloc[0]
        assert (row["label"], row["patient"]) == ("covid19", "cohen_1")
        assert row["mask_path"].endswith(f"{Path(listed).stem}_mask.png")
        assert (rows["source"] == "cohen").sum() == 2

    def test_a_missing_image_does_not_take_another_one_s_file(self, collections: Path) -> None:
        folder = collections / "covid-chestxray-dataset"
        _cohen(folder, "a.jpg", "b.png", "a.png", "b.jpeg", "d.jpg", there=False)
        for name in ("d.txt", "d.nii.gz", "d.csv"):
            (folder / "images" / name).write_bytes(b"no image")
        rows = _gathered(collections)
        found = [Path(path).name for path in rows.loc[rows["source"] == "cohen", "path"]]
        assert found == ["a.jpg", "b.png"]
