import copy
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from manet_lib.params import Params
from manet_lib.training.timing import WARM_UP, increase, interleaved_steps

CPU = torch.device("cpu")
REPEATS = 6


class Tiny(nn.Module):
    """Five logits of an image; notes each call in a list that several networks share."""

    def __init__(self, name, calls, pause=0.0):
        super().__init__()
        self.name, self.calls, self.pause = name, calls, pause
        self.conv = nn.Conv2d(1, 5, 3)

    def forward(self, image, mask):
        time.sleep(self.pause)
        logits = self.conv(image * mask).mean(dim=(2, 3))
        self.calls.append((self.name, image, mask, logits.dtype))
        return logits


def timed(names="abc", pauses=None, **changes):
    """Seconds, the networks before and after, and all calls in their order."""
    calls = []
    models = {name: Tiny(name, calls, (pauses or {}).get(name, 0.0)) for name in names}
    before = copy.deepcopy(models)
    seconds = interleaved_steps(models, 12, 4, REPEATS, CPU, Params(profile="x", **changes))
    return seconds, before, models, calls


def test_seconds_have_one_row_per_round_and_one_column_per_network():
    seconds, *_ = timed()
    assert seconds.shape == (REPEATS, 3)
    assert list(seconds.columns) == ["a", "b", "c"]
    assert (seconds > 0).all(axis=None)


def test_every_network_is_really_trained():
    _, before, models, _ = timed()
    for name, model in models.items():
        assert model.training
        for parameter, old in zip(model.parameters(), before[name].parameters(), strict=True):
            assert not torch.equal(parameter, old)


def test_every_round_has_each_network_once_and_the_order_is_shuffled():
    *_, calls = timed()
    order = [name for name, *_ in calls]
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert len(rounds) == WARM_UP + REPEATS
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 2
    assert len({names[0] for names in rounds}) == 3, "each network comes first now and then"


def test_seconds_stand_below_the_network_that_took_them():
    # whatever the order of a round; the pause is far longer than a step
    seconds, *_ = timed(pauses={"b": 0.05})
    assert (seconds["b"] >= 0.05).all()
    assert (seconds[["a", "c"]].median() < 0.05).all()


def test_images_are_in_range_and_the_same_for_all():
    *_, calls = timed()
    _, image, mask, _ = calls[0]
    assert image.shape == mask.shape == (4, 1, 12, 12)
    assert -1 <= image.min() < -0.5 < 0.5 < image.max() <= 1
    assert mask.unique().tolist() == [0, 1]
    assert all(torch.equal(other, image) and torch.equal(lungs, mask) for _, other, lungs, _ in calls)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_the_one_asked_for(channels_last):
    _, _, models, _ = timed(channels_last=channels_last)
    # is_contiguous() is true of both where there is one channel; strides tell
    strides = (9, 1, 3, 1) if channels_last else (9, 9, 3, 1)
    assert {model.conv.weight.stride() for model in models.values()} == {strides}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_bf16_is_for_the_forward_pass_not_for_the_weights(precision, dtype):
    _, _, models, calls = timed(precision=precision)
    assert {call[3] for call in calls} == {dtype}
    assert {model.conv.weight.dtype for model in models.values()} == {torch.float32}


def test_the_increase_of_a_constant_ratio_is_exact():
    plain = np.random.default_rng(0).uniform(0.1, 5, 31)
    seconds = pd.DataFrame({"plain": plain, "slower": 1.1 * plain, "faster": 0.75 * plain})
    assert increase(seconds, "slower", "plain") == pytest.approx((10, 10, 10))
    assert increase(seconds, "faster", "plain") == pytest.approx((-25, -25, -25))
    assert increase(seconds, "plain", "plain") == (0, 0, 0)


def test_ratios_are_taken_within_the_rounds():
    # 2, 1 and 1.1 times as long; the medians of the columns are the same
    seconds = pd.DataFrame({"plain": [1.0, 2.0, 4.0], "attending": [2.0, 2.0, 4.4]})
    median, low, high = increase(seconds, "attending", "plain")
    assert median == pytest.approx(10)
    assert (low, high) == pytest.approx((0, 100))
