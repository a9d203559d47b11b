"""The road as people walk it: Papermill from anywhere, Snakemake twice, JupyterLab with its API."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import papermill
import psutil
import pytest
import torch
from conftest import write_films

from manet_lib.digests import sha256_of
from manet_lib.models import create_model
from manet_lib.params import READ_BY, Params, load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.report.provenance import provenance
from manet_lib.report.record import may_be_kept, record
from manet_lib.report.summary import beside_recorded, closing_lines
from manet_lib.steps import all_steps, grid
from manet_lib.workflow import STEPS_OWN, stale

ROOT = project_root()
BIN = Path(sys.executable).parent


def snakemake(output, *arguments, file="params/tiny.yaml", root=ROOT, **overrides):
    config = ["--config", f"params={file}", *(f"{key}={value}" for key, value in overrides.items())]
    command = [BIN / "snakemake", "--snakefile", root / "Snakefile", "--directory", output, "--cores", "2"]
    command += ["--rerun-triggers", "mtime", "--nolock", *arguments, *config]
    environment = os.environ | {"MANET_OUTPUT": str(output), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(root)}
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
    for name in (
        "table1",
        "table2",
        "table3",
        "table3_time",
        "table4",
        "table5",
        "segmentation_iou",
        "attention",
        "paired",
        "claims",
        "class_scores",
        "calibration",
        "table5_trials",
        "power",
        "attention_pairs",
        "attention_controls",
        "attention_sanity",
        "faithfulness",
        "shortcut_probe",
        "mask_scores",
        "postprocessing",
        "other_masks",
    ):
        assert all((figures / f"{name}.{ending}").stat().st_size > 30 for ending in ("csv", "md", "tex")), name
    for name in (
        *(f"figure{number}" for number in range(1, 11)),
        "overview",
        "reach",
        "reach_accuracy",
        "roc",
        "reliability",
        "sanity",
        "other_masks",
    ):
        assert all((figures / f"{name}.{ending}").stat().st_size > 2000 for ending in ("png", "pdf", "svg")), name
    assert "drawn phantoms, not comparable" in (figures / "table2.md").read_text()


@pytest.mark.slow
def test_a_second_call_does_nothing(finished):
    result = snakemake(finished)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


SHOW_FILMS = ("figure1", "figure2", "figure3", "figure8", "figure9", "overview", "other_masks_films", "mask_maps")


@pytest.mark.slow
def test_a_run_that_is_recorded_agrees_with_itself(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(finished))
    monkeypatch.setattr(RunPaths, "recorded", property(lambda self: tmp_path / "recorded"))
    params, paths = load_params(ROOT / "params/tiny.yaml"), RunPaths.of("tiny")
    found = provenance(params, paths)
    assert found["run"]["command"] == "make reproduce PARAMS=params/tiny.yaml"
    assert found["run"]["films"] == sha256_of(paths.store / "images.npy")[:16]
    assert {
        name: entry["status"] for name, entry in found.items() if name in ("figure9", "table3", "figure5")
    } == {
        "figure9": "phantoms only",
        "table3": "reproduced",
        "figure5": "reproduced",
    }
    assert all(entry["status"] != "not run" for name, entry in found.items() if name != "run")
    trained = [json.loads((paths.classifier(*pair) / "done.json").read_text())["seconds"] for pair in grid(params)]
    assert found["figure10"]["seconds"] >= sum(trained)
    assert provenance(params.model_copy(update={"seed": 1}), paths)["table2"].get("seconds") is None

    assert "nothing to compare with" in beside_recorded(params, paths).said
    record(params, paths)
    assert (tmp_path / "recorded" / "figure9.png").read_bytes() == (paths.figures / "figure9.png").read_bytes()
    assert not any(may_be_kept(name, params.model_copy(update={"data_source": "manifest"})) for name in SHOW_FILMS)
    content = json.loads((tmp_path / "recorded" / "record.json").read_text())
    assert content["made"]["command"] == "make reproduce PARAMS=params/tiny.yaml"
    assert (
        content["facts"]["films for test, by class"]
        == pd.read_csv(tmp_path / "recorded" / "table1.csv").iloc[2, 1:-1].tolist()
    )
    assert len([name for name in content["facts"] if name.startswith("Table 3")]) == 10
    beside = beside_recorded(params, paths)
    assert "This run agrees with the recorded one" in beside.said
    assert beside.numbers["Difference"].tolist() == ["+0.00"] * len(content["measured"])
    lines = list(closing_lines(params, paths))
    assert len(lines) <= 10
    named = [word.rstrip(";,") for word in lines[-1].split() if word.rstrip(";,").endswith(".png")]
    assert named
    assert all((finished / name).is_file() for name in named)

    other = params.model_copy(update={"epochs": 2, "num_workers": 1})
    assert "another epochs" in beside_recorded(other, paths).said
    broken = content["facts"] | {"epochs of ResNet34, trial 1": 7}
    (tmp_path / "recorded" / "record.json").write_text(json.dumps(content | {"facts": broken}))
    said = beside_recorded(params, paths).said
    assert "does NOT agree" in said
    assert "epochs of ResNet34, trial 1" in said


# Which notebooks show the result of each step; a notebook of a step that is done again is executed again.
SHOWN_BY = {
    "store": {"01_data", "10_shortcut_audit", "11_your_own_xray"},
    "manifest": {"01_data", "10_shortcut_audit", "11_your_own_xray"},
    "segmentation": {"02_segmentation", "11_your_own_xray"},
    "raw_masks": {"02_segmentation"},
    "clean_masks": {"03_postprocessing", "08_reach", "09_masks", "10_shortcut_audit", "11_your_own_xray"},
    "classification": {"04_classification-resnet34-1", "04_classification-resnet34_ma-1", "09_masks"}
    | {"10_shortcut_audit", "11_your_own_xray"},
    "attention": {"05_attention_maps"},
    "mask_scores": {"09_masks"},
    "other_masks": {"09_masks"},
    "probes": {"05_attention_maps"},
    "cost": {"07_cost", "06_results"},
}
ORDER = ("store", "manifest", "segmentation", "raw_masks", "clean_masks", "classification", "attention")
NO_EFFECT = {"profile", "accelerator", "num_workers", "threads", "download", "mirror", "restarts"} | {
    *("timeout_minutes", "checkpoint_minutes", "old_code")
}


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, value[0]] if value else ["whole"]
    return f"{value}x" if isinstance(value, str) else value + 1


@pytest.mark.slow
def test_every_key_redoes_what_depends_on_it_and_nothing_else(finished, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(finished))
    params = load_params(ROOT / "params/tiny.yaml")
    paths = RunPaths.of("tiny")
    assert dict(stale(params, paths)) == {}
    for key in Params.model_fields:
        changed = params.model_copy(update={key: other(getattr(params, key))})
        found = {name for name, _ in stale(changed, paths)}
        first = next((step for step in ORDER if key in READ_BY[step]), None)
        expected = set()
        if key not in NO_EFFECT:
            after = ORDER[ORDER.index(first) :] if first else ()
            expected = set().union(*(SHOWN_BY[step] for step in after)) | ({"06_results"} if after else set())
            for step in ("cost", "probes", "mask_scores", "other_masks"):
                expected |= SHOWN_BY[step] if key in READ_BY[step] else set()
        if key == "threads":  # running times depend on them, results do not
            expected = SHOWN_BY["cost"]
        if key == "count_include_pad":
            expected |= {"08_reach"}
        if key == "figure_dpi":
            expected = set().union(*SHOWN_BY.values()) | {"06_results"}
        if key == "trials":  # one more training of each
            expected |= {"10_shortcut_audit", "11_your_own_xray"}
        if key == "audit_views":
            expected = {"10_shortcut_audit"}
        if key == "published":
            expected = {"01_data", "02_segmentation", "06_results", "07_cost"}
        assert {name for name in found if not name.endswith(("34-2", "_ma-2"))} == expected, key


@pytest.mark.slow
def test_a_changed_parameter_redoes_the_steps_that_read_it_and_no_others(finished):
    runs = finished / "runs/tiny"
    steps = ("segmentation", "clean_masks", "classification/resnet34-1", "classification/resnet34_ma-1", "cost")
    done = {name: runs / name / "done.json" for name in steps}

    def times():
        return {name: path.stat().st_mtime_ns for name, path in done.items()}

    before = times()
    result = snakemake(finished, figure_dpi=50, learning_rate=0.001)
    assert result.returncode == 0, result.stderr[-3000:]
    changed = {name for name, time in times().items() if time != before[name]}
    assert changed == {name for name in steps if name.startswith("classification")}, "a parameter of stage 2"


@pytest.mark.slow
def test_a_grid_that_grows_runs_the_new_nodes_only_and_one_that_fails_leaves_the_others(finished):
    settings = {"figure_dpi": 50, "learning_rate": 0.001, "trials": 2}
    assert jobs(snakemake(finished, "--dry-run", **settings))["classification"] == 2
    broken = finished / "runs/tiny/classification/resnet34-2"
    broken.parent.joinpath("resnet34-2").mkdir()
    broken.joinpath("weights.safetensors").mkdir()  # in the way of the file of this name
    result = snakemake(finished, "--keep-going", **settings)
    assert result.returncode != 0
    assert "weights.safetensors: cannot be written" in result.stdout + result.stderr
    assert not broken.joinpath("done.json").exists()
    assert broken.with_name("resnet34_ma-2").joinpath("done.json").exists()


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A finished run on somebody's own films, from weights of their own: output folder, parameter file, films."""
    folder = tmp_path_factory.mktemp("mine")
    films = write_films(folder / "own", each=20, masked=12, labels=("healthy", "sick", "unsure"))
    listing = pd.read_csv(films / "index.csv")
    listing.loc[listing.index[-17:], "path"] = "unsure0.png"  # three are left of the third class: a rare one
    listing.drop_duplicates("path").to_csv(films / "index.csv", index=False)
    torch.save(create_model("resnet34").state_dict(), folder / "weights.pth")
    settings = {
        "profile": "mine",
        "data_source": "manifest",
        "data_dir": str(films),
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
    return folder / "out", file, films


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


LATER_STEPS = {"classification", "attention", "results", "masks", "audit", "own_films"}
LINE = {"data", "segmentation", "postprocessing", "reach"} | LATER_STEPS


@pytest.mark.slow
def test_what_changes_in_somebodys_films_is_noticed(mine):
    folder = mine[2]
    listing = folder / "index.csv"
    lines = listing.read_text().splitlines()
    assert planned(mine) == set()
    for text in (lines[:-5], [*lines[:-1], lines[-1].replace(",unsure,", ",sick,")]):
        with other_content(listing, "\n".join(text).encode()):
            assert planned(mine) == LINE
    for name in ("sick3.png", "mask_sick3.png"):
        with other_content(folder / name, (folder / name.replace("3", "4")).read_bytes()):
            assert planned(mine) == LINE
    weights = mine[1].with_name("weights.pth")
    with other_content(weights, weights.read_bytes() + b"x"):
        assert planned(mine) == LATER_STEPS
    assert planned(mine) == set()


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
            LINE - {"data"} | {"cost"},  # 02 and 03 draw Figs. 2 and 4 with a module that knows all networks
        ),
        ("manet_lib/postprocess.py", "1e-9", "1e-8", LINE - {"data", "segmentation"}),
        ("manet_lib/postprocess.py", "Fill the holes", "Fill all holes", set()),
        ("manet_lib/artifacts.py", "is the disk full", "is your disk full", set()),
    ],
)
def test_changed_code_redoes_what_runs_it(mine, checkout, file, before, after, expected):
    path = checkout / file
    text = path.read_text()
    assert before in text or expected == set()
    with other_content(path, text.replace(before, after).encode()):
        assert planned(mine, root=checkout) == expected


