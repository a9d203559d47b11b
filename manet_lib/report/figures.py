"""The paper's figures from the files of a run, as PNG, PDF and SVG."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import matplotlib

# whatever the environment or a user's matplotlibrc asks for
matplotlib.use("module://matplotlib_inline.backend_inline" if "ipykernel" in sys.modules else "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import binary_closing
from sklearn.metrics import roc_curve

from manet_lib.artifacts import atomic_path
from manet_lib.data.scaling import enlarged
from manet_lib.params import UserError
from manet_lib.paths import RunPaths
from manet_lib.report.alt import described, keep_in_notebooks
from manet_lib.report.tables import NETWORKS, class_title, model_title

plt.switch_backend(matplotlib.get_backend())  # first loaded inside rc_context, inline would show one figure only
keep_in_notebooks()

Film = NDArray[np.uint8]
STYLE: Any = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"text.usetex": False, "text.parse_math": False}  # names of classes are no formulas
_COLOURS = {"": "#4477aa", "ma": "#ee6677", "cbam": "#228833"}
_BOUNDS = ["accuracy", "low", "high"]
_ATTENTION = {"": "plain", "ma": "MA", "cbam": "CBAM"}


def colour_of(model: str) -> str:
    """The colour of a model: one for plain networks, one for MA, one for CBAM."""
    return _COLOURS[model.partition("_")[2]]


def save_figure(figure: Figure, paths: RunPaths, name: str, dpi: int) -> None:
    """Write a figure as PNG, PDF and SVG to the figures folder; the same figure gives the same bytes."""
    kinds: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    with plt.rc_context(STYLE):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what has been laid out stays as it is in all three files
    box = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
    for ending, metadata in (kinds | {"svg": {"Date": None, "Creator": None}}).items():
        with (
            atomic_path(paths.figures / f"{name}.{ending}") as temporary,
            plt.rc_context(STYLE | {"svg.hashsalt": name}),
        ):
            figure.savefig(temporary, dpi=dpi, bbox_inches=box, metadata=metadata)


def _show(axes: Axes, picture: NDArray[Any]) -> None:
    bright = picture.dtype == np.uint8 and picture.max() > 1
    axes.imshow(
        picture, cmap="gray", interpolation="nearest", vmin=0 if bright else None, vmax=255 if bright else None
    )
    bare(axes)


def bare(axes: Axes) -> None:
    """No ticks and no frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def picture_grid(
    rows: Sequence[Sequence[NDArray[Any]]], columns: Sequence[str], labels: Sequence[str] = ()
) -> Figure:
    """Pictures in rows and columns, as in Figs. 1, 3 and 8.

    Args:
        rows: pictures (H, W); 8-bit films are shown from 0 to 255, masks from their minimum to their maximum.
        columns: title of each column.
        labels: title of each row, or nothing.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(rows),
            len(columns),
            figsize=(1.45 * len(columns) + 0.3, 1.45 * len(rows) + 0.25),
            squeeze=False,
            layout="constrained",
        )
        for number, (axes_row, pictures) in enumerate(zip(grid, rows, strict=True)):
            for axes, picture in zip(axes_row, pictures, strict=True):
                _show(axes, picture)
            if labels:
                axes_row[0].set_ylabel(labels[number])
        for axes, title in zip(grid[0], columns, strict=True):
            axes.set_title(title)
    return figure


_EXTENT = (0.0, 1.0, 1.0, 0.0)
"""Of pictures that lie over one another, which may have different numbers of pixels."""


def _attention(axes: Axes, film: NDArray[Any], heat: NDArray[np.float32]) -> AxesImage:
    """A heat map over its film: the film shows where the map is low."""
    axes.imshow(film, cmap="gray", interpolation="nearest", extent=_EXTENT)
    heat = enlarged(heat, len(film))
    opacity = 0.15 + 0.75 * np.clip(heat, 0, 1)
    shown = axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=opacity, extent=_EXTENT)
    bare(axes)
    return shown


def _outline(axes: Axes, region: NDArray[Any], colour: str, style: str = "solid") -> None:
    if region.any() and not region.all():
        middles = (np.arange(len(region)) + 0.5) / len(region)
        axes.contour(middles, middles, region, levels=[0.5], colors=colour, linewidths=0.8, linestyles=style)


def _whole(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A lesion without its small gaps, such as those in the net of viral pneumonia: for its outline only."""
    reach = max(1, len(lesion) // 28)
    padded = np.pad(lesion, reach)  # closing would leave the border open
    return binary_closing(padded, iterations=reach)[reach:-reach, reach:-reach]


_LUNGS, _LESION = "white", "#44dddd"


def heat_map_grid(
    films: NDArray[np.float32],
    masks: NDArray[np.uint8],
    lesions: NDArray[np.bool_],
    maps: Sequence[NDArray[np.float32]],
    classes: Sequence[str],
    models: Sequence[str],
) -> Figure:
    """Fig. 9: segmented films of each class, and below them the Grad-CAM maps of each model, over the film.

    Args:
        films: uint8 or float (N, H, H); H may be a multiple of S.
        masks: lung masks, 0 or 1, (N, S, S), outlined in white.
        lesions: true lesions, (N, H, H), outlined with dashes; empty where they are not known.
        maps: for each model, float (N, S, S) in [0, 1].
        classes: class of each film.
        models: name of each model.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(models) + 1,
            len(films),
            figsize=(1.45 * len(films) + 0.9, 1.45 * (len(models) + 1) + 0.25),
            squeeze=False,
            layout="constrained",
        )
        for axes, film, label in zip(grid[0], films, classes, strict=True):
            axes.imshow(film, cmap="gray", interpolation="nearest", extent=_EXTENT)
            bare(axes)
            axes.set_title(class_title(label))
        grid[0][0].set_ylabel("Segmented")
        for axes_row, model, heat in zip(grid[1:], models, maps, strict=True):
            for axes, film, one in zip(axes_row, films, heat, strict=True):
                shown = _attention(axes, film, one)
            axes_row[0].set_ylabel(model_title(model))
        for axes_row in grid:
            for axes, mask, lesion in zip(axes_row, masks, lesions, strict=True):
                _outline(axes, mask, _LUNGS)
                _outline(axes, _whole(lesion), _LESION, "dashed")
        bar = figure.colorbar(ScalarMappable(shown.norm, "inferno"), ax=grid.ravel().tolist(), fraction=0.03)
        bar.set_label("attention")
    return figure


def overview_figure(
    film: Film, mask: NDArray[np.uint8], lesion: NDArray[np.bool_], heat: NDArray[np.float32], title: str
) -> Figure:
    """The method on one film: what stage 1 finds, what stage 2 sees, and where it looks.

    Args:
        film: uint8 (H, H); H may be a multiple of S.
        mask: lung mask, 0 or 1, (S, S).
        lesion: true lesion, (H, H); empty where it is not known.
        heat: Grad-CAM map, float (S, S) in [0, 1].
        title: of the last picture.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 4, figsize=(7.4, 2.1), layout="constrained")
        segmented = film * enlarged(mask, len(film))
        for axes, picture in zip(panels, (film, mask * np.uint8(255), segmented), strict=False):
            _show(axes, picture)
        _attention(panels[3], segmented, heat)
        _outline(panels[3], mask, _LUNGS)
        _outline(panels[3], _whole(lesion), _LESION, "dashed")
        titles = ("film", "stage 1: lung mask", "segmented film", title)
        for axes, words in zip(panels, titles, strict=True):
            axes.set_title(words)
    return figure


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
    """What MA changes in each pair of trainings, by image size, and the mean; Grad-CAM in the lungs beside it.

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


def accuracy_curves(logs: dict[tuple[str, int], pd.DataFrame]) -> Figure:
    """Fig. 10: validation accuracy over the epochs, one panel per backbone; mean and range of the trials.

    Args:
        logs: log of each (model, trial).

    Raises:
        UserError: nothing has been trained.
    """
    if not logs:
        raise UserError("figure 10: nothing has been trained; run notebook 04")
    models = list(dict.fromkeys(model for model, _ in logs))
    figure, panels = _one_for_each_backbone(models, 3.1, 2.9)
    with plt.rc_context(STYLE):
        for model in models:
            base, _, kind = model.partition("_")
            axes, trials = panels[base], [log for (name, _), log in logs.items() if name == model]
            epochs = trials[0]["epoch"]
            accuracy = 100 * np.stack([log["val_accuracy"] for log in trials])
            marker = "o" if len(epochs) <= 30 else ""
            look: dict[str, Any] = {"color": _COLOURS[kind], "marker": marker, "markersize": 3, "linewidth": 1.3}
            axes.plot(epochs, accuracy.mean(axis=0), label=_ATTENTION[kind], **look)
            if len(trials) > 1:
                axes.fill_between(
                    epochs,
                    accuracy.min(axis=0),
                    accuracy.max(axis=0),
                    color=_COLOURS[kind],
                    alpha=0.2,
                    linewidth=0,
                )
            axes.set(xlabel="epoch", ylim=(0, 100))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(frameon=False, loc="lower right")
        next(iter(panels.values())).set_ylabel("validation accuracy (%)")
    return figure


def _one_for_each_backbone(models: Sequence[str], width: float, height: float) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each backbone of some models, by its name."""
    backbones = list(dict.fromkeys(model.partition("_")[0] for model in models))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(backbones),
            figsize=(max(1.6 * width, width * len(backbones)), height),
            squeeze=False,
            sharey=True,
            layout="constrained",
        )
        for axes, backbone in zip(panels[0], backbones, strict=True):
            axes.set_title(model_title(backbone))
            axes.grid(alpha=0.25)
    return figure, dict(zip(backbones, panels[0], strict=True))


