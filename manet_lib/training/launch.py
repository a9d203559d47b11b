"""Starting a training run: in this process with one device, under torchrun with more.

The command that is run for several devices is what a user types on a cluster, too. Processes that die are started
again by torchrun and go on from the last checkpoint; an error that a restart would repeat ends them all.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from manet_lib.params import MODELS, Params, UserError, load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.training.classification import train_classifier
from manet_lib.training.distributed import own_gpus, pick_device, under_torchrun
from manet_lib.training.segmentation import train_segmenter
from manet_lib.workflow.processes import die_with_parent
from manet_lib.workflow.records import save_settings
from manet_lib.workflow.steps import classification_step, segmentation_step

_TAIL = 30


def torchrun_command(
    params: Params, paths: RunPaths, model: str = "", trial: int = 0, endpoint: str = "HOST:29400"
) -> list[str]:
    """The command line that trains on ``params.devices`` processes of each of ``params.nodes`` machines.

    Args:
        params: of the run.
        paths: of the run; its ``settings.yaml`` is read by the processes.
        model: classifier of stage 2, or nothing for stage 1.
        trial: of the classifier.
        endpoint: where the agents of several machines meet; they have a name in common that no other training has.
    """
    where = ["--standalone"]
    if params.nodes > 1:
        name = "-".join([params.profile, *([model, str(trial)] if model else ["segmentation"])])
        where = [f"--nnodes={params.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"]
        where += [f"--rdzv-id={name}"]
    command = [sys.executable, "-u", "-m", "torch.distributed.run", *where]
    if params.nodes > 1:  # a new store at a new port for every meeting, see training.distributed.joined
        command = ["env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1", *command]
    command += [f"--nproc-per-node={params.devices}", f"--max-restarts={params.restarts}"]
    command += ["-m", "manet_lib.training.launch", str(paths.settings)]
    shown = ["--view", paths.audit_view] if paths.audit_view else []
    return command + (["--model", model, "--trial", str(trial), *shown] if model else [])


def srun_command(params: Params) -> list[str]:
    """What starts a command once on every machine of the Slurm job that this process is part of."""
    # --overlap: the step that this process may be part of holds what the agents are to use
    one_each = [f"--nodes={params.nodes}", f"--ntasks={params.nodes}", "--ntasks-per-node=1"]
    return ["srun", *one_each, "--overlap", "--kill-on-bad-exit=1"]


def _free_endpoint() -> str:
    """A port of this machine, the first of the Slurm job, at which nobody else meets."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{socket.gethostname()}:{probe.getsockname()[1]}"


def train(params: Params, paths: RunPaths, model: str = "", trial: int = 0) -> bool:
    """Train stage 1, or one model of stage 2 in one trial, on as many devices as the parameters say.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the machine lacks the devices, several machines are asked for, or the training failed.
    """
    if params.devices == params.nodes == 1:
        return train_classifier(params, paths, model, trial) if model else train_segmenter(params, paths)
    step = classification_step(params, paths, model, trial) if model else segmentation_step(params, paths)
    if step.is_done():
        return False
    device = pick_device(params.accelerator, params.devices)
    save_settings(params, paths)
    in_slurm = params.nodes > 1 and "SLURM_JOB_ID" in os.environ
    endpoint = _free_endpoint() if in_slurm else "HOST:29400"
    command = torchrun_command(params, paths, model, trial, endpoint)
    command = srun_command(params) + command if in_slurm else command
    typed = shlex.join(command).replace(f"{Path(sys.executable).parent}/", "").replace(f"{project_root()}/", "")
    if params.nodes > 1 and not in_slurm:
        raise UserError(
            f"nodes: {params.nodes}: run this on each machine, with one of them as HOST, then call again: {typed}"
        )
    print("running", typed, flush=True)
    with ExitStack() as held:
        alone = device.type == "cuda" and params.nodes == 1
        _run(command, _visible(held.enter_context(own_gpus(params.devices)) if alone else []))
    return True


def _visible(gpus: list[int]) -> dict[str, str]:
    """What shows a process these GPUs alone, numbered as this process sees them."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if "CUDA_VISIBLE_DEVICES" in os.environ else []
    return {"CUDA_VISIBLE_DEVICES": ",".join(shown[gpu] if shown else str(gpu) for gpu in gpus)} if gpus else {}


def _run(command: list[str], more: dict[str, str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")} | more
    tail: deque[str] = deque(maxlen=_TAIL)
    reasons: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=project_root(),
        preexec_fn=die_with_parent,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tail.append(line)
                reasons += [line.removeprefix("error: ").strip()] if line.startswith("error: ") else []
                if line.startswith(("epoch ", "checkpoint ")):
                    print(line, end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        if not reasons:
            print("".join(tail), flush=True)
            last = next((line.strip() for line in reversed(tail) if line.strip()), "no output")
            reasons = [f"training ended with {process.returncode}: {last}"]
        raise UserError(reasons[0])


@record
def main(arguments: list[str] | None = None) -> None:
    """Train as one of the processes of torchrun; see :func:`torchrun_command`."""
    parser = argparse.ArgumentParser(description="Train one network of a run; started by torchrun.")
    parser.add_argument("settings", type=Path, help="parameter file of the run, such as runs/NAME/settings.yaml")
    parser.add_argument("--model", default="", choices=["", *MODELS], help="classifier; without it, stage 1")
    parser.add_argument("--view", default="", help="view of an audit; without it, the parameters' own")
    parser.add_argument("--trial", type=int, default=1, help="number of the trial, from 1")
    options = parser.parse_args(arguments)
    if under_torchrun():
        die_with_parent()
    try:
        params = load_params(options.settings)
        paths = RunPaths.of(params.profile)
        if options.view:
            params, paths = params.seeing(options.view), paths.seeing(options.view)
        if options.model:
            train_classifier(params, paths, options.model, options.trial)
        else:
            train_segmenter(params, paths)
    except UserError as error:
        print(f"error: {error}", flush=True)
        if under_torchrun():  # the agent would start again what cannot go better
            os.kill(os.getppid(), signal.SIGTERM)
        sys.exit(1)


if __name__ == "__main__":
    main()
