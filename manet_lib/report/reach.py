"""Notebook 08: how far mask attention reaches at each image size, and what it changes in accuracy."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.scaling import resize
from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import student_interval
from manet_lib.models import create_model
from manet_lib.models.reach import measure_reach
from manet_lib.paths import recorded_results
from manet_lib.report.style import STYLE
from manet_lib.report.tables import NETWORKS, model_title

SIZES = (64, 96, 128, 160, 192, 224, 320, 512)
"""Image sizes in pixels, up to the paper's."""


SHORT = "epochs8"
"""Settings of most recorded training runs: 8 epochs, too few to converge at 224 pixels."""


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


def recorded_runs() -> pd.DataFrame:
    """The training runs that benchmarks/reach.py has recorded.

    Returns:
        One row per training: settings, image_size, model, trial, seed, accuracy, iou, in_lungs, in_lesions (means
        in percent; see :func:`manet_lib.attention.scores.score_attention`), device, precision, seconds, and
        ``right``: which of the test images it classifies correctly, bool, by image_id.
    """
    runs = pd.read_csv(recorded_results("reach") / "runs.csv")
    images = pd.read_csv(recorded_results("reach") / "predictions.csv", dtype={"image_id": str})
    keys = ["settings", "image_size", "model", "trial"]
    right = images["label"].eq(images["predicted"]).groupby([images[key] for key in keys])
    by_image = {key: part.set_axis(images.loc[part.index, "image_id"]).sort_index() for key, part in right}
    return runs.assign(right=[by_image[key] for key in runs[keys].itertuples(index=False, name=None)])


def gain_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with MA less that without, on the same images in the same trials, by settings, network and size.

    Args:
        training runs: from :func:`recorded_runs`. Where some settings change MA alone and have no plain network
            of their own, that of ``SHORT`` is the other side.

    Returns:
        Columns settings, network, image_size, trials, images, plain, ma, gain, low, high; accuracies and gains in
        percentage points, averaged over trials, with a 95% interval over images and trials.
    """
    rows = []
    for (settings, model, size), part in runs.groupby(["settings", "model", "image_size"], sort=False):
        base, _, kind = str(model).partition("_")
        if kind != "ma":
            continue
        sized = runs[(runs["model"] == base) & (runs["image_size"] == size)]
        own = sized[sized["settings"] == settings]
        other = own if len(own) else sized[sized["settings"] == SHORT]
        pairs = part.merge(other, on="trial", suffixes=("", "_plain"))
        if len(pairs):
            rows.append({"settings": settings, "network": base, "image_size": size} | _gain(pairs))
    table = pd.DataFrame(rows)
    return table.sort_values(["settings", "network", "image_size"], ignore_index=True) if rows else table


def split_gains() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What is recorded, as gain tables: after 8 epochs, the same with other images (seeds), and the controls."""
    gains = gain_table(recorded_runs())
    main, seeds = gains["settings"] == SHORT, gains["settings"].str.fullmatch(r"seed\d+")
    return gains[main], gains[seeds], gains[~main & ~seeds]


def gain_of_each() -> pd.DataFrame:
    """What MA changes in each pair of training runs with the default settings, in any trial and from any seed.

    Returns:
        Columns network, image_size, seed, trial, gain (points of test accuracy), and the shares of Grad-CAM in the
        lungs, plain and ma, in percent.
    """
    runs = recorded_runs()
    alike = runs[runs["settings"].str.fullmatch(rf"{SHORT}|seed\d+")].copy()
    alike[["network", "kind"]] = alike["model"].str.partition("_")[[0, 2]].to_numpy()
    keys = ["network", "image_size", "seed", "trial"]
    plain, with_ma = (alike[alike["kind"] == kind] for kind in ("", "ma"))
    pairs = plain.merge(with_ma, on=keys, suffixes=("_plain", "_ma"))
    pairs["gain"] = pairs["accuracy_ma"] - pairs["accuracy_plain"]
    shares = {"in_lungs_plain": "plain", "in_lungs_ma": "ma"}
    return pairs.rename(columns=shares)[[*keys, "gain", "plain", "ma"]]


def gains_over_runs() -> pd.DataFrame:
    """What MA changes from training to training, each pair of training runs one draw; see :func:`gain_of_each`.

    Returns:
        One row per network and image size with two pairs or more, as it is shown: the gain of each pair, their
        mean with Student's 95% interval, and the mean share of Grad-CAM in the lungs.
    """
    rows = []
    for (network, size), part in gain_of_each().groupby(["network", "image_size"]):
        gains = part["gain"].to_numpy()
        if len(gains) < 2:
            continue
        mean, half = student_interval(gains)
        rows.append(
            {
                "Network": model_title(str(network)),
                "Image size": size,
                "Pairs of training runs": len(gains),
                "MA less plain, each (points)": ", ".join(f"{gain:+.1f}" for gain in gains),
                "Mean": f"{mean:+.1f} ± {half:.1f}",
                "Grad-CAM in the lungs, plain → MA (%)": f"{part['plain'].mean():.0f} → {part['ma'].mean():.0f}",
            }
        )
    return pd.DataFrame(rows)