def roc_figure(
    actual: NDArray[np.bool_], scores: dict[str, NDArray[np.float64]], classes: Sequence[str]
) -> Figure:
    """ROC curves of one backbone, plain and with attention: a panel for each class, a line for each trial.

    Args:
        actual: one-hot classes, bool (films, classes).
        scores: of each model, probabilities (trials, films, classes).
        classes: their names.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(classes), figsize=(1.75 * len(classes), 2.1), sharey=True, squeeze=False, layout="constrained"
        )
        for number, (axes, label) in enumerate(zip(panels[0], classes, strict=True)):
            axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
            for model, probabilities in scores.items():
                kind = model.partition("_")[2]
                for trial, one in enumerate(probabilities):
                    if 0 < actual[:, number].sum() < len(actual):
                        false, true, _ = roc_curve(actual[:, number], one[:, number], drop_intermediate=False)
                        axes.plot(
                            false,
                            true,
                            color=_COLOURS[kind],
                            linewidth=1,
                            label=_ATTENTION[kind] if not trial else None,
                        )
            axes.set(title=class_title(label), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        panels[0][0].set_ylabel("true positives (share)")
        panels[0][len(classes) // 2].set_xlabel("false positives (share)")
        panels[0][-1].legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def reliability_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy of the films in each bin of confidence, with 95% intervals; below the diagonal a model is too sure.

    Args:
        tables: of each model, from :func:`manet_lib.report.quality.reliability`.
    """
    figure, panels = _one_for_each_backbone(list(tables), 3.1, 2.9)
    with plt.rc_context(STYLE):
        for model, table in tables.items():
            base, _, kind = model.partition("_")
            places = table["confidence"] + {"": 0, "ma": 0.008, "cbam": -0.008}[kind]  # bars side by side
            accuracy, low, high = table[_BOUNDS].to_numpy().T
            panels[base].errorbar(
                places,
                accuracy,
                yerr=[accuracy - low, high - accuracy],
                color=_COLOURS[kind],
                label=_ATTENTION[kind],
                marker="o",
                markersize=3,
                linewidth=1,
                elinewidth=0.7,
            )
        for axes in panels.values():
            axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
            axes.set(xlabel="confidence", xlim=(0.15, 1.02), ylim=(0, 1.02))
            axes.legend(frameon=False, loc="upper left")
        next(iter(panels.values())).set_ylabel("accuracy")
    return figure


