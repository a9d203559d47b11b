"""Readers of the original layouts, against the real file lists where they are at hand."""

import functools
import io
import json
import threading
import zipfile
import zlib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image

from manet_lib.data.manifest import build_manifest, identical_images
from manet_lib.data.sources import cohen, kermany, montgomery, shenzhen
from manet_lib.data.sources.base import ROW_COLUMNS
from manet_lib.data.sources.public import SOURCES, _obtain, _to_fetch, _unpacked, compose, gather
from manet_lib.data.splits import join_patients
from manet_lib.data.store import build_store
from manet_lib.params import CLASSES, Params, UserError, load_params
from manet_lib.paths import RunPaths, params_file, project_root, sample_dir
from manet_lib.workflow.records import read_table

LISTS = sample_dir() / "original"
needs_lists = pytest.mark.skipif(
    not LISTS.is_dir(), reason="no original file lists; set MANET_CXR_DIR to a folder with original/"
)
IMAGE = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (40, 1))


def touch(folder, names):
    """Empty files: the readers look at names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def lines(name):
    return (LISTS / name).read_text().split()


def lay_out(data):
    """All four collections in their original layouts, as the real lists name them; empty files."""
    nlm = lines("nlm_files.txt")
    county = [name for name in nlm if name.startswith("MCUCXR")]
    touch(data / "MontgomerySet", [f"CXR_png/{name}" for name in county])
    for side in ("left", "right"):
        touch(data / "MontgomerySet", [f"ManualMask/{side}Mask/{name}" for name in county])
    hospital = [name for name in nlm if name.startswith("CHNCXR")]
    touch(data / "ChinaSet_AllFiles", [f"CXR_png/{name}" for name in hospital])
    index = pd.read_csv(sample_dir() / "index.csv", dtype=str, keep_default_na=False)
    masked = index[(index["source"] == "shenzhen") & (index["mask_path"] != "")]["original_name"]
    touch(data / "ChinaSet_AllFiles" / "mask", [f"{Path(name).stem}_mask.png" for name in masked])
    touch(data, lines("kermany_files.txt"))
    repository = data / "covid-chestxray-dataset"
    metadata = pd.read_csv(LISTS / "cohen_metadata.csv", dtype=str, keep_default_na=False)
    touch(repository, [f"{row.folder}/{row.filename}" for row in metadata.itertuples()])
    touch(repository / "annotations/lungVAE-masks", lines("cohen_lungvae_masks.txt"))
    (repository / "metadata.csv").write_bytes((LISTS / "cohen_metadata.csv").read_bytes())


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    if not LISTS.is_dir():
        pytest.skip("no original file lists; set MANET_CXR_DIR to a folder with original/")
    data = tmp_path_factory.mktemp("data")
    lay_out(data)
    return data


def image(number, white=False):
    """A small image of its own, or a mask, as PNG; readers go by content, not by the ending of a name."""
    pixels = IMAGE.copy()
    pixels[20, :4] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels // 180 * 255 if white else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pack(data, shelf):
    """The publishers' archives of these collections, each file with a small picture in it."""
    contents = {
        "NLM-MontgomeryCXRSet.zip": ["MontgomerySet"],
        "ChinaSet_AllFiles.zip": ["ChinaSet_AllFiles/CXR_png"],
        "8gf9vpkhgy-2.zip": ["ChinaSet_AllFiles/mask"],
        "ChestXRay2017.zip": ["chest_xray"],
        "covid-chestxray-dataset.zip": ["covid-chestxray-dataset"],
    }
    assert set(contents) == {archive.name for source in SOURCES for archive in source.archives}
    for name, folders in contents.items():
        with zipfile.ZipFile(shelf / name, "w") as opened:
            files = sorted(path for folder in folders for path in (data / folder).rglob("*") if path.is_file())
            for path in files:
                inside = path.relative_to(data).as_posix()
                if name.startswith("8gf9"):  # the masks come in a folder of another name
                    inside = f"masks/{path.name}"
                picture = image(zlib.crc32(inside.encode()), white="mask" in inside.lower())
                opened.writestr(inside, path.read_bytes() or picture)


