"""The graph of notebooks. Papermill executes each node; `done.json` in the run folder decides what a node redoes.

    snakemake --cores 2 --config params=params/smoke.yaml
"""

import signal
from pathlib import Path

import psutil

from manet_lib.params import READ_BY, load_params
from manet_lib.paths import RunPaths, project_root

PARAMS = Path(project_root(), config.get("params", "params/smoke.yaml"))
OVERRIDES = {name: value for name, value in config.items() if name not in ("params", "gpus")}
SETTINGS = load_params(PARAMS, **OVERRIDES)
SOURCE = f"{project_root()}/notebooks/"
DONE = f"{RunPaths.of(SETTINGS.profile).root}/notebooks/"
GPUS = 0 if SETTINGS.accelerator == "cpu" else int(config.get("gpus", 0))
GRID = [f"{model}-{trial}" for model in SETTINGS.models for trial in SETTINGS.trial_numbers]


def reads(*steps):
    """The parameters that a notebook's steps read: a change of any other does not run it again."""
    return {name: getattr(SETTINGS, name) for step in steps for name in READ_BY[step]}


# `exec`, so that snakemake is the parent of Papermill, which ends with it.
EXECUTE = (
    f"exec python -m manet_lib.execute {{input[0]}} {{output}} -f {PARAMS} "
    + "".join(f"-p {name} {value} " for name, value in OVERRIDES.items())
    + "{params.own}"
)


def end_now(*_):
    """On SIGTERM end the running notebooks, too; their trainings go on from the last checkpoint next time."""
    for child in psutil.Process().children():
        child.terminate()
    raise KeyboardInterrupt


onstart:
    signal.signal(signal.SIGTERM, end_now)


rule all:
    input:
        DONE + "06_results.ipynb",
        DONE + "07_cost.ipynb",


rule data:
    input:
        SOURCE + "01_data.ipynb",
    output:
        DONE + "01_data.ipynb",
    params:
        own="",
        reads=reads("store", "manifest") | {"figure_dpi": SETTINGS.figure_dpi, "published": SETTINGS.published},
    threads: workflow.cores
    shell:
        EXECUTE


rule segmentation:
    input:
        SOURCE + "02_segmentation.ipynb",
        DONE + "01_data.ipynb",
    output:
        DONE + "02_segmentation.ipynb",
    params:
        own="",
        reads=reads("segmentation", "raw_masks") | {"figure_dpi": SETTINGS.figure_dpi},
    threads: workflow.cores
    shell:
        EXECUTE


rule postprocessing:
    input:
        SOURCE + "03_postprocessing.ipynb",
        DONE + "02_segmentation.ipynb",
    output:
        DONE + "03_postprocessing.ipynb",
    params:
        own="",
        reads=reads("clean_masks") | {"figure_dpi": SETTINGS.figure_dpi},
    shell:
        EXECUTE


rule classification:
    input:
        SOURCE + "04_classification.ipynb",
        DONE + "03_postprocessing.ipynb",
    output:
        DONE + "04_classification-{model}-{trial}.ipynb",
    resources:
        gpu=min(SETTINGS.devices, GPUS),
    params:
        own="-p model {model} -p trial {trial}",
        reads=reads("classification"),
    threads: SETTINGS.threads or workflow.cores
    shell:
        EXECUTE


rule attention:
    input:
        SOURCE + "05_attention_maps.ipynb",
        expand(DONE + "04_classification-{node}.ipynb", node=GRID),
    output:
        DONE + "05_attention_maps.ipynb",
    params:
        own="",
        reads=reads("attention") | {"figure_dpi": SETTINGS.figure_dpi},
    shell:
        EXECUTE


rule results:
    input:
        SOURCE + "06_results.ipynb",
        DONE + "05_attention_maps.ipynb",
    output:
        DONE + "06_results.ipynb",
    params:
        own="",
        reads={name: getattr(SETTINGS, name) for name in ("models", "trials", "figure_dpi", "published")},
    shell:
        EXECUTE


rule cost:
    input:
        SOURCE + "07_cost.ipynb",
        expand(DONE + "04_classification-{node}.ipynb", node=GRID),
    output:
        DONE + "07_cost.ipynb",
    params:
        own="",
        reads=reads("cost"),
    threads: workflow.cores  # running times are measured with nothing beside them
    shell:
        EXECUTE