def accuracy_by_mask_figure(table: pd.DataFrame) -> Figure:
    """Accuracy of stage 2 with each mask, with 95% intervals, one panel per backbone.

    Args:
        table: from :func:`manet_lib.report.masks.accuracy_by_mask`.
    """
    masks, models = list(dict.fromkeys(table["mask"])), list(dict.fromkeys(table["model"]))
    figure, panels = _one_for_each_backbone(models, 3.4, 2.9)
    with plt.rc_context(STYLE):
        for model in models:
            base, _, kind = model.partition("_")
            accuracy, low, high = table[table["model"] == model].set_index("mask").loc[masks, _BOUNDS].to_numpy().T
            panels[base].errorbar(
                np.arange(len(masks)) + {"": -0.12, "ma": 0, "cbam": 0.12}[kind],
                accuracy,
                yerr=[accuracy - low, high - accuracy],
                color=_COLOURS[kind],
                label=_ATTENTION[kind],
                marker="o",
                linestyle="none",
                markersize=4,
                elinewidth=1,
            )
        for axes in panels.values():
            axes.set_xticks(range(len(masks)), masks, rotation=20, ha="right")
            axes.set(ylim=(0, 100), xlim=(-0.5, len(masks) - 0.5))
            axes.legend(frameon=False, loc="lower left", ncols=3, fontsize=8)
        next(iter(panels.values())).set_ylabel("test accuracy (%)")
    said = [
        f"{model_title(str(model))}: "
        + ", ".join(f"{mask} {share:.0f}" for mask, share in zip(part["mask"], part["accuracy"], strict=True))
        for model, part in table.groupby("model", sort=False)
    ]
    return described(figure, f"Test accuracy in percent by mask. {'; '.join(said)}")


