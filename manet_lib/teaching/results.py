"""Checks of exercises on results (06) and on cost (07)."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import nn

from manet_lib.evaluation.metrics import classification_report
from manet_lib.evaluation.paired import images_needed, mcnemar_p
from manet_lib.evaluation.statistics import student_interval
from manet_lib.models import create_model
from manet_lib.models.cost import Cost, measure_cost
from manet_lib.report.tables import published
from manet_lib.teaching.verdict import NotYet, ask, check, close, number, numbers, refuse

TEN_IMAGES = pd.DataFrame(
    {"plain": [1, 1, 0, 0, 1, 0, 0, 1, 0, 1], "MA": [1, 1, 1, 1, 1, 1, 0, 0, 1, 1]},
    index=pd.Index(range(1, 11), name="image"),
).astype(bool)
"""Whether two networks classify ten images correctly."""


@check
def check_mcnemar(answer: Any) -> str:
    """06, first exercise: images that MA alone gets right, images that plain alone gets right, exact p."""
    gained, lost, p = numbers(answer, ("MA alone", "plain alone", "p"))
    ma, plain = TEN_IMAGES["MA"], TEN_IMAGES["plain"]
    wanted = int((ma & ~plain).sum()), int((plain & ~ma).sum())
    if (gained, lost) == (ma.sum(), plain.sum()):
        raise NotYet("these are all images that each gets right; leave out those that both do.")
    if (gained, lost) == wanted[::-1]:
        raise NotYet("the two counts are exchanged: MA alone comes first.")
    if (gained, lost) != wanted:
        raise NotYet(f"{gained:g} and {lost:g} are not the images that only one of the two gets right.")
    right, total = mcnemar_p(*wanted), sum(wanted)
    approximate, corrected = (scipy.stats.chi2.sf((gained - lost - by) ** 2 / total, 1) for by in (0, 1))
    mistakes = {
        "is one side: the other network could have been ahead as well, so take it twice": right / 2,
        f"leaves out the outcome that is more uneven still: add 0 against {total}": 2 * total / 2**total,
        f"is for 0 against {total} alone; add {wanted[1]} against {wanted[0]}": 2 / 2**total,
        "is the chi-squared approximation, which is for many images; count outcomes": approximate,
        "is the chi-squared approximation with continuity correction; count outcomes": corrected,
    }
    refuse(p, right, mistakes, f"{p:.3f} ")
    if not close(p, right, 6e-3):
        raise NotYet(
            f"p is not {p:.3f}: of 2^{total} outcomes count those with {wanted[1]} or fewer on one side, twice."
        )
    return (
        f"{wanted[0]} against {wanted[1]} looks like much, but a result at least as uneven happens by chance in "
        f"{100 * right:.0f} of 100 cases."
    )


@check
def check_macro_f1(macro_f1: Callable[[NDArray[np.int64]], float]) -> str:
    """06, second exercise: macro F1 of a confusion matrix, rows actual, columns predicted."""
    printed = published("table5_confusion_resnet50_ma").set_index("actual").astype(int)
    rng = np.random.default_rng(0)
    for matrix in (printed.to_numpy(), rng.integers(1, 20, (3, 3)), np.diag([4, 1, 7]) + 1):
        table = classification_report(pd.DataFrame(matrix))
        classes, weighted = table.iloc[:-1], table["f1"].iloc[-1]
        wanted, found = float(classes["f1"].mean()), float(ask(macro_f1, matrix))
        recall, precision = classes["recall"].mean(), classes["precision"].mean()
        of_means = 2 / (1 / recall + 1 / precision)
        mistakes = {
            "the average weighted by images (Table 4's last line), in which BP alone has four of ten": weighted,
            "accuracy": np.trace(matrix) / matrix.sum(),
            "the mean recall": recall,
            "the mean precision": precision,
            "F1 of the mean precision and recall; take F1 of each class first": of_means,
        }
        refuse(found, wanted, mistakes, f"{found:.4f} is ", 1e-5)
        if not close(found, wanted, 1e-4):
            raise NotYet(f"for a matrix of {len(matrix)} classes it is {wanted:.4f}, and you say {found:.4f}.")
    silent = np.array([[5, 0], [3, 0]])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = float(ask(macro_f1, silent))
    if not close(found, 5 / 13):
        raise NotYet(
            f"a class that is never predicted has F1 0, so that [[5, 0], [3, 0]] gives 0.385 and not {found:.3f}."
        )
    first = classification_report(printed)
    return (
        f"the paper's Table 5 gives {first['f1'].iloc[:-1].mean():.3f}; weighted by images it is "
        f"{first['f1'].iloc[-1]:.3f}, because the class that does worst, {first['f1'].iloc[:-1].idxmin()}, is "
        "rare."
    )


@check
def check_evidence(
    interval: Callable[[Sequence[float], Sequence[float]], tuple[float, float]],
    needed: Callable[[float, float], float],
) -> str:
    """06, third exercise: 95% interval of MA's gain over three trials; test images to see a gain."""
    table = published("table2_test_accuracy").set_index("model")[["trial1", "trial2", "trial3"]].astype(float)
    for name in ("resnet50", "vgg16"):
        attention, plain = table.loc[f"{name}_ma"].to_numpy(), table.loc[name].to_numpy()
        mean, half = student_interval(attention - plain)
        pair = numbers(ask(interval, attention, plain), ("lower bound", "upper bound"))
        found, centre = (pair[1] - pair[0]) / 2, sum(pair) / 2
        error = scipy.stats.sem(attention - plain)
        unpaired = scipy.stats.ttest_ind(attention, plain).confidence_interval()
        if close(centre, -mean) and not close(mean, 0):
            raise NotYet("the sign is turned: the gain is the accuracy with MA minus that without.")
        mistakes = {
            "1.96 standard errors, which is for many trials; with three, t is 4.30": 1.96 * error,
            "too narrow: `std` needs ddof=1 with three trials": half * np.sqrt(2 / 3),
            "of single trials; the mean of three varies less, so divide by √3": half * np.sqrt(3),
            "of trials that are not paired; take the differences first": np.ptp(unpaired) / 2,
        }
        refuse(found, half, mistakes, f"half the width, {found:.2f} points, is ", 6e-3)
        if not close(pair, (mean - half, mean + half), 6e-3):
            raise NotYet(
                f"for {name} it is {mean - half:.2f} to {mean + half:.2f}, and you say {pair[0]:.2f} to "
                f"{pair[1]:.2f}."
            )
    gain = float((table.loc["resnet50_ma"] - table.loc["resnet50"]).mean()) / 100
    for difference, discordant in ((gain, 0.05), (0.02, 0.1)):
        images, wanted = number(needed, difference, discordant), images_needed(difference, discordant)
        chance = scipy.stats.norm.ppf(0.975) ** 2 * discordant / difference**2
        if abs(images / chance - 1) < 0.01:
            raise NotYet(
                f"with {images:,.0f} images half of the attempts see nothing: 0.84 for a power of 80% is missing."
            )
        if abs(images / (wanted / 100) - 1) < 0.2:
            raise NotYet(f"{images:,.1f} images: gain and share are both shares, not percent.")
        if abs(images / wanted - 1) > 0.01:
            raise NotYet(
                f"a gain of {difference:.4f} with a share of {discordant} discordant images needs {wanted:,}, "
                f"and you say {images:,.0f}."
            )
    mean, half = student_interval((table.loc["resnet50_ma"] - table.loc["resnet50"]).to_numpy())
    return (
        f"ResNet50 gains {mean:.2f} points, with an interval from {mean - half:.2f} to {mean + half:.2f}. If 5% "
        f"of the images are right with one network only, it takes {images_needed(gain, 0.05):,} test images to "
        "see this gain, and the paper has 680."
    )


