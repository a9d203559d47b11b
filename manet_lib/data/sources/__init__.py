"""Where images come from. Each source gives rows: path, label, source, patient, mask_path, original_split."""

from pathlib import Path

import pandas as pd

from manet_lib.data.phantom import write_phantoms
from manet_lib.data.sources.own import read_rows
from manet_lib.data.sources.public import compose, gather
from manet_lib.params import Params
from manet_lib.paths import expand


def fetch(params: Params) -> None:
    """Fetch and unpack what is missing of the public collections; nothing to do for other images.

    Raises:
        UserError: see ``public.gather``.
    """
    if params.data_source == "public":
        gather(expand(params.data_dir), params.mirror, params.download)


def image_folder(params: Params, phantoms: Path) -> Path:
    """The folder that paths in the manifest are relative to; ``phantoms`` is that of synthetic images."""
    return phantoms if params.data_source == "phantom" else expand(params.data_dir)


def find_rows(params: Params, phantoms: Path) -> tuple[Path, pd.DataFrame]:
    """The images of a run.

    Args:
        params: of the step `store`.
        phantoms: folder to draw phantoms into.

    Returns:
        The folder that paths are relative to, and one row per image: path, label, source, patient, mask_path; an
        empty ``mask_path`` means that there is none, several joined by ``;`` are merged.

    Raises:
        UserError: see :func:`manet_lib.data.sources.own.read_rows` and ``public.gather``.
    """
    folder = image_folder(params, phantoms)
    if params.data_source == "phantom":
        return folder, write_phantoms(
            folder, params.phantom_images, params.phantom_size, params.seed, params.confounder_strength
        )
    if params.data_source == "public":
        rows = gather(folder, params.mirror, params.download)
    else:
        rows = read_rows(folder, params.data_csv, params.classes, params.max_per_class, params.seed)
    return folder, compose(rows, params.composition, params.seed)
