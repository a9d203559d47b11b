"""The README's command as typed, on a real Slurm of two nodes that starts and ends with this module."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import Run, executed

from manet_lib.paths import RunPaths, project_root

ROOT = project_root()
BIN = Path(sys.executable).parent
SMALL = {"image_size": 32, "cost_repeats": 0}
TRAINED = ("--until", "classification", "cost")
"""As far as there are jobs of every kind: training on several ranks, a light notebook, one alone on a node."""


def why_not():
    """Why no Slurm can be started here, or nothing."""
    places = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=places)]
    if missing:
        return f"{', '.join(missing)}: not installed (Debian: slurm-wlm and munge)"
    if os.geteuid():
        return "starting Slurm's daemons needs root"
    return "a Slurm is configured here" if Path("/etc/slurm/slurm.conf").exists() else ""


REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def cluster():
    command = [ROOT / "tests/slurm/with_slurm", "sh", "-c", "echo up; cat"]
    # closing its input ends `cat`, and the cluster with it, even if this process is killed
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        yield


class Call:
    """One call of snakemake with the Slurm profile; its grid is params/tiny.yaml with changes."""

    def __init__(self, output, profile, *arguments, hangup=signal.SIG_DFL, **changes):
        file = output / f"{profile}.yaml"
        values = yaml.safe_load((ROOT / "params/tiny.yaml").read_text())
        file.write_text(json.dumps(values | SMALL | changes | {"profile": profile}))  # JSON is YAML, too
        command = [BIN / "snakemake", "--profile", "params/slurm", "--config", f"params={file}", "gpus=4"]
        command += ["--slurm-init-seconds-before-status-checks", "6", *arguments]
        self.said = output / f"{profile}.out"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"MANET_OUTPUT": str(output), "PATH": f"{BIN}:{os.environ['PATH']}"},
                cwd=ROOT,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),  # whatever this process does about it
            )

    @property
    def text(self):
        return self.said.read_text()

    def ended(self):
        """Its exit code, when it has ended."""
        return self.process.wait(timeout=400)

    def logs(self, rule):
        """The logs of a rule's jobs that it named when it submitted them."""
        return [
            Path(log) for log in re.findall(rf"SLURM jobid \d+ \(log: (\S+/rule_{rule}/\S+\.log)\)", self.text)
        ]

    def job(self, rule):
        """What Slurm says of the last job of a rule: its requests, and where it ran."""
        number = self.logs(rule)[-1].stem
        said = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True)
        return dict(re.findall(r"(\S+?)=(\S*)", said.stdout))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def processes_of(folder):
    """Command lines of the processes that work on a run folder."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


def queued():
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("slurm")


def prepare(output, smallest_run, profile, *notebooks, **changes):
    """A run up to what some notebooks make, so that the cluster has only the rest to do."""
    paths = RunPaths(output / "runs" / profile, output / "figures" / profile)
    kept = (
        "phantoms",
        "store",
        "manifest",
        *(("segmentation", "raw_masks", "clean_masks") if notebooks[1:] else ()),
    )
    for folder in kept:
        shutil.copytree(smallest_run.paths.root / folder, paths.root / folder)
    params = Run(smallest_run.params, paths).with_parameters(profile=profile, **changes)
    executed(params, paths, *notebooks)


@pytest.fixture(scope="module")
def grids(cluster, output, smallest_run):
    """Two grids that were called at the same time from one checkout, and have ended."""
    line = ("01_data", "02_segmentation", "03_postprocessing")
    prepare(output, smallest_run, "ranks", *line, devices=2, cost_repeats=0)
    prepare(output, smallest_run, "nodes", "01_data", nodes=2)
    # in the way of a file of this name, so that one training of the two fails
    (output / "runs/ranks/classification/resnet34_ma-1/weights.safetensors").mkdir(parents=True)
    calls = {
        "ranks": Call(output, "ranks", *TRAINED, devices=2),
        "nodes": Call(output, "nodes", "--until", "segmentation", nodes=2),
    }
    for call in calls.values():
        call.ended()
    return calls


def test_two_ranks_train_on_one_node_and_a_training_that_fails_leaves_the_other(grids, output):
    call = grids["ranks"]
    assert call.process.returncode != 0
    trained = output / "runs/ranks/classification"
    assert "2 × " in (trained / "resnet34-1/done.json").read_text()
    assert not (trained / "resnet34_ma-1/done.json").exists()
    (log,) = [log for log in call.logs("classification") if "resnet34_ma" in str(log)]
    assert f"log: {log} (check log file(s) for error details)" in call.text
    assert "weights.safetensors: cannot be written" in log.read_text()
    job = call.job("classification")
    assert (job["NumNodes"], job["NumTasks"], job["NumCPUs"]) == ("1", "1", "8")
    assert call.job("cost")["NumCPUs"] == "64", "the whole node, as times are measured"


def test_a_training_on_two_nodes_starts_its_agents_itself(grids, output):
    call = grids["nodes"]
    assert call.process.returncode == 0, call.text[-3000:]
    assert "2 × " in (output / "runs/nodes/segmentation/done.json").read_text()
    job = call.job("segmentation")
    assert (job["NodeList"], job["NumTasks"], job["NumCPUs"]) == ("n[1-2]", "2", "16")
    assert "running srun --nodes=2" in call.logs("segmentation")[0].read_text()


def training(output):
    """A call whose training on two nodes has written a checkpoint, and goes on for long."""
    checkpoints = output / "runs/nodes/segmentation/checkpoints"
    before = set(checkpoints.glob("epoch-*.pt"))
    call = Call(output, "nodes", "--until", "segmentation", nodes=2, seg_epochs=5000)
    wait_for(lambda: set(checkpoints.glob("epoch-*.pt")) - before)
    return call


@pytest.fixture(scope="module")
def again(grids, output):
    """Beside each other: the grid that failed, with nothing in the way, and one whose job is cancelled."""
    (output / "runs/ranks/classification/resnet34_ma-1/weights.safetensors").rmdir()
    finished = Call(output, "ranks", *TRAINED, devices=2, hangup=signal.SIG_IGN)
    cancelled = training(output)
    subprocess.run(["scancel", cancelled.logs("segmentation")[0].stem], check=True)
    finished.process.send_signal(signal.SIGHUP)  # which it ignores, as under nohup
    for call in (finished, cancelled):
        call.ended()
    return finished, cancelled


def test_the_next_call_does_what_failed_and_what_comes_after_it(again, output):
    call = again[0]
    assert call.process.returncode == 0, call.text[-3000:]
    assert [log.parent.name for log in call.logs("classification")] == ["resnet34_ma_1"]
    assert "2 × " in (output / "runs/ranks/classification/resnet34_ma-1/done.json").read_text()
    assert call.logs("classification")[0].is_file(), "logs of what succeeded are kept"


def test_what_is_cancelled_leaves_no_process(again, output):
    call = again[1]
    assert call.process.returncode != 0
    assert "SLURM status is: 'CANCELLED'" in call.text
    assert not processes_of(output / "runs/nodes")


def test_gpus_are_requested_on_one_node_for_one_process(again, output):
    call = Call(output, "nodes", "--until", "segmentation", devices=4, accelerator="auto")
    wait_for(lambda: call.logs("segmentation"))
    log = call.logs("segmentation")[0]
    # the GPUs are pretended ones
    wait_for(
        lambda: (
            log.exists() and "devices: 4 with accelerator: auto, but GPUs on this machine: 0" in log.read_text()
        )
    )
    job = call.job("segmentation")
    call.process.terminate()
    assert (job["NumNodes"], job["NumTasks"], job["NumCPUs"]) == ("1", "1", "32")
    assert job["TresPerJob"] == "gres:gpu:4"
    assert call.ended() != 0


def test_a_lost_login_cancels_the_jobs_and_leaves_no_lock(again, output):
    call = training(output)
    call.process.send_signal(signal.SIGHUP)
    assert call.ended() != 0
    wait_for(lambda: not queued() and not processes_of(output / "runs/nodes"), 30)
    assert not list((ROOT / ".snakemake/locks").glob("*"))