def tree(process):
    return [process, *process.children(recursive=True)]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_wherever_it_lies(tmp_path, checkout):
    """Blanks and an apostrophe in paths, long names, everything killed at once: the same command ends the run."""
    tiny = (checkout / "params/tiny.yaml").read_text()
    smaller = tiny.replace("tiny", "my-run").replace("image_size: 64", "image_size: 32")
    (checkout / "params/my run.yaml").write_text(smaller)
    long = tmp_path / ("a temporary folder with a long name " * 3)
    long.mkdir()
    environment = os.environ | {"MANET_OUTPUT": str(tmp_path / "an output"), "TMPDIR": str(long)}
    environment |= {"PYTHONPATH": str(checkout)}
    command = ["make", "-o", ".venv/installed", "reproduce", "PARAMS=params/my run.yaml"]
    first = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
    done = tmp_path / "an output/runs/my-run/segmentation/done.json"
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
    assert (tmp_path / "an output/figures/my-run/table2.md").is_file()


@pytest.mark.slow
def test_trainings_on_four_gpus_share_the_cores(tmp_path):
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


NOTHING = "UserError: nothing is trained yet; run `make reproduce PARAMS=params/tiny.yaml`"
LATER = [
    path.stem
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if "need(" in path.read_text() and path.stem != "05_attention_maps"
]


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
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
    assert "1 of 2 trainings done; run `make reproduce PARAMS=params/tiny.yaml` for the rest" in text
    assert "| ResNet34(MA) | \\u2013 |" in text
    assert (run.paths.figures / "table4.csv").is_file()