@pytest.mark.slow
def test_the_published_setting_builds_its_data_from_a_server_end_to_end(collections, tmp_path, monkeypatch):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    pack(collections, shelf)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(shelf))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    values = load_params(params_file("paper")).model_dump() | {
        "data_dir": str(tmp_path / "data"),
        "mirror": f"http://127.0.0.1:{server.server_port}",
        "image_size": 96,  # the paper's 512 only takes longer
    }
    try:
        papermill.execute_notebook(
            str(project_root() / "notebooks/01_data.ipynb"), str(tmp_path / "01.ipynb"), values, progress_bar=False
        )
    finally:
        server.shutdown()
    manifest = read_table(RunPaths.of("paper").manifest)
    assert manifest["label"].value_counts().to_dict() == {
        "bp": 2780,
        "normal": 1840,
        "vp": 1345,
        "covid19": 434,
        "tb": 394,
    }
    assert manifest["split"].value_counts().to_dict() == {"train": 5434, "test": 680, "val": 679}
    masked = manifest[manifest["seg_split"] != ""]
    assert masked["label"].value_counts().to_dict() == {"normal": 359, "tb": 345, "covid19": 154}
    figures = RunPaths.of("paper").figures
    table = pd.read_csv(figures / "composition.csv").set_index("Class")
    assert table["Difference"].to_dict() == {"Normal": 0, "COVID-19": 1, "TB": 0, "BP": 0, "VP": 0}
    assert table["With lung mask, paper"].to_dict() == {
        "Normal": 359,
        "COVID-19": 202,
        "TB": 345,
        "BP": 0,
        "VP": 0,
    }
    assert "Normal, paper" in pd.read_csv(figures / "table1.csv")
    lock = json.loads((tmp_path / "data/lock.json").read_text())
    assert set(lock) == {path.name for path in shelf.iterdir()}


def test_all_images_but_identical_ones_under_all(tmp_path, monkeypatch):
    rows = pd.DataFrame(
        [(f"{number}.png", CLASSES[number % 5], "x", f"p{number}", "", "") for number in range(60)],
        columns=list(ROW_COLUMNS),
    )
    data = tmp_path / "data"
    data.mkdir()
    for number in range(60):
        (data / f"{number}.png").write_bytes(image(number - number % 20 // 19))  # 19, 39 and 59 are 18, 38, 58
    rows["mask_path"] = "mask.png"
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 16, axis=1).repeat(32, axis=0)).save(data / "mask.png")
    monkeypatch.setattr("manet_lib.data.sources.gather", lambda *_: rows)
    paths = RunPaths(tmp_path / "run", tmp_path)
    params = Params(
        profile="x", data_source="public", data_dir=str(data), image_size=32, models=["vgg16"], batch_size=8
    )
    build_store(params, paths)
    build_manifest(params, paths)
    manifest = read_table(paths.manifest)
    twins = identical_images(manifest)
    assert twins["image_ids"].tolist() == ["18, 19", "38, 39", "58, 59"]
    dropped = manifest[manifest["split"] == ""]
    assert dropped["image_id"].tolist() == ["19", "39", "59"]
    assert (dropped["seg_split"] == "").all()


def test_the_papers_composition_needs_the_papers_images(refused):
    rows = pd.DataFrame([("a.png", "tb", "x", "p", "", "")], columns=list(ROW_COLUMNS))
    with refused("composition: paper needs", "set composition: all"):
        compose(rows, "paper", 0)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_readers_find_the_stated_counts(collections, source):
    rows = source.read(source.folder(collections))
    assert rows["label"].value_counts().to_dict() == source.counts
    assert rows["path"].is_unique


def test_masks_and_original_splits(collections):
    rows = gather(collections, download=False)
    masked = rows[rows["mask_path"] != ""].groupby(["source", "label"]).size().to_dict()
    assert masked == {
        ("montgomery", "normal"): 80,
        ("montgomery", "tb"): 58,
        ("shenzhen", "normal"): 279,
        ("shenzhen", "tb"): 287,
        ("cohen", "covid19"): 154,
    }
    images = rows[rows["source"] == "kermany"]
    sides = pd.crosstab(images["original_split"], images["label"])
    assert sides.loc["test", ["normal", "bp", "vp"]].tolist() == [234, 242, 148]
    assert sides.loc["train", ["normal", "bp", "vp"]].tolist() == [1349, 2538, 1345]
    assert all((collections / path).is_file() for path in rows["path"])
    assert all((collections / mask).is_file() for cell in rows["mask_path"] if cell for mask in cell.split(";"))


def test_composition_of_the_paper(collections):
    rows = compose(gather(collections, download=False), "paper", seed=0)
    counts = rows["label"].value_counts().to_dict()
    # Table 1, but for one COVID-19 image more: the listing has 434 frontal ones, the paper 433.
    assert counts == {"normal": 1840, "covid19": 434, "tb": 394, "bp": 2780, "vp": 1345}
    assert (rows.loc[rows["label"] == "vp", "original_split"] == "train").all()
    again = compose(gather(collections, download=False), "paper", seed=0)
    other = compose(gather(collections, download=False), "paper", seed=1)
    assert rows["path"].tolist() == again["path"].tolist()
    assert set(rows["path"]) != set(other["path"])
    assert len(compose(gather(collections, download=False), "all", seed=0)) == 138 + 662 + 434 + 5856


