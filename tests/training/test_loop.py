"""What the loop does around the steps: loaders, checkpoints, memory, threads."""

import multiprocessing
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from manet_lib.data.augment import EpochOrder
from manet_lib.data.manifest import read_manifest
from manet_lib.params import UserError
from manet_lib.paths import checkpoints_of, weights_of
from manet_lib.training import classification, loop, segmentation
from manet_lib.training.classification import segmented_pairs, train_classifier
from manet_lib.training.distributed import Ranks
from manet_lib.training.evaluate import evaluate, evaluation_loader
from manet_lib.training.loop import batches
from manet_lib.training.segmentation import predict_raw_masks, train_segmenter

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def run(smallest_run, tmp_path, monkeypatch):
    return smallest_run.copy_to(tmp_path, monkeypatch)


@pytest.fixture
def saved(monkeypatch):
    """The epochs after which a checkpoint is written."""
    epochs, write = [], loop.save_checkpoint

    def save(folder, epoch, state):
        epochs.append(epoch)
        write(folder, epoch, state)

    monkeypatch.setattr(
        loop, "save_checkpoint", lambda folder, epoch, state: [epochs.append(epoch), write(folder, epoch, state)]
    )
    return epochs


@pytest.mark.parametrize(("minutes", "expected"), [(0, [1, 2, 3]), (600, [3])])
def test_checkpoints_are_as_far_apart_as_asked_for_and_the_last_epoch_has_one(run, saved, minutes, expected):
    params = run.with_parameters(epochs=3, checkpoint_minutes=minutes)
    train_classifier(params, run.paths, "resnet34", 1)
    assert saved == expected


def test_what_happens_between_the_last_checkpoint_and_the_predictions_changes_nothing(run, monkeypatch):
    params = run.with_parameters(epochs=2)
    folder = run.paths.classifier("resnet34_ma", 1)
    train_classifier(params, run.paths, "resnet34_ma", 1)
    expected = load_file(weights_of(folder)), run.paths.predictions("resnet34_ma", 1).read_bytes()
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(classification, "_write", lambda *_: pytest.fail("the power is cut"))
        with pytest.raises(pytest.fail.Exception):
            train_classifier(params, run.paths, "resnet34_ma", 1)
    assert not weights_of(folder).exists()
    monkeypatch.setattr(loop, "_epoch", lambda *_: pytest.fail("all epochs are in the checkpoint"))
    train_classifier(params, run.paths, "resnet34_ma", 1)
    assert run.paths.predictions("resnet34_ma", 1).read_bytes() == expected[1]
    assert all(torch.equal(value, expected[0][name]) for name, value in load_file(weights_of(folder)).items())


def test_a_training_that_starts_anew_leaves_no_later_checkpoints_behind(run, monkeypatch):
    """Else they would stay the newest, and every interruption would start it anew."""
    folder = run.paths.classifier("resnet34", 1)
    for epochs, rate in ((3, 0.01), (2, 0.02)):
        params = run.with_parameters(epochs=epochs, learning_rate=rate)
        with monkeypatch.context() as patch:
            patch.setattr(classification, "_write", lambda *_: pytest.fail("the power is cut"))
            with pytest.raises(pytest.fail.Exception):
                train_classifier(params, run.paths, "resnet34", 1)
    assert sorted(path.name for path in checkpoints_of(folder).iterdir()) == ["epoch-0001.pt", "epoch-0002.pt"]
    monkeypatch.setattr(loop, "_epoch", lambda *_: pytest.fail("all epochs are in the checkpoint"))
    assert train_classifier(params, run.paths, "resnet34", 1)


def test_each_set_has_one_loader_however_many_epochs(run, monkeypatch):
    made = []
    make = loop.DataLoader
    monkeypatch.setattr(
        loop, "DataLoader", lambda data, **options: made.append(len(data)) or make(data, **options)
    )
    train_classifier(run.with_parameters(epochs=4), run.paths, "resnet34", 1)
    sides = read_manifest(run.paths)["split"].value_counts()
    assert sorted(made) == sorted([sides["train"], sides["val"], sides["val"] + sides["test"]])


