import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from manet_lib.params import Params, UserError, load_params
from manet_lib.paths import checkpoints_of, log_of, project_root, weights_of
from manet_lib.training.checkpoint import load_weights
from manet_lib.training.classification import load_classifier, read_predictions, train_classifier
from manet_lib.training.distributed import pick_device
from manet_lib.training.launch import torchrun_command
from manet_lib.training.segmentation import _batch_size
from manet_lib.workflow.records import read_done


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    """A copy of the prepared tiny run: store, manifest, masks; classifiers are still to be trained."""
    return tiny_run.copy_to(tmp_path, monkeypatch)


def weights(folder):
    with safe_open(weights_of(folder), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_training_learns_the_training_images(run):
    params = run.with_parameters(epochs=6, augment_probability=0.0)
    train_classifier(params, run.paths, "resnet34", 1)
    log = pd.read_csv(log_of(run.paths.classifier("resnet34", 1)))
    assert log["train_loss"].iloc[-1] < 0.85 * np.log(5), "clearly better than guessing among five"


def test_learning_rate_is_a_cosine_from_the_first_to_zero(run):
    params = run.with_parameters(epochs=4)
    train_classifier(params, run.paths, "resnet34", 1)
    log = pd.read_csv(log_of(run.paths.classifier("resnet34", 1)))
    expected = params.learning_rate * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(log["learning_rate"], expected, rtol=1e-6)


def test_same_seed_same_bits_and_another_trial_another_run(run):
    params = run.with_parameters(trials=2)
    train_classifier(params, run.paths, "resnet34_ma", 1)
    first = weights(run.paths.classifier("resnet34_ma", 1))
    (run.paths.classifier("resnet34_ma", 1) / "done.json").unlink()
    assert not checkpoints_of(run.paths.classifier("resnet34_ma", 1)).exists(), "what is done needs no checkpoint"
    train_classifier(params, run.paths, "resnet34_ma", 1)
    train_classifier(params, run.paths, "resnet34_ma", 2)
    again, other = (weights(run.paths.classifier("resnet34_ma", trial)) for trial in (1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_weights_tell_where_they_come_from(run):
    train_classifier(run.params, run.paths, "resnet34", 1)
    folder = run.paths.classifier("resnet34", 1)
    header = load_weights(weights_of(folder), load_classifier(run.params, run.paths, "resnet34", 1))
    key = json.loads(header["key"])
    assert key["parameters"]["model"] == "resnet34"
    assert key["inputs"] == read_done(folder)["inputs"]


def test_saved_weights_give_the_saved_predictions(run):
    train_classifier(run.params, run.paths, "resnet34_ma", 1)
    from manet_lib.data.manifest import read_manifest
    from manet_lib.training.classification import segmented_pairs

    test = read_predictions(run.paths, "resnet34_ma", 1)
    data = segmented_pairs(run.params, run.paths, read_manifest(run.paths), ["test"])
    model = load_classifier(run.params, run.paths, "resnet34_ma", 1)
    items = [data[0, number] for number in range(len(data))]
    with torch.inference_mode():
        images, masks = (torch.stack([item[part] for item in items]) for part in (0, 1))
        logits = model(data.scale(images), masks.float())
    probability = logits.softmax(1).numpy()
    np.testing.assert_allclose(test.filter(like="p_").to_numpy(), probability, atol=1e-4)


def test_a_training_set_smaller_than_a_batch_is_refused(run):
    params = run.with_parameters(batch_size=512)
    with pytest.raises(UserError, match=r"batch_size: 512 images, but the training set has \d+"):
        train_classifier(params, run.paths, "resnet34", 1)


def test_a_loss_that_is_not_finite_names_step_rate_and_images(run):
    params = run.with_parameters(learning_rate=1e30, epochs=2)
    with pytest.raises(UserError, match=r"epoch \d, step \d: the loss is (nan|inf) at learning rate 1e\+30"):
        train_classifier(params, run.paths, "resnet34", 1)
    assert read_done(run.paths.classifier("resnet34", 1)) is None


def test_more_gpus_than_there_are_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    with pytest.raises(UserError, match="devices: 4 with accelerator: cuda, but GPUs on this machine: 0"):
        pick_device("cuda", 4)


def test_torchrun_command_is_the_one_a_cluster_types(run):
    params = run.with_parameters(devices=4)
    command = torchrun_command(params, run.paths, "resnet50_ma", 2)
    assert command[1:6] == ["-u", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert command[-4:] == ["--model", "resnet50_ma", "--trial", "2"]


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_half_precision_trains_to_nearly_the_same_losses(smallest_run, tmp_path, monkeypatch, precision):
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    losses = []
    for name in ("fp32", precision):
        params = run.with_parameters(precision=name, epochs=2)
        train_classifier(params, run.paths, "resnet34_ma", 1)
        losses.append(pd.read_csv(log_of(run.paths.classifier("resnet34_ma", 1)))["train_loss"].to_numpy())
        (run.paths.classifier("resnet34_ma", 1) / "done.json").unlink()
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1)  # rounding grows from step to step
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=0.03)
    assert not np.array_equal(losses[1], losses[0])


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(
        UserError, match="batch_size: 8 is not divisible by nodes × devices × accumulate: 1 × 1 × 3"
    ):
        load_params(project_root() / "params/tiny.yaml", accumulate=3)


def test_stage_1_needs_a_pair_for_each_part_of_its_batch(refused):
    params = Params(profile="x", accumulate=8, batch_size=64, seg_batch_size=16)
    assert [_batch_size(params, pairs) for pairs in (100, 16, 15, 8)] == [16, 16, 8, 8]
    with refused("1 × 1 × 8, but stage 1 has 5 training pairs"):
        _batch_size(params, 5)
