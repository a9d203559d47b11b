"""The graph of notebooks. Snakemake orders and runs them; `done.json` in the run folder decides what is to be run.

    snakemake --cores 2 --rerun-triggers mtime --nolock --config params=params/phantoms.yaml

Before anything is planned, the key files of the notebooks that are to be run are renewed (manet_lib/workflow.py).
A notebook's input is its key, and whatever it waits for: notebooks before it that are to be run as well. Snakemake's
own locks are left out, as a killed process leaves them behind: the run folder is claimed instead, and free again
when the process is gone.
"""

import json
import shlex
import signal
import sys
from contextlib import ExitStack
from urllib.parse import unquote

import psutil
from snakemake.resources import Resource

from manet_lib.artifacts import claimed
from manet_lib.machine import gpu_count
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.steps import grid, training_runs
from manet_lib.workflow import nodes, renew_keys, stale

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
SIDE_BY_SIDE = GPUS // SETTINGS.devices  # trainings of stage 2 on GPUs
ALONE = workflow.cores or 1
EACH = SETTINGS.threads or max(1, ALONE // max(1, SIDE_BY_SIDE))  # of what runs side by side

SOURCE = f"{project_root()}/notebooks/"
DONE = str(PATHS.executed("{name}")).removesuffix("{name}.ipynb")
KEY = str(PATHS.node_key("{name}")).removesuffix("{name}.json")
TRAININGS = [f"04_classification-{model}-{trial}" for model, trial in grid(SETTINGS)]
AUDITS = [f"04_classification-{model}-{trial}-{view}" for view, model, trial in training_runs(SETTINGS) if view]

# `exec`, so that snakemake is the parent of Papermill, which ends with it.
WITH = f"-f {shlex.quote(str(PARAMS))}" + "".join(
    f" -p {name} {shlex.quote(json.dumps(value))}" for name, value in OVERRIDES.items()
)
EXECUTE = "exec python -m manet_lib.execute {params.node:q} " + WITH.replace("{", "{{").replace("}", "}}")

held = ExitStack()  # until this process ends
if workflow.is_main_process:
    held.enter_context(claimed(PATHS.root))
STALE = dict(stale(SETTINGS, PATHS))
if workflow.is_main_process:
    for reason in dict.fromkeys(STALE.values()):
        print(reason, file=sys.stderr)
    renew_keys(STALE, nodes(SETTINGS, PATHS), PATHS)
    if "gpu" not in workflow.global_resources:  # of this machine; a cluster's profile says what it has
        workflow.register_resource("gpu", Resource("gpu", GPUS))


def after(name, *before):
    """The inputs of a notebook: its key, and those before it that it waits for."""
    return [f"{KEY}{name}.json", *(f"{DONE}{one}.ipynb" for one in before if name in STALE and one in STALE)]


def end_now(*_):
    """End the running notebooks, too; their trainings go on from the last checkpoint next time."""
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
        [f"{DONE}{name}.ipynb" for name in nodes(SETTINGS, PATHS)],


rule data:
    input:
        after("01_data"),
    output:
        DONE + "01_data.ipynb",
    params:
        node="01_data",
    threads: ALONE
    shell:
        EXECUTE


rule segmentation:
    input:
        after("02_segmentation", "01_data"),
    output:
        DONE + "02_segmentation.ipynb",
    params:
        node="02_segmentation",
    resources:
        **TRAINING,
    threads: ALONE
    shell:
        EXECUTE


rule postprocessing:
    input:
        after("03_postprocessing", "02_segmentation"),
    output:
        DONE + "03_postprocessing.ipynb",
    params:
        node="03_postprocessing",
    shell:
        EXECUTE


rule classification:
    input:
        lambda match: after(f"04_classification-{match.model}-{match.trial}", "03_postprocessing"),
    output:
        DONE + "04_classification-{model}-{trial}.ipynb",
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
        lambda match: after(f"04_classification-{match.model}-{match.trial}-{match.view}", "03_postprocessing"),
    output:
        DONE + "04_classification-{model}-{trial}-{view}.ipynb",
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
        after("05_attention_maps", *TRAININGS),
    output:
        DONE + "05_attention_maps.ipynb",
    params:
        node="05_attention_maps",
    shell:
        EXECUTE


rule results:
    input:
        after("06_results", "01_data", "02_segmentation", "03_postprocessing", *TRAININGS, "05_attention_maps", "07_cost"),
    output:
        DONE + "06_results.ipynb",
    params:
        node="06_results",
    shell:
        EXECUTE


rule reach:
    input:
        after("08_reach", "03_postprocessing"),
    output:
        DONE + "08_reach.ipynb",
    params:
        node="08_reach",
    shell:
        EXECUTE


rule masks:
    input:
        after("09_masks", "02_segmentation", "03_postprocessing", *TRAININGS),
    output:
        DONE + "09_masks.ipynb",
    params:
        node="09_masks",
    resources:
        gpu=min(1, GPUS),
    threads: EACH
    shell:
        EXECUTE


rule audit:
    input:
        after("10_shortcut_audit", "01_data", "03_postprocessing", *TRAININGS, *AUDITS),
    output:
        DONE + "10_shortcut_audit.ipynb",
    params:
        node="10_shortcut_audit",
    resources:
        gpu=min(1, GPUS),
    threads: EACH
    shell:
        EXECUTE


rule own_films:
    input:
        after("11_your_own_xray", "01_data", "02_segmentation", "03_postprocessing", *TRAININGS),
    output:
        DONE + "11_your_own_xray.ipynb",
    params:
        node="11_your_own_xray",
    shell:
        EXECUTE


rule cost:
    input:
        after("07_cost"),
    output:
        DONE + "07_cost.ipynb",
    params:
        node="07_cost",
    resources:
        gpu=min(1, GPUS),
    threads: ALONE  # running times are measured with nothing beside them
    priority: -1
    shell:
        EXECUTE