def _gain(pairs: pd.DataFrame) -> dict[str, float]:
    with_ma, plain = (np.stack([one.to_numpy() for one in pairs[side]]) for side in ("right", "right_plain"))
    found = compare(with_ma, plain)
    shares = {"plain": plain.mean(), "ma": with_ma.mean()}
    shares |= {"gain": found.difference, "low": found.low, "high": found.high}
    counts = {"trials": len(pairs), "images": with_ma.shape[1]}
    return counts | {name: 100 * float(value) for name, value in shares.items()}


def recorded_maps() -> pd.DataFrame:
    """The maps that benchmarks/reach.py has measured: :func:`reach_table` with columns masks and padding."""
    return pd.read_csv(recorded_results("reach") / "maps.csv")


def maps_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image size and one column per network: mean of the last map inside / outside the lungs."""
    cells = table.assign(cell=[f"{row.inside:.2f} / {row.outside:.2f}" for row in table.itertuples()])
    wide = cells.pivot(index="image_size", columns="network", values="cell").fillna("–")
    wide = wide[[name for name in NETWORKS if name in wide]].rename(columns=model_title)
    return wide.rename_axis("Image size", axis=0).rename_axis(None, axis=1).reset_index()


def printed_gains(table: pd.DataFrame) -> pd.DataFrame:
    """A :func:`gain_table` as it is shown; one pair of training runs has no interval, as another would differ."""
    rows = [
        {
            "Network": model_title(row.network),
            "Settings": row.settings,
            "Image size": row.image_size,
            "Trials": row.trials,
            "Plain (%)": f"{row.plain:.1f}",
            "MA (%)": f"{row.ma:.1f}",
            "MA less plain": f"{row.gain:+.1f}",
            "95% interval": f"{row.low:+.1f} to {row.high:+.1f}" if row.trials > 1 else "–",
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows)


def reach_figure(table: pd.DataFrame) -> Figure:
    """What the last lung map tells, by image size: its mean inside and outside the lungs, one panel per network.

    Args:
        table: from :func:`manet_lib.report.reach.reach_table`, with a column `padding`: `counted` or `left out`.
    """
    names = list(dict.fromkeys(table["network"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(names), figsize=(1.9 * len(names), 2.4), squeeze=False, sharey=True, layout="constrained"
        )
        for axes, name in zip(panels[0], names, strict=True):
            part = table[table["network"] == name]
            counted, left_out = (part[part["padding"] == kind] for kind in ("counted", "left out"))
            axes.fill_between(
                counted["image_size"], counted["outside"], counted["inside"], color="#4477aa", alpha=0.2
            )
            for place, colour in (("inside", "#4477aa"), ("outside", "#ee6677")):
                axes.plot(
                    counted["image_size"], counted[place], color=colour, marker="o", markersize=3, label=place
                )
                axes.plot(left_out["image_size"], left_out[place], color=colour, linestyle=":", linewidth=1)
            axes.set(title=model_title(name), xlabel="image size (pixels)", ylim=(0, 1))
            axes.set_xscale("log", base=2)
            axes.set_xticks([64, 128, 224, 512], ["64", "128", "224", "512"])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
        panels[0][0].set_ylabel("last lung map, mean")
        panels[0][0].legend(frameon=False, loc="upper left")
    return figure


def gain_figure(each: pd.DataFrame) -> Figure:
    """What MA changes in each pair of training runs, by image size, and the mean; Grad-CAM in the lungs beside it.

    Args:
        each: from :func:`manet_lib.report.reach.gain_of_each`.
    """
    colours = dict(zip(NETWORKS, ("#ee6677", "#4477aa", "#228833", "#aa3377"), strict=True))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9), layout="constrained")
        for network, part in each.groupby("network"):
            colour, means = colours[str(network)], part.groupby("image_size")[["gain", "plain", "ma"]].mean()
            title = model_title(str(network))
            left.plot(means.index, means["gain"], color=colour, marker="o", markersize=5, label=title)
            left.plot(part["image_size"], part["gain"], "o", color=colour, markersize=3, fillstyle="none")
            right.plot(means.index, means["ma"], color=colour, marker="o", markersize=4, label=f"{title}(MA)")
            right.plot(
                means.index,
                means["plain"],
                color=colour,
                marker="o",
                fillstyle="none",
                markersize=6,
                linestyle=":",
                label=title,
            )
        left.axhline(0, color="black", linewidth=0.8)
        left.set(ylabel="MA less plain (points of accuracy)")
        right.set(ylabel="Grad-CAM in the lungs (%)", ylim=(0, 60))
        for axes in (left, right):
            axes.set_xlabel("image size (pixels)")
            axes.set_xticks(sorted(set(each["image_size"])))
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, fontsize=8, loc="upper left" if axes is left else "lower right")
    return figure