def sanity_figure(table: pd.DataFrame) -> Figure:
    """How alike maps stay to those of the trained network while its layers are drawn anew, from last to first.

    Args:
        table: from :func:`manet_lib.report.attention.sanity_means`; stage 0 holds unrelated maps, drawn dotted.
    """
    models = list(dict.fromkeys(table["model"]))
    figure, panels = _one_for_each_backbone(models, 3.1, 2.7)
    with plt.rc_context(STYLE):
        for model in models:
            base, _, kind = model.partition("_")
            similarity = table[table["model"] == model].set_index("stages")["similarity"]
            axes, later = panels[base], similarity.drop(0)
            axes.plot(
                [0, *later.index],
                [1, *later],
                color=_COLOURS[kind],
                marker="o",
                markersize=3,
                label=_ATTENTION[kind],
            )
            axes.axhline(similarity.loc[0], color=_COLOURS[kind], linestyle=":", linewidth=1)
        for axes in panels.values():
            axes.set(xlabel="stages drawn anew, last first", ylim=(-1, 1.05))
            axes.legend(frameon=False, loc="lower left", ncols=3)
        next(iter(panels.values())).set_ylabel("similarity (rank correlation)")
    return figure


def dose_figure(means: pd.DataFrame) -> Figure:
    """Test accuracy against the strength of a confounder in training: a panel per test, intervals over trials.

    Args:
        means: from :func:`manet_lib.report.audit.dose_means`.
    """
    tests = list(dict.fromkeys(means["test"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(tests), figsize=(2.5 * len(tests), 2.9), sharey=True, squeeze=False, layout="constrained"
        )
        for axes, test in zip(panels[0], tests, strict=True):
            for (view, model), part in means[means["test"] == test].groupby(["view", "model"], sort=False):
                kind, line = str(model).partition("_")[2], part.sort_values("strength")
                accuracy, low, high = line[_BOUNDS].to_numpy().T
                axes.errorbar(
                    line["strength"],
                    accuracy,
                    yerr=[accuracy - low, high - accuracy],
                    color=_COLOURS[kind],
                    linestyle="-" if view == "lungs" else "--",
                    marker="o",
                    markersize=3,
                    elinewidth=0.7,
                    label=f"{_ATTENTION[kind]}, {view}",
                )
            axes.set(title=f"tested {test}", xlabel="strength in training", ylim=(0, 100), xticks=[0, 0.5, 1])
            axes.grid(alpha=0.25)
        panels[0][0].set_ylabel("test accuracy (%)")
        figure.legend(
            *panels[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=8,
        )
    return figure


def confusion_figure(confusion: pd.DataFrame) -> Figure:
    """Table 5 as a picture: films by actual and predicted class, shaded by the share of the actual class."""
    counts = confusion.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    titles = [class_title(name) for name in confusion.index]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.8, 3.4), layout="constrained")
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(titles)), titles, rotation=30, ha="right")
        axes.set_yticks(range(len(titles)), titles)
        axes.set(xlabel="predicted", ylabel="actual")
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    said = [
        f"{title}: " + ", ".join(f"{count} {name}" for name, count in zip(titles, row, strict=True) if count)
        for title, row in zip(titles, counts, strict=True)
    ]
    return described(figure, f"Films by actual class, and what they are called. {'; '.join(said)}")


def pooling_figure(maps: Sequence[NDArray[np.float32]], titles: Sequence[str]) -> Figure:
    """Lung maps M_0, M_1, ... of Eq. 1, each at its own size."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            1, len(maps), figsize=(1.6 * len(maps) + 0.5, 1.9), squeeze=False, layout="constrained"
        )
        for axes, one, title in zip(grid[0], maps, titles, strict=True):
            shown = axes.imshow(one, cmap="viridis", vmin=0, vmax=1)
            bare(axes)
            axes.set_title(title)
        figure.colorbar(shown, ax=grid.ravel().tolist(), fraction=0.03, pad=0.02)
    return figure
