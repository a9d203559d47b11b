"""Checks of exercises on lung masks: agreement (02), post-processing (03), and outlines (09)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label
from skimage.morphology import remove_small_objects
from torch import Tensor

from manet_lib.data.phantom import draw_phantom
from manet_lib.evaluation import overlap
from manet_lib.evaluation.damage import bridged, damaged
from manet_lib.evaluation.metrics import intersection_over_union
from manet_lib.models.resunet import soft_dice_loss
from manet_lib.teaching.verdict import NotYet, ask, check, close, numbers, picture, refuse

Mask = NDArray[np.bool_]


def small_pair() -> tuple[Mask, Mask]:
    """A predicted and an annotated mask of 4×4 pixels."""
    predicted, drawn = np.zeros((2, 4, 4), bool)
    predicted[:3, :3] = drawn[1:, 1:3] = True
    return predicted, drawn


def lungs_of(patient: int, size: int = 64) -> Mask:
    """True lung mask of a phantom, bool (S, S)."""
    return draw_phantom("normal", patient, size=size).lungs


def _iou(first: Mask, second: Mask) -> float:
    return float(intersection_over_union(first[None], second[None])[0])


@check
def check_agreement(answer: Any) -> str:
    """02, first exercise: pixels in both masks of :func:`small_pair`, pixels in either, IoU, Dice."""
    both, either, iou, dice = numbers(answer, ("in both", "in either", "IoU", "Dice"))
    predicted, drawn = small_pair()
    inside, sizes = int((predicted & drawn).sum()), int(predicted.sum() + drawn.sum())
    if both != inside:
        raise NotYet(f"{inside} pixels are lung in both masks, and you say {both:g}.")
    if close(iou, 100 * inside / (sizes - inside), 0.6) or close(dice, 200 * inside / sizes, 0.6):
        raise NotYet("IoU and Dice are fractions from 0 to 1, not percentages.")
    if either == sizes:
        raise NotYet(f"{sizes} counts the {inside} shared pixels twice; the union holds them once.")
    if either != sizes - inside:
        raise NotYet(f"{either:g} is not the union: add the two areas and take the shared pixels off once.")
    if close(dice, inside / sizes):
        raise NotYet("Dice counts the shared pixels twice, once for each mask: 2 × both / sum of the areas.")
    if close(iou, 2 * inside / sizes) and close(dice, inside / either):
        raise NotYet("IoU and Dice are exchanged: IoU divides by the union, and is never above Dice.")
    if not close(iou, inside / either, 6e-3):
        raise NotYet(f"IoU is {inside} pixels of {either:g}, and {iou:.3f} is not that.")
    if not close(dice, 2 * inside / sizes, 6e-3):
        raise NotYet(f"Dice is twice {inside} pixels over {sizes}, and {dice:.3f} is not that.")
    return f"IoU {iou:.2f} and Dice {dice:.2f}; always Dice = 2 IoU / (1 + IoU), so both rank masks alike."


@check
def check_dice(dice: Callable[[Mask, Mask], float]) -> str:
    """02, second exercise: Dice of two boolean masks, with a value where both are empty."""
    lungs, empty = lungs_of(1, 48), np.zeros((48, 48), bool)
    for shift in (0, 3, 12):
        moved = np.roll(lungs, shift, axis=1)
        found, wanted = float(ask(dice, lungs, moved)), float(overlap.dice(lungs[None], moved[None])[0])
        if close(found, _iou(lungs, moved)) and shift:
            raise NotYet(f"for lungs moved by {shift} pixels you say {found:.3f}, which is their IoU.")
        if close(found, 2 * (lungs & moved).sum() / (lungs | moved).sum()):
            raise NotYet(
                "the sum of the areas is missing in the denominator: `first + second` of Boolean arrays is *or*."
            )
        if not close(found, wanted):
            raise NotYet(f"for lungs moved by {shift} pixels Dice is {wanted:.3f}, and you say {found:.3f}.")
    if not close(float(ask(dice, lungs, empty)), 0):
        raise NotYet("lungs beside an empty mask share nothing: Dice is 0.")
    with np.errstate(invalid="ignore"):
        both = float(ask(dice, empty, empty))
    if np.isnan(both):
        raise NotYet("two empty masks give 0 / 0 = nan; they agree on every pixel, so say 1.")
    if not close(both, 1):
        raise NotYet(f"two empty masks agree on every pixel, and you say {both:g}; say 1.")
    return "it is 0 where one mask is empty and 1 where both are; a single nan would spoil a mean over images."


@check
def check_soft_dice(loss: Callable[[Tensor, Tensor], Tensor]) -> str:
    """02, third exercise: soft Dice loss of probabilities and masks (B, 1, H, W), per image, smooth = 1."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.rand(3, 1, 24, 24, generator=generator) - 2
    truth = torch.zeros_like(logits)
    truth[0, 0, 4:20, 4:20] = truth[1, 0, 2:5, 2:5] = 1  # a large lung, a small one, none
    probability = logits.sigmoid().requires_grad_()
    found = ask(loss, probability, truth)
    if not isinstance(found, Tensor) or found.numel() != 1:
        raise NotYet("the loss of a batch is one number, a tensor: take the mean over the images.")
    if not found.requires_grad:
        raise NotYet(
            "no gradient comes back: a threshold or a NumPy array has cut it off. Keep to products and sums."
        )
    wanted, value = float(soft_dice_loss(logits, truth)), float(found.detach())
    probability = probability.detach()
    pooled = 1 - float((2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1))
    rough, twice = float(soft_dice_loss(logits, truth, smooth=0)), float(soft_dice_loss(probability, truth))
    products, areas = (probability * truth).sum((1, 2, 3)), (probability**2 + truth).sum((1, 2, 3))
    squared = float((1 - (2 * products + 1) / (areas + 1)).mean())
    mistakes = {
        "this is the Dice coefficient, which is high for a good mask; the loss is 1 minus it": 1 - wanted,
        "you take one Dice of the whole batch, in which a large lung hides a small one; sum per image": pooled,
        "you apply the sigmoid to probabilities; it was applied already": twice,
        "this is the sum over the three images; take their mean": 3 * wanted,
        "you square the probabilities in the denominator; there the areas are added as they are": squared,
        "`smooth` is missing: add 1 in numerator and denominator": rough,
    }
    refuse(value, wanted, mistakes)
    if not close(value, wanted):
        raise NotYet(f"for a batch of three images the loss is {wanted:.4f}, and yours is {value:.4f}.")
    empty = torch.zeros(1, 1, 8, 8)
    if not close(float(ask(loss, empty, empty)), 0):
        raise NotYet("an empty mask that is predicted empty should cost nothing: is `smooth` above and below?")
    return (
        "products instead of a threshold let gradients through, and `smooth` keeps an empty mask at a loss of 0."
    )


