from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from manet_lib.data.images import read_grey, read_mask
from manet_lib.data.sources import find_rows
from manet_lib.data.sources.own import read_rows
from manet_lib.data.store import build_store
from manet_lib.params import CLASSES, Params
from manet_lib.paths import RunPaths, sample_dir

NO_PHANTOMS = Path("unused")


def _rows(params: Params) -> pd.DataFrame:
    return find_rows(params, NO_PHANTOMS)[1]


def _index(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "index.csv", dtype=str, keep_default_na=False)


@pytest.fixture
def with_table(own_images: Callable[..., Path], own_params: Callable[..., Params]) -> Callable[..., Params]:
    """Parameters of a run on own images whose index.csv has been edited."""

    def make(
        edit: Callable[[pd.DataFrame], pd.DataFrame], each: int = 4, masked: int = 2, **changes: Any
    ) -> Params:
        folder = own_images(each, masked)
        edit(_index(folder)).to_csv(folder / "index.csv", index=False)
        return own_params(folder, **changes)

    return make


def test_rows_are_those_of_the_csv(with_table: Any) -> None:
    params = with_table(lambda table: table.assign(patient="p1", source="clinic", age="60"))
    rows = _rows(params)
    assert rows["path"].tolist() == _index(Path(params.data_dir))["path"].tolist()
    assert set(rows["patient"]) == {"p1"}
    assert set(rows["source"]) == {"clinic"}
    assert (rows["mask_path"] != "").sum() == 4
    assert "age" not in rows


def test_path_and_label_are_enough(with_table: Any) -> None:
    rows = _rows(with_table(lambda table: table[["path", "label"]]))
    assert (rows["mask_path"] == "").all()
    assert rows["patient"].tolist() == rows["path"].tolist()  # each image its own patient


def test_empty_patient_is_a_patient_of_its_own(with_table: Any) -> None:
    rows = _rows(with_table(lambda table: table.assign(patient=["007", *[""] * 7])))
    assert rows["patient"].nunique() == 8
    assert rows["patient"][0] == "007"


def test_a_class_may_be_named_as_pandas_writes_nothing(with_table: Any) -> None:
    params = with_table(
        lambda table: table.assign(label=table["label"].replace({"healthy": "None"})), classes=["None", "sick"]
    )
    assert set(_rows(params)["label"]) == {"None", "sick"}


@pytest.mark.parametrize("nothing", ["nan", "NA", "NULL", "n/a"])
def test_patients_without_a_name_are_different_patients(with_table: Any, nothing: str) -> None:
    rows = _rows(with_table(lambda table: table.assign(patient=["007", *[nothing] * 7])))
    assert rows["patient"].nunique() == 8


@pytest.mark.parametrize(
    ("wrong", "right"), [("file", "path"), ("Path", "path"), ("labels", "label"), ("class", "label")]
)
def test_missing_column_is_named(with_table: Any, refused: Any, wrong: str, right: str) -> None:
    with refused("index.csv", repr(right), wrong):
        _rows(with_table(lambda table: table.rename(columns={right: wrong})))


def test_unknown_label_with_its_lines(with_table: Any, refused: Any) -> None:
    labels = ["healthy", "helthy", "healthy", "healthy", "sick", "sick", "ill", "sick"]
    with refused("index.csv", "'helthy'", "'ill'", "lines 3, 8;", "healthy, sick"):
        _rows(with_table(lambda table: table.assign(label=labels)))


def test_many_unknown_labels_stay_one_line(with_table: Any, refused: Any) -> None:
    with refused("index.csv", "lines 2, 3, 4, 5, 6", "2 more"):
        _rows(with_table(lambda table: table.assign(label=["ill"] * 7 + ["sick"])))


def test_class_without_a_image_is_named(with_table: Any, refused: Any) -> None:
    with refused("index.csv", "'dead'"):
        _rows(with_table(lambda table: table, classes=["healthy", "sick", "dead"]))


def test_image_listed_twice_is_named(with_table: Any, refused: Any) -> None:
    with refused("index.csv", "twice", "sick0.png"):
        _rows(with_table(lambda table: pd.concat([table, table.iloc[[4]]])))


def test_all_missing_and_broken_files_are_listed_at_once(with_table: Any, refused: Any, paths: RunPaths) -> None:
    params = with_table(lambda table: table)
    folder = Path(params.data_dir)
    gone = ["healthy1.png", "sick3.png", "mask_sick0.png"]
    for name in gone:
        (folder / name).unlink()
    (folder / "sick0.png").write_bytes(b"")
    with refused("4 files cannot be used", "sick0.png: the file is empty", "no such file", *gone):
        build_store(params, paths)


def test_missing_folder(tmp_path: Path, own_params: Any, refused: Any) -> None:
    with refused("data_dir", "absent"):
        _rows(own_params(tmp_path / "absent"))


