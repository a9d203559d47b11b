"""How far the numbers of the default run spread: the same run trained again and again with other random numbers.

    python benchmarks/seeds.py rates --rates 0.003 0.01 0.03
    python benchmarks/seeds.py train --trials 1 2 3 4 5 6 7 8 9 10
    python benchmarks/seeds.py stage1 --seeds 0 1 2 3 4 5 6 7 8 9
    python benchmarks/seeds.py record

`rates` trains each network with some learning rates on phantoms of another seed, and records the accuracy on
validation images in benchmarks/results/learning_rates.csv; each network of params/phantoms.yaml has its best one.
`train` trains the networks of params/phantoms.yaml in some trials, on the same images: initial weights, order
and augmentations differ. Several calls may train different trials side by side. `stage1` trains stage 1 on the
images of some seeds. `record` writes benchmarks/results/seeds.csv, from which the tolerances of the recorded run
follow. Finished training runs are not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from shortcuts import add_rows, prepared

from manet_lib.attention.scores import score_attention
from manet_lib.params import Params, load_params
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, log_of, params_file, recorded_results
from manet_lib.report.agreement import measured_by_trial
from manet_lib.studies.confounders import try_other_markers
from manet_lib.training.launch import train
from manet_lib.workflow.records import atomic_path
from manet_lib.workflow.steps import grid, training_runs

TRIALS = 10
RATES = (0.003, 0.01, 0.03)
TUNING = {"seed": 1, "val_fraction": 0.45, "test_fraction": 0.05}
"""As many images to train on as in the default run; the others choose the learning rate."""


def stage_1(seed: int, trials: int = TRIALS) -> tuple[Params, RunPaths]:
    """The default run with some seed and number of trials, up to its clean masks."""
    return prepared(load_params(params_file(DEFAULT_PROFILE), profile=f"seeds_{seed}", seed=seed, trials=trials))


def rates(file: Path, chosen: list[float], trials: list[int]) -> None:
    """Add a row for each view, model, learning rate and trial: validation accuracy (percent), training loss."""
    for rate in chosen:
        own = {"profile": f"rates_{rate:g}".replace(".", "_"), "trials": max(trials), "learning_rate": rate}
        own |= TUNING | {"learning_rates": {}}
        params, paths = prepared(load_params(params_file(DEFAULT_PROFILE), **own))
        for view, model, trial in training_runs(params):
            if trial not in trials:
                continue
            seen, where = (params.seeing(view), paths.seeing(view)) if view else (params, paths)
            train(seen, where, model, trial)
            last = pd.read_csv(log_of(where.classifier(model, trial))).iloc[-1]
            row = {"view": seen.view, "model": model, "learning_rate": rate, "trial": trial}
            found = {"accuracy": round(100 * last["val_accuracy"], 3), "loss": round(last["train_loss"], 4)}
            add_rows(file, pd.DataFrame([row | found]), list(row))


def record(file: Path, trials: int, seeds: list[int]) -> None:
    """Write the numbers of all trials, one row for each number: key, trial, value in percent."""
    params, paths = stage_1(0, trials)
    score_attention(params, paths, grid(params))
    try_other_markers(params, paths)
    found = measured_by_trial(params, paths)
    found["iou"] = [100 * float(pd.read_csv(RunPaths.of(f"seeds_{seed}").iou)["iou"].mean()) for seed in seeds]
    rows = [(key, trial, value) for key, values in found.items() for trial, value in enumerate(values, start=1)]
    with atomic_path(file) as temporary:
        pd.DataFrame(rows, columns=["key", "trial", "value"]).round(4).to_csv(temporary, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rates", "train", "stage1", "record"])
    parser.add_argument("--trials", nargs="+", type=int, default=list(range(1, TRIALS + 1)))
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(TRIALS)))
    parser.add_argument("--output", type=Path, default=recorded_results("seeds.csv"), help="file to record in")
    options = parser.parse_args()
    if options.what == "rates":
        rates(options.output.with_name("learning_rates.csv"), options.rates, options.trials)
    elif options.what == "record":
        record(options.output, max(options.trials), options.seeds)
    elif options.what == "stage1":
        for seed in options.seeds:
            stage_1(seed)
    else:
        params, paths = stage_1(0)
        for view, model, trial in training_runs(params):
            if trial in options.trials:
                own, where = (params.seeing(view), paths.seeing(view)) if view else (params, paths)
                train(own, where, model, trial)


if __name__ == "__main__":
    main()