def test_results_of_nothing_show_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run_notebook("06_results", tmp_path, profile="tiny")
    assert last_error(error) == NOTHING
    assert "0 of 2 trainings done" in (tmp_path / "06_results.ipynb").read_text()


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
        book = json.loads(wait_for(f"{base}/api/contents/notebooks/01_data.ipynb?token={token}"))["content"]
        kernel = json.loads(post(f"{base}/api/kernels?token={token}", {"name": "python3"}))
        cells = [cell["source"] for cell in book["cells"] if cell["cell_type"] == "code"]
        outputs = execute(base, kernel["id"], token, cells + cells)  # all cells, and once more
        assert [outputs.count(f"reading the films: {said}") for said in ("done now", "was done already")] == [1, 1]
    finally:
        server.terminate()
        server.wait(30)  # else an error says that it did not end


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


def test_the_modules_of_all_steps_are_known(paths):
    steps = all_steps(load_params(ROOT / "params/tiny.yaml"), paths)
    assert {module for step in steps for module in step.modules} == STEPS_OWN


def test_code_is_followed_to_what_makes_a_result_and_no_further(paths):
    steps = {step.name: step.code() for step in all_steps(load_params(ROOT / "params/tiny.yaml"), paths)}
    for name in ("classification", "attention", "cost"):
        assert "manet_lib.models.mask_attention" in steps[name], name
    for name, code in steps.items():
        assert "manet_lib.steps" not in code
        assert ("manet_lib.data.dicom" in code) == (name in ("store", "mask_scores", "other_masks")), name
        assert ("manet_lib.listing" in code) == (name in ("store", "mask_scores", "other_masks")), name