@check
def check_parameters(answer: Any) -> str:
    """07, first exercise: parameters of a convolution (3×3, 64 to 128), a batch norm, a linear one (512 to 5)."""
    conv, norm, linear = numbers(answer, ("convolution", "batch norm", "linear layer"))
    if conv == 3 * 3 * 64 * 128 + 128:
        raise NotYet("the convolution has no bias here: the batch norm behind it has one.")
    if conv in (3 * 3 * 64, 3 * 3 * 128, 3 * 64 * 128):
        raise NotYet("each of the 128 outputs has a kernel of its own of 3×3 for each of the 64 inputs.")
    if conv != 3 * 3 * 64 * 128:
        raise NotYet(f"{conv:g} is not 3 × 3 × inputs × outputs.")
    if norm == 4 * 128:
        raise NotYet(
            "running mean and variance are counted, which nothing trains: two parameters a channel are left."
        )
    if norm != 2 * 128:
        raise NotYet(
            f"a batch norm trains a weight and a bias for each of 128 channels, and {norm:g} is not that."
        )
    if linear == 512 * 5:
        raise NotYet("the linear layer has a bias for each class as well.")
    if linear != 512 * 5 + 5:
        raise NotYet(
            f"the linear layer has 512 weights and a bias for each of 5 classes, and {linear:g} is not that."
        )
    return "none of the three counts depends on the size of the image: the same at 64 and at 512 pixels."


