"""Shenzhen No. 3 Hospital: 662 images, normal and TB; lung masks of 566 of them come from elsewhere."""

import os
from pathlib import Path

import pandas as pd

from manet_lib.data.sources.base import Archive, Source, rows_of

_MASKS = "8gf9vpkhgy-2.zip"


def _masks(folder: Path) -> dict[str, str]:
    """Mask of each image stem, relative to the folder; searched in the folder around it, too.

    The masks come in an archive of their own, which is unpacked beside the images'.
    """
    scope = folder.parent if folder.parent.name == "shenzhen" else folder
    return {
        mask.stem.removesuffix("_mask"): Path(os.path.relpath(mask, folder)).as_posix()
        for mask in sorted(scope.rglob("CHNCXR_*.png"))
        if mask.stem.endswith("_mask") or "mask" in mask.parent.name.lower()
    }


def read(folder: Path) -> pd.DataFrame:
    """Rows of ``ChinaSet_AllFiles/CXR_png``; masks are named ``CHNCXR_0001_0_mask.png``, in any folder around."""
    masks = _masks(folder)
    if not masks:
        print(f"shenzhen: no lung masks in {folder.name}/, so stage 1 trains without them; {_MASKS} holds them")
    rows = []
    for image in (folder / "ChinaSet_AllFiles/CXR_png").glob("CHNCXR_*_[01].png"):
        label = "tb" if image.stem.endswith("_1") else "normal"
        path = f"ChinaSet_AllFiles/CXR_png/{image.name}"
        rows.append((path, label, "shenzhen", image.stem[:-2], masks.get(image.stem, ""), ""))
    return rows_of(rows, "shenzhen", folder)


_HOME = "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/"

SOURCE = Source(
    name="shenzhen",
    title="Shenzhen Hospital chest X-ray set",
    home=_HOME + "index.html",
    citation="Jaeger et al., Quant Imaging Med Surg 4(6), 2014; masks: doi 10.17632/8gf9vpkhgy.2",
    licence="research and education, with citation; masks CC BY 4.0",
    archives=(
        Archive("ChinaSet_AllFiles.zip", "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"),
        Archive(_MASKS, f"https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/{_MASKS}"),
    ),
    counts={"normal": 326, "tb": 336},
    marker="ChinaSet_AllFiles/CXR_png",
    read=read,
    complete=lambda folder: bool(_masks(folder)),
)
