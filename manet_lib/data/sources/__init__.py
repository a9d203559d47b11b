"""Where films come from. Each source gives rows: path, label, source, patient, mask_path."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from manet_lib.data.phantom import write_phantoms
from manet_lib.data.sources.manifest import read_rows
from manet_lib.params import Params
from manet_lib.paths import expand

ROW_COLUMNS = ("path", "label", "source", "patient", "mask_path")


def find_rows(params: Params, phantoms: Path) -> tuple[Path, pd.DataFrame]:
    """The films of a run.

    Args:
        params: of the step `store`.
        phantoms: folder to draw phantoms into.

    Returns:
        The folder that paths are relative to, and one row per film with ``ROW_COLUMNS``; an empty
        ``mask_path`` means that there is none.

    Raises:
        UserError: see :func:`manet_lib.data.sources.manifest.read_rows`.
    """
    if params.data_source == "phantom":
        return phantoms, write_phantoms(
            phantoms, params.phantom_images, params.phantom_size, params.seed, params.confounder_strength
        )
    folder = expand(params.data_dir)
    return folder, read_rows(folder, params.data_csv, params.classes, params.max_per_class, params.seed)
