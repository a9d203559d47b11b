"""Notebook 08: what is left of the lung mask in the last lung map, by network and image size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.scaling import resize
from manet_lib.models import create_model
from manet_lib.models.reach import measure_reach
from manet_lib.paths import recorded_results
from manet_lib.report.style import row_of_panels, styled
from manet_lib.report.tables import NETWORKS, model_title

SIZES = (64, 96, 128, 160, 192, 224, 320, 512)
"""Image sizes in pixels, up to the paper's."""


def reach_table(
    masks: NDArray[np.uint8], networks: Sequence[str], sizes: Sequence[int], count_include_pad: bool = True
) -> pd.DataFrame:
    """The last lung map of each network at each image size; see :func:`manet_lib.models.reach.measure_reach`.

    Args:
        masks: uint8 0 or 1, (N, S, S); resized to each size.
        networks: names without `_ma`.
        sizes: in pixels; those that are too small for a network are left out.
        count_include_pad: whether padding counts as no lung.

    Returns:
        Columns network, image_size, side, highest, lowest, inside, outside.
    """
    rows = []
    for network in networks:
        with torch.device("meta"):  # maps need the layers, not their weights
            model = create_model(f"{network}_ma", count_include_pad=count_include_pad)
        for size in sizes:
            if network == "inceptionv3" and size < 75:
                continue
            resized = np.stack([resize(mask * 255, (size, size)) > 127 for mask in masks])
            last = measure_reach(model, torch.from_numpy(resized[:, None].astype(np.float32))).iloc[-1]
            rows.append({"network": network, "image_size": size, **last.drop("depth")})
    return pd.DataFrame(rows).astype({"side": int})


def recorded_maps() -> pd.DataFrame:
    """The maps that benchmarks/reach.py has measured: :func:`reach_table` with columns masks and padding."""
    return pd.read_csv(recorded_results("reach") / "maps.csv")


def maps_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image size and one column per network: mean of the last map inside / outside the lungs."""
    cells = table.assign(cell=[f"{row.inside:.2f} / {row.outside:.2f}" for row in table.itertuples()])
    wide = cells.pivot(index="image_size", columns="network", values="cell").fillna("–")
    wide = wide[[name for name in NETWORKS if name in wide]].rename(columns=model_title)
    return wide.rename_axis("Image size", axis=0).rename_axis(None, axis=1).reset_index()


@styled
def reach_figure(table: pd.DataFrame) -> Figure:
    """What the last lung map tells, by image size: its mean inside and outside the lungs, one panel per network.

    Args:
        table: from :func:`manet_lib.report.reach.reach_table`, with a column `padding`: `counted` or `left out`.
    """
    names = list(dict.fromkeys(table["network"]))
    figure, panels = row_of_panels(len(names), 1.9, 2.4, sharey=True)
    for axes, name in zip(panels, names, strict=True):
        part = table[table["network"] == name]
        counted, left_out = (part[part["padding"] == kind] for kind in ("counted", "left out"))
        axes.fill_between(counted["image_size"], counted["outside"], counted["inside"], color="#4477aa", alpha=0.2)
        for place, colour in (("inside", "#4477aa"), ("outside", "#ee6677")):
            axes.plot(counted["image_size"], counted[place], color=colour, marker="o", markersize=3, label=place)
            axes.plot(left_out["image_size"], left_out[place], color=colour, linestyle=":", linewidth=1)
        axes.set(title=model_title(name), xlabel="image size (pixels)", ylim=(0, 1))
        axes.set_xscale("log", base=2)
        axes.set_xticks([64, 128, 224, 512], ["64", "128", "224", "512"])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("last lung map, mean")
    panels[0].legend(frameon=False, loc="upper left")
    return figure
