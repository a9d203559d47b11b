"""Checks of exercises on mask attention: lung maps (04) and how far they reach (08)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from manet_lib.data.phantom import draw_phantom
from manet_lib.models.mask_attention import MaskPool, attend, mask_maps
from manet_lib.report.classification import place_weights, receptive_field, small_mask
from manet_lib.teaching.verdict import NotYet, ask, check, close, numbers, picture, refuse

Layers = Sequence[tuple[int, int, int]]
"""Kernel, stride and padding of the layers of a network, in order."""


def pooled(mask: Any, kernel: int, stride: int, padding: int) -> NDArray[np.float64]:
    """P(M; k, s, p) of Eq. 1, by PyTorch: mask (H, W) to map (H', W')."""
    image = torch.as_tensor(np.asarray(mask, dtype=np.float64))[None, None]
    return F.avg_pool2d(image, kernel, stride, padding)[0, 0].numpy()


@check
def check_counts(counts: Any, mean_of_ones: Any) -> str:
    """04, first exercise: lung pixels in each window over a 7×7 mask (k=3, s=2, p=1), and the mean for ones."""
    mask = small_mask(7)
    wanted = np.rint(9 * pooled(mask, 3, 2, 1)).astype(int)
    reason = ": a 3×3 kernel with a stride of 2 and a padding of 1 makes (7 + 2 - 3) / 2 + 1 = 4 positions a side"
    found = picture(counts, wanted.shape, "map", reason).astype(float)
    if close(found, wanted / 9):
        raise NotYet("these are shares; count the lung pixels in each window, from 0 to 9.")
    wrong = np.argwhere(~np.isclose(found, wanted))
    if len(wrong):
        row, column = (int(place) for place in wrong[0])
        raise NotYet(
            f"{len(wrong)} positions are wrong. In row {row}, column {column}, counted from 0, the window begins "
            f"at row {2 * row - 1} and column {2 * column - 1} of the mask (-1 is padding) and holds "
            f"{wanted[row, column]} lung pixels, not {found[row, column]:g}."
        )
    (mean,) = numbers(mean_of_ones, ["mean"])
    if close(mean, 1):
        raise NotYet(
            "a mask of ones has a mean of 1 only where padding is left out; here windows divide by 9 always."
        )
    if not close(mean, pooled(np.ones((7, 7)), 3, 2, 1).mean(), 6e-3):
        raise NotYet(
            f"{mean:.3f} is not the mean of the map of a mask of ones: in it corners are 4/9, edges 6/9, and the "
            "four positions in the middle 1."
        )
    return (
        f"the counts over 9 are the lung map. Even an image that is all lung has {mean:.2f} on average: borders "
        "fade."
    )


@check
def check_weights(weights: Callable[[Layers, int], Any]) -> str:
    """04, second exercise: what each pixel of a row counts at the middle position of its last lung map."""
    for layers, size in (
        ([(3, 1, 1)] * 2, 11),
        ([(3, 1, 1)] * 4, 21),
        ([(3, 1, 1)] * 4, 5),
        ([(7, 2, 3), (3, 2, 1), (3, 1, 1)], 33),
    ):
        found = picture(ask(weights, layers, size), (size,), "row of weights").astype(float)
        pools = [MaskPool(*layer) for layer in layers]
        of_row, field = place_weights(pools, size).sum(axis=0), receptive_field(pools)
        wanted = of_row / np.sqrt(of_row.sum())  # a sum over columns lacks what their padding took
        alike = np.where(wanted > 0, 1 / (wanted > 0).sum(), 0)
        if close(found, alike) and not close(alike, wanted):
            raise NotYet(
                f"all {field} pixels of the field count the same in yours; nested averages weigh the middle more, "
                f"{wanted.max():.3f}, and the ends {wanted[wanted > 0].min():.3f}."
            )
        if np.count_nonzero(found) != np.count_nonzero(wanted):
            raise NotYet(
                f"{np.count_nonzero(wanted)} pixels count behind {len(layers)} layers, in yours "
                f"{np.count_nonzero(found)}."
            )
        if not close(found, wanted, 1e-5):
            place = int(np.argmax(np.abs(found - wanted)))
            raise NotYet(
                f"pixel {place} counts {wanted[place]:.4f} behind {len(layers)} layers, not {found[place]:.4f}."
            )
    share = float(wanted[np.abs(np.arange(size) - size // 2) <= field // 4].sum())
    return f"the field is {field} pixels wide, and its middle half already has {100 * share:.0f}% of the weight."


class SmallCNN(nn.Module):
    """A CNN without mask attention: two convolutions with batch norm, a mean, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 5) of an image (B, 1, H, W)."""
        x = self.norm1(self.conv1(image)).relu()
        x = self.norm2(self.conv2(x)).relu()
        return self.fc(x.mean(dim=(2, 3)))


def settled(network: SmallCNN) -> SmallCNN:
    """A small network with batch norms as after some training, in evaluation mode; the same in every call."""
    generator = torch.Generator().manual_seed(3)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape, generator=generator) * (1 if value.dim() == 1 else -1))
    return network.eval()


@check
def check_attention(forward: Callable[[SmallCNN, Tensor, Tensor], Tensor]) -> str:
    """04, third exercise: :class:`SmallCNN` with mask attention as ``forward(network, image, mask)``."""
    network = settled(SmallCNN())
    image = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.from_numpy(np.stack([draw_phantom("normal", number, size=16).lungs for number in range(3)]))
    mask = mask[:, None].float()
    with torch.no_grad():
        found = picture(ask(forward, network, image, mask), (3, 5), "batch of logits")
        black = picture(ask(forward, network, image, torch.zeros_like(mask)), (3, 5), "batch of logits")
        if close(found, network(image), 1e-5):
            raise NotYet("the mask changes nothing: multiply by its maps after each batch norm.")
        if not close(black, black[:1], 1e-5):
            raise NotYet("with a mask of zeros the predictions still depend on the image: a product is missing.")
        if not close(black, network.fc.bias, 1e-5):
            raise NotYet(
                "with a mask of zeros something passes: the product belongs behind the batch norm, which adds."
            )
        given, wanted = (network, image, mask), _attended(network, image, mask)
        mistakes = {
            "the mask is multiplied as it is, without pooling; pool it like each convolution": _resized(*given),
            "only the second convolution has its product": _attended(*given, (False, True)),
            "only the first convolution has its product": _attended(*given, (True, False)),
            "padding is left out of your averages; Eq. 1 here counts it": _attended(*given, pad=False),
        }
        refuse(found, wanted, mistakes, tolerance=1e-6)
        if not close(found, wanted, 1e-5):
            raise NotYet(
                "the logits are not those of Eq. 1: convolution, batch norm, product, ReLU, in this order?"
            )
    return "with a mask of zeros nothing passes, and only the bias of the last layer is left."


def _attended(
    network: SmallCNN, image: Tensor, mask: Tensor, places: tuple[bool, bool] = (True, True), pad: bool = True
) -> Tensor:
    maps = mask_maps(mask, [MaskPool.like(layer, pad) for layer in (network.conv1, network.conv2)])
    first, second = (one if used else torch.ones_like(one) for one, used in zip(maps, places, strict=True))
    x = attend(network.norm1(network.conv1(image)), first).relu()
    return network.fc(attend(network.norm2(network.conv2(x)), second).relu().mean(dim=(2, 3)))


def _resized(network: SmallCNN, image: Tensor, mask: Tensor) -> Tensor:
    x = (network.norm1(network.conv1(image)) * mask).relu()
    return network.fc((network.norm2(network.conv2(x)) * mask[..., ::2, ::2]).relu().mean(dim=(2, 3)))


STACK: Layers = ((7, 2, 3), (3, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1))
"""The first layers of a ResNet, more or less."""


@check
def check_sides(sides: Callable[[int, Layers], Sequence[int]]) -> str:
    """08, first exercise: sides of the map behind each layer of a stack."""
    for size in (64, 65, 100, 224, 512):
        wanted = _sides(size)
        given = ask(sides, size, STACK)
        if np.ndim(given) == 0:
            raise NotYet("a list is asked for, with the side behind each layer.")
        found = [float(one) for one in given]
        if len(found) != len(wanted):
            raise NotYet(
                f"one side for each of the {len(wanted)} layers is asked for, and these are {len(found)}."
            )
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if one != other:
                kernel, stride, padding = STACK[number]
                before = wanted[number - 1] if number else size
                raise NotYet(
                    f"behind layer {number + 1} (k={kernel}, s={stride}, p={padding}) a map of {before} positions "
                    f"has {other}, and you say {one:g}: (n + 2p - k) / s rounded down, plus 1."
                )
    return (
        f"{size} pixels end in {wanted[-1]} positions a side, 64 in {_sides(64)[-1]}: there each position stands "
        "for much of the image."
    )


def _sides(size: int) -> list[int]:
    found = [size]
    for kernel, stride, padding in STACK:
        found.append((found[-1] + 2 * padding - kernel) // stride + 1)
    return found[1:]


@check
def check_last_map(last_map: Callable[[Tensor, Layers], Tensor]) -> str:
    """08, second exercise: the last lung map of a mask (1, 1, S, S) behind a stack of layers."""
    for size in (64, 128):
        mask = _lungs(size)
        wanted = _stacked(mask, STACK)
        given = ask(last_map, mask, STACK)
        if isinstance(given, list | tuple):
            raise NotYet("one map is asked for, the last one.")
        other_sides = np.shape(given)[-2:] != tuple(wanted.shape[-2:])
        why = ": pool the map of the layer before, not the mask anew" if other_sides else ""
        found = picture(given, tuple(wanted.shape), "map", why)
        at_once = F.adaptive_avg_pool2d(mask, wanted.shape[-1])
        mistakes = {
            "padding is left out of your averages; it counts as no lung": _stacked(mask, STACK, _UNCOUNTED),
            "you pool to the size at once; layer by layer blurs more": at_once,
            "you take the maximum; Eq. 1 averages": _stacked(mask, STACK, F.max_pool2d),
        }
        refuse(found, wanted, mistakes, tolerance=1e-5)
        if not close(found, wanted, 1e-5):
            raise NotYet(
                f"the mean of the map is {float(wanted.mean()):.3f}, and yours {float(np.mean(found)):.3f}."
            )
    peaks = [f"{float(_stacked(_lungs(size), STACK).max()):.2f} at {size} pixels" for size in (32, 64, 128, 224)]
    return f"behind these layers the largest value of the map is {', '.join(peaks)}."


def _lungs(size: int) -> Tensor:
    return torch.from_numpy(draw_phantom("normal", 1, size=size).lungs)[None, None].double()


_UNCOUNTED = partial(F.avg_pool2d, count_include_pad=False)


def _stacked(mask: Tensor, layers: Layers, pool: Callable[..., Tensor] = F.avg_pool2d) -> Tensor:
    for layer in layers:
        mask = pool(mask, *layer)
    return mask


@check
def check_fading(fades_at: Callable[[Tensor, float], int]) -> str:
    """08, third exercise: 3×3 poolings (s=1, p=1) until inside minus outside is below a limit."""
    found = {}
    for size, limit in ((16, 0.3), (32, 0.5), (32, 0.3), (48, 0.5)):
        mask = _lungs(size)
        wanted = next(depth for depth in range(1, 400) if _contrast(mask, depth) < limit)
        depth = int(ask(fades_at, mask, limit))
        if depth == wanted - 1:
            raise NotYet(
                f"after {depth} poolings the difference is still {_contrast(mask, depth):.3f}, not below {limit}."
            )
        if depth == 0:
            raise NotYet(f"without any pooling the difference is 1, not below {limit}: is the comparison turned?")
        if depth != wanted:
            raise NotYet(
                f"at {size} pixels it falls below {limit} after {wanted} poolings, and you say {depth}; *inside* "
                "is the mean of the map where the mask is 1, *outside* where it is 0."
            )
        found[size, limit] = depth
    return (
        f"inside and outside differ by less than 0.3 after {found[16, 0.3]} poolings at 16 pixels and after "
        f"{found[32, 0.3]} at 32: twice the size lasts about four times the depth."
    )


def _contrast(mask: Tensor, depth: int) -> float:
    lung_map = _stacked(mask, [(3, 1, 1)] * depth)
    return float(lung_map[mask == 1].mean() - lung_map[mask == 0].mean())