@check
def check_repair(repair: Callable[[Mask, int], Mask]) -> str:
    """03, first exercise: fill the holes of a mask, then remove objects of fewer pixels than ``smallest``."""
    changed = 0
    for patient in range(4):
        lungs = lungs_of(patient, 96)
        broken = damaged(lungs, np.random.default_rng(patient))
        found = picture(ask(repair, broken, 40), lungs.shape, "mask").astype(bool)
        wanted = remove_small_objects(binary_fill_holes(broken), max_size=39)
        if (binary_fill_holes(found) & ~found).any():
            raise NotYet(f"{int((binary_fill_holes(found) & ~found).sum())} pixels of holes are left in a lung.")
        if (found & ~lungs).sum() > (wanted & ~lungs).sum():
            raise NotYet("specks outside of the lungs are left: remove objects of fewer than `smallest` pixels.")
        if (wanted & ~found).any():
            raise NotYet(f"{int((wanted & ~found).sum())} pixels of lung are gone: only small objects are to go.")
        changed += int((found != broken).sum())
    edge = np.zeros((20, 30), bool)
    edge[2:7, 2:10] = edge[12:15, 2:15] = True  # 40 and 39 pixels
    found = picture(ask(repair, edge, 40), edge.shape, "mask").astype(bool)
    if found.sum() != 40:
        raise NotYet("an object of exactly `smallest` pixels stays, one of a pixel less goes: look at `max_size`.")
    return f"holes are filled and specks gone on four damaged masks, {changed} pixels in all."


