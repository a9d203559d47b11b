"""Montgomery County: 138 images, normal and TB, with left and right lungs drawn apart."""

from pathlib import Path

import pandas as pd

from manet_lib.data.sources.base import Archive, Source, rows_of


def read(folder: Path) -> pd.DataFrame:
    """Rows of ``MontgomerySet/{CXR_png,ManualMask/{leftMask,rightMask}}``; names end in _0 normal, _1 TB."""
    rows = []
    for image in (folder / "MontgomerySet/CXR_png").glob("MCUCXR_*_[01].png"):
        masks = [f"MontgomerySet/ManualMask/{side}Mask/{image.name}" for side in ("left", "right")]
        label = "tb" if image.stem.endswith("_1") else "normal"
        there = all((folder / mask).is_file() for mask in masks)
        path = f"MontgomerySet/CXR_png/{image.name}"
        rows.append((path, label, "montgomery", image.stem[:-2], ";".join(masks) if there else "", ""))
    return rows_of(rows, "montgomery", folder)


SOURCE = Source(
    name="montgomery",
    title="Montgomery County chest X-ray set",
    home="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set/MontgomerySet/index.html",
    citation="Jaeger et al., Quantitative Imaging in Medicine and Surgery 4(6), 2014",
    licence="research and education, with citation",
    archives=(
        Archive("NLM-MontgomeryCXRSet.zip", "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip"),
    ),
    counts={"normal": 80, "tb": 58},
    marker="MontgomerySet/CXR_png",
    read=read,
)
