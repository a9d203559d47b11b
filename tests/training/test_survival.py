"""Real training runs, started as people start them, that are really killed.

Weights and log of a training run that was killed are compared, to the bit, with those of one that was not.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import executed
from safetensors.torch import load_file
from started import BIN, start

from manet_lib.params import UserError, load_params
from manet_lib.paths import checkpoints_of, log_of, output_root, weights_of
from manet_lib.training import loop
from manet_lib.training.checkpoint import load_checkpoint
from manet_lib.training.classification import train_classifier
from manet_lib.training.launch import torchrun_command, train
from manet_lib.workflow.records import save_settings
from manet_lib.workflow.steps import classification_step

SOON = 60
"""Seconds within which what is told to end must have ended; on a busy machine torch alone takes many to stop."""


@pytest.fixture
def run(smallest_run, tmp_path, monkeypatch):
    return smallest_run.copy_to(tmp_path, monkeypatch)


def results(run, model):
    folder = run.paths.classifier(model, 1)
    return load_file(weights_of(folder)), log_of(folder).read_bytes()


def assert_same(one, other):
    assert one[1] == other[1], "the logs differ"
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def undisturbed(run, params, model):
    """Weights and log of a training run that nothing happens to; its folder is removed again."""
    train(params, run.paths, model, 1)
    found = results(run, model)
    shutil.rmtree(run.paths.classifier(model, 1))
    return found


def alone(run, params, model):
    """The command line of a training run in one process."""
    save_settings(params, run.paths)
    command = [sys.executable, "-m", "manet_lib.training.launch", str(run.paths.settings)]
    return [*command, "--model", model, "--trial", "1"]


def wait_until(process, condition, seconds=180):
    """Wait for something that a process does; it must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline, f"nothing happened in {seconds} s"
        time.sleep(0.01)


def finished_epochs(folder):
    return len(log_of(folder).read_text().splitlines()) - 1 if log_of(folder).is_file() else 0


def is_writing(folder):
    return any(checkpoints_of(folder).glob(".epoch-*"))


def kill_at_random(run, params, model, kills, rng):
    """Start a training run again and again, kill it each time; every other time while it writes a checkpoint."""
    folder = run.paths.classifier(model, 1)
    caught = 0
    for number in range(kills):
        before = finished_epochs(folder)
        process = start(alone(run, params, model))
        if number % 2:
            wait_until(process, lambda: is_writing(folder))
            time.sleep(rng.uniform(0, 0.05))
            caught += is_writing(folder)
        elif number % 4:
            wait_until(process, lambda seen=before: finished_epochs(folder) > seen)
            time.sleep(rng.uniform(0, 1.0))
        else:
            time.sleep(rng.uniform(0, 8.0))
        process.kill()
        process.communicate()
    return caught