@check
def check_order_matters(mask: Any) -> str:
    """03, second exercise: a mask of 20×20 that the two operations in either order change differently."""
    drawn = picture(mask, (20, 20), "mask").astype(bool)
    if not drawn.any():
        raise NotYet("your mask is empty: set some of its pixels to True.")
    fill_first = remove_small_objects(binary_fill_holes(drawn), max_size=29)
    drop_first = binary_fill_holes(remove_small_objects(drawn, max_size=29))
    counts = int(fill_first.sum()), int(drop_first.sum())
    if (fill_first == drop_first).all():
        hole = int(binary_fill_holes(drawn).sum() - drawn.sum())
        more = f"its holes have {hole} pixels" if hole else "it has no hole"
        raise NotYet(
            f"both orders leave the same {counts[0]} pixels: {more}; what becomes large only when filled?"
        )
    return (
        f"filling first leaves {counts[0]} pixels and removing first {counts[1]}: the ring is smaller than 30 "
        "pixels until it is filled. The paper fills first."
    )


@check
def check_separated(part: Callable[[Mask], NDArray[np.int64]]) -> str:
    """03, third exercise: labels 1 and 2 for two lungs that a bridge joins, 0 outside."""
    worst = 1.0
    for patient in range(5):
        lungs = lungs_of(patient, 96)
        joined = bridged(lungs, 5)
        labels = picture(ask(part, joined), joined.shape, "array of labels")
        found = sorted({*np.unique(labels).tolist()} - {0})
        if len(found) != 2:
            names = ", ".join(str(name) for name in found) or "none"
            many = "more starting points than lungs: keep the two largest"
            more = many if found[1:] else "each lung needs a starting point"
            raise NotYet(f"two labels are asked for, one for each lung; image {patient} has {names}: {more}.")
        if (labels[~joined] != 0).any():
            raise NotYet("pixels outside of the mask have a label: give `mask=` to `watershed`.")
        sides = [lungs & (label(lungs)[0] == number) for number in _two_largest(lungs)]
        for side in sides:
            worst = min(worst, max(float((labels[side] == name).mean()) for name in found))
        first = [int(np.bincount(labels[side].astype(int)).argmax()) for side in sides]
        if first[0] == first[1]:
            raise NotYet(f"on image {patient} both lungs have the label {first[0]}: each needs a starting point.")
        if worst < 0.9:
            raise NotYet(
                f"on image {patient} a lung is cut, {100 * worst:.0f}% of it in one piece; are there two "
                "starting points?"
            )
    return (
        f"every lung has at least {100 * worst:.1f}% of its pixels in one piece; the bridge itself is shared out."
    )


def _two_largest(mask: Mask) -> list[int]:
    sizes = np.bincount(label(mask)[0].ravel())[1:]
    return [int(number) + 1 for number in np.argsort(-sizes)[:2]]


@check
def check_shrunk_squares(answer: Any) -> str:
    """09, first exercise: IoU of squares of side 10, 20 and 40 with themselves shrunk by a pixel on each side."""
    sides = (10, 20, 40)
    for side, found in zip(sides, numbers(answer, [f"side {side}" for side in sides]), strict=True):
        wanted, one_side = ((side - 2) / side) ** 2, ((side - 1) / side) ** 2
        mistakes = {
            f"a pixel goes on both sides, so that {side - 2} are left and not {side - 1}": one_side,
            f"{found:.3f} is what is lost; IoU is what is left over what there was": 1 - wanted,
        }
        refuse(found, wanted, mistakes, f"side {side}: ")
        if not close(found, wanted, 6e-3):
            raise NotYet(f"side {side}: {side - 2}² of {side}² pixels are left, and {found:.3f} is not that.")
    return (
        f"the same pixel costs {1 - 0.8**2:.2f} at side 10 and {1 - 0.95**2:.2f} at side 40: IoU is kind to what "
        "is large."
    )


