"""Kermany, version 2: 5856 images of children, normal, bacterial and viral pneumonia."""

import re
from pathlib import Path

import pandas as pd

from manet_lib.data.sources.base import Archive, Source, rows_of

_PATIENT = re.compile(r"person\d+|(NORMAL2-)?IM-\d+")


def patient_of(stem: str) -> str:
    """The patient of an image, from its name.

    ``person7_bacteria_24`` and ``person7_virus_9`` are one patient here: the numbers occur in both classes, and
    nothing says that they are different people. ``IM-0011-0001-0002`` belongs to IM-0011.
    """
    match = _PATIENT.match(stem)
    return match[0] if match else stem


def read(folder: Path) -> pd.DataFrame:
    """Rows of ``chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}``; `bacteria` or `virus` is in the name."""
    rows = []
    for side in ("train", "val", "test"):
        for image in (folder / "chest_xray" / side).glob("*/*.jp*g"):
            name = image.name.lower()
            label = "bp" if "bacteria" in name else "vp" if "virus" in name else "normal"
            path = f"chest_xray/{side}/{image.parent.name}/{image.name}"
            rows.append((path, label, "kermany", f"kermany_{patient_of(image.stem)}", "", side))
    return rows_of(rows, "kermany", folder)


SOURCE = Source(
    name="kermany",
    title="Labeled Optical Coherence Tomography and Chest X-Ray Images, version 2",
    home="https://data.mendeley.com/datasets/rscbjbr9sj/2",
    citation="Kermany, Zhang, Goldbaum, Mendeley Data, 2018, doi 10.17632/rscbjbr9sj.2",
    licence="CC BY 4.0",
    archives=(
        Archive(
            "ChestXRay2017.zip",
            "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
            "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
            1_235_512_464,
        ),
    ),
    counts={"normal": 1583, "bp": 2780, "vp": 1493},
    marker="chest_xray/train",
    read=read,
)
