"""Checks of exercises on another task, patches of photographs, and on training end to end (12)."""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from manet_lib.data.patches import MATERIALS, draw_patch
from manet_lib.data.scaling import resize
from manet_lib.models.joint import JointMANet
from manet_lib.teaching.verdict import NotYet, ask, check, close, picture, refuse

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
TURNS = 4
"""Pictures of each square."""


@cache
def some_patches(squares: int = 24) -> tuple[pd.DataFrame, Picture, NDArray[np.bool_]]:
    """Patches of brick, grass and gravel, four of each square of a photograph.

    Args:
        squares: of each photograph.

    Returns:
        A table with label and square, pictures uint8 (N, 64, 64), and masks bool (N, 64, 64).
    """
    drawn = list(product(MATERIALS, range(squares), range(TURNS)))
    pictures, masks, _ = zip(*(draw_patch(*one) for one in drawn), strict=True)
    rows = [(label, f"{label}_{number:02d}") for label, number, _ in drawn]
    return pd.DataFrame(rows, columns=["label", "square"]), np.stack(pictures), np.stack(masks)


def boxed(mask: Mask) -> Mask:
    """The smallest rectangle around a mask, as someone in a hurry would draw it."""
    box = np.zeros_like(mask)
    box[find_objects(mask.astype(int))[0]] = True
    return box


@check
def check_cut_out(cut_out: Callable[[Picture, Mask], Picture]) -> str:
    """12, first exercise: the smallest rectangle that holds a patch, black outside of the patch."""
    table, pictures, masks = some_patches()
    corner = np.zeros((64, 64), bool)
    corner[60:, :3] = True
    for one, mask in [*zip(pictures[::40], masks[::40], strict=True), (pictures[0], corner)]:
        place = find_objects(mask.astype(int))[0]
        wanted = (one * mask)[place]
        found = np.asarray(ask(cut_out, one, mask))
        if found.shape == mask.shape != wanted.shape:
            raise NotYet("your image is as large as before: keep the rows and columns in which the patch lies.")
        if found.shape in {(wanted.shape[0] - 1, wanted.shape[1] - 1), (wanted.shape[0] - 1, wanted.shape[1])}:
            raise NotYet("the last row or column is gone: a slice ends *before* its second number, so add 1.")
        found = picture(found, wanted.shape, "cut", ", the rows and columns in which the patch lies")
        if close(found, one[place]) and not close(wanted, found):
            raise NotYet("the background is still there beside the patch: multiply the image by the mask.")
        if not close(found, wanted):
            raise NotYet(f"{int((found != wanted).sum())} pixels are not those of the patch on black.")
    careful, hasty = (
        _guessed_from_shape([np.asarray(cut_out(255 * mask.astype(np.uint8), mask)) for mask in drawn], table)
        for drawn in (
            masks,
            [boxed(mask) if label == "brick" else mask for mask, label in zip(masks, table["label"], strict=True)],
        )
    )
    return (
        f"from the outline alone, without a grey value, {100 * careful:.0f}% of the materials are guessed; "
        f"chance is {100 / len(MATERIALS):.0f}%. Had somebody outlined the bricks, and only those, by boxes, it "
        f"would be {100 * hasty:.0f}%: black around a patch shows who drew it, and how."
    )


def _guessed_from_shape(cuts: list[Picture], table: pd.DataFrame) -> float:
    """Share right of logistic regression on cuts of 16×16 pixels, each fifth of the squares tested in turn."""
    small = np.stack([resize(cut, (16, 16)) for cut in cuts]).reshape(len(cuts), -1) / 255
    fold = table["square"].str[-2:].astype(int).to_numpy() % 5
    right = np.zeros(len(table), bool)
    for number in range(5):
        test = fold == number
        model = LogisticRegression(max_iter=1000).fit(small[~test], table["label"][~test])
        right[test] = model.predict(small[test]) == table["label"][test]
    return float(right.mean())


@check
def check_split(tested: Callable[[pd.DataFrame, int], NDArray[np.bool_]]) -> str:
    """12, second exercise: which images are for the test, a fifth of the squares of each class at random."""
    draws = []
    for squares, seed in ((24, 0), (24, 1), (10, 2), (10, 3)):
        table = some_patches(squares)[0].sample(frac=1, random_state=seed, ignore_index=True)
        found = picture(ask(tested, table.copy(), seed), (len(table),), "answer").astype(bool)
        if not found.any() or found.all():
            raise NotYet("all images are on one side.")
        both = set(table["square"][found]) & set(table["square"][~found])
        if both:
            raise NotYet(
                f"{len(both)} squares have images on both sides, {min(both)} among them: draw squares, not images."
            )
        counts = table[found].groupby("label")["square"].nunique().reindex(list(MATERIALS), fill_value=0)
        if counts.min() != counts.max():
            words = ", ".join(f"{count} of {label}" for label, count in counts.items())
            raise NotYet(f"the tested squares are {words}: draw a fifth of each class, so that none is rare.")
        if abs(counts.iloc[0] - squares / 5) >= 1:
            raise NotYet(
                f"{counts.iloc[0]} of {squares} squares of each class are tested, and a fifth is asked for."
            )
        draws.append(frozenset(table["square"][found]))
    if draws[0] == draws[1]:
        raise NotYet("another seed tests the same squares: draw with `np.random.default_rng(seed)`.")
    table, _, _ = some_patches()
    kept = [np.asarray(tested(table.copy(), seed), bool) for seed in range(30)]
    dealt = [np.random.default_rng(seed).random(len(table)) < 0.2 for seed in range(30)]
    (fair, _), (leaky, same) = (
        100 * np.mean([_like_the_nearest(test) for test in tests], axis=0) for tests in (kept, dealt)
    )
    return (
        f"giving each test image the class of the most similar training image is right in {leaky:.0f}% if "
        f"single images are dealt out, and in {fair:.0f}% if squares stay together (means of 30 splits). With "
        f"single images the most similar one is of the same square in {same:.0f}%."
    )


