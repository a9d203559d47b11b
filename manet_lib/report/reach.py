"""How far mask attention reaches at each image size, and what it changes in accuracy: notebook 08_reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from manet_lib.data.scaling import resize
from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import student_interval
from manet_lib.models import create_model
from manet_lib.models.reach import measure_reach
from manet_lib.paths import recorded_reach
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


def recorded_trainings() -> pd.DataFrame:
    """The trainings that benchmarks/reach.py has recorded.

    Returns:
        One row per training: settings, image_size, model, trial, seed, accuracy, iou, in_lungs, in_lesions (means
        in percent; see :func:`manet_lib.attention.scores.score_attention`), device, precision, seconds, and
        ``right``: which of the test films it classifies rightly, bool, by image_id.
    """
    trainings = pd.read_csv(recorded_reach() / "trainings.csv")
    films = pd.read_csv(recorded_reach() / "predictions.csv", dtype={"image_id": str})
    keys = ["settings", "image_size", "model", "trial"]
    right = films["label"].eq(films["predicted"]).groupby([films[key] for key in keys])
    by_film = {key: part.set_axis(films.loc[part.index, "image_id"]).sort_index() for key, part in right}
    return trainings.assign(right=[by_film[key] for key in trainings[keys].itertuples(index=False, name=None)])


def gain_table(trainings: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with MA less that without, on the same films in the same trials, by settings, network and size.

    Args:
        trainings: from :func:`recorded_trainings`. Where some settings change MA alone and have no plain network
            of their own, that of ``SHORT`` is the other side.

    Returns:
        Columns settings, network, image_size, trials, films, plain, ma, gain, low, high; accuracies and gains in
        percentage points, averaged over trials, with a 95% interval over films and trials.
    """
    rows = []
    for (settings, model, size), part in trainings.groupby(["settings", "model", "image_size"], sort=False):
        base, _, kind = str(model).partition("_")
        if kind != "ma":
            continue
        sized = trainings[(trainings["model"] == base) & (trainings["image_size"] == size)]
        own = sized[sized["settings"] == settings]
        other = own if len(own) else sized[sized["settings"] == SHORT]
        pairs = part.merge(other, on="trial", suffixes=("", "_plain"))
        if len(pairs):
            rows.append({"settings": settings, "network": base, "image_size": size} | _gain(pairs))
    table = pd.DataFrame(rows)
    return table.sort_values(["settings", "network", "image_size"], ignore_index=True) if rows else table


def split_gains() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What is recorded, as gain tables: after 8 epochs, the same with other images (seeds), and the controls."""
    gains = gain_table(recorded_trainings())
    main, seeds = gains["settings"] == SHORT, gains["settings"].str.fullmatch(r"seed\d+")
    return gains[main], gains[seeds], gains[~main & ~seeds]


def gain_of_each() -> pd.DataFrame:
    """What MA changes in each pair of trainings with the default settings, in any trial and from any seed.

    Returns:
        Columns network, image_size, seed, trial, gain (points of test accuracy), and the shares of Grad-CAM in the
        lungs, plain and ma, in percent.
    """
    trainings = recorded_trainings()
    alike = trainings[trainings["settings"].str.fullmatch(rf"{SHORT}|seed\d+")].copy()
    alike[["network", "kind"]] = alike["model"].str.partition("_")[[0, 2]].to_numpy()
    keys = ["network", "image_size", "seed", "trial"]
    plain, with_ma = (alike[alike["kind"] == kind] for kind in ("", "ma"))
    pairs = plain.merge(with_ma, on=keys, suffixes=("_plain", "_ma"))
    pairs["gain"] = pairs["accuracy_ma"] - pairs["accuracy_plain"]
    shares = {"in_lungs_plain": "plain", "in_lungs_ma": "ma"}
    return pairs.rename(columns=shares)[[*keys, "gain", "plain", "ma"]]


def gains_over_trainings() -> pd.DataFrame:
    """What MA changes from training to training, each pair of trainings one draw; see :func:`gain_of_each`.

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
                "Pairs of trainings": len(gains),
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
    counts = {"trials": len(pairs), "films": with_ma.shape[1]}
    return counts | {name: 100 * float(value) for name, value in shares.items()}


def recorded_maps() -> pd.DataFrame:
    """The maps that benchmarks/reach.py has measured: :func:`reach_table` with columns masks and padding."""
    return pd.read_csv(recorded_reach() / "maps.csv")


