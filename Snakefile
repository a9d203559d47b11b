"""The graph of notebooks. Snakemake orders and runs them; `done.json` in the run folder decides what is to be run.

    snakemake --cores 2 --nolock --config params=params/phantoms.yaml

manet_lib/workflow/graph.py says which notebooks are to be run, and only these are asked for. The output of a
notebook's rule is an empty file that lasts as long as this call; its inputs are those of the notebooks that it
waits for. Snakemake's own locks are left out, as a killed process leaves them behind: the run folder is claimed
instead, and free again when the process is gone.
"""

import json
import shlex
import shutil
import signal
import sys
from contextlib import ExitStack
from urllib.parse import unquote

import psutil
from snakemake.resources import Resource

from manet_lib.workflow.records import claimed
from manet_lib.workflow.machine import gpu_count
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.workflow.steps import grid, training_runs
from manet_lib.workflow.graph import nodes, stale

# Quoted, as Snakemake reads what is given on the command line as YAML.
PARAMS = project_root() / unquote(str(config.get("params", "params/phantoms.yaml")))
OVERRIDES = {name: value for name, value in config.items() if name not in ("params", "gpus")}
SETTINGS = load_params(PARAMS, **OVERRIDES)
PATHS = RunPaths.of(SETTINGS.profile)
GPUS = 0 if SETTINGS.accelerator == "cpu" else int(config["gpus"]) if "gpus" in config else gpu_count()
# What a training asks of Slurm. On several machines it starts its agents by srun itself, one on each.
TRAINING = {"gpu": SETTINGS.nodes * min(SETTINGS.devices, GPUS), "nodes": SETTINGS.nodes}
if SETTINGS.nodes > 1:
    TRAINING |= {"mpi": "srun", "tasks": SETTINGS.nodes, "tasks_per_gpu": 0}
    if GPUS:
        TRAINING["slurm_extra"] = f"--gpus-per-node={SETTINGS.devices}"
SIDE_BY_SIDE = GPUS // SETTINGS.devices  # training runs of stage 2 on GPUs
ALONE = workflow.cores or 1
EACH = SETTINGS.threads or max(1, ALONE // max(1, SIDE_BY_SIDE))  # of what runs side by side

SOURCE = f"{project_root()}/notebooks/"
RAN = f"{PATHS.ran}/"
TRAINING_RUNS = [f"04_classification-{model}-{trial}" for model, trial in grid(SETTINGS)]
AUDITS = [f"04_classification-{model}-{trial}-{view}" for view, model, trial in training_runs(SETTINGS) if view]

# `exec`, so that snakemake is the parent of Papermill, which ends with it.
WITH = f"-f {shlex.quote(str(PARAMS))}" + "".join(
    f" -p {name} {shlex.quote(json.dumps(value))}" for name, value in OVERRIDES.items()
)
EXECUTE = "exec python -m manet_lib.workflow.execute {params.node:q} " + WITH.replace("{", "{{").replace("}", "}}")

held = ExitStack()  # until this process ends
if workflow.is_main_process:
    held.enter_context(claimed(PATHS.root))
STALE = dict(stale(SETTINGS, PATHS))
if workflow.is_main_process:
    for reason in dict.fromkeys(STALE.values()):
        print(reason, file=sys.stderr)
    shutil.rmtree(PATHS.ran, ignore_errors=True)  # of a call that was killed
    if "gpu" not in workflow.global_resources:  # of this machine; a cluster's profile says what it has
        workflow.register_resource("gpu", Resource("gpu", GPUS))


def after(*before):
    """The inputs of a notebook: those before it that are to be run as well."""
    return [f"{RAN}{one}" for one in before if one in STALE]


def end_now(*_):
    """End the running notebooks, too; their training runs go on from the last checkpoint next time."""
    for child in psutil.Process().children():
        child.terminate()
    raise KeyboardInterrupt


onstart:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, end_now)


wildcard_constraints:
    model="[a-z0-9_]+",
    trial="[0-9]+",
    view="[a-z]+",


rule all:
    input:
        [f"{RAN}{name}" for name in nodes(SETTINGS, PATHS) if name in STALE],


rule data:
    output:
        temp(touch(RAN + "01_data")),
    params:
        node="01_data",
    threads: ALONE
    shell:
        EXECUTE


rule segmentation:
    input:
        after("01_data"),
    output:
        temp(touch(RAN + "02_segmentation")),
    params:
        node="02_segmentation",
    resources:
        **TRAINING,
    threads: ALONE
    shell:
        EXECUTE


rule postprocessing:
    input:
        after("02_segmentation"),
    output:
        temp(touch(RAN + "03_postprocessing")),
    params:
        node="03_postprocessing",
    shell:
        EXECUTE


rule classification:
    input:
        after("03_postprocessing"),
    output:
        temp(touch(RAN + "04_classification-{model}-{trial}")),
    params:
        node="04_classification-{model}-{trial}",
    resources:
        **TRAINING,
    threads: EACH
    priority: 2  # more notebooks wait for these than for those of the audit
    shell:
        EXECUTE


rule audit_training:
    input:
        after("03_postprocessing"),
    output:
        temp(touch(RAN + "04_classification-{model}-{trial}-{view}")),
    params:
        node="04_classification-{model}-{trial}-{view}",
    resources:
        **TRAINING,
    threads: EACH
    priority: 1
    shell:
        EXECUTE


rule attention:
    input:
        after(*TRAINING_RUNS),
    output:
        temp(touch(RAN + "05_attention_maps")),
    params:
        node="05_attention_maps",
    shell:
        EXECUTE


rule results:
    input:
        after("01_data", "02_segmentation", "03_postprocessing", *TRAINING_RUNS, "05_attention_maps", "07_cost"),
    output:
        temp(touch(RAN + "06_results")),
    params:
        node="06_results",
    shell:
        EXECUTE


rule reach:
    input:
        after("03_postprocessing"),
    output:
        temp(touch(RAN + "08_reach")),
    params:
        node="08_reach",
    shell:
        EXECUTE


rule masks:
    input:
        after("02_segmentation", "03_postprocessing", *TRAINING_RUNS),
    output:
        temp(touch(RAN + "09_masks")),
    params:
        node="09_masks",
    resources:
        gpu=min(1, GPUS),
    threads: EACH
    shell:
        EXECUTE


rule audit:
    input:
        after("01_data", "03_postprocessing", *TRAINING_RUNS, *AUDITS),
    output:
        temp(touch(RAN + "10_shortcut_audit")),
    params:
        node="10_shortcut_audit",
    resources:
        gpu=min(1, GPUS),
    threads: EACH
    shell:
        EXECUTE


rule your_own_xray:
    input:
        after("01_data", "02_segmentation", "03_postprocessing", *TRAINING_RUNS),
    output:
        temp(touch(RAN + "11_your_own_xray")),
    params:
        node="11_your_own_xray",
    shell:
        EXECUTE


rule cost:
    output:
        temp(touch(RAN + "07_cost")),
    params:
        node="07_cost",
    resources:
        gpu=min(1, GPUS),
    threads: ALONE  # running times are measured with nothing beside them
    priority: -1
    shell:
        EXECUTE