@check
def check_flops(flops: Callable[[nn.Conv2d, int], int]) -> str:
    """07, second exercise: FLOPs of a convolution on a square image, by the rule of Table 3."""
    for layer in (
        nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False),
        nn.Conv2d(64, 128, 3, padding=1, bias=False),
        nn.Conv2d(64, 256, 1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, bias=True),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
    ):
        side = 64
        wanted = measure_cost(_Alone(layer), side, layer.in_channels).flops
        found, out = float(ask(flops, layer, side)), layer(torch.zeros(1, layer.in_channels, side, side)).shape[-1]
        weights = layer.weight.numel()
        mistakes = {
            "counts a multiplication and an addition as two; Table 3 counts the pair once": 2 * out**2 * weights,
            "counts as many positions as come in; the stride leaves fewer": side**2 * weights,
            "forgets the bias, 1 more for each output": out**2 * weights,
            "counts one position only; the kernel is moved over all of them": weights,
            "counts the bias although there is none": out**2 * (weights + layer.out_channels),
        }
        refuse(found, wanted, mistakes, f"for {layer} your {found:,.0f} ")
        if found != wanted:
            raise NotYet(
                f"for {layer} on {side} pixels it is {wanted:,} ({out}×{out} positions), and you say {found:,.0f}."
            )
    return (
        "at twice the side a convolution costs four times as much: FLOPs depend on the image's size, parameters "
        "do not."
    )


class _Alone(nn.Module):
    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, image: Any, mask: Any) -> Any:
        return self.layer(image)


PLAN: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3, "M")
"""VGG16: channels of each 3×3 convolution, and M for a max pooling that halves the side."""


@check
def check_vgg_row(row: Callable[[Sequence[int | str], int], tuple[float, float]]) -> str:
    """07, third exercise: parameters and FLOPs of VGG16 in millions, from its plan."""
    for side in (512, 224):
        params, flops = numbers(ask(row, PLAN, side), ("parameters (M)", "FLOPs (M)"))
        cost = _vgg_cost(side)
        if close(params, cost.params) or close(flops, cost.flops):
            raise NotYet("Table 3 counts in millions: divide by 1e6.")
        lacking = cost.params / 1e6 - params
        linear = (25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 5 + 5) / 1e6
        mistakes = {
            "the biases of the convolutions are missing": 4224 / 1e6,
            "the batch norms are missing, 2 for each channel": 8448 / 1e6,
            "the image has one channel, not three": -2 * 9 * 64 / 1e6,
            "the three linear layers are missing": linear,
            "the paper's network has 5 classes, not 1000": -995 * 4097 / 1e6,
        }
        refuse(lacking, 0, mistakes, f"{params:.3f} million parameters: ", 1e-5)
        if not close(params, cost.params / 1e6, 5e-4):
            raise NotYet(
                f"there are {cost.params / 1e6:.6f} million parameters, and you have {params:.6f} million; do not "
                "round."
            )
        if not close(flops, cost.flops / 1e6, 5e-3):
            raise NotYet(
                f"at {side} pixels it costs {cost.flops / 1e6:.2f} million FLOPs, and you have {flops:.2f} "
                "million. Biases cost 1 and batch norms 2 an output; average pooling to 7×7 costs its window "
                "and 1 an output."
            )
    printed = published("table3_cost").set_index("model").loc["vgg16"]
    return f"Table 3 prints {printed['params_m']} and {printed['flops_m']}; both come out to the digit."


@cache
def _vgg_cost(side: int) -> Cost:
    with torch.device("meta"):  # counting needs the layers, not their weights
        return measure_cost(create_model("vgg16"), side)
