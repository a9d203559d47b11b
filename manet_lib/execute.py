"""Papermill as the workflow calls it: ``python -m manet_lib.execute IN.ipynb OUT.ipynb -f params/FILE.yaml``.

The arguments mean what they mean to ``papermill``. What is added: it ends when snakemake does, however that ends;
OUT appears when the notebook has run whole (until then, and after an error, it is OUT with ``.part``); and the log
holds what the cells print, not how Papermill goes about it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import papermill
import yaml
from traitlets.config import Config

from manet_lib.params import UserError, read_yaml
from manet_lib.processes import die_with_parent

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
    with tempfile.TemporaryDirectory(prefix="manet-") as sockets:  # of its own, as notebooks run side by side
        kernel = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        papermill.execute_notebook(
            str(source), str(part), parameters, progress_bar=False, log_output=True, config=kernel
        )
    part.replace(output)


def main(arguments: list[str] | None = None) -> None:
    """Execute the notebook of a command line."""
    parser = argparse.ArgumentParser(description="Execute one notebook of a run; started by snakemake.")
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-f", dest="file", type=Path, required=True, help="parameter file")
    parser.add_argument("-p", dest="own", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args(arguments)
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    try:
        parameters = read_yaml(options.file) | {name: yaml.safe_load(value) for name, value in options.own}
        execute(options.source, options.output, parameters)
    except papermill.PapermillExecutionError as error:
        sys.exit(f"{options.source.name}: {error.ename}: {error.evalue}")
    except UserError as error:
        sys.exit(f"{options.source.name}: {error}")


if __name__ == "__main__":
    main()
