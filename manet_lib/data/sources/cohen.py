"""Cohen (ieee8023): COVID-19 images from publications, with model-made lung masks for some."""

import glob
from pathlib import Path

import pandas as pd

from manet_lib.data.sources.base import Archive, Source, rows_of

FINDINGS = ("COVID-19", "COVID-19, ARDS", "Pneumonia/Viral/COVID-19")
COMMIT = "9d6ecab1a351ae11cfeb36cb1a4f787b6ae066d8"
"""Near June 2020, when the last images of the listing that the paper's count fits were added."""
VIEWS = ("PA", "AP", "AP Supine")


def select(metadata: pd.DataFrame) -> pd.DataFrame:
    """The frontal COVID-19 X-rays of the metadata: three spellings of the finding, PA, AP and AP Supine views."""
    frontal = metadata["view"].isin(VIEWS) & (metadata["modality"] == "X-ray")
    return metadata[metadata["finding"].isin(FINDINGS) & frontal]


_COLUMNS = {"patientid", "finding", "view", "modality", "folder", "filename"}
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def _metadata(folder: Path) -> pd.DataFrame:
    path = folder / "metadata.csv"
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except UnicodeDecodeError:
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="latin-1")


def is_cohen(folder: Path) -> bool:
    """Whether the metadata in a folder have Cohen's columns; other collections have a ``metadata.csv``, too."""
    try:
        return set(_metadata(folder).columns) >= _COLUMNS
    except (OSError, ValueError):
        return False


def read(folder: Path) -> pd.DataFrame:
    """Rows of ``{metadata.csv,images,annotations/lungVAE-masks}``.

    A listed image whose file is missing (some were withdrawn) is left out; the count shows it. A file of the same
    name with another ending, as mirrored copies have, is taken unless it is a listed image of its own.
    """
    listed = select(_metadata(folder)).drop_duplicates("filename")
    own = set(listed["filename"])
    rows = []
    for image in listed.itertuples():
        path = _image(folder, Path(str(image.folder)) / str(image.filename), own)
        mask = Path("annotations/lungVAE-masks") / f"{Path(str(image.filename)).stem}_mask.png"
        if path is not None:
            mask_path = mask.as_posix() if (folder / mask).is_file() else ""
            rows.append((path.as_posix(), "covid19", "cohen", f"cohen_{image.patientid}", mask_path, ""))
    return rows_of(rows, "cohen", folder)


def _image(folder: Path, path: Path, listed: set[str]) -> Path | None:
    """The file of a listed image, relative to the folder, or None."""
    if (folder / path).is_file():
        return path
    twins = sorted((folder / path.parent).glob(f"{glob.escape(path.stem)}.*"))
    found = (twin.name for twin in twins if twin.suffix.lower() in _PICTURES and twin.name not in listed)
    name = next(found, None)
    return None if name is None else path.with_name(name)


SOURCE = Source(
    name="cohen",
    title="COVID-19 image data collection",
    home="https://github.com/ieee8023/covid-chestxray-dataset",
    citation="Cohen et al., Prospective predictions are the future, arXiv:2006.11988, 2020",
    licence="differs by image: see the column `license` of metadata.csv",
    archives=(
        Archive(
            "covid-chestxray-dataset.zip",
            f"https://github.com/ieee8023/covid-chestxray-dataset/archive/{COMMIT}.zip",
        ),
    ),
    counts={"covid19": 434},
    marker="metadata.csv",
    read=read,
    fits=is_cohen,
)
