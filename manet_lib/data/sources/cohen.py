"""Cohen (ieee8023): COVID-19 films from publications, with model-made lung masks for some."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from manet_lib.data.sources.base import Archive, Source, rows_of
from manet_lib.params import UserError

FINDINGS = ("COVID-19", "COVID-19, ARDS", "Pneumonia/Viral/COVID-19")
COMMIT = "9d6ecab1a351ae11cfeb36cb1a4f787b6ae066d8"
"""Near June 2020, when the last films of the listing that the paper's count fits were added."""
VIEWS = ("PA", "AP", "AP Supine")


def select(metadata: pd.DataFrame) -> pd.DataFrame:
    """The frontal COVID-19 X-rays of the metadata: three spellings of the finding, PA, AP and AP Supine views."""
    frontal = metadata["view"].isin(VIEWS) & (metadata["modality"] == "X-ray")
    return metadata[metadata["finding"].isin(FINDINGS) & frontal]


def read(folder: Path) -> pd.DataFrame:
    """Rows of ``{metadata.csv,images,annotations/lungVAE-masks}``.

    A listed film whose file is missing (some were withdrawn) is left out; the count shows it.

    Raises:
        UserError: the metadata lacks a column.
    """
    metadata = pd.read_csv(folder / "metadata.csv", dtype=str, keep_default_na=False)
    missing = {"patientid", "finding", "view", "modality", "folder", "filename"} - set(metadata.columns)
    if missing:
        raise UserError(f"cohen: metadata.csv has no column {', '.join(sorted(missing))}; fetch it again")
    rows = []
    for film in select(metadata).drop_duplicates("filename").itertuples():
        path = Path(str(film.folder)) / str(film.filename)
        mask = Path("annotations/lungVAE-masks") / f"{Path(str(film.filename)).stem}_mask.png"
        if (folder / path).is_file():
            mask_path = mask.as_posix() if (folder / mask).is_file() else ""
            rows.append((path.as_posix(), "covid19", "cohen", f"cohen_{film.patientid}", mask_path, ""))
    return rows_of(rows, "cohen", folder)


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
)
