"""The benchmarks run and say what they measured; what they measure is for people to look at, never for a test."""

import importlib
import json
import os
import subprocess
import sys
import tarfile

import pandas as pd
import psutil
import pytest

from manet_lib.params import load_params
from manet_lib.paths import DEFAULT_PROFILE, params_file, project_root
from manet_lib.report.inference import SCORES
from manet_lib.studies.training_records import records_file
from manet_lib.training.classification import train_classifier
from manet_lib.workflow.steps import for_model

SMALL = {
    "mask_attention.py": ["--image-size", "64", "--batch-size", "2", "--repeats", "2", "--backbones", "resnet34"],
    "training.py": ["--image-size", "32", "--batch-size", "4", "--steps", "2", "--repeats", "2"],
    "checkpoint.py": ["--models", "resnet34", "--repeats", "1"],
    "prediction.py": ["--image-size", "64", "--file-size", "96", "--images", "10", "--repeats", "2"],
    "allocator.py": ["--networks", "resnet34", "--steps", "1", "--repeats", "1"],
    "data.py": ["--image-size", "64", "--images", "60", "--repeats", "2"],
}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("script", SMALL)
def test_benchmarks_write_what_they_measured(script, tmp_path):
    output = tmp_path / "result.json"
    command = [sys.executable, f"benchmarks/{script}", *SMALL[script], "--output", str(output)]
    environment = os.environ | {"MANET_CXR_DIR": str(tmp_path / "none"), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=project_root(), env=environment, check=True, capture_output=True, timeout=300)
    record = json.loads(output.read_text())
    assert record["device"]
    assert f"benchmarks/{script} --" in record["command"]


