"""Several processes do what one does: Gloo on this machine, torchrun as on a cluster."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from started import start

from manet_lib.artifacts import read_done, save_settings
from manet_lib.params import UserError
from manet_lib.paths import checkpoints_of, weights_of
from manet_lib.training import distributed
from manet_lib.training.launch import torchrun_command, train

RANKS = Path(__file__).with_name("ranks.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def finish(*processes, seconds=240):
    texts = [process.communicate(timeout=seconds)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(texts)[-3000:]
    return texts


def on_ranks(count, what, output, *more):
    finish(start([*TORCHRUN, "--standalone", f"--nproc-per-node={count}", RANKS, what, output, *more]))
    return output


@pytest.mark.slow
def test_the_papers_680_test_films_count_once_on_any_number_of_ranks(tmp_path):
    results = [np.load(on_ranks(count, "evaluate", tmp_path / f"{count}.npz")) for count in (1, 2, 3)]
    for result in results:
        assert result["rows"].tolist() == list(range(680))
        assert np.array_equal(result["scores"], results[0]["scores"])


@pytest.mark.slow
def test_ranks_and_parts_of_a_batch_end_with_the_weights_of_one_process(tmp_path):
    one = load_file(on_ranks(1, "train", tmp_path / "one.safetensors"))
    for ranks, parts in ((2, 1), (3, 1), (1, 3), (2, 2)):
        other = load_file(on_ranks(ranks, "train", tmp_path / f"{ranks}{parts}.safetensors", parts))
        for name, value in one.items():
            # sums in another order; a rank that saw other films would be off by 1e-4 and more
            torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-10, msg=f"{ranks}, {parts}: {name}")


@pytest.mark.slow
def test_two_nodes_do_what_two_devices_do(smallest_run, tmp_path, monkeypatch):
    run = smallest_run.copy_to(tmp_path, monkeypatch)
    folder = run.paths.classifier("resnet34_ma", 1)
    params = run.with_parameters(devices=2)
    assert train(params, run.paths, "resnet34_ma", 1)
    together = load_file(weights_of(folder))
    shutil.rmtree(folder)
    params = run.with_parameters(devices=1, nodes=2)
    save_settings(params, run.paths)
    with pytest.raises(UserError, match=r"nodes: 2: run on each of them, .*--nnodes=2 .*--rdzv-endpoint=HOST"):
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


def test_trainings_side_by_side_take_a_gpu_each(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed.tempfile, "gettempdir", lambda: str(tmp_path))
    distributed._free_gpu.cache_clear()
    try:
        assert distributed.pick_device("auto").index == 0
        assert distributed.pick_device("auto").index == 0, "one process keeps its GPU"
        code = (
            "import tempfile, torch; tempfile.tempdir = {!r}; torch.cuda.device_count = lambda: 2; "
            "from manet_lib.training.distributed import pick_device; print(pick_device('cuda').index)"
        )
        text = subprocess.run(
            [sys.executable, "-c", code.format(str(tmp_path))], capture_output=True, text=True, check=True
        )
        assert text.stdout.strip() == "1"
    finally:
        distributed._free_gpu.cache_clear()
