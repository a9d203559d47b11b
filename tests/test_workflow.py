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


def snakemake(output, *arguments, **overrides):
    config = ["--config", "params=params/tiny.yaml", *(f"{key}={value}" for key, value in overrides.items())]
    command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", output, "--cores", "2"]
    command += ["--rerun-triggers", "mtime", "params", *arguments, *config]
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
def test_a_figure_parameter_retrains_nothing_and_a_mask_parameter_only_what_follows(finished):
    trained = finished / "runs/tiny/classification/resnet34-1/done.json"
    segmented = finished / "runs/tiny/segmentation/done.json"
    before = trained.stat().st_mtime_ns, segmented.stat().st_mtime_ns
    assert snakemake(finished, figure_dpi=50).returncode == 0
    assert (trained.stat().st_mtime_ns, segmented.stat().st_mtime_ns) == before
    planned = snakemake(finished, "--dry-run", figure_dpi=50, min_object_fraction=0.02)
    assert set(jobs(planned)) == {"postprocessing", "classification", "attention", "results", "cost"}


@pytest.mark.slow
def test_a_grid_that_grows_runs_the_new_nodes_only(finished):
    planned = snakemake(finished, "--dry-run", figure_dpi=50, trials=2)
    assert jobs(planned)["classification"] == 2


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


def test_a_notebook_without_its_inputs_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook("03_postprocessing", tmp_path, profile="tiny")
    assert "make reproduce" in last_error(error)


def test_results_of_nothing_show_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    book = run_notebook("06_results", tmp_path, profile="tiny")
    text = json.dumps(book)
    assert "0 of 2 trainings done; run `make reproduce` for the rest" in text


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
        outputs = execute(
            base, kernel["id"], token, [c["source"] for c in book["cells"] if c["cell_type"] == "code"][:2]
        )
        assert "0 of 2 trainings done" in outputs
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
