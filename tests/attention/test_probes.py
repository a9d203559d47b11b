"""Probes of heat maps on networks whose reasons are known."""

import itertools
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from manet_lib.attention import probes
from manet_lib.attention.maps import grad_cam
from manet_lib.attention.probes import (
    LEVELS,
    PATCHES,
    STAGES,
    faithfulness,
    patch_means,
    probe_attention,
    randomised,
    removal,
    repeatability,
    similarity,
    unrelated,
)
from manet_lib.evaluation.statistics import crossed_interval
from manet_lib.models import create_model
from manet_lib.training.classification import train_classifier

SIDE = 64


class Corner(nn.Module):
    """Class 1 is the brightness of the upper left quarter, and nothing else."""

    def forward(self, image, mask):
        score = 8 * image[:, 0, : SIDE // 2, : SIDE // 2].mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(score), score], dim=1)


LUNGS = np.ones((SIDE, SIDE), bool)


def corner_map():
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[: SIDE // 2, : SIDE // 2] = 1
    return heat


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    return 0.8 * torch.rand((1, 1, SIDE, SIDE), generator=generator), torch.ones(1, 1, SIDE, SIDE)


def test_a_map_of_the_true_reasons_is_faithful_and_its_opposite_is_not(image):
    right = faithfulness(Corner(), *image, LUNGS, 1, corner_map(), "image")
    wrong = faithfulness(Corner(), *image, LUNGS, 1, 1 - corner_map(), "image")
    assert right["deletion"] < right["deletion_chance"] < wrong["deletion"]
    assert wrong["insertion"] < right["insertion_chance"] < right["insertion"]


def test_road_sees_what_its_neighbours_do_not_give_back(image):
    grey, heat = torch.full((1, 1, SIDE, SIDE), -0.2), np.zeros((SIDE, SIDE), np.float32)
    grey[..., 8:20, 8:20] = 1  # small and bright; imputed from around, it is gone
    heat[8:20, 8:20] = 1
    right, wrong = (
        faithfulness(Corner(), grey, image[1], LUNGS, 1, one, "image")["road"] for one in (heat, 1 - heat)
    )
    assert right > 0.05
    assert wrong < -0.05


def test_a_map_of_zeros_is_not_probed_and_ties_are_no_order(image):
    nothing = faithfulness(Corner(), *image, LUNGS, 1, np.zeros((SIDE, SIDE), np.float32), "image")
    assert np.isnan(list(nothing.values())).all()
    flat = [
        faithfulness(Corner(), *image, LUNGS, 1, np.ones((SIDE, SIDE), np.float32), f"image{n}") for n in range(12)
    ]
    # from top to bottom, the deciding half would go first
    assert np.mean([one["deletion"] - one["deletion_chance"] for one in flat]) == pytest.approx(0, abs=0.03)
    assert np.mean([one["road"] for one in flat]) == pytest.approx(0, abs=0.03)


def test_probes_are_the_same_every_time_and_leave_the_random_state(image):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = faithfulness(Corner(), *image, LUNGS, 1, corner_map(), "image")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)
    assert faithfulness(Corner(), *image, LUNGS, 1, corner_map(), "image") == first
    other = faithfulness(Corner(), *image, LUNGS, 1, corner_map(), "another image")
    assert other["deletion"] == pytest.approx(first["deletion"], abs=0.01)  # but for the order of ties
    assert other["deletion_chance"] != first["deletion_chance"]


def test_curves_are_the_mean_probability_over_the_levels(image):
    """Where all patches matter alike, the curve can be written down."""
    grey, mask = torch.full((1, 1, SIDE, SIDE), 0.0), image[1]

    class Mean(nn.Module):
        def forward(self, grey, mask):
            return torch.stack([torch.zeros(len(grey)), grey.mean(dim=(1, 2, 3))], dim=1)

    found = faithfulness(Mean(), grey, mask, LUNGS, 1, corner_map(), "image")
    removed = np.round(np.linspace(0, PATCHES**2, LEVELS + 1)) / PATCHES**2
    probability = 1 / (1 + np.exp(removed))  # the mean falls from 0 to -1
    expected = np.trapezoid(probability, dx=1 / LEVELS)
    assert found["deletion"] == pytest.approx(expected, abs=1e-6)
    assert found["deletion_chance"] == pytest.approx(expected, abs=1e-6)


def test_patches_are_removed_highest_first_and_all_at_last():
    order = np.arange(16.0).reshape(4, 4)
    order[0] = -1  # never removed
    removed = removal(order, 12)
    assert removed.shape == (LEVELS + 1, 4, 4)
    assert not removed[0].any()
    assert removed[-1].sum() == 12
    assert not removed[:, 0].any()
    for fewer, more in itertools.pairwise(removed):
        assert not (fewer & ~more).any()
        if fewer.any():
            assert order[fewer].min() > order[~fewer].max()


def test_only_the_lungs_are_removed(image):
    grey, mask = image
    lungs = np.zeros_like(LUNGS)
    lungs[SIDE // 2 :] = True
    seen = []

    class Spy(nn.Module):
        def forward(self, grey, mask):
            seen.append(grey)
            return torch.zeros(len(grey), 2)

    faithfulness(Spy(), grey, mask, lungs, 1, corner_map(), "image")
    without = seen[0]
    assert torch.equal(without[-1, 0, : SIDE // 2], grey[0, 0, : SIDE // 2])
    assert (without[-1, 0, SIDE // 2 :] == -1).all()


def test_patch_means_and_similarity():
    maps = np.random.default_rng(0).random((2, SIDE, SIDE)).astype(np.float32)
    means = patch_means(maps)
    step = SIDE // PATCHES
    assert means[1, 2, 3] == pytest.approx(maps[1, 2 * step : 3 * step, 3 * step : 4 * step].mean())
    assert similarity(maps[0], maps[0]) == pytest.approx(1)
    assert similarity(maps[0], np.sqrt(maps[0])) > 0.95  # order counts, not values
    assert similarity(maps[0], 1 - maps[0]) == pytest.approx(-1)
    assert np.isnan(similarity(maps[0], np.zeros((SIDE, SIDE), np.float32)))


def test_layers_are_drawn_anew_from_the_last_and_the_network_is_left_alone(classifier, images):
    model = classifier("resnet34_ma")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen, fresh = [], create_model("resnet34_ma")
    for stage, random in enumerate(randomised(model, fresh), start=1):
        changed = [name for name, value in random.state_dict().items() if not torch.equal(value, before[name])]
        assert "fc.weight" in changed
        assert ("conv1.weight" in changed) == (stage == STAGES)
        seen.append(len(changed))
    assert seen == sorted(seen)
    assert len(seen) == STAGES
    assert all(torch.equal(value, random.state_dict()[name]) for name, value in fresh.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    image, mask = images("resnet34_ma")
    assert grad_cam(random, image, mask, torch.tensor([0, 1])).shape == (2, *image.shape[2:])


@pytest.mark.slow
def test_probes_of_a_run(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    params = run.params.model_copy(update={"trials": 2, "models": ["resnet34_ma"]})
    trained = [("resnet34_ma", 1), ("resnet34_ma", 2)]
    for pair in trained:
        train_classifier(params, run.paths, *pair)
    assert probe_attention(params, run.paths, trained)
    assert not probe_attention(params, run.paths, trained)
    faithful, sanity = (pd.read_csv(run.paths.probes / f"{name}.csv") for name in ("faithfulness", "sanity"))
    assert faithful[["deletion", "insertion"]].stack().dropna().between(0, 1).all()
    assert len(faithful) == 2 * 5
    assert sanity.loc[sanity["stages"] > 0, "similarity"].dropna().between(-1, 1).all()
    assert sorted(sanity["stages"].unique()) == list(range(STAGES + 1))
    assert len(repeatability(params, run.paths, "resnet34_ma", [1, 2])) == 5


def test_the_value_of_different_maps_is_the_mean_of_all_pairs_and_its_interval_covers():
    """Maps with an effect of their own: neighbours alone would count each of them twice."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        own = rng.normal(0, 0.2, 12)
        pairs = {(i, j): 0.5 + own[i] + own[j] for i, j in itertools.combinations(range(12), 2)}
        with patched(pairs):
            values = np.array(unrelated(np.arange(12.0).reshape(12, 1, 1)))
        assert values.mean() == pytest.approx(np.mean(list(pairs.values())))
        _, low, high = crossed_interval(values[None])
        inside += low <= 0.5 <= high
    assert 0.90 <= inside / 400 <= 0.98


@contextmanager
def patched(pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "similarity", lambda one, other: pairs[int(one[0, 0]), int(other[0, 0])])
        yield
