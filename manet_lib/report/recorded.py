"""Keep the results of a finished run with the project: ``python -m manet_lib.report.recorded FILE.yaml``.

Tables and figures go to ``figures/recorded/<profile>/``, but for SVG, which is large, and for pictures of images
that are no phantoms. Beside them are ``record.json``, the facts and numbers that other runs are compared with, how
far those numbers spread from training to training, and what made them; and ``raw.zip``, the values behind the
tables: predictions and logs of all training runs, scores of heat maps and masks, running times.
"""

import shutil
import sys
from argparse import ArgumentParser
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd

from manet_lib.params import Params, UserError, load_params
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, recorded_results, reproduce_command
from manet_lib.report.agreement import facts, measured
from manet_lib.workflow.parameters import fingerprint
from manet_lib.workflow.records import read_done, write_json
from manet_lib.workflow.steps import all_steps


def seeds() -> dict[str, list[float]]:
    """The numbers of benchmarks/results/seeds.csv by key, a value for each training run."""
    if not recorded_results("seeds.csv").is_file():
        return {}
    table = pd.read_csv(recorded_results("seeds.csv"))
    return {str(key): part["value"].tolist() for key, part in table.groupby("key", sort=False)}


def may_be_kept(figure: str, params: Params) -> bool:
    """Whether a figure may come with the project: images of others, and pictures made from them, may not."""
    return params.data_source == "phantom" or figure in WITHOUT_IMAGES


WITHOUT_IMAGES = frozenset(
    (
        *("figure4", "figure5", "figure6", "figure7", "figure10", "table5_confusion", "roc", "reliability"),
        *("sanity", "confounders", "perturbed_masks", "reach"),
        *("study_confounders", "study_external", "study_variants"),
    )
)
"""Figures that are drawn from numbers alone."""


def record(params: Params, paths: RunPaths) -> None:
    """Copy the tables and figures of a run to their recorded place, and write ``record.json``.

    Raises:
        UserError: a step of the run is not done.
    """
    for step in all_steps(params, paths):
        fault = step.fault()
        if fault is not None:
            raise UserError(f"{fault}; run `{reproduce_command(params.profile)}` first")
    shutil.rmtree(paths.recorded, ignore_errors=True)
    paths.recorded.mkdir(parents=True)
    for file in sorted(paths.figures.iterdir()):
        if file.suffix in (".csv", ".json") or (file.suffix == ".png" and may_be_kept(file.stem, params)):
            shutil.copy(file, paths.recorded)
    done = [read_done(step.folder) or {} for step in all_steps(params, paths)]
    made: dict[str, Any] = {"command": reproduce_command(params.profile), "device": done[-1]["device"]}
    made |= {"precision": sorted({one["precision"] for one in done if one.get("precision")})}
    made |= {"seconds": round(sum(one["seconds"] for one in done)), "versions": done[0]["versions"]}
    steps = {name for step in all_steps(params, paths) for name in fingerprint(params, step.name)}
    values = {name: getattr(params, name) for name in sorted(steps)}
    spread = seeds() if params.profile == DEFAULT_PROFILE else {}
    content = {"facts": facts(params, paths), "measured": measured(params, paths), "repeats": spread}
    write_json(paths.recorded / "record.json", {"made": made, "parameters": values} | content)
    with ZipFile(paths.recorded / "raw.zip", "w", ZIP_DEFLATED) as archive:
        for file in (file for step in all_steps(params, paths)[1:] for file in step.outputs):
            if file.suffix == ".csv":
                archive.writestr(ZipInfo(file.relative_to(paths.root).as_posix()), file.read_bytes(), ZIP_DEFLATED)


if __name__ == "__main__":
    parser = ArgumentParser(description="Keep the results of a finished run in figures/recorded/.")
    parser.add_argument("params", help="parameter file of the run")
    try:
        chosen = load_params(parser.parse_args().params)
        record(chosen, RunPaths.of(chosen.profile))
        print(f"recorded in figures/recorded/{chosen.profile}/")
    except UserError as error:
        sys.exit(str(error))
