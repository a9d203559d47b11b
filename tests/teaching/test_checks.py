"""What checks say of plausible wrong predictions: the reason must name the fault."""

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import mahalanobis
from scipy.special import log_softmax, softmax
from skimage.measure import regionprops
from skimage.segmentation import watershed
from torch import nn
from torch.nn import functional as F

from manet_lib.data.phantom import draw_phantom
from manet_lib.evaluation import baseline
from manet_lib.evaluation.baseline import thumbnails
from manet_lib.evaluation.overlap import dice, outline
from manet_lib.evaluation.paired import images_needed
from manet_lib.models.mask_attention import MaskPool, mask_maps
from manet_lib.teaching import certainty, heat_maps, images, lung_maps, masks, patches, results
from manet_lib.teaching.verdict import NotYet, check


def other_patient(label, patient):
    one = draw_phantom(label, patient, size=64, confounder_strength=0.0).image
    return one != draw_phantom(label, patient + 1, size=64, confounder_strength=1.0).image


def counts_validation(table):
    known = table.loc[table["split"] != "test", "patient"]
    return table.loc[table["split"] == "test", "patient"].isin(known).mean()


def counts_patients(table):
    sides = [set(table.loc[table["split"] == side, "patient"]) for side in ("train", "test")]
    return len(sides[0] & sides[1]) / len(sides[1])


def pooled_over_batch(probability, truth):
    return 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)


def thresholded(probability, truth):
    p, t = (probability > 0.5).float().flatten(1), truth.flatten(1)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def plain_dice(first, second):
    return 2 * (first & second).sum() / np.float64(first.sum() + second.sum())


def iou(first, second):
    return (first & second).sum() / max((first | second).sum(), 1)


def opened(mask, smallest):
    return binary_fill_holes(mask)


def every_spring(mask):
    distance = distance_transform_edt(mask)
    return watershed(-distance, label(distance > 0.5 * distance.max())[0], mask=mask)


def all_alike(layers, size):
    field = [1.0] * size
    wide = sum((kernel - 1) * 1 for kernel, _, _ in layers) + 1
    start = size // 2 - wide // 2
    return [1 / wide if start <= place < start + wide else 0 * one for place, one in enumerate(field)]


def before_norm(network, image, mask):
    first, second = mask_maps(mask, [MaskPool.like(network.conv1), MaskPool.like(network.conv2)])
    x = network.norm1(network.conv1(image) * first).relu()
    x = network.norm2(network.conv2(x) * second).relu()
    return network.fc(x.mean(dim=(2, 3)))


def once(network, image, mask):
    _, second = mask_maps(mask, [MaskPool.like(network.conv1), MaskPool.like(network.conv2)])
    x = network.norm1(network.conv1(image)).relu()
    return network.fc((network.norm2(network.conv2(x)) * second).relu().mean(dim=(2, 3)))


def redraws_the_trained(network, seed):
    network.fc.reset_parameters()
    return network


def redraws_the_last(network, seed):
    torch.manual_seed(seed)
    fresh = copy.deepcopy(network)
    fresh.fc.reset_parameters()
    return fresh


def padding_left_out(mask, layers):
    for kernel, stride, padding in layers:
        mask = F.avg_pool2d(mask, kernel, stride, padding, count_include_pad=False)
    return mask


def fades_one_too_early(mask, limit):
    lung_map, depth = mask, 0
    while True:
        lung_map = F.avg_pool2d(lung_map, 3, 1, 1)
        if lung_map[mask == 1].mean() - lung_map[mask == 0].mean() < limit:
            return depth
        depth += 1


def one_way(first, second):
    return distance_transform_edt(~outline(second))[outline(first)].mean()


def hausdorff(first, second):
    one, other = outline(first), outline(second)
    return max(distance_transform_edt(~other)[one].max(), distance_transform_edt(~one)[other].max())


def weighted_f1(confusion):
    f1 = 2 * np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1))
    return np.average(f1, weights=confusion.sum(axis=1))


def normal_interval(attention, plain):
    gains = attention - plain
    half = 1.96 * gains.std(ddof=1) / np.sqrt(3)
    return gains.mean() - half, gains.mean() + half


