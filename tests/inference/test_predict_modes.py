"""Prediction whatever the caller's gradient mode, and of images on which no lungs are found."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from manet_lib.data.store import Store
from manet_lib.inference.predict import MANet
from manet_lib.training.classification import train_classifier
from manet_lib.workflow.records import save_settings


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("modes"), patch)
        train_classifier(run.params, run.paths, "resnet34_ma", 1)
        save_settings(run.params, run.paths)
    return run


@pytest.fixture(scope="module")
def image(trained):
    return np.array(Store.open(trained.paths.store).images[0])


def load(trained):
    return MANet.from_run(trained.paths.root, "resnet34_ma", 1)


@pytest.fixture(scope="module")
def expected(trained, image):
    return load(trained).predict(image)


def same(answer, expected):
    assert answer.label == expected.label
    assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    np.testing.assert_array_equal(answer.lung_mask, expected.lung_mask)
    assert expected.heat_map.max() > 0
    np.testing.assert_allclose(answer.heat_map, expected.heat_map, atol=1e-5)
    assert answer.warnings == expected.warnings


MODES = {
    "gradients": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients off": lambda: torch.set_grad_enabled(False),
}


@pytest.mark.parametrize("loaded_in", ["gradients", "inference_mode"])
@pytest.mark.parametrize("asked_in", MODES)
def test_the_answer_does_not_depend_on_the_mode(trained, image, expected, loaded_in, asked_in):
    with MODES[loaded_in]():
        manet = load(trained)
    with MODES[asked_in]():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        same(manet.predict(image), expected)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


@pytest.mark.parametrize("asked_in", ["gradients", "inference_mode"])
def test_frozen_weights_give_the_same_and_stay_frozen(trained, image, expected, asked_in):
    manet = load(trained)
    manet.networks.classifier.requires_grad_(False)
    manet.networks.segmenter.requires_grad_(False)
    with MODES[asked_in]():
        same(manet.predict(image), expected)
    assert not any(weight.requires_grad for weight in manet.networks.classifier.parameters())


class Says(nn.Module):
    """A segmenter that gives every pixel the same score."""

    def __init__(self, score):
        super().__init__()
        self.score = score
        self.encoder = Features()

    def forward(self, images):
        self.encoder(images)
        return torch.full_like(images, self.score)


class Features(nn.Module):
    """An encoder whose last features are nothing at all."""

    def forward(self, images):
        return [images, torch.zeros(len(images), 512, 2, 2)]


@pytest.mark.parametrize("asked_in", ["gradients", "inference_mode"])
def test_a_image_without_lungs_is_answered_with_a_warning(trained, image, monkeypatch, asked_in):
    manet = load(trained)
    monkeypatch.setattr(manet, "networks", replace(manet.networks, segmenter=Says(-5.0)))
    with MODES[asked_in]():
        answer = manet.predict(image)
    assert not answer.lung_mask.any()
    assert isinstance(answer.warnings, tuple)
    (warning,) = answer.warnings
    assert "no lungs" in warning
    assert "\n" not in warning
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label in manet.classes
    assert np.isfinite(answer.heat_map).all()
    assert answer.heat_map.shape == image.shape


def test_specks_that_are_cleaned_away_are_no_lungs(trained, image, monkeypatch):
    manet = load(trained)

    class Speck(Says):
        def forward(self, images):
            scores = super().forward(images)
            scores[..., 30, 30] = 5.0
            return scores

    monkeypatch.setattr(manet, "networks", replace(manet.networks, segmenter=Speck(-5.0)))
    assert "no lungs" in " ".join(manet.predict(image).warnings)


def test_a_image_with_lungs_has_no_warning(expected):
    assert expected.lung_mask.any()
    assert expected.warnings == ()