def maps_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image size and one column per network: mean of the last map inside / outside the lungs."""
    cells = table.assign(cell=[f"{row.inside:.2f} / {row.outside:.2f}" for row in table.itertuples()])
    wide = cells.pivot(index="image_size", columns="network", values="cell").fillna("–")
    wide = wide[[name for name in NETWORKS if name in wide]].rename(columns=model_title)
    return wide.rename_axis("Image size", axis=0).rename_axis(None, axis=1).reset_index()


def printed_gains(table: pd.DataFrame) -> pd.DataFrame:
    """A :func:`gain_table` as it is shown."""
    rows = [
        {
            "Network": model_title(row.network),
            "Settings": row.settings,
            "Image size": row.image_size,
            "Trials": row.trials,
            "Plain (%)": f"{row.plain:.1f}",
            "MA (%)": f"{row.ma:.1f}",
            "MA less plain": f"{row.gain:+.1f}",
            "95% interval": f"{row.low:+.1f} to {row.high:+.1f}",
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> list[str]:
    """What a :func:`gain_table` says: a sentence for each network and size."""
    lines = []
    for row in table.itertuples():
        change = (
            "gains" if row.low > 0 else "loses" if row.high < 0 else "is not told apart from the plain network:"
        )
        points = f"{abs(row.gain):.1f} points" if change in ("gains", "loses") else f"{row.gain:+.1f} points"
        trials = "one trial" if row.trials == 1 else f"{row.trials} trials"
        where = f"{model_title(row.network)}(MA) at {row.image_size} pixels"
        lines.append(f"{where} {change} {points} (95% interval {row.low:+.1f} to {row.high:+.1f}, {trials})")
    return lines


def reach_in_words(table: pd.DataFrame, contrast: float = 0.1) -> str:
    """From which size on the last map of each network tells inside from outside.

    Args:
        table: from :func:`reach_table`.
        contrast: by how much the two are to differ.
    """
    said = []
    for network, part in table.groupby("network", sort=False):
        enough = part[part["inside"] - part["outside"] >= contrast]["image_size"]
        size = f"from {enough.min()} pixels on" if len(enough) else "at none of these sizes"
        said.append(f"{model_title(str(network))} {size}")
    return f"Inside and outside differ by {contrast:g} or more: {'; '.join(said)}."


def padding_in_words(counted: pd.DataFrame, left_out: pd.DataFrame) -> str:
    """What leaving padding out does to height and contrast of the last maps.

    Args:
        counted: from :func:`reach_table`, padding counted as no lung.
        left_out: the same with padding left out, in the same order.
    """
    higher = left_out["inside"] - counted["inside"]
    contrast = (left_out["inside"] - left_out["outside"]) - (counted["inside"] - counted["outside"])
    where = counted.loc[higher.idxmax()]
    return (
        f"With padding left out the map is higher inside the lungs by up to {higher.max():.2f} "
        f"({model_title(where['network'])} at {where['image_size']} pixels); the distance between inside "
        f"and outside changes by {contrast.min():+.2f} to {contrast.max():+.2f}."
    )


def over_trainings_in_words(each: pd.DataFrame) -> str:
    """Whether MA's gain is told from 0 over pairs of trainings, where there are several, a sentence for each size.

    Args:
        each: from :func:`gain_of_each`.
    """
    said = []
    for (network, size), part in each.groupby(["network", "image_size"]):
        if len(part) < 2:
            continue
        mean, half = student_interval(part["gain"].to_numpy())
        verdict = "told from 0" if abs(mean) > half else "not told from 0"
        said.append(
            f"{model_title(str(network))} at {size} pixels: {mean:+.1f} points, {verdict} by {len(part)} pairs."
        )
    return " ".join(said)


def attention_moves_in_words(each: pd.DataFrame, area: float) -> str:
    """In how many pairs of trainings MA draws Grad-CAM into the lungs, and how far at most.

    Args:
        each: from :func:`gain_of_each`.
        area: share of the film that the lungs are, in [0, 1].
    """
    more = each["ma"] - each["plain"]
    most, above = each.loc[more.idxmax()], int((each["plain"] > 100 * area).sum())
    return (
        f"In {int((more > 0).sum())} of {len(each)} pairs more of the Grad-CAM map lies in the lungs with MA, by "
        f"{more.max():.0f} points at most ({model_title(most['network'])} at {most['image_size']} pixels). The "
        f"lungs are {100 * area:.0f}% of the film; the plain network has more than that in them in {above} pairs."
    )


def depths_in_words(depths: pd.DataFrame) -> str:
    """What becomes of the lung map from the first layer to the last.

    Args:
        depths: from :func:`manet_lib.models.reach.measure_reach`.
    """
    first, last = depths.iloc[0], depths.iloc[-1]
    return (
        f"From the first to the last map {first['side']:.0f} places a side become {last['side']:.0f}; the mean "
        f"inside the lungs goes from {first['inside']:.2f} to {last['inside']:.2f}, outside from "
        f"{first['outside']:.2f} to {last['outside']:.2f},"
        f" and their distance from {first['inside'] - first['outside']:.2f} to "
        f"{last['inside'] - last['outside']:.2f}."
    )


def masks_alike_in_words(table: pd.DataFrame) -> str:
    """By how much the contrast of the last map differs at most between two sets of masks.

    Args:
        table: from :func:`recorded_maps`, of two sets of masks, with one kind of padding.
    """
    contrast = table.assign(contrast=table["inside"] - table["outside"])
    wide = contrast.pivot(index=["network", "image_size"], columns="masks", values="contrast")
    one, other = wide.columns
    apart = (wide[one] - wide[other]).abs()
    network, size = apart.idxmax()
    return (
        f"The distance between inside and outside differs by at most {apart.max():.3f} between masks of {one} "
        f"and of {other} ({model_title(network)} at {size} pixels)."
    )