def student(gains):
    return scipy.stats.t.interval(0.95, len(gains) - 1, gains.mean(), scipy.stats.sem(gains))


def unmarked(chosen):
    return np.stack(
        [draw_phantom(one.label, one.patient, size=48, confounder_strength=0.0).image for one in chosen]
    )


def as_they_are(chosen):
    return np.stack(
        [draw_phantom(one.label, one.patient, size=48, confounder_strength=1.0).image for one in chosen]
    )


def always_right(pictures, sources, test):
    return 1.0


def as_sure_as_right(logits, classes):
    right = (logits.argmax(axis=1) == classes).mean()
    sure = [abs(softmax(logits / t, axis=1).max(axis=1).mean() - right) for t in np.geomspace(0.1, 10, 2000)]
    return np.geomspace(0.1, 10, 2000)[np.argmin(sure)]


def fitted(logits, classes, sign=1.0):
    def score(t):
        return sign * log_softmax(logits / t, axis=1)[np.arange(len(classes)), classes].mean()

    return max(np.geomspace(0.1, 10, 1000), key=score)


def from_training(images, training):
    away = images - training.mean(axis=0)
    return np.sqrt(((away @ np.linalg.inv(np.cov(training.T))) * away).sum(axis=1))


def each_alone(images, training):
    return np.sqrt((((images - training.mean(axis=0)) / training.std(axis=0, ddof=1)) ** 2).sum(axis=1))


def at_95(distances):
    return np.quantile(distances, 0.95)


def in_order(usual, outside):
    return (outside[None] > usual[:, None]).mean() + (outside[None] == usual[:, None]).mean() / 2