TINY = ["phantom_images=60", "phantom_size=64", "image_size=64", "seg_epochs=1", "epochs=1"]
TINY += ["batch_size=8", "seg_batch_size=8"]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_shortcuts_are_recorded_once_and_from_what_is_trained(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MANET_OUTPUT": str(tmp_path / "runs")}
    command = [sys.executable, "benchmarks/shortcuts.py", "--output", str(tmp_path), "--set", *TINY]
    for _ in range(2):
        call = [*command, "--views", "lungs", "background"]
        subprocess.run(call, cwd=project_root(), env=environment, check=True, capture_output=True, timeout=300)
    predictions = pd.read_csv(tmp_path / "views.csv")
    assert set(predictions["view"]) == {"lungs", "background"}
    assert not predictions.duplicated(["images", "view", "model", "trial", "image_id"]).any()
    assert predictions.groupby("view")["image_id"].nunique().nunique() == 1


@pytest.mark.slow
@pytest.mark.exhaustive
def test_end_to_end_is_recorded_once_for_each_way_and_seed(tmp_path):
    small = ["--seeds", "1", "--images", "32", "--tests", "10", "--epochs", "1", "--output", str(tmp_path)]
    command = [sys.executable, "benchmarks/end_to_end.py", *small]
    said = [
        subprocess.run(command, cwd=project_root(), check=True, capture_output=True, text=True, timeout=300).stdout
        for _ in range(2)
    ]
    assert said[0].count("seed 0") == 4
    assert said[1] == ""
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert runs["way"].tolist() == ["whole image", "two stages", "end to end", "classes alone"]
    assert runs["lungs"].nunique() == 1
    assert (runs["accuracy"] % 10 == 0).all()  # of ten images


def test_each_network_of_the_default_run_has_its_best_learning_rate():
    table = pd.read_csv(project_root() / "benchmarks/results/learning_rates.csv")
    accuracy = table.groupby(["model", "learning_rate"])["accuracy"].mean().unstack()
    params = load_params(params_file(DEFAULT_PROFILE))
    assert set(accuracy.index) == set(params.models)
    for model, best in accuracy.idxmax(axis=1).items():
        assert for_model(params, model).learning_rate == best


def test_recorded_results_name_device_and_command():
    files = sorted((project_root() / "benchmarks/results").glob("*.json"))
    assert files
    for file in files:
        record = json.loads(file.read_text())
        assert record["device"], file.name
        assert record["command"].startswith("python benchmarks/"), file.name


@pytest.mark.slow
@pytest.mark.exhaustive
def test_scores_of_out_of_distribution_images_are_those_of_scikit_learn(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    train_classifier(run.params, run.paths, "resnet34_ma", 1)
    sys.path.insert(0, str(project_root() / "benchmarks"))
    import out_of_distribution

    table = out_of_distribution.measured(run.paths.root, "resnet34_ma", None, "")
    assert set(table["score"]) == set(SCORES)
    assert {"noise", "photographs", "inverted"} <= set(table["kind"])
    assert table[["auroc", "false_alarms"]].stack().between(0, 1).all()
    photographs = table[table["kind"] == "photographs"].set_index("score")
    assert photographs.loc["Mahalanobis, stage 1", "auroc"] > 0.9
    assert (photographs["images"] == 5 * len(out_of_distribution.PHOTOGRAPHS)).all()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_what_a_gpu_is_to_measure_is_rehearsed_on_the_processor(tmp_path):
    environment = os.environ | {"MANET_OUTPUT": str(tmp_path / "runs"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--minutes", "4"]
    command += ["--study", "segmented_resnet50", "--output", str(tmp_path)]
    records = records_file("segmented_resnet50").read_bytes()
    subprocess.run(command, cwd=project_root(), env=environment, check=True, timeout=400)
    assert records_file("segmented_resnet50").read_bytes() == records
    found = json.loads((tmp_path / "gpu.json").read_text())
    parts = [name for name, value in found.items() if isinstance(value, dict)]
    assert parts == ["tests", "cost", "cost, compiled", "loop", "epochs", "study"]
    for name in ("tests", "cost", "loop", "epochs"):  # compiling takes longer than its share here
        assert found[name]["exit"] == "0", (name, found[name]["last_lines"])
    assert found["study"]["exit"] != "0"  # its time is over long before the first of its training runs ends
    seconds = json.loads((tmp_path / "gpu_epochs.json").read_text())["seconds_an_epoch"]
    assert seconds["resnet34_ma"] > 0
    assert json.loads((tmp_path / "gpu_loop.json").read_text())["speed_over_plain_loop"] > 0
    assert {row["model"] for row in json.loads((tmp_path / "gpu_cost.json").read_text())["results"]} == {
        "resnet34_ma",
        "resnet34_cbam",
    }


@pytest.mark.slow
def test_a_later_call_begins_with_a_part_and_keeps_what_is_recorded(tmp_path):
    file = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--output", str(tmp_path)]
    for study in ("first", "second"):
        call = [*command, "--first", "study", "--study", study]
        subprocess.run(call, cwd=project_root(), check=True, timeout=120)
        if study == "first":
            file.write_text(json.dumps(json.loads(file.read_text()) | {"tests": {"exit": "0"}}))
    found = json.loads(file.read_text())
    assert [name for name, value in found.items() if isinstance(value, dict)] == ["study", "tests"]
    assert "second" in found["study"]["last_lines"][-1]
    assert found["study"]["exit"] == "1"  # there is no such study


def test_radiographs_of_an_archive_are_where_the_parts_look_for_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    gpu = importlib.import_module("gpu")
    (tmp_path / "own.png").write_bytes(b"an image")
    with tarfile.open(tmp_path / "own.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "own.png", "shenzhen/own.png")
    seen = "import pathlib; from manet_lib.paths import sample_dir; print(*sorted(sample_dir().rglob('*.png')))"
    monkeypatch.setattr(
        gpu, "commands", lambda *_: {"tests": ["-c", "raise SystemExit(1)"], "study": ["-c", seen]}
    )
    gpu.main(["--device", "cpu", "--images", str(tmp_path / "own.tar.xz"), "--output", str(tmp_path)])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["tests"]["exit"] == "1"  # the next part is run all the same
    assert found["study"]["last_lines"][0].endswith("shenzhen/own.png")


def test_a_part_that_does_not_end_when_asked_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    script = tmp_path / "deaf.py"
    script.write_text(DEAF)
    found = gpu.run_part([str(script)], 3, dict(os.environ))
    assert found["exit"] == "ended when its time was over"
    numbers = [int(line) for line in found["last_lines"]]
    assert len(numbers) == 2
    known = [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]
    _, alive = psutil.wait_procs(known, timeout=5)
    assert all(one.status() == psutil.STATUS_ZOMBIE for one in alive)  # nobody has fetched its exit status


DEAF = """
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print(os.getpid(), flush=True)
time.sleep(600)
"""