def test_missing_csv(own_images: Any, own_params: Any, refused: Any) -> None:
    with refused("data_csv", "list.csv", "own/"):
        _rows(own_params(own_images(), data_csv="list.csv"))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", b'path,label\n"a.png,normal\n'])
def test_csv_of_another_form(own_images: Any, own_params: Any, refused: Any, content: bytes) -> None:
    folder = own_images()
    (folder / "index.csv").write_bytes(content)
    with refused("index.csv"):
        _rows(own_params(folder))


def test_csv_of_a_spreadsheet(own_images: Any, own_params: Any) -> None:
    # Excel writes a byte order mark and Windows line ends.
    folder = own_images()
    text = (folder / "index.csv").read_text()
    (folder / "index.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert len(_rows(own_params(folder))) == 8


class TestMaxPerClass:
    @pytest.mark.parametrize("count", [1, 3, 5, 100])
    def test_at_most_so_many_of_each(self, own_images: Any, own_params: Any, count: int) -> None:
        rows = _rows(own_params(own_images(each=8, masked=4), max_per_class=count))
        for _, part in rows.groupby("label"):
            assert len(part) == min(count, 8)
        assert rows["path"].is_unique

    def test_drawn_from_the_whole_class_whether_masked_or_not(self, own_images: Any, own_params: Any) -> None:
        folder = own_images(each=20, masked=5)
        masked = [
            (_rows(own_params(folder, max_per_class=8, seed=seed))["mask_path"] != "").mean() for seed in range(60)
        ]
        assert pytest.approx(sum(masked) / 60, abs=0.04) == 0.25, "a quarter, as in the whole class"

    def test_drawn_with_the_seed(self, own_images: Any, own_params: Any) -> None:
        folder = own_images(each=20, masked=0)
        chosen = [
            tuple(_rows(own_params(folder, max_per_class=5, seed=seed))["path"]) for seed in (0, 0, 1, 2, 3, 4)
        ]
        assert chosen[0] == chosen[1]
        assert len(set(chosen)) == 5

    def test_does_not_depend_on_the_order_of_the_csv(self, own_images: Any, own_params: Any) -> None:
        folder = own_images(each=20, masked=3)
        params = own_params(folder, max_per_class=6)
        before = set(_rows(params)["path"])
        _index(folder).sample(frac=1, random_state=0).to_csv(folder / "index.csv", index=False)
        assert set(_rows(params)["path"]) == before

    def test_images_left_out_need_not_exist(self, own_images: Any, own_params: Any) -> None:
        folder = own_images(each=6, masked=2)
        params = own_params(folder, max_per_class=2)
        for name in set(_index(folder)["path"]) - set(_rows(params)["path"]):
            (folder / name).unlink()
        assert len(_rows(params)) == 4


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return _rows(Params(profile="x", data_source="manifest"))


@pytest.mark.skipif(
    not (sample_dir() / "index.csv").is_file(), reason="the sample X-rays are not here; set MANET_CXR_DIR"
)
class TestSampleFilms:
    def test_counts_of_the_folder(self, rows: pd.DataFrame) -> None:
        counts = rows["label"].value_counts()
        assert {name: int(counts[name]) for name in CLASSES} == {
            "normal": 80 + 326 + 1583,
            "covid19": 432,
            "tb": 58 + 336,
            "bp": 2780,
            "vp": 1493,
        }

    def test_pairs_with_the_masks_that_the_paper_trained_on(self, rows: pd.DataFrame) -> None:
        pairs = rows[rows["mask_path"] != ""]
        assert pairs["label"].value_counts().to_dict() == {"normal": 80 + 279, "tb": 58 + 287, "covid19": 153}
        assert len(pairs) == 857
        assert not pairs["mask_path"].str.startswith("masks_v7").any()

    def test_patients_are_given(self, rows: pd.DataFrame) -> None:
        assert (rows["patient"] != rows["path"]).all()
        assert rows["patient"].nunique() < len(rows)

    def test_masks_lie_on_the_lungs(self, rows: pd.DataFrame) -> None:
        # Lungs are darker than the image around them, on average over some images.
        difference = []
        for row in rows[rows["mask_path"] != ""].iloc[::60].itertuples():
            image = read_grey(sample_dir() / row.path)
            mask = read_mask(sample_dir() / row.mask_path, image.shape)
            assert 0.03 < mask.mean() < 0.7
            difference.append(float(image[mask].mean()) - float(image[~mask].mean()))
        assert len(difference) > 10
        assert np.mean(difference) < 0


def test_a_missing_folder_names_the_parameter_and_the_way_out(tmp_path: Path, refused: Any) -> None:
    with refused("data_dir: nowhere: no such folder", "MANET_CXR_DIR"):
        read_rows(tmp_path / "nowhere", "index.csv", ["a", "b"], 0, 0)


def test_lines_without_a_path_are_named(with_table: Any, refused: Any) -> None:
    def empty(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[[1, 4], "path"] = ""
        return table

    with refused("index.csv: no path in lines 3, 6"):
        _rows(with_table(empty))