@cache
def _greys() -> NDArray[np.float64]:
    """Quantiles of the grey values of each patch, less their mean: what turning a square leaves as it is."""
    _, pictures, masks = some_patches()
    values = [one[mask].astype(float) for one, mask in zip(pictures, masks, strict=True)]
    return np.stack([np.quantile(one - one.mean(), np.linspace(0.02, 0.98, 25)) for one in values])


def _like_the_nearest(test: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of test images whose most similar training image has their class, and their square."""
    table = some_patches()[0]
    index = NearestNeighbors(n_neighbors=1).fit(_greys()[~test])
    nearest = table[~test].iloc[index.kneighbors(_greys()[test], return_distance=False)[:, 0]]
    label, square = ((nearest[name].to_numpy() == table[name][test]).mean() for name in ("label", "square"))
    return float(label), float(square)


def hard(logits: Tensor) -> Tensor:
    """A mask of zeros and ones, as stage 2 of the paper is given it: 1 where the logit is above 0."""
    return (logits > 0).to(logits.dtype)


def some_logits() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a mask, an image in [0, 1] and the weights of a score, float64 (8, 8) each."""
    generator = torch.Generator().manual_seed(0)
    logits, image, weights = torch.rand(3, 8, 8, generator=generator, dtype=torch.float64)
    image[:, :2] = 0
    return 8 * logits - 4, image, 2 * weights - 1


@check
def check_gradient(
    by_hand: Callable[[Tensor, Tensor, Tensor], Tensor],
    by_autograd: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor],
) -> str:
    """12, third exercise: gradient of a score at the logits of a soft mask, and that of any mask by autograd."""
    logits, image, weights = some_logits()
    soft = logits.sigmoid()
    wanted = weights * image * soft * (1 - soft)
    found = _tensor(ask(by_hand, logits.clone(), image.clone(), weights.clone()), "gradient by hand")
    mistakes = {
        "this is the gradient at the mask; the sigmoid between mask and logit is missing": weights * image,
        "the image is missing: where it is black, the mask changes nothing": weights * soft * (1 - soft),
        "the weights are missing": image * soft * (1 - soft),
        "these are the score's summands; the sigmoid's slope is m (1 - m), not m": weights * image * soft,
        "the score is a sum over pixels, and you divide by their number": wanted / wanted.numel(),
    }
    refuse(found, wanted, mistakes, "by hand: ", 1e-6)
    if not close(found, wanted, 1e-6):
        row, column = divmod(int((found - wanted).abs().argmax()), 8)
        raise NotYet(
            f"by hand: at row {row}, column {column} it is {wanted[row, column]:.4f}, and you say "
            f"{found[row, column]:.4f}."
        )
    arguments = image.clone(), weights.clone()
    auto = _tensor(ask(by_autograd, torch.sigmoid, logits.clone(), *arguments), "gradient by autograd")
    if not close(auto, wanted, 1e-6):
        raise NotYet("by autograd: with `torch.sigmoid` it is not what you found by hand; is the score a sum?")
    with_tanh = _tensor(ask(by_autograd, torch.tanh, logits.clone(), *arguments), "gradient by autograd")
    if not close(with_tanh, weights * image * (1 - logits.tanh() ** 2), 1e-6):
        raise NotYet("by autograd: the answer does not depend on `mask_of`; make the mask with it.")
    try:
        cut = _tensor(ask(by_autograd, hard, logits.clone(), *arguments), "gradient by autograd")
    except RuntimeError as error:
        raise NotYet(
            "by autograd: with a mask of zeros and ones PyTorch stops, because nothing leads back to the logits: "
            "ask for `score.requires_grad` first, and return zeros where it is False."
        ) from error
    if cut.any():
        raise NotYet(
            "by autograd: a mask of zeros and ones does not change with a small change of a logit: return zeros."
        )
    through, stopped = _reached(torch.sigmoid), _reached(hard)
    count = len(list(JointMANet().segmenter.parameters()))
    return (
        f"in the network of notebook 12 cross entropy reaches {through} of {count} tensors of stage 1's weights "
        f"through the soft mask, and {stopped} through one of zeros and ones."
    )


def _tensor(answer: Any, what: str) -> Tensor:
    picture(answer.detach() if isinstance(answer, Tensor) else answer, (8, 8), what)
    return torch.as_tensor(answer).detach()


def _reached(mask_of: Callable[[Tensor], Tensor]) -> int:
    """How many tensors of stage 1's weights get a gradient of the classes' cross entropy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = JointMANet(), torch.rand(4, 1, 32, 32)
    logits = network.classifier(images, mask_of(network.segmenter(images)))
    F.cross_entropy(logits, torch.arange(4)).backward()
    return sum(one.grad is not None and bool(one.grad.any()) for one in network.segmenter.parameters())