def short_of_one(picture, mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (picture * mask)[rows[0] : rows[-1], columns[0] : columns[-1]]


def with_ground(picture, mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pictures_dealt(table, seed):
    return np.random.default_rng(seed).random(len(table)) < 0.2


def squares_of_any_class(table, seed):
    squares = table["square"].unique()
    return table["square"].isin(np.random.default_rng(seed).permutation(squares)[: len(squares) // 5])


def same_squares(table, seed):
    return table["square"].str[-2:].astype(int) < round(table["square"].nunique() / 15)


def slope(logits, image, weights):
    soft = torch.sigmoid(logits)
    return weights * image * soft * (1 - soft)


def at_the_mask(logits, image, weights):
    return weights * image


def automatic(mask_of, logits, image, weights):
    score = (weights * image * mask_of(logits.requires_grad_())).sum()
    return torch.autograd.grad(score, logits)[0] if score.requires_grad else torch.zeros_like(logits)


def unasked(mask_of, logits, image, weights):
    score = (weights * image * mask_of(logits.requires_grad_())).sum()
    return torch.autograd.grad(score, logits)[0]


def always_soft(mask_of, logits, image, weights):
    return slope(logits, image, weights)


RING = np.pad(np.ones((7, 7), bool), ((5, 8), (5, 8)))
SPECK = np.pad(np.ones((3, 3), bool), ((5, 12), (5, 12)))
THIRD = [[1, 2, 0, 0], [3, 6, 4, 2], [3, 6, 6, 3], [1, 2, 2, 1]]


def dice_of_each(probability, truth):
    p, t = probability.flatten(1), truth.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def fits_on_the_test(pictures, sources, test):
    grey = thumbnails(pictures)
    return (baseline.fitted(grey[test], sources[test]).predict(grey[~test]) == sources[~test]).mean()


def from_ones(layers, size):
    row = np.zeros(size)
    mask = torch.zeros(1, 1, 1, size, dtype=torch.float64)
    for place in range(size):
        mask.zero_()[..., place] = 1
        one = mask
        for kernel, stride, padding in layers:
            one = F.avg_pool2d(one, (1, kernel), (1, stride), (0, padding), count_include_pad=False)
        row[place] = one[0, 0, 0, one.shape[-1] // 2]
    return row


WRONG = {
    "not a number of images": (
        results.check_evidence,
        [lambda a, b: student(a - b), lambda gain, discordant: float("nan")],
        "gives nan",
    ),
    "gain in percent": (
        results.check_evidence,
        [lambda a, b: student(a - b), lambda gain, discordant: images_needed(100 * gain, 100 * discordant)],
        "not percent",
    ),
    "no accuracy": (images.check_source_guess, [lambda *_: float("nan")], "gives nan"),
    "test and training exchanged": (
        images.check_source_guess,
        [fits_on_the_test],
        "no share of the 29 test images",
    ),
    "continuity correction": (results.check_mcnemar, [[4, 1, 0.3711]], "continuity correction"),
    "rounded": (
        results.check_vgg_row,
        [lambda plan, side: (round(results._vgg_cost(side).params / 1e6, 2), 1)],
        "do not round",
    ),
    "padding left out of a row": (lung_maps.check_weights, [from_ones], "pixel"),
    "narrow range": (
        certainty.check_temperature,
        [lambda *given: np.clip(fitted(*given), 1, 3)],
        "range of temperatures end too early",
    ),
    "percentages": (masks.check_agreement, [(4, 11, 36.4, 53.3)], "fractions"),
    "or of two masks": (masks.check_dice, [lambda a, b: 2 * (a * b).sum() / (a + b).sum()], "*or*"),
    "sigmoid twice": (
        masks.check_soft_dice,
        [lambda p, t: dice_of_each(p.sigmoid(), t).mean()],
        "applied already",
    ),
    "sum over images": (masks.check_soft_dice, [lambda p, t: dice_of_each(p, t).sum()], "mean"),
    "squared areas": (
        masks.check_soft_dice,
        [
            lambda p, t: (
                1 - (2 * (p * t).sum((1, 2, 3)) + 1) / ((p**2).sum((1, 2, 3)) + (t**2).sum((1, 2, 3)) + 1)
            ).mean()
        ],
        "square",
    ),
    "one side alone": (lung_maps.check_sides, [lambda size, layers: size // 32], "list"),
    "all maps": (
        lung_maps.check_last_map,
        [lambda mask, layers: [F.avg_pool2d(mask, *layer) for layer in layers]],
        "the last one",
    ),
    "the mask anew": (
        lung_maps.check_last_map,
        [lambda mask, layers: [F.avg_pool2d(mask, *layer) for layer in layers][-1]],
        "pool the map of the layer before",
    ),
    "a turned comparison": (lung_maps.check_fading, [lambda mask, limit: 0], "turned"),
    "another patient": (images.check_markers, [other_patient], "same class and patient"),
    "grey values": (images.check_markers, [lambda *_: np.zeros((64, 64))], "True and False"),
    "another size": (
        images.check_markers,
        [lambda *_: np.zeros((128, 128), bool)],
        "(128, 128), and it should be (64, 64)",
    ),
    "validation counts": (images.check_leak, [counts_validation], "validation images"),
    "patients": (images.check_leak, [counts_patients], "share of patients"),
    "fitted and tested": (images.check_source_guess, [always_right], "pure noise"),
    "union twice": (masks.check_agreement, [[4, 15, 4 / 11, 8 / 15]], "shared pixels twice"),
    "dice halved": (masks.check_agreement, [[4, 11, 4 / 11, 4 / 15]], "counts the shared pixels twice, once"),
    "dice and iou": (masks.check_agreement, [[4, 11, 8 / 15, 4 / 11]], "exchanged"),
    "three numbers": (masks.check_agreement, [[4, 11, 4 / 11]], "4 numbers"),
    "0 / 0": (masks.check_dice, [plain_dice], "0 / 0 = nan"),
    "iou for dice": (masks.check_dice, [iou], "their IoU"),
    "whole batch": (masks.check_soft_dice, [pooled_over_batch], "whole batch"),
    "threshold": (masks.check_soft_dice, [thresholded], "no gradient"),
    "specks stay": (masks.check_repair, [opened], "specks"),
    "nothing done": (masks.check_repair, [lambda mask, smallest: mask], "holes are left"),
    "no hole": (masks.check_order_matters, [SPECK], "it has no hole"),
    "large ring": (masks.check_order_matters, [RING], "no hole"),
    "still joined": (masks.check_separated, [lambda mask: label(mask)[0]], "two labels"),
    "starting points as they are": (masks.check_separated, [every_spring], "keep the two largest"),
    "five by five": (
        lung_maps.check_counts,
        [np.zeros((5, 5)), [25 / 36]],
        "(5, 5), and it should be (4, 4): a 3×3 kernel",
    ),
    "shares": (lung_maps.check_counts, [np.array(THIRD) / 9, [25 / 36]], "count the lung pixels"),
    "one window": (lung_maps.check_counts, [[[2, *THIRD[0][1:]], *THIRD[1:]], [25 / 36]], "row 0, column 0"),
    "ones stay ones": (lung_maps.check_counts, [THIRD, [1]], "padding is left out"),
    "field alike": (lung_maps.check_weights, [all_alike], "weigh the middle more"),
    "no mask": (lung_maps.check_attention, [lambda network, image, mask: network(image)], "changes nothing"),
    "before the norm": (lung_maps.check_attention, [before_norm], "behind the batch norm"),
    "one product": (lung_maps.check_attention, [once], "only the second"),
    "padding forgotten": (
        lung_maps.check_sides,
        [lambda size, layers: [size := (size - k) // s + 1 for k, s, _ in layers]],
        "behind layer 1",
    ),
    "padding left out": (lung_maps.check_last_map, [padding_left_out], "padding is left out"),
    "one too early": (lung_maps.check_fading, [fades_one_too_early], "still"),
    "no relu": (heat_maps.check_cam, [[[4, 2, -0.5], [2, 0.5, -1], [0, -1, -2]]], "negative"),
    "gradients summed": (heat_maps.check_cam, [[[36, 18, 0], [18, 4.5, 0], [0, 0, 0]]], "summed"),
    "a half by chance": (
        heat_maps.check_share,
        [lambda heat, lungs: (heat[lungs].sum() / heat.sum(), 0.5)],
        "chance is not 0.500",
    ),
    "covered": (heat_maps.check_share, [lambda heat, lungs: (heat[lungs].mean(), lungs.mean())], "divide sums"),
    "trained itself": (heat_maps.check_redrawn, [redraws_the_trained], "has changed"),
    "last layer alone": (heat_maps.check_redrawn, [redraws_the_last], "are those of the trained"),
    "one side": (results.check_mcnemar, [[4, 1, 6 / 32]], "one side"),
    "all right images": (results.check_mcnemar, [[8, 5, 0.375]], "leave out those"),
    "weighted": (results.check_macro_f1, [weighted_f1], "weighted by images"),
    "accuracy": (results.check_macro_f1, [lambda confusion: np.trace(confusion) / confusion.sum()], "accuracy"),
    "1.96": (results.check_evidence, [normal_interval, lambda gain, discordant: 1], "1.96 standard errors"),
    "with bias": (results.check_parameters, [[73856, 256, 2565]], "no bias"),
    "running mean": (results.check_parameters, [[73728, 512, 2565]], "running mean"),
    "stride forgotten": (
        results.check_flops,
        [lambda layer, side: side**2 * layer.weight.numel()],
        "the stride leaves fewer",
    ),
    "thousand classes": (results.check_vgg_row, [lambda plan, side: (138.364840, 1)], "5 classes"),
    "shrunk once": (masks.check_shrunk_squares, [[0.81, 0.9025, 0.950625]], "on both sides"),
    "one way": (masks.check_surface_distance, [one_way], "go back"),
    "largest": (masks.check_surface_distance, [hausdorff], "largest distance"),
    "too far": (masks.check_equal_shift, [lambda mask, pixels: 20], "too many"),
    "not far enough": (masks.check_equal_shift, [lambda mask, pixels: 0], "still above"),
    "keeps its own": (images.check_derangement, [lambda count, seed: np.arange(count)], "keeps its own"),
    "one for all": (images.check_derangement, [lambda count, seed: np.zeros(count, int)], "goes to nobody"),
    "no seed": (images.check_derangement, [lambda count, seed: np.roll(np.arange(count), 1)], "seed"),
    "inside out": (images.check_views, [lambda image, mask, view: image * (1 - mask)], "called 'background'"),
    "no markers": (images.check_swapped, [unmarked], "gone instead"),
    "same markers": (images.check_swapped, [as_they_are], "kept their markers"),
    "signs": (certainty.check_calibration_error, [[-0.36, 0.1, 0.2, 0.048]], "negative"),
    "signs cancel": (certainty.check_calibration_error, [[0.36, 0.1, 0.2, 0.048]], "without its sign"),
    "bins alike": (certainty.check_calibration_error, [[0.36, 0.1, 0.2, 0.22]], "weigh each with its images"),
    "image by image": (certainty.check_calibration_error, [[0.36, 0.1, 0.2, 0.312]], "average in each bin first"),
    "multiplied": (certainty.check_temperature, [lambda *given: 1 / fitted(*given)], "divide them"),
    "least probable": (certainty.check_temperature, [lambda *given: fitted(*given, -1)], "may be turned"),
    "sure as right": (certainty.check_temperature, [as_sure_as_right], "mean confidence is the accuracy"),
    "coarse": (
        certainty.check_temperature,
        [lambda logits, classes: 1.05 * fitted(logits, classes)],
        "more temperatures",
    ),
    "by accuracy": (certainty.check_temperature, [lambda logits, classes: 1.0], "accuracy cannot choose it"),
    "no root": (
        certainty.check_out_of_distribution,
        [lambda *given: from_training(*given) ** 2, at_95, in_order],
        "take the root",
    ),
    "each alone": (certainty.check_out_of_distribution, [each_alone, at_95, in_order], "both rise together"),
    "of the asked": (
        certainty.check_out_of_distribution,
        [lambda images, training: from_training(images, images), at_95, in_order],
        "take both from the training images",
    ),
    "lower end": (
        certainty.check_out_of_distribution,
        [from_training, lambda distances: np.quantile(distances, 0.05), in_order],
        "95% are to lie at or below",
    ),
    "bell curve": (
        certainty.check_out_of_distribution,
        [from_training, lambda distances: distances.mean() + 1.96 * distances.std(), in_order],
        "not normally distributed",
    ),
    "ties lost": (
        certainty.check_out_of_distribution,
        [from_training, at_95, lambda usual, outside: (outside[None] > usual[:, None]).mean()],
        "you count none",
    ),
    "other way": (
        certainty.check_out_of_distribution,
        [from_training, at_95, lambda usual, outside: in_order(outside, usual)],
        "other way round",
    ),
    "not cut": (patches.check_cut_out, [lambda picture, mask: picture * mask], "as large as before"),
    "slice ends": (patches.check_cut_out, [short_of_one], "so add 1"),
    "ground stays": (patches.check_cut_out, [with_ground], "multiply the image by the mask"),
    "pictures dealt": (patches.check_split, [pictures_dealt], "draw squares, not images"),
    "any class": (patches.check_split, [squares_of_any_class], "a fifth of each class"),
    "same squares": (patches.check_split, [same_squares], "another seed tests the same squares"),
    "no sigmoid": (patches.check_gradient, [at_the_mask, automatic], "between mask and logit is missing"),
    "stops": (patches.check_gradient, [slope, unasked], "nothing leads back"),
    "always soft": (patches.check_gradient, [slope, always_soft], "does not depend on `mask_of`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_told_why(name):
    judge, predictions, reason = WRONG[name]
    verdict = judge(*predictions)
    assert not verdict
    assert reason in verdict.why
    assert "stops with" not in verdict.why


def minimised(logits, classes):
    def loss(t):
        probability = np.exp(logits / t) / np.exp(logits / t).sum(axis=1, keepdims=True)
        return -sum(np.log(row[number]) for row, number in zip(probability, classes, strict=True))

    return minimize_scalar(loss, bounds=(0.2, 9), method="bounded").x


def image_by_image(images, training):
    covariance = np.cov(training, rowvar=False, ddof=0)
    return [mahalanobis(image, training.mean(axis=0), np.linalg.inv(covariance)) for image in images]


def sorted_out(distances):
    return sorted(distances)[int(0.95 * len(distances)) - 1]


def pair_by_pair(usual, outside):
    points = [1.0 if one > other else 0.5 if one == other else 0.0 for other in usual for one in outside]
    return sum(points) / len(points)


def by_box(picture, mask):
    (region,) = regionprops(mask.astype(int))
    top, left, bottom, right = region.bbox
    black = picture.copy()
    black[~mask] = 0
    return black[top:bottom, left:right]


def permuted(table, seed):
    rng, answer = np.random.default_rng(seed), np.zeros(len(table), bool)
    for name in table["label"].unique():
        squares = table.loc[table["label"] == name, "square"].unique()
        answer |= table["square"].isin(rng.permutation(squares)[: int(len(squares) / 5)]).to_numpy()
    return list(answer)


def in_place(probability, truth):
    areas = probability.flatten(1).sum(1) + truth.flatten(1).sum(1)
    shared = truth.mul_(probability).flatten(1).sum(1)
    return (1 - (2 * shared + 1) / (areas + 1)).mean()


def attends_in_place(network, image, mask):
    first, second = mask_maps(mask, [MaskPool.like(network.conv1), MaskPool.like(network.conv2)])
    x = (network.norm1(network.conv1(image)) * first).relu()
    image.zero_()
    return network.fc((network.norm2(network.conv2(x)) * second).relu().mean(dim=(2, 3)))


def slope_in_place(logits, image, weights):
    soft = torch.sigmoid(logits)
    return image.mul_(weights) * soft * (1 - soft)


def by_exponentials(logits, image, weights):
    return weights * image * (-logits).exp() / (1 + (-logits).exp()) ** 2


def backward(mask_of, logits, image, weights):
    logits.requires_grad = True
    score = (weights * image * mask_of(logits)).sum()
    if score.requires_grad:
        score.backward()
    return torch.zeros(8, 8) if logits.grad is None else logits.grad


@pytest.mark.parametrize(
    ("judge", "predictions"),
    [
        (masks.check_soft_dice, [in_place]),
        (lung_maps.check_attention, [attends_in_place]),
        (patches.check_gradient, [slope_in_place, backward]),
        (certainty.check_calibration_error, [(0.36, 0.1, 0.2, 0.192)]),
        (certainty.check_temperature, [minimised]),
        (certainty.check_out_of_distribution, [image_by_image, sorted_out, pair_by_pair]),
        (patches.check_cut_out, [by_box]),
        (patches.check_split, [permuted]),
        (patches.check_gradient, [by_exponentials, backward]),
    ],
)
def test_an_answer_that_is_right_in_another_way_is_right(judge, predictions):
    assert judge(*predictions), judge(*predictions).why


def test_every_check_refuses_something_in_this_file():
    tested = {judge.__name__ for judge, _, _ in WRONG.values()}
    modules = (certainty, images, heat_maps, lung_maps, masks, patches, results)
    assert tested == {name for one in modules for name in vars(one) if name.startswith("check_")}


def test_an_answer_that_stops_is_a_verdict():
    verdict = masks.check_dice(lambda first, second: first.overlap(second))
    assert not verdict
    assert "AttributeError" in verdict.why


@pytest.mark.parametrize("answer", [..., [...], {...}, [[1, 2], [...]]])
def test_an_untouched_answer_is_told_apart(answer):
    assert "filled in" in masks.check_agreement(answer).why


def test_of_several_functions_the_empty_one_is_named():
    def limit(distances):
        """Nothing yet."""

    assert "`limit` returns nothing" in certainty.check_out_of_distribution(from_training, limit, in_order).why


def test_a_verdict_says_it_in_words_and_as_a_truth_value():
    @check
    def even(number):
        if number % 2:
            raise NotYet("it is odd.")
        return "it is even."

    assert even(2)
    assert not even(3)
    assert (repr(even(2)), repr(even(3))) == ("Right: it is even.", "Not yet: it is odd.")
    assert even(3)._repr_markdown_() == "**Not yet:** it is odd."


def test_a_check_is_not_changed_by_what_a_student_does_to_its_arrays():
    def spoils(first, second):
        value = dice(first[None], second[None])[0]
        first[:], second[:] = False, True
        return value

    assert masks.check_dice(spoils)


def test_the_small_networks_have_what_their_exercises_say():
    assert isinstance(heat_maps.trained_cnn().cam_layer, nn.Module)
    image, mask, target = heat_maps.some_images()
    right = (heat_maps.trained_cnn()(image, mask).argmax(1) == target).float().mean()
    assert right > 0.5
