"""Several processes do what one does: Gloo on this machine, torchrun as on a cluster."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import score_images, train_frozen
from safetensors.torch import load_file
from started import start

from manet_lib.data.manifest import read_manifest
from manet_lib.params import UserError
from manet_lib.paths import checkpoints_of, weights_of
from manet_lib.training import distributed, launch
from manet_lib.training.classification import load_classifier, segmented_pairs
from manet_lib.training.distributed import Ranks, own_gpu, own_gpus, resolved_precision, set_arithmetic
from manet_lib.training.evaluate import evaluate, evaluation_loader
from manet_lib.training.launch import torchrun_command, train
from manet_lib.training.loop import prepare
from manet_lib.workflow import machine
from manet_lib.workflow.records import read_done, read_table, save_settings

RANKS = Path(__file__).with_name("ranks.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def finish(*processes, seconds=240):
    texts = [process.communicate(timeout=seconds)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(texts)[-3000:]
    return texts


def on_ranks(count, what, output, *more):
    finish(start([*TORCHRUN, "--standalone", f"--nproc-per-node={count}", RANKS, what, output, *more]))
    return output


ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_the_papers_680_test_images_count_once_on_any_number_of_ranks(tmp_path, count):
    score_images(tmp_path / "alone.npz", ALONE)
    one, other = np.load(tmp_path / "alone.npz"), np.load(on_ranks(count, "evaluate", tmp_path / "other.npz"))
    assert one["rows"].tolist() == other["rows"].tolist() == list(range(680))
    assert np.array_equal(one["scores"], other["scores"])


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory):
    file = tmp_path_factory.mktemp("alone") / "alone.safetensors"
    train_frozen(file, ALONE)
    return load_file(file)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "parts"), [(2, 2), (1, 3), pytest.param(3, 1, marks=pytest.mark.exhaustive)])
def test_ranks_and_parts_of_a_batch_end_with_the_weights_of_one_process(tmp_path, of_one_process, ranks, parts):
    file = tmp_path / "other.safetensors"
    if ranks == 1:
        train_frozen(file, ALONE, parts)
    else:
        on_ranks(ranks, "train", file, parts)
    other = load_file(file)
    for name, value in of_one_process.items():
        # sums in another order; a rank that saw other images would be off by 1e-4 and more
        torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-10, msg=f"{ranks}, {parts}: {name}")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_predictions_are_those_of_the_saved_weights(smallest_run, tmp_path, monkeypatch, ranks):
    """Each rank has batch-norm statistics of its own after the last step; one network is saved and evaluated."""
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    params = run.with_parameters(devices=ranks, batch_size=6, seg_batch_size=6, epochs=2)
    assert train(params, run.paths, "resnet34_ma", 1)
    assert not train(params, run.paths, "resnet34_ma", 1), "done is done"
    assert read_done(run.paths.classifier("resnet34_ma", 1))["device"].startswith(f"{ranks} × ")
    stored = read_table(run.paths.predictions("resnet34_ma", 1))
    model = load_classifier(params, run.paths, "resnet34_ma", 1)
    data = segmented_pairs(params, run.paths, read_manifest(run.paths), ["val", "test"])
    loader = evaluation_loader(data, params, ALONE, params.batch_size)
    rows, logits = evaluate(
        prepare(model, params, ALONE.device), loader, params, ALONE, lambda net, b: net(b[0], b[1])
    )
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy().round(6)
    manifest = read_manifest(run.paths)
    assert sorted(stored["image_id"]) == sorted(manifest.loc[manifest["split"].isin(["val", "test"]), "image_id"])
    assert len(rows) == len(stored)
    assert np.array_equal(stored.filter(like="p_").to_numpy(float), probabilities)
    if ranks == 2:  # killed after the last checkpoint, before anything is predicted
        written = run.paths.predictions("resnet34_ma", 1).read_bytes()
        folder = run.paths.classifier("resnet34_ma", 1)
        shutil.rmtree(folder)
        agent = start(torchrun_command(params, run.paths, "resnet34_ma", 1))
        deadline = time.monotonic() + 120
        while not list(checkpoints_of(folder).glob("epoch-0002.pt")):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        agent.kill()
        agent.communicate()
        assert train(params, run.paths, "resnet34_ma", 1), "there was something left to do"
        assert run.paths.predictions("resnet34_ma", 1).read_bytes() == written


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_nodes_do_what_two_devices_do(smallest_run, tmp_path, monkeypatch):
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    folder = run.paths.classifier("resnet34_ma", 1)
    params = run.with_parameters(devices=2)
    assert train(params, run.paths, "resnet34_ma", 1)
    together = load_file(weights_of(folder))
    shutil.rmtree(folder)
    params = run.with_parameters(devices=1, nodes=2)
    save_settings(params, run.paths)
    typed = (
        r"nodes: 2: run this on each machine, .*--nnodes=2 .*--rdzv-endpoint=HOST.*--rdzv-id=tiny-resnet34_ma-1"
    )
    with pytest.raises(UserError, match=typed):
        train(params, run.paths, "resnet34_ma", 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    command = torchrun_command(params, run.paths, "resnet34_ma", 1)
    command = [part.replace("HOST:29400", endpoint) for part in command]
    finish(start(command), start(command))
    assert not train(params, run.paths, "resnet34_ma", 1), "the notebook goes on where the nodes ended"
    apart = load_file(weights_of(folder))
    assert all(torch.equal(together[name], apart[name]) for name in together)
    assert read_done(folder)["device"].startswith("2 × ")
    assert not checkpoints_of(folder).exists()


@pytest.mark.slow
def test_a_rank_that_cannot_go_on_ends_all_with_its_reason_and_no_restart(smallest_run, tmp_path, monkeypatch):
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    params = run.with_parameters(devices=2, learning_rate=1e30, epochs=2)
    with pytest.raises(UserError, match=r"^epoch \d, step \d: the loss is (nan|inf) at learning rate 1e\+30"):
        train(params, run.paths, "resnet34", 1)


def test_sync_batchnorm_is_refused_where_there_is_no_gpu(smallest_run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    params = run.with_parameters(sync_batchnorm=True, accelerator="auto")
    with pytest.raises(UserError, match="sync_batchnorm: true works on GPUs only"):
        train(params, run.paths, "resnet34", 1)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed, "_gpu_name", lambda number: f"of this test {number}")
    monkeypatch.setattr(distributed.tempfile, "gettempdir", lambda: str(tmp_path))
    return torch.device("cuda", 0)


def test_runs_side_by_side_take_a_gpu_each_and_give_it_back(two_gpus, capsys):
    with own_gpu(two_gpus) as first:
        with own_gpu(two_gpus) as second:
            assert (first.index, second.index) == (0, 1)
            assert capsys.readouterr().out == ""
            with own_gpu(two_gpus) as third:
                assert third.index in (0, 1)
            assert "2 of 2 GPUs are at work for other training runs of yours; sharing" in capsys.readouterr().out
        with own_gpu(two_gpus) as again:
            assert again.index == 1


def test_runs_on_two_of_four_gpus_meet_nobody(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with own_gpus(2) as first, own_gpus(2) as second:
        assert (first, second) == ([0, 1], [2, 3])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,5,3,GPU-a")
        assert launch._visible(second) == {"CUDA_VISIBLE_DEVICES": "3,GPU-a"}
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert launch._visible(second) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert launch._visible([]) == {}


def test_a_claimed_gpu_is_the_same_one_under_another_number(two_gpus, monkeypatch):
    with own_gpu(two_gpus):
        monkeypatch.setattr(distributed, "_gpu_name", lambda number: f"of this test {1 - number}")  # as under 1,0
        with own_gpu(two_gpus) as other:
            assert other.index == 0, "number 0 is the card that is free"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_as_many_processes_as_the_parameters_say(smallest_run, tmp_path, monkeypatch):
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    params = run.with_parameters(devices=2)
    save_settings(params, run.paths)
    command = torchrun_command(params, run.paths, "resnet34", 1)
    command[command.index("--nproc-per-node=2")] = "--nproc-per-node=3"
    process = start(command)
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "error: torchrun: 3 processes, but nodes × devices is 1 × 2" in said


def test_gpus_that_are_hidden_do_not_count():
    code = "from manet_lib.workflow.machine import gpu_count; print(gpu_count())"
    hidden = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert hidden.stdout.strip() == "0"


@pytest.mark.parametrize(("capability", "expected"), [((6, 0), "fp32"), ((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_is_bf16_on_gpus_that_compute_it(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolved_precision("auto", torch.device("cuda", 0)) == expected
    assert resolved_precision("fp16", torch.device("cuda", 0)) == "fp16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", "bf16"),
        ("flags : amx_bf16 amx_tile", "bf16"),
        ("flags : avx2", "fp32"),
        ("Features\t: fp asimd bf16", "bf16"),
        ("Features\t: fp asimd", "fp32"),
        ("", "fp32"),
    ],
)
def test_auto_is_bf16_on_processors_that_compute_it(flags, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"model name\t: some\n{flags}\n{flags}\n")
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path / Path(name).name)
    assert resolved_precision("auto", torch.device("cpu")) == expected


def test_fp32_is_fp32_and_tf32_is_asked_for():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark
    try:
        for precision, allowed in (("tf32", True), ("bf16", False), ("fp32", False)):
            set_arithmetic(precision)
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before[:2]
        torch.backends.cudnn.benchmark = before[2]