@check
def check_surface_distance(distance: Callable[[Mask, Mask], float]) -> str:
    """09, second exercise: average symmetric surface distance in pixels."""
    small, large = np.zeros((2, 32, 32), bool)
    small[8:16, 8:16] = large[6:26, 7:28] = True
    found, wanted = float(ask(distance, small, large)), overlap.surface_distance(small, large)
    one, other = overlap.outline(small), overlap.outline(large)
    there, back = distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]
    filled = [distance_transform_edt(~large)[small], distance_transform_edt(~small)[large]]
    mistakes = {
        "the mean from the first outline to the second alone; go back as well": there.mean(),
        "the mean from the second outline to the first alone; go the other way as well": back.mean(),
        "the largest distance (Hausdorff's); take the mean": max(there.max(), back.max()),
        "the mean of two means; every outline pixel counts once": (there.mean() + back.mean()) / 2,
        "of all pixels of the masks; the outlines alone count": np.concatenate(filled).mean(),
    }
    refuse(found, wanted, mistakes, f"{found:.2f} is ")
    if not close(found, wanted):
        raise NotYet(f"for rectangles of 8×8 and 20×21 it is {wanted:.3f} pixels, and you say {found:.3f}.")
    for patient in range(3):
        lungs = lungs_of(patient)
        smaller = overlap.grown(lungs, -2)
        found, wanted = float(ask(distance, lungs, smaller)), overlap.surface_distance(lungs, smaller)
        if not close(found, wanted):
            raise NotYet(f"for lungs shrunk by 2 pixels it is {wanted:.3f}, and you say {found:.3f}.")
    words = []
    for size in (64, 128):
        lungs = lungs_of(0, size)
        smaller = overlap.grown(lungs, -2)
        away = overlap.surface_distance(lungs, smaller)
        words.append(
            f"{away:.2f} pixels off on an image of {size} pixels, with an IoU of {_iou(lungs, smaller):.2f}"
        )
    return f"lungs shrunk by 2 pixels lie {' and '.join(words)}: IoU depends on their size, this score hardly."


@check
def check_equal_shift(equal_shift: Callable[[Mask, int], int]) -> str:
    """09, third exercise: the least shift in columns that costs as much IoU as shrinking by so many pixels."""
    for patient, pixels in ((0, 1), (1, 2), (2, 3)):
        lungs = lungs_of(patient)
        shrunk = overlap.grown(lungs, -pixels)
        least = _iou(lungs, shrunk)
        wanted = next(shift for shift in range(64) if _iou(lungs, np.roll(lungs, shift, axis=1)) <= least)
        found = int(ask(equal_shift, lungs, pixels))
        if found != wanted:
            values = [_iou(lungs, np.roll(lungs, shift, axis=1)) for shift in (found, found - 1)]
            if found > wanted:
                raise NotYet(
                    f"{found} columns are too many: {found - 1} already have an IoU of {values[1]:.3f}, not above "
                    f"{least:.3f}."
                )
            raise NotYet(
                f"{found} columns have an IoU of {values[0]:.3f}, still above {least:.3f} after shrinking."
            )
    shifted = np.roll(lungs, wanted, axis=1)
    distances = [overlap.surface_distance(lungs, one) for one in (shrunk, shifted)]
    return (
        f"shrunk by {pixels} pixels IoU is {least:.2f}, moved by {wanted} columns {_iou(lungs, shifted):.2f}; the "
        f"outlines lie {distances[0]:.2f} and {distances[1]:.2f} pixels off. For IoU both are about as bad; one "
        "hides the rim of the lungs, the other also shows what lies beside."
    )