def test_patients_agree_with_the_sample_index(collections):
    index = pd.read_csv(sample_dir() / "index.csv", dtype=str, keep_default_na=False)
    rows = gather(collections, download=False)
    ours = dict(zip(rows["path"].map(lambda path: Path(path).name), rows["patient"], strict=True))
    known = index[index["original_name"].isin(ours)]
    assert len(known) > 7000
    agrees = (known["original_name"].map(ours) == known["patient"]).groupby(known["source"]).mean()
    assert (agrees[["montgomery", "shenzhen", "kermany"]] == 1).all()
    assert agrees["cohen"] > 0.96, "the index joins a few patients whom the metadata counts twice"


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("person7_bacteria_24", "person7"),
        ("person7_virus_9", "person7"),
        ("IM-0001-0001", "IM-0001"),
        ("IM-0011-0001-0002", "IM-0011"),
        ("NORMAL2-IM-0376-0001", "NORMAL2-IM-0376"),
    ],
)
def test_patients_of_kermany(stem, patient):
    assert kermany.patient_of(stem) == patient


def test_three_spellings_and_three_views_of_covid19():
    table = pd.DataFrame(
        [
            ("COVID-19", "PA", "X-ray", True),
            ("COVID-19, ARDS", "AP", "X-ray", True),
            ("Pneumonia/Viral/COVID-19", "AP Supine", "X-ray", True),
            ("COVID-19", "L", "X-ray", False),
            ("COVID-19", "Axial", "CT", False),
            ("COVID-19", "PA", "CT", False),
            ("SARS", "PA", "X-ray", False),
            ("Pneumonia/Viral/SARS", "PA", "X-ray", False),
        ],
        columns=["finding", "view", "modality", "kept"],
    )
    assert cohen.select(table).index.tolist() == table.index[table["kept"]].tolist()


def test_left_and_right_masks_are_merged(tmp_path):
    from manet_lib.data.sources.montgomery import read
    from manet_lib.data.store import _load

    for side, columns in (("left", slice(0, 15)), ("right", slice(25, 40))):
        mask = np.zeros((40, 40), np.uint8)
        mask[5:30, columns] = 255
        target = tmp_path / f"MontgomerySet/ManualMask/{side}Mask/MCUCXR_0001_0.png"
        target.parent.mkdir(parents=True)
        Image.fromarray(mask).save(target)
    (tmp_path / "MontgomerySet/CXR_png").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "MontgomerySet/CXR_png/MCUCXR_0001_0.png")
    (row,) = read(tmp_path).itertuples()
    image = _load(tmp_path, row.path, row.mask_path, 40, dark=False)
    assert image.mask[5:30].mean(axis=0).round().tolist() == [1] * 15 + [0] * 10 + [1] * 15


def test_an_offline_reader_is_told_what_to_fetch(tmp_path):
    with pytest.raises(UserError) as error:
        gather(tmp_path, download=False)
    message = str(error.value)
    assert "\n" not in message
    for source in SOURCES:
        for archive in source.archives:
            assert archive.name in message
            assert archive.url in message


@pytest.mark.parametrize("module", [montgomery, shenzhen, kermany, cohen])
def test_an_empty_collection_is_refused_by_name(tmp_path, module):
    folder = tmp_path / module.SOURCE.marker
    if module is cohen:
        folder.write_text("patientid,finding,view,modality,folder,filename\n")
    else:
        folder.mkdir(parents=True)
    with pytest.raises(UserError, match=f"{module.SOURCE.name}: no image found"):
        module.SOURCE.read(tmp_path)


def test_patients_with_an_identical_image_are_one():
    patients = pd.Series(["a", "a", "b", "c", "d", "e"])
    hashes = pd.Series(["1", "2", "2", "3", "3", "4"])
    assert join_patients(patients, hashes).tolist() == ["a", "a", "a", "c", "c", "e"]


def test_an_archive_that_an_interrupted_call_lacks_is_fetched_by_the_next(tmp_path):
    """Of Shenzhen's two archives, one with images and one with masks, the second fails at first."""
    data = tmp_path / "data"
    source = next(one for one in SOURCES if one.name == "shenzhen")
    images, masks = source.archives
    data.mkdir()
    with zipfile.ZipFile(data / images.name, "w") as opened:
        opened.writestr("ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png", image(1))
    unreachable = "http://127.0.0.1:9"
    with pytest.raises(UserError, match=masks.name):
        _obtain(source, data, unreachable)
    assert source.folder(data) is not None
    assert _unpacked(source, data) is None
    assert _to_fetch(source, data) == [masks]
    with zipfile.ZipFile(data / masks.name, "w") as opened:
        opened.writestr("masks/CHNCXR_0001_0_mask.png", image(2, white=True))
    rows = source.read(_obtain(source, data, unreachable))
    assert (rows["mask_path"] != "").tolist() == [True]
    assert _unpacked(source, data) == source.folder(data)


@pytest.mark.parametrize("place", ["", "shenzhen", "downloads/x"])
def test_collections_unpacked_by_hand_are_complete_with_their_masks(tmp_path, place):
    source = next(one for one in SOURCES if one.name == "shenzhen")
    folder = tmp_path / "data" / place
    touch(folder, ["ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png", "mask/CHNCXR_0001_0_mask.png"])
    assert _unpacked(source, tmp_path / "data") == folder
