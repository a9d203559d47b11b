"""Papermill from anywhere, Snakemake twice, runs that are killed and notebooks without their inputs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import papermill
import psutil
import pytest
import torch
from conftest import write_images

from manet_lib.models import create_model
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.workflow.graph import stale
from manet_lib.workflow.steps import all_steps

ROOT = project_root()
BIN = Path(sys.executable).parent


def snakemake(output, *arguments, file="params/tiny.yaml", root=ROOT, **overrides):
    config = ["--config", f"params={file}", *(f"{key}={value}" for key, value in overrides.items())]
    command = [BIN / "snakemake", "--snakefile", root / "Snakefile", "--directory", output, "--cores", "2"]
    command += ["--nolock", *arguments, *config]
    environment = os.environ | {"MANET_OUTPUT": str(output), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def jobs(result):
    """How many times each rule ran (or would run)."""
    table = re.findall(r"^(\w+)\s+(\d+)$", result.stdout + result.stderr, flags=re.M)
    return {rule: int(count) for rule, count in table if rule not in ("job", "total", "all")}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A finished run on images of a user's own, from weights of their own: output, parameter file, images."""
    folder = tmp_path_factory.mktemp("mine")
    images = write_images(folder / "own", each=20, masked=12, labels=("healthy", "sick", "unsure"))
    listing = pd.read_csv(images / "index.csv")
    listing.loc[listing.index[-17:], "path"] = "unsure0.png"  # three are left of the third class: a rare one
    listing.drop_duplicates("path").to_csv(images / "index.csv", index=False)
    torch.save(create_model("resnet34").state_dict(), folder / "weights.pth")
    settings = {
        "profile": "mine",
        "data_source": "manifest",
        "data_dir": str(images),
        "classes": ["healthy", "sick", "unsure"],
        "image_size": 32,
        "seg_encoder": "resnet18",
        "seg_epochs": 1,
        "seg_batch_size": 8,
        "models": ["resnet34_ma"],
        "trials": 1,
        "epochs": 1,
        "batch_size": 8,
        "pretrained": str(folder / "weights.pth"),
        "accelerator": "cpu",
        "cost_repeats": 0,
    }
    file = folder / "mine.yaml"
    file.write_text(json.dumps(settings))  # JSON is YAML, too
    result = snakemake(folder / "out", file=file)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "out", file, images


@pytest.mark.slow
def test_a_folder_with_a_csv_of_other_classes_runs_the_whole_line(mine):
    figures = mine[0] / "figures/mine"
    assert (figures / "table1.md").read_text().splitlines()[2] == "| Set | healthy | sick | unsure | All |"
    assert "paper" not in (figures / "table2.csv").read_text()
    assert (figures / "figure9.png").stat().st_size > 2000


@contextmanager
def other_content(path, data):
    """A file with other content for a while, and then as it was, its time included."""
    state, before = path.stat(), path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def planned(mine, root=ROOT):
    output, file, _ = mine
    result = snakemake(output, "--dry-run", file=file, root=root)
    assert result.returncode == 0, result.stderr[-3000:]
    return set(jobs(result))


LATER_STEPS = {"classification", "attention", "results", "masks", "audit", "your_own_xray"}
LINE = {"data", "segmentation", "postprocessing", "reach"} | LATER_STEPS


RULES = {
    **{"01_data": "data", "02_segmentation": "segmentation", "03_postprocessing": "postprocessing"},
    **{"04_classification": "classification", "05_attention_maps": "attention", "06_results": "results"},
    **{"07_cost": "cost", "08_reach": "reach", "09_masks": "masks", "10_shortcut_audit": "audit"},
    "11_your_own_xray": "your_own_xray",
}


