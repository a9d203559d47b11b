"""Checkpoints: atomic, checked, read without running code."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manet_lib.training.checkpoint import load_checkpoint, save_checkpoint

KEY = {"parameters": {"epochs": 3}, "inputs": {"store/images.npy": "ab"}, "code": {"manet_lib.models.vgg": "12"}}


def state(epoch, key=KEY):
    return {"key": json.dumps(key), "weight": torch.full((1000,), float(epoch))}


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, epoch, state(epoch))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002.pt", "epoch-0003.pt"]
    assert load_checkpoint(tmp_path, KEY)["weight"][0] == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, damage):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, epoch, state(epoch))
    newest = tmp_path / "epoch-0002.pt"
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        place = data.find(np.float32(2).tobytes() * 8) + 10
        data[place] ^= 0xFF
    newest.write_bytes({"truncate": bytes(data[: len(data) // 2]), "flip": bytes(data), "empty": b""}[damage])
    assert load_checkpoint(tmp_path, KEY)["weight"][0] == 1
    assert "checkpoint epoch-0002.pt: damaged" in capsys.readouterr().out


def test_a_checkpoint_of_other_parameters_is_passed_over_with_the_difference(tmp_path, capsys):
    save_checkpoint(tmp_path, 1, state(1))
    assert load_checkpoint(tmp_path, KEY | {"parameters": {"epochs": 5}}) is None
    assert "of another setting: epochs was 3 and is 5; starting anew" in capsys.readouterr().out
    assert load_checkpoint(tmp_path, KEY | {"inputs": {"store/images.npy": "cd"}}) is None
    assert "its input files have changed; starting anew" in capsys.readouterr().out
    newer = {"epochs": 3, "learning_rates": {}}  # a parameter that was added, at its default
    assert load_checkpoint(tmp_path, KEY | {"parameters": newer})["weight"][0] == 1
    newer["learning_rates"] = {"resnet34": 0.1}
    assert load_checkpoint(tmp_path, KEY | {"parameters": newer}) is None
    assert "learning_rates was {} and is {'resnet34': 0.1}" in capsys.readouterr().out


def test_a_checkpoint_of_older_code_is_passed_over_and_said_unless_it_is_to_be_kept(tmp_path, capsys):
    save_checkpoint(tmp_path, 1, state(1))
    newer = KEY | {"code": {"manet_lib.models.vgg": "34"}}
    assert load_checkpoint(tmp_path, newer) is None
    assert "written by an earlier version of manet_lib.models.vgg; starting anew" in capsys.readouterr().out
    assert load_checkpoint(tmp_path, newer, "keep")["weight"][0] == 1
    assert "an earlier version of manet_lib.models.vgg; going on" in capsys.readouterr().out


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["MANET_EVIL"]),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    trace = tmp_path / "ran"
    monkeypatch.setenv("MANET_EVIL", str(trace))
    save_checkpoint(tmp_path, 1, {"key": json.dumps(KEY), "weight": Evil()})  # with a digest that fits
    assert load_checkpoint(tmp_path, KEY) is None
    assert not trace.exists()


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_loads(tmp_path):
    save_checkpoint(tmp_path, 1, state(1))
    code = (
        "import sys, torch; from pathlib import Path; from manet_lib.params import UserError\n"
        "from manet_lib.training.checkpoint import save_checkpoint, save_weights\n"
        "folder = Path(sys.argv[1])\n"
        "for save in (lambda: save_checkpoint(folder, 2, {'weight': torch.rand(1_000_000)}),\n"
        "             lambda: save_weights(folder / 'w.safetensors', torch.nn.Linear(1000, 1000), {})):\n"
        "    try: save()\n"
        "    except UserError as error: print(error)\n"
    )
    limit = 1_000_000

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], preexec_fn=small_files, capture_output=True, text=True
    )
    first, second = result.stdout.splitlines()
    assert first.startswith("epoch-0002.pt: cannot be written"), result.stdout + result.stderr
    assert second.startswith("w.safetensors: cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001.pt"]
    assert load_checkpoint(tmp_path, KEY)["weight"][0] == 1