def test_loader_workers_get_the_name_of_the_store_and_not_its_pixels(run):
    pairs = segmented_pairs(run.params, run.paths, read_manifest(run.paths), ["train"], trial=1)
    data = pickle.dumps(pairs)
    assert len(data) < pairs.images.nbytes / 2
    again = pickle.loads(data)
    for position in (0, 5):
        assert torch.equal(pairs[3, position][0], again[3, position][0])
        assert torch.equal(pairs[3, position][1], again[3, position][1])


@pytest.mark.slow
def test_workers_that_are_not_forked_load_the_same(run):
    pairs = segmented_pairs(run.params, run.paths, read_manifest(run.paths), ["val"])
    order = EpochOrder(len(pairs), (0, 0), shuffle=False)
    spawn = multiprocessing.get_context("spawn")
    apart = DataLoader(pairs, sampler=order, batch_size=2, num_workers=2, multiprocessing_context=spawn)
    for one, other in zip(DataLoader(pairs, sampler=order, batch_size=2), apart, strict=True):
        assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


@pytest.mark.parametrize(("parts", "expected"), [(1, 8), (2, 4), (8, 1)])
def test_evaluation_takes_no_more_images_at_a_time_than_training(run, parts, expected):
    params = run.with_parameters(accumulate=parts)
    pairs = segmented_pairs(params, run.paths, read_manifest(run.paths), ["val", "test"])
    loader = evaluation_loader(pairs, params, ALONE, params.batch_size)
    assert max(len(batch[0]) for batch in loader) == expected


def too_much(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_lack_of_memory_in_evaluation_names_the_parameter_to_change(run):
    pairs = segmented_pairs(run.params, run.paths, read_manifest(run.paths), ["val"])
    loader = evaluation_loader(pairs, run.params, ALONE, 8)
    with pytest.raises(
        UserError, match=r"evaluation: out of memory with \d images of 32 pixels.* accumulate: 1 to 2"
    ):
        evaluate(torch.nn.Identity(), loader, run.params, ALONE, too_much)


def test_scores_that_are_not_finite_are_no_class(run):
    pairs = segmented_pairs(run.params, run.paths, read_manifest(run.paths), ["val"])
    loader = evaluation_loader(pairs, run.params, ALONE, 8)
    with pytest.raises(
        UserError, match=rf"evaluation: {len(pairs)} of {len(pairs)} images .* not finite; set precision"
    ):
        evaluate(
            torch.nn.Identity(),
            loader,
            run.params,
            ALONE,
            lambda _, batch: torch.full((len(batch[0]), 5), torch.nan),
        )


def test_loader_workers_change_nothing_that_dropout_draws(run):
    drawn = []
    for workers in (0, 1):
        params = run.params.model_copy(update={"num_workers": workers})
        pairs = segmented_pairs(params, run.paths, read_manifest(run.paths), ["train"], 1)
        loader = batches(pairs, params, ALONE, EpochOrder(len(pairs), (0, 1), shuffle=True), 8)
        for epoch in range(2):
            torch.manual_seed(epoch)
            next(iter(loader))
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])


def test_a_lack_of_memory_for_lung_masks_names_it_too(run, monkeypatch):
    monkeypatch.setattr(segmentation, "to_unit", too_much)
    (run.paths.raw_masks.parent / "done.json").unlink()
    with pytest.raises(UserError, match="lung masks: out of memory with 8 images"):
        predict_raw_masks(run.params, run.paths)


def test_threads_are_for_stage_2_which_runs_side_by_side(run):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        params = run.params.model_copy(update={"threads": 1})
        train_classifier(params, run.paths, "resnet34", 1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        (run.paths.segmentation / "done.json").unlink()
        train_segmenter(params, run.paths)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_auto_precision_says_what_it_was(run, monkeypatch):
    monkeypatch.setattr("manet_lib.training.distributed.processor_has_bf16", lambda: True)
    params = run.with_parameters(precision="auto")
    train_classifier(params, run.paths, "resnet34", 1)
    done = (run.paths.classifier("resnet34", 1) / "done.json").read_text()
    assert '"precision": "bf16"' in done
    assert load_file(weights_of(run.paths.classifier("resnet34", 1)))["fc.weight"].isfinite().all()
