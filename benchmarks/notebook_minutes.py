"""Minutes that each notebook of a finished run took when it was last executed.

That is what a reader has to wait for, if that execution did the steps and did not find them done.

    papermill notebooks/12_another_task.ipynb runs/patches/notebooks/12_another_task.ipynb -f params/patches.yaml
    python benchmarks/notebook_minutes.py --run runs/phantoms runs/patches

Papermill notes how long a notebook ran, training runs and all. `04_classification` is executed once for each
training: ``minutes`` are those of its longest execution, ``together`` those of all of them, one after the other.
The result is written to ``benchmarks/results/notebook_minutes.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
import pandas as pd

from manet_lib.paths import RunPaths, recorded_results
from manet_lib.workflow.records import read_done


def measured(run: Path) -> pd.DataFrame:
    rows = []
    for file in sorted((run / "notebooks").glob("*.ipynb")):
        seconds = nbformat.read(file, as_version=4).metadata.papermill.duration
        rows.append((file.stem.split("-")[0], seconds / 60))
    grouped = pd.DataFrame(rows, columns=["notebook", "minutes"]).groupby("notebook")["minutes"]
    table = grouped.agg(minutes="max", executions="size", together="sum").round(1).reset_index()
    done = read_done(RunPaths(run, run).segmentation) or {"device": "unknown", "precision": "unknown"}
    return table.assign(run=run.name, device=done["device"], precision=done["precision"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of finished runs")
    parser.add_argument("--output", type=Path, default=recorded_results("notebook_minutes.csv"))
    options = parser.parse_args()
    table = pd.concat([measured(run) for run in options.run])
    table.to_csv(options.output, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