@pytest.mark.slow
def test_what_changes_in_somebodys_images_is_noticed(mine, monkeypatch):
    output, file, folder = mine
    assert planned(mine) == set()
    monkeypatch.setenv("MANET_OUTPUT", str(output))

    def to_run():  # what snakemake asks
        params = load_params(file)
        return {RULES[name.partition("-")[0]] for name, _ in stale(params, RunPaths.of(params.profile))}

    listing = folder / "index.csv"
    lines = listing.read_text().splitlines()
    assert to_run() == set()
    for text in (lines[:-5], [*lines[:-1], lines[-1].replace(",unsure,", ",sick,")]):
        with other_content(listing, "\n".join(text).encode()):
            assert to_run() == LINE
    for name in ("sick3.png", "mask_sick3.png"):
        with other_content(folder / name, (folder / name.replace("3", "4")).read_bytes()):
            assert to_run() == LINE
    weights = mine[1].with_name("weights.pth")
    with other_content(weights, weights.read_bytes() + b"x"):
        assert to_run() == planned(mine) == LATER_STEPS
    assert to_run() == set()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project that may be changed, in a folder with a blank and an apostrophe in its name."""
    copy = tmp_path_factory.mktemp("somebody's checkout of")
    for name in ("manet_lib", "notebooks", "params", "Snakefile", "Makefile", "pyproject.toml", "constraints.txt"):
        put = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        put(ROOT / name, copy / name)
    for recorded in ("benchmarks/results", "figures/recorded"):
        shutil.copytree(ROOT / recorded, copy / recorded)
    (copy / ".venv").symlink_to(BIN.parent)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after", "expected"),
    [
        ("notebooks/03_postprocessing.ipynb", "Post-processing", "Post-Processing", {"postprocessing"}),
        (
            "manet_lib/models/vgg.py",
            "in_channels != 3",
            "in_channels == 1",
            LINE - {"data", "segmentation", "postprocessing"} | {"cost"},
        ),
        ("manet_lib/data/postprocess.py", "1e-9", "1e-8", LINE - {"data", "segmentation"}),
        ("manet_lib/data/postprocess.py", "Fill the holes", "Fill all holes", set()),  # a docstring
    ],
)
def test_changed_code_redoes_what_runs_it(mine, checkout, file, before, after, expected):
    path = checkout / file
    text = path.read_text()
    assert before in text
    with other_content(path, text.replace(before, after).encode()):
        assert planned(mine, root=checkout) == expected


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_grid_that_grows_runs_the_new_nodes_only_and_one_that_fails_leaves_the_others(mine):
    output, file, _ = mine
    assert jobs(snakemake(output, "--dry-run", file=file, trials=3))["classification"] == 2
    broken = output / "runs/mine/classification/resnet34_ma-2"
    broken.joinpath("weights.safetensors").mkdir(parents=True)  # in the way of the file of this name
    result = snakemake(output, "--keep-going", "--until", "classification", file=file, trials=3)
    assert result.returncode != 0
    assert "weights.safetensors: cannot be written" in result.stdout + result.stderr
    assert not broken.joinpath("done.json").exists()
    assert broken.with_name("resnet34_ma-3").joinpath("done.json").exists()


def tree(process):
    return [process, *process.children(recursive=True)]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_that_was_killed_goes_on_wherever_it_lies(tmp_path, checkout):
    """Blanks and an apostrophe in paths, long names, everything killed at once: the same command ends the run."""
    tiny = (checkout / "params/tiny.yaml").read_text()
    smaller = tiny.replace("tiny", "my-run").replace("image_size: 64", "image_size: 32")
    (checkout / "params/my run.yaml").write_text(smaller)
    long = tmp_path / ("a temporary folder with a long name " * 3)
    long.mkdir()
    environment = os.environ | {"MANET_OUTPUT": str(tmp_path / "an output"), "TMPDIR": str(long)}
    environment |= {"PYTHONPATH": str(checkout)}
    command = [
        sys.executable,
        "-m",
        "manet_lib.workflow.reproduce",
        "params/my run.yaml",
        "--until",
        "postprocessing",
    ]
    first = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
    done = tmp_path / "an output/runs/my-run/store/done.json"
    deadline = time.monotonic() + 240
    while not done.is_file():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "my-run: another process is at work there" in refused.stdout + refused.stderr
    for process in tree(psutil.Process(first.pid)):
        process.kill()
    first.wait()
    made = done.stat().st_mtime_ns
    again = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, (again.stdout + again.stderr)[-3000:]
    assert done.stat().st_mtime_ns == made
    assert (tmp_path / "an output/figures/my-run/figure2.png").is_file()
    third = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert "Nothing to do" in third.stdout


@pytest.mark.slow
def test_a_notebook_that_is_terminated_leaves_neither_kernel_nor_sockets(tmp_path):
    with tempfile.TemporaryDirectory() as short:  # as the name of a socket has at most 107 bytes
        environment = os.environ | {"MANET_OUTPUT": str(tmp_path), "TMPDIR": short}
        command = [sys.executable, "-m", "manet_lib.workflow.execute", "01_data", "-f", "params/tiny.yaml"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list(Path(short).glob("manet-*/*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        assert not list(Path(short).glob("manet-*"))


@pytest.mark.slow
def test_runs_on_four_gpus_share_the_cores(tmp_path):
    result = snakemake(tmp_path, "--dry-run", "--cores", "8", file="params/paper.yaml", gpus=4, devices=1)
    rule = re.search(r"rule classification:.*?threads: (\d+)", result.stdout + result.stderr, flags=re.S)
    assert rule[1] == "2"
    assert re.search(r"rule cost:.*?threads: 8\s.*?gpu=1", result.stdout + result.stderr, flags=re.S)


@pytest.mark.slow
def test_slurm_gets_the_grid_with_its_gpus_and_no_task_for_each(tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    result = snakemake(tmp_path, "--profile", ROOT / "params/slurm", "--dry-run", file="params/paper.yaml", gpus=4)
    assert result.returncode == 0, result.stderr[-3000:]
    text = result.stdout + result.stderr
    assert jobs(result)["classification"] == 30
    runs = re.findall(r"rule classification:.*?resources: ([^\n]+)", text, flags=re.S)
    assert len(runs) == 30
    assert all("gpu=4" in one and " tasks=" not in one and "nodes=1" in one for one in runs)


def run_notebook(name, tmp_path, **parameters):
    return papermill.execute_notebook(
        str(ROOT / "notebooks" / f"{name}.ipynb"),
        str(tmp_path / f"{name}.ipynb"),
        parameters=parameters,
        cwd=str(tmp_path),
        progress_bar=False,
    )


def last_error(error):
    return f"{error.value.ename}: {error.value.evalue}"


def test_a_typo_ends_in_one_line_that_names_the_nearest_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook("01_data", tmp_path, profile="tiny", imge_size=64)
    assert "imge_size: 64 is not a known parameter; the nearest known key is 'image_size'" in last_error(error)
    assert "\n" not in error.value.evalue


NOTHING = "UserError: nothing is trained yet; run `make reproduce PARAMS=params/tiny.yaml`"
LATER = [
    path.stem
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if "need(" in path.read_text() and path.stem != "05_attention_maps"
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(LATER[0], marks=pytest.mark.exhaustive), "04_classification", LATER[-1]]
)
def test_a_notebook_without_its_inputs_shows_the_idea_and_stops_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook(name, tmp_path, profile="tiny")
    assert "not been run yet; run `make reproduce PARAMS=params/tiny.yaml`" in last_error(error)
    book = json.loads((tmp_path / f"{name}.ipynb").read_text())
    outputs = [output for cell in book["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    stopped = next(output for output in outputs if output["output_type"] == "error")
    assert len(stopped["traceback"]) == 1
    if name < "05":
        assert any("image/png" in output.get("data", {}) for output in outputs), "the small case needs no run"


@pytest.mark.slow
def test_a_notebook_shows_what_exists_of_a_run_that_is_under_way(tmp_path, monkeypatch, tiny_run):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook("05_attention_maps", tmp_path, profile="tiny")
    assert last_error(error) == NOTHING
    trained = json.dumps(run_notebook("04_classification", tmp_path, profile="tiny", model="resnet34"))
    assert "training resnet34, trial 1: done now" in trained
    text = json.dumps(run_notebook("06_results", tmp_path, profile="tiny"))
    assert "1 of 2 training runs done; run `make reproduce PARAMS=params/tiny.yaml` for the rest" in text
    assert "| ResNet34(MA) | \\u2013 |" in text
    assert (run.paths.figures / "table4.csv").is_file()


def test_results_of_nothing_show_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook("06_results", tmp_path, profile="tiny")
    assert last_error(error) == NOTHING
    assert "0 of 2 training runs done" in (tmp_path / "06_results.ipynb").read_text()


def test_code_is_followed_to_what_makes_a_result_and_no_further(paths):
    steps = {step.name: step.code() for step in all_steps(load_params(ROOT / "params/tiny.yaml"), paths)}
    for name in ("classification", "attention", "cost"):
        assert "manet_lib.models.mask_attention" in steps[name], name
    for name, code in steps.items():
        assert "manet_lib.workflow.steps" not in code
        assert ("manet_lib.data.dicom" in code) == (name in ("store", "mask_scores", "perturbed_masks")), name
        assert ("manet_lib.data.listing" in code) == (name in ("store", "mask_scores", "perturbed_masks")), name
