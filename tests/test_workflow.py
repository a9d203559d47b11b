"""The road as people walk it: Papermill from anywhere, Snakemake twice, JupyterLab with its API."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import papermill
import pytest

from manet_lib.paths import project_root

ROOT = project_root()
BIN = Path(sys.executable).parent


def snakemake(output, *arguments, file="params/tiny.yaml", **overrides):
    config = ["--config", f"params={file}", *(f"{key}={value}" for key, value in overrides.items())]
    command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", output, "--cores", "2"]
    command += ["--rerun-triggers", "mtime", "--nolock", *arguments, *config]
    environment = os.environ | {"MANET_OUTPUT": str(output), "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def jobs(result):
    """How many times each rule ran (or would run)."""
    table = re.findall(r"^(\w+)\s+(\d+)$", result.stdout + result.stderr, flags=re.M)
    return {rule: int(count) for rule, count in table if rule not in ("job", "total", "all")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("workflow")
    result = snakemake(output)
    assert result.returncode == 0, result.stderr[-3000:]
    return output


@pytest.mark.slow
def test_one_command_makes_every_table_and_figure(finished):
    figures = finished / "figures" / "tiny"
    for name in ("table1", "table2", "table3", "table3_time", "table4", "table5", "segmentation_iou", "attention"):
        assert all((figures / f"{name}.{ending}").stat().st_size > 30 for ending in ("csv", "md", "tex")), name
    for name in ("figure1", "figure3", "figure8", "figure9", "figure10"):
        assert all((figures / f"{name}.{ending}").stat().st_size > 2000 for ending in ("png", "pdf")), name
    assert "drawn phantoms, not comparable" in (figures / "table2.md").read_text()


@pytest.mark.slow
def test_a_second_call_does_nothing(finished):
    result = snakemake(finished)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.slow
def test_a_changed_parameter_redoes_the_steps_that_read_it_and_no_others(finished):
    runs = finished / "runs/tiny"
    steps = ("segmentation", "clean_masks", "classification/resnet34-1", "classification/resnet34_ma-1", "cost")
    done = {name: runs / name / "done.json" for name in steps}

    def times():
        return {name: path.stat().st_mtime_ns for name, path in done.items()}

    before = times()
    assert snakemake(finished, figure_dpi=50).returncode == 0
    assert times() == before, "a figure's parameter"
    planned = snakemake(finished, "--dry-run", figure_dpi=50, min_object_fraction=0.02)
    assert set(jobs(planned)) == {"postprocessing", "classification", "attention", "results", "cost"}
    result = snakemake(finished, figure_dpi=50, learning_rate=0.001)
    assert result.returncode == 0, result.stderr[-3000:]
    changed = {name for name, time in times().items() if time != before[name]}
    assert changed == {name for name in steps if name.startswith("classification")}, "a parameter of stage 2"


@pytest.mark.slow
def test_a_grid_that_grows_runs_the_new_nodes_only_and_one_that_fails_leaves_the_others(finished):
    settings = {"figure_dpi": 50, "learning_rate": 0.001, "trials": 2}
    planned = snakemake(finished, "--dry-run", **settings)
    assert jobs(planned)["classification"] == 2
    broken = finished / "runs/tiny/classification/resnet34-2"
    broken.parent.joinpath("resnet34-2").mkdir()
    broken.joinpath("weights.safetensors").mkdir()  # in the way of the file of this name
    result = snakemake(finished, "--keep-going", **settings)
    assert result.returncode != 0
    assert "weights.safetensors: cannot be written" in result.stdout + result.stderr
    assert not broken.joinpath("done.json").exists()
    assert broken.with_name("resnet34_ma-2").joinpath("done.json").exists()


@pytest.mark.slow
def test_a_folder_with_a_csv_of_other_classes_runs_the_whole_line(own_films, tmp_path):
    mine = tmp_path / "mine.yaml"
    settings = {
        "profile": "mine",
        "data_source": "manifest",
        "data_dir": str(own_films(each=20, masked=12, labels=("healthy", "sick", "unsure"))),
        "classes": ["healthy", "sick", "unsure"],
        "image_size": 32,
        "seg_encoder": "resnet18",
        "seg_epochs": 1,
        "seg_batch_size": 8,
        "models": ["resnet34_ma"],
        "trials": 1,
        "epochs": 1,
        "batch_size": 8,
        "accelerator": "cpu",
        "cost_repeats": 0,
    }
    mine.write_text(json.dumps(settings))  # JSON is YAML, too
    result = snakemake(tmp_path / "out", file=mine)
    assert result.returncode == 0, result.stderr[-3000:]
    figures = tmp_path / "out/figures/mine"
    assert (figures / "table1.md").read_text().splitlines()[2] == "| Set | healthy | sick | unsure | All |"
    assert "paper" not in (figures / "table2.csv").read_text()
    assert (figures / "figure9.png").stat().st_size > 2000


@pytest.mark.slow
def test_slurm_gets_the_grid_with_its_gpus_and_no_task_for_each(tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    result = snakemake(tmp_path, "--profile", ROOT / "params/slurm", "--dry-run", file="params/paper.yaml", gpus=4)
    assert result.returncode == 0, result.stderr[-3000:]
    text = result.stdout + result.stderr
    assert jobs(result)["classification"] == 30
    trainings = re.findall(r"rule classification:.*?resources: ([^\n]+)", text, flags=re.S)
    assert len(trainings) == 30
    assert all("gpu=4" in one and " tasks=" not in one and "nodes=1" in one for one in trainings)


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


LATER = [path.stem for path in sorted((ROOT / "notebooks").glob("0[2-6]*.ipynb"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_a_notebook_without_its_inputs_runs_and_names_the_command(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    text = json.dumps(run_notebook(name, tmp_path, profile="tiny"))
    assert "run `make reproduce" in text


@pytest.mark.slow
def test_a_notebook_shows_what_exists_of_a_run_that_is_under_way(tmp_path, monkeypatch, tiny_run):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    assert "2 missing; run `make reproduce PARAMS=params/tiny.yaml`" in json.dumps(
        run_notebook("05_attention_maps", tmp_path, profile="tiny")
    )
    trained = json.dumps(run_notebook("04_classification", tmp_path, profile="tiny", model="resnet34"))
    assert "training resnet34, trial 1: done now" in trained
    text = json.dumps(run_notebook("06_results", tmp_path, profile="tiny"))
    assert "1 of 2 trainings done; run `make reproduce PARAMS=params/tiny.yaml` for the rest" in text
    assert "| ResNet34(MA) | \\u2013 |" in text
    assert (run.paths.figures / "table4.csv").is_file()


def test_results_of_nothing_show_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    text = json.dumps(run_notebook("06_results", tmp_path, profile="tiny"))
    assert "0 of 2 trainings done; run `make reproduce PARAMS=params/tiny.yaml` for the rest" in text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_jupyterlab_starts_and_executes_a_notebook_through_its_api(tmp_path):
    port, token = free_port(), "a-token-for-this-test"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
    ]
    command += [f"--IdentityProvider.token={token}", f"--notebook-dir={ROOT}"]
    environment = os.environ | {"MANET_OUTPUT": str(tmp_path), "MANET_PROFILE": "tiny"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        assert "JupyterLab" in wait_for(f"{base}/lab?token={token}")
        book = json.loads(wait_for(f"{base}/api/contents/notebooks/06_results.ipynb?token={token}"))["content"]
        kernel = json.loads(post(f"{base}/api/kernels?token={token}", {"name": "python3"}))
        cells = [cell["source"] for cell in book["cells"] if cell["cell_type"] == "code"]
        outputs = execute(base, kernel["id"], token, cells + cells)  # all cells, and once more
        assert outputs.count("0 of 2 trainings done") == 2
    finally:
        server.terminate()
        assert server.wait(30) is not None


def wait_for(url, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def post(url, value):
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


def execute(base, kernel, token, sources):
    import websocket

    channel = websocket.create_connection(
        f"{base.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={token}", timeout=120
    )
    text = ""
    for number, source in enumerate(sources):
        message = {
            "header": {
                "msg_id": str(number),
                "msg_type": "execute_request",
                "version": "5.3",
                "session": "s",
                "username": "",
            },
            "parent_header": {},
            "metadata": {},
            "content": {"code": "".join(source), "silent": False},
            "channel": "shell",
        }
        channel.send(json.dumps(message))
        while True:
            answer = json.loads(channel.recv())
            text += json.dumps(answer["content"])
            if answer["msg_type"] == "execute_reply":
                assert answer["content"]["status"] == "ok", answer["content"]
                break
    channel.close()
    return text
