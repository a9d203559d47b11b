"""Checks of exercises on images, patients and sources (01), and on shortcuts (10)."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.phantom import SOURCES, Phantom, draw_phantom
from manet_lib.data.scaling import seen
from manet_lib.evaluation.baseline import predicted_correctly, thumbnails
from manet_lib.params import CLASSES
from manet_lib.teaching.verdict import NotYet, ask, check, close, number, picture, refuse

SIZE = 48
"""Height and width of the phantoms of these exercises, in pixels."""

Images = NDArray[np.uint8]


class Described(NamedTuple):
    """What a phantom is drawn from: class, number of the patient, and source."""

    label: str
    patient: int
    source: str


@cache
def drawn(label: str, patient: int, source: str = "", strength: float = 1.0) -> Phantom:
    """A phantom of these exercises; each is drawn once."""
    return draw_phantom(label, patient, size=SIZE, confounder_strength=strength, source=source)


@cache
def set_of_images(count: int = 100, strength: float = 1.0) -> tuple[tuple[Described, ...], Images, Images]:
    """Phantoms of all classes, with sources drawn with odds that depend on the class.

    Returns:
        What each is drawn from; images and true lung masks (0 or 1), uint8 (N, S, S).
    """
    labels = [CLASSES[number % len(CLASSES)] for number in range(count)]
    phantoms = [drawn(label, number, "", strength) for number, label in enumerate(labels)]
    images = tuple(map(Described, labels, range(count), (phantom.source for phantom in phantoms)))
    pixels = np.stack([phantom.image for phantom in phantoms])
    masks = np.stack([phantom.lungs for phantom in phantoms]).astype(np.uint8)
    return images, pixels, masks


def odd_tested(images: Sequence[Described]) -> pd.DataFrame:
    """A manifest of images: label, source, and split, in which every third image is for the test."""
    table = pd.DataFrame(images)
    table["split"] = np.where(np.arange(len(images)) % 3 == 2, "test", "train")
    return table


def share_right(pictures: Images, manifest: pd.DataFrame, column: str) -> float:
    """Share of the test images whose label or source logistic regression gets right from 16×16 thumbnails."""
    return float(predicted_correctly(thumbnails(pictures), manifest, column).mean())


@check
def check_markers(markers: Callable[[str, int], NDArray[np.bool_]]) -> str:
    """01, first exercise: the pixels, bool (S, S), that the markers of a source change on an image."""
    outside = []
    for label, patient in (("tb", 7), ("normal", 3), ("bp", 11)):
        bare, marked = (
            draw_phantom(label, patient, size=64, confounder_strength=strength) for strength in (0.0, 1.0)
        )
        found = picture(ask(markers, label, patient), (64, 64), "array", " (`size=64`)")
        wanted = bare.image != marked.image
        if found.dtype != np.bool_:
            raise NotYet("the answer is an array of True and False: compare the two images with `!=`.")
        if not found.any():
            raise NotYet("no pixel differs: are the strengths of your two images 0.0 and 1.0?")
        if found.sum() > 1.5 * wanted.sum() and found[bare.lungs].mean() > 0.5:
            raise NotYet("most of the lungs differ as well: both images must be of the same class and patient.")
        if (found != wanted).any():
            raise NotYet(
                f"image {label!r}, patient {patient}: {wanted.sum()} pixels differ, and you have {found.sum()}."
            )
        outside.append(1 - bare.lungs[wanted].mean())
    return (
        f"{100 * min(outside):.0f}% or more of the changed pixels are outside of the lungs, the rest on their rim."
    )


@check
def check_leak(leaked: Callable[[pd.DataFrame], float]) -> str:
    """01, second exercise: share of the test images whose patient has an image in training."""
    for seed in range(3):
        table = images_of_patients(40, 3, seed)
        found, wanted = number(leaked, table), _leaked(table)
        test, train = table[table["split"] == "test"], table[table["split"] == "train"]
        known = test["patient"].isin(table.loc[table["split"] != "test", "patient"]).mean()
        both = len(set(test["patient"]) & set(train["patient"]))
        mistakes = {
            "counts the validation images as training; no weights are fitted to them": known,
            "is a share of all images; divide by the test images": wanted * len(test) / len(table),
            "is a number of images; divide by the test images": wanted * len(test),
            "is a number of patients; count images, and divide by the test images": both,
            "is a share of patients; count images": both / test["patient"].nunique(),
            "is what does not leak; subtract it from 1": 1 - wanted,
        }
        refuse(found, wanted, mistakes, f"{found:.3g} ")
        if not close(found, wanted):
            raise NotYet(f"for table {seed} it is {wanted:.3f}, and you say {found:.3f}.")
    shares = {each: _leaked(images_of_patients(400, each, 0)) for each in (1, 2, 3, 5)}
    *counts, last = shares
    percent = [f"{100 * share:.0f}%" for share in shares.values()]
    return (
        f"with {', '.join(map(str, counts))} and {last} images per patient, the patients of "
        f"{', '.join(percent[:-1])} and {percent[-1]} of the test images are also in training."
    )


def images_of_patients(patients: int, each: int, seed: int) -> pd.DataFrame:
    """Images of some patients, split by images 8:1:1 at random: columns image_id, patient, split."""
    count = patients * each
    sides = np.array(["test", "val", "train"])[np.minimum(np.arange(count) * 10 // count, 2)]
    table = pd.DataFrame({"patient": [f"p{number // each}" for number in range(count)]})
    table.insert(0, "image_id", [f"image{number}" for number in range(count)])
    return table.assign(split=np.random.default_rng(seed).permutation(sides))


def _leaked(table: pd.DataFrame) -> float:
    train = set(table.loc[table["split"] == "train", "patient"])
    return float(table.loc[table["split"] == "test", "patient"].isin(train).mean())


@check
def check_source_guess(accuracy: Callable[[Images, NDArray[Any], NDArray[np.bool_]], float]) -> str:
    """01, third exercise: accuracy of guessing the sources of test images from thumbnails of 16×16 pixels."""
    count = 89  # 29 for the test and 60 others, so that few shares of the others are shares of the test
    test, noise = np.arange(count) % 3 == 2, np.random.default_rng(0)
    random_images = noise.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)
    sources = noise.choice(SOURCES, count)
    blind = number(accuracy, random_images, sources, test)
    if blind > 1:
        raise NotYet(f"{blind:g} is no share of the test images: divide by how many there are.")
    if blind > 0.7:
        raise NotYet(
            f"you get {100 * blind:.0f}% of pure noise right: the images that are tested have been fitted."
        )
    shares = {}
    for strength in (0.0, 1.0):
        described, images, _ = set_of_images(count, strength)
        manifest = odd_tested(described)
        found = number(accuracy, images, manifest["source"].to_numpy(), test)
        right, wanted = found * test.sum(), share_right(images, manifest, "source")
        if not close(right, np.rint(right), 0.15):  # an answer may be rounded to two decimals
            raise NotYet(
                f"{found:.3f} is no share of the {test.sum()} test images: score on `test`, and on these only."
            )
        if abs(found - wanted) > 0.12:
            raise NotYet(
                f"with markers of strength {strength:g} logistic regression gets about {100 * wanted:.0f}% of the "
                f"test images right, and you {100 * found:.0f}%: fit on `~test`, 16×16 pixels, and score on "
                "`test`."
            )
        shares[strength] = found
    most = manifest.loc[test, "source"].value_counts(normalize=True).iloc[0]
    return (
        f"{100 * shares[1.0]:.0f}% of the sources with markers, {100 * shares[0.0]:.0f}% without; always "
        f"guessing the commonest gets {100 * most:.0f}%. Whoever knows the source knows much of the class."
    )


@check
def check_derangement(exchange: Callable[[int, int], Any]) -> str:
    """10, first exercise: whose mask each of ``count`` images is given, in an order drawn with ``seed``."""
    orders = []
    for count, seed in [(2, 0), (3, 1), (10, 2), *((7, seed) for seed in range(40))]:
        order = picture(ask(exchange, count, seed), (count,), "order")
        missing = sorted(set(range(count)) - set(order.tolist()))
        if missing:
            raise NotYet(
                f"with {count} images the mask of image {missing[0]} goes to nobody: give each number from 0 to "
                f"{count - 1} once."
            )
        kept = np.flatnonzero(order == np.arange(count))
        if len(kept):
            raise NotYet(f"with {count} images and seed {seed}, image {kept[0]} keeps its own mask.")
        orders.append(tuple(order.tolist()))
    different = len(set(orders[3:]))
    if different < 10:
        raise NotYet(
            f"40 seeds give only {different} different orders: shuffle with `np.random.default_rng(seed)`."
        )
    return "nobody keeps its own mask, and every mask is used once, so that nothing but the pairing has changed."


@check
def check_views(view_of: Callable[[Images, Images, str], Images]) -> str:
    """10, second exercise: an image as `lungs`, `background` or `shape`."""
    described, images, masks = set_of_images()
    for view in ("lungs", "background", "shape"):
        wanted = seen(images[3], masks[3], view)
        found = picture(ask(view_of, images[3], masks[3], view), wanted.shape, f"view {view!r}")
        for other in ("lungs", "background", "shape", "whole"):
            if other != view and close(found, seen(images[3], masks[3], other)):
                raise NotYet(f"your view {view!r} is the one called {other!r}.")
        if close(found, masks[3]) and view == "shape":
            raise NotYet("the shape is 0 and 1, all but black as an image: multiply by 255.")
        if not close(found, wanted):
            wrong = int((found != wanted).sum())
            raise NotYet(f"{wrong} pixels of your view {view!r} are wrong; the mask is 0 or 1.")
    manifest = odd_tested(described)
    shares = []
    for view in ("whole", "lungs", "background", "shape"):
        shown = np.stack([seen(image, mask, view) for image, mask in zip(images, masks, strict=True)])
        shares.append(f"{view} {100 * share_right(shown, manifest, 'source'):.0f}%")
    most = manifest.loc[manifest["split"] == "test", "source"].value_counts(normalize=True).iloc[0]
    return f"sources guessed correctly: {', '.join(shares)}; always guessing the commonest gets {100 * most:.0f}%."


@check
def check_swapped(swapped: Callable[[Sequence[Described]], Images]) -> str:
    """10, third exercise: the same images with the markers of the next source, uint8 (N, 48, 48)."""
    described, images, masks = set_of_images()
    manifest = odd_tested(described)
    test = np.flatnonzero(manifest["split"] == "test")
    chosen = [described[number] for number in test]
    found = picture(ask(swapped, chosen), images[test].shape, "stack of images")
    wanted = np.stack([drawn(one.label, one.patient, next_source(one.source)).image for one in chosen])
    if (found == images[test]).all():
        raise NotYet("the images have kept their markers: give `source=` to `draw_phantom`.")
    bare = np.stack([drawn(one.label, one.patient, "", 0.0).image for one in chosen])
    if (found == bare).all():
        raise NotYet("the markers are gone instead of swapped: `confounder_strength` is 1.0 on these images.")
    inside = masks[test] > 0
    if (found[inside] != wanted[inside]).mean() > 0.5:
        raise NotYet("the lungs have changed as well: keep class, patient and size of each image.")
    wrong = np.flatnonzero((found != wanted).any(axis=(1, 2)))
    if len(wrong):
        one = chosen[wrong[0]]
        raise NotYet(
            f"{len(wrong)} images are not right: one from {one.source!r} gets the markers of "
            f"{next_source(one.source)!r}."
        )
    lungs = np.stack([images[test], wanted]) * masks[test]
    scores = []
    for shown, kinds in ((images, (images[test], wanted)), (images * masks, (lungs[0], lungs[1]))):
        for kind in kinds:
            pictures = shown.copy()
            pictures[test] = kind
            scores.append(100 * share_right(pictures, manifest, "label"))
    return (
        f"classes predicted correctly from thumbnails of whole images: {scores[0]:.0f}% as trained, "
        f"{scores[1]:.0f}% with swapped markers; of the lungs alone: {scores[2]:.0f}% and {scores[3]:.0f}%."
    )


def next_source(source: str) -> str:
    """The source that comes after one in the list, the first after the last."""
    return SOURCES[(SOURCES.index(source) + 1) % len(SOURCES)]