@pytest.mark.slow
def test_killed_runs_end_with_the_bits_of_an_undisturbed_one(run):
    params = run.with_parameters(epochs=8, models=["resnet34_ma"])
    expected = undisturbed(run, params, "resnet34_ma")
    caught = kill_at_random(run, params, "resnet34_ma", 6, random.Random(0))
    assert caught, "no kill met a checkpoint being written"
    process = start(alone(run, params, "resnet34_ma"))
    assert process.wait(300) == 0, process.communicate()[0][-2000:]
    assert_same(expected, results(run, "resnet34_ma"))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_dropout_goes_on_as_if_nothing_had_happened(run, monkeypatch):
    params = run.with_parameters(epochs=2, models=["vgg16"])
    expected = undisturbed(run, params, "vgg16")
    whole = loop._backward

    def until_the_second_epoch(training, *others):
        if checkpoints_of(training.folder).is_dir():
            raise KeyboardInterrupt
        return whole(training, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_backward", until_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(params, run.paths, "vgg16", 1)
    train_classifier(params, run.paths, "vgg16", 1)
    assert_same(expected, results(run, "vgg16"))


RANKS = {"devices": 2, "epochs": 3, "timeout_minutes": 0.4, "restarts": 1}


@pytest.fixture(scope="module")
def two_ranks(smallest_run, tmp_path_factory):
    """Weights and log of a training run on two ranks that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        run = smallest_run.copy_to(tmp_path_factory.mktemp("two_ranks"), patch)
        return undisturbed(run, run.with_parameters(**RANKS), "resnet34_ma")


def workers(agent):
    return sorted(psutil.Process(agent.pid).children(), key=lambda child: child.pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGSTOP, id="hung", marks=pytest.mark.exhaustive),
    ],
)
def test_a_lost_rank_is_started_again_and_nothing_changes(run, two_ranks, how):
    params = run.with_parameters(**RANKS)
    save_settings(params, run.paths)
    agent = start(torchrun_command(params, run.paths, "resnet34_ma", 1))
    wait_until(agent, lambda: finished_epochs(run.paths.classifier("resnet34_ma", 1)))
    workers(agent)[1].send_signal(how)
    text = agent.communicate(timeout=240)[0]
    assert agent.returncode == 0, text[-3000:]
    assert_same(two_ranks, results(run, "resnet34_ma"))


def survivors():
    """Processes that were started by this test: they know its output folder."""
    mark, found = f"MANET_OUTPUT={output_root()}".encode(), []
    for process in psutil.process_iter():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def papermill(run):
    output = run.paths.root / "out.ipynb"
    arguments = ["-p", "model", "resnet34_ma", "-p", "trial", "1", "--no-progress-bar"]
    return [BIN / "papermill", "notebooks/04_classification.ipynb", output, "-f", run.paths.settings, *arguments]


def reproduce(run):
    """The whole workflow, the notebooks before the training being there already."""
    params = load_params(run.paths.settings)
    executed(params, run.paths, "01_data", "02_segmentation", "03_postprocessing")
    return [sys.executable, "-m", "manet_lib.workflow.reproduce", str(run.paths.settings), "--cores", "2"]


def torchrun(run):
    return torchrun_command(run.params.model_copy(update={"devices": 2}), run.paths, "resnet34_ma", 1)


TOLD = [(reproduce, signal.SIGINT), (torchrun, signal.SIGKILL)]
OTHERS = [(reproduce, signal.SIGTERM), (reproduce, signal.SIGKILL), (papermill, signal.SIGINT)]
TOLD += [pytest.param(*one, marks=pytest.mark.exhaustive) for one in OTHERS]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "how"), TOLD, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_is_told_to_end_ends_and_leaves_nothing_behind(run, what, how):
    """Two ranks below torchrun, a kernel, Papermill, Snakemake and the command of the run: all of them end."""
    params = run.with_parameters(devices=2, epochs=500)
    save_settings(params, run.paths)
    folder = run.paths.classifier("resnet34_ma", 1)
    process = start(what(run))
    try:
        wait_until(process, lambda: finished_epochs(folder) > 1)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does on Ctrl-C
        else:
            process.send_signal(how)
        told = time.monotonic()
        while survivors() and time.monotonic() < told + SOON:
            process.poll()
            time.sleep(0.05)
        assert [one.cmdline() for one in survivors()] == []
        assert process.wait(1) != 0
    finally:
        for one in survivors():
            one.kill()
        process.communicate()
    key = classification_step(params, run.paths, "resnet34_ma", 1).key()
    assert load_checkpoint(checkpoints_of(folder), key) is not None


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(run, monkeypatch):
    params = run.with_parameters(epochs=3)
    key = classification_step(params, run.paths, "resnet34", 1).key()
    whole = loop._backward
    monkeypatch.setattr(
        loop,
        "_backward",
        lambda training, params, ranks, network, batch: (
            whole(training, params, ranks, network, batch)
            * (float("nan") if checkpoints_of(training.folder).is_dir() else 1.0)
        ),
    )
    with pytest.raises(
        UserError, match=r"epoch 2, step 1: the loss is nan at learning rate .* images (\w+, ){7}\w+$"
    ):
        train_classifier(params, run.paths, "resnet34", 1)
    state = load_checkpoint(checkpoints_of(run.paths.classifier("resnet34", 1)), key)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_out_of_memory_names_the_parameter_to_change(run, monkeypatch):
    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loop, "_backward", too_much)
    with pytest.raises(UserError, match=r"epoch 1: out of memory with 8 images of 32 pixels.* accumulate: 1 to 2"):
        train_classifier(run.params, run.paths, "resnet34", 1)
