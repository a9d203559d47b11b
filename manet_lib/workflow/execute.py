"""Papermill as the workflow calls it: ``python -m manet_lib.workflow.execute NODE -f params/FILE.yaml``.

What is added to Papermill: it ends when snakemake does, however that ends; the executed notebook appears when it
has run whole (until then, and after an error, it is NODE.part.ipynb), and beside it the record of what it shows;
and the log holds what the cells print, not how Papermill goes about it.
"""

import argparse
import json
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import papermill
from traitlets.config import Config

from manet_lib.params import UserError, read_yaml, validate
from manet_lib.paths import RunPaths
from manet_lib.workflow.graph import nodes
from manet_lib.workflow.processes import die_with_parent, keep_freed_memory
from manet_lib.workflow.records import write_json

_NOISE = ("Passed unknown parameter", "Executing Cell", "Ending Cell", "Executing notebook", "Input Notebook")


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage().strip()
    return bool(text) and not text.startswith(("<Figure", "<IPython", "Output Notebook", *_NOISE))


def execute(source: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook with some parameters.

    Raises:
        papermill.PapermillExecutionError: a cell failed; the notebook up to there is ``OUT.part.ipynb``.
    """
    part = output.with_suffix(".part.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    usual = tempfile.gettempdir()
    place = usual if len(usual.encode()) < 60 else "/tmp"  # the names of sockets hold 107 bytes in all
    with tempfile.TemporaryDirectory(prefix="manet-", dir=place) as sockets:  # as notebooks run side by side
        kernel = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        papermill.execute_notebook(
            str(source), str(part), parameters, progress_bar=False, log_output=True, config=kernel
        )
    part.replace(output)


def main(arguments: list[str] | None = None) -> None:
    """Execute the notebook of a command line."""
    parser = argparse.ArgumentParser(description="Execute one notebook of a run; started by snakemake.")
    parser.add_argument("node", help="name of the executed notebook, such as 04_classification-resnet50-1")
    parser.add_argument("-f", dest="file", type=Path, required=True, help="parameter file")
    parser.add_argument("-p", dest="own", nargs=2, action="append", default=[], metavar=("NAME", "JSON"))
    options = parser.parse_args(arguments)
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the folder of sockets is removed
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    try:
        values = read_yaml(options.file) | {name: json.loads(value) for name, value in options.own}
        params = validate(values, options.file.name)
        paths = RunPaths.of(params.profile)
        node = nodes(params, paths)[options.node]
        shown = node.shown(params)  # before, as the notebook may be edited meanwhile
        # all of them, so that the run is what they say, whatever was saved in the notebook's parameters cell
        execute(node.source, paths.executed(node.name), params.model_dump() | dict(node.own))
        write_json(paths.node_record(node.name), shown | node.results())
    except papermill.PapermillExecutionError as error:
        sys.exit(f"{options.node}: {error.ename}: {error.evalue}")
    except UserError as error:
        sys.exit(f"{options.node}: {error}")


if __name__ == "__main__":
    main()
