"""Run a study: ``python -m manet_lib.studies.run NAME``, or ``make study NAME=...``.

Trains what is not recorded yet, several training runs side by side, and appends a record of each; see
:mod:`manet_lib.studies.training_records`. An interrupted call continues where it stopped.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from manet_lib.attention.scores import attention_scores
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, log_of
from manet_lib.studies.analysis import chosen_rate, effects, matching
from manet_lib.studies.images import Prepared
from manet_lib.studies.plan import Study, load_study, slug
from manet_lib.studies.testing import logits_on
from manet_lib.studies.training_records import Key, Record, append, key_of, read, records_file, score
from manet_lib.training.classification import load_classifier, train_classifier
from manet_lib.training.distributed import joined
from manet_lib.training.loop import prepare
from manet_lib.workflow.processes import die_with_parent, keep_freed_memory
from manet_lib.workflow.records import read_done

_LOGGED = ["train_loss", "val_loss", "val_accuracy"]


@dataclass(frozen=True)
class Group:
    """Training runs on the same images: all arms of a condition in one pair, or one arm with each rate.

    Attributes:
        study: name of the study.
        condition: which of its conditions.
        pair: number of the pair from 1, or 0 for a choice of learning rates.
        seed: of images, split and stage 1.
        trial: of initial weights, order and augmentations.
        runs: (arm, learning rate) of each training run.
    """

    study: str
    condition: str
    pair: int
    seed: int
    trial: int
    runs: tuple[tuple[str, float], ...]

    @property
    def keys(self) -> list[Key]:
        """What tells its records apart, see :func:`key_of`."""
        return [(self.condition, arm, self.pair, self.seed, rate) for arm, rate in self.runs]

    def lacking(self, study: Study, records: Sequence[Record], code: str = "") -> list[tuple[str, float]]:
        """Its training runs that are still to be done; none where all is recorded.

        The arms of a contrast, or the learning rates of an arm, must be recorded with the study's settings and
        with one version of the code, which may be an earlier one.

        Args:
            study: of the group.
            records: of the study.
            code: version of the training runs to come; those that are recorded with it are not done again.
        """
        found: dict[str, set[Key]] = {}
        for record in self.records_of(study, records):
            found.setdefault(record["code"], set()).add(key_of(record))
        keys = dict(zip(self.runs, self.keys, strict=True))
        together = [[arm] for arm in study.arms] + study.contrasts if self.pair else [list(study.arms)]
        parts = [{keys[one] for one in self.runs if one[0] in arms} for arms in together]
        open_parts = [part for part in parts if not any(part <= there for there in found.values())]
        wanted = set[Key]().union(*open_parts) - found.get(code, set())
        return [one for one in self.runs if keys[one] in wanted]

    def records_of(self, study: Study, records: Sequence[Record]) -> list[Record]:
        """The records of its training runs that were made with the study's settings."""
        own = [record for record in records if key_of(record) in self.keys]
        settings = {arm: study.settings_of(self.condition, arm) for arm in {one["arm"] for one in own}}
        return [record for record in own if record["settings"] == settings[record["arm"]]]


def rate_groups(name: str, study: Study) -> list[Group]:
    """The training runs that choose a learning rate for each arm; none where there is only one."""
    if len(study.rates) == 1:
        return []
    chosen_in = [study.rates_chosen_in] if study.rates_chosen_in else list(study.conditions)
    return [
        Group(name, condition, 0, seed, 1, tuple((arm, rate) for rate in study.rates))
        for condition in chosen_in
        for seed in study.rate_seeds
        for arm in study.arms
    ]


def pair_groups(name: str, study: Study, records: list[Record]) -> list[Group]:
    """The training runs that are compared, pair by pair, each arm with its learning rate."""
    groups = []
    for pair, condition in product(range(1, study.pairs + 1), study.conditions):
        seed, trial = (pair, 1) if study.new_images else (0, pair)
        runs = tuple((arm, chosen_rate(study, records, condition, arm)) for arm in study.arms)
        groups.append(Group(name, condition, pair, seed, trial, runs))
    return groups


def train_group(group: Group, threads: int) -> list[Record]:
    """Train what is not recorded of a group, one run after the other, record each and remove its weights."""
    study, file = load_study(group.study), records_file(group.study)
    records, found = read(file), list[Record]()
    if group.lacking(study, records):
        torch.set_num_threads(threads)  # of stage 1, too, which otherwise takes all cores in each process
        shared = Prepared(group.study, study, group.condition, group.seed)
        for arm, rate in group.lacking(study, records, shared.code):
            found.append(train_one(group, shared, arm, rate, threads))
            append(file, found[-1])
    return found


def train_one(group: Group, shared: Prepared, name: str, rate: float, threads: int) -> Record:
    """Train and test one arm of a group. With a learning rate at which the loss diverges, the log stays empty."""
    arm = shared.study.arms[name]
    loaders = max(0, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0
    own = arm.model_dump(exclude={"model"}) | {"learning_rate": rate, "threads": threads, "num_workers": loaders}
    params = shared.params.model_copy(update=own)
    paths = shared.paths.seeing(f"{slug(name)}-{rate:g}")
    begun, folder = time.monotonic(), paths.classifier(arm.model, group.trial)
    try:
        train_classifier(params, paths, arm.model, group.trial)
    except UserError as error:
        if group.pair or "the loss is" not in str(error):  # of a choice of rates, this is a result
            raise
    done = read_done(folder)
    log = pd.read_csv(log_of(folder)) if done else pd.DataFrame(columns=_LOGGED)
    # one that diverged ran on the device of stage 1
    made = done or (read_done(paths.segmentation) or {}) | {"seconds": round(time.monotonic() - begun, 2)}
    tests: dict[str, Any] = {}
    if group.pair:
        with joined(params) as ranks:
            network = prepare(load_classifier(params, paths, arm.model, group.trial), params, ranks.device)
            for test, (rows, images, masks) in shared.tests.items():
                logits = logits_on(network, images, masks, params, ranks)
                short = (logits - logits.mean(axis=1, keepdims=True)).astype(float).round(2).tolist()
                tests[test] = {"image_id": list(rows["image_id"]), "label": list(rows["label"]), "logits": short}
    maps = _heat_map_scores(params, paths, (arm.model, group.trial)) if tests and shared.study.heat_maps else {}
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "condition": group.condition,
        "arm": name,
        "pair": group.pair,
        "seed": group.seed,
        "trial": group.trial,
        "learning_rate": rate,
        "log": {key: log[key].astype(float).round(4).tolist() for key in _LOGGED},
        "tests": tests,
        "heat_maps": maps,
        "classes": params.classes,
        "version": version("manet-companion"),
        "torch": torch.__version__,
        "code": shared.code,
        "settings": shared.study.settings_of(group.condition, name),
        **{key: made[key] for key in ("device", "precision", "seconds")},
    }


def _heat_map_scores(params: Params, paths: RunPaths, trained: tuple[str, int]) -> dict[str, float]:
    """Shares of the heat maps' sums in lungs and lesions, in percent, with trained and with fresh weights."""
    found: dict[str, float] = {}
    for weights in ("trained", "untrained"):
        scores = attention_scores(params, paths, [trained], fresh=weights == "untrained")
        for region in (name for name in ("lung", "lesion") if f"{name}_share" in scores):  # as far as it is known
            found[f"{region}, {weights}"] = round(100 * float(scores[f"{region}_share"].mean()), 3)
    return found


def run(name: str, jobs: int, pairs: int = 0, conditions: Sequence[str] = ()) -> None:
    """Train what a study lacks, ``jobs`` groups side by side, and print what it shows and still lacks.

    Args:
        name: of the study.
        jobs: processes; the machine's cores are shared between them.
        pairs: the largest number of pairs to train in this call; 0 for all that the study plans.
        conditions: those that are trained in this call; all, if not given.

    Raises:
        UserError: the study, or one of the conditions, does not exist, or ``jobs`` is below 1.
    """
    study, file = load_study(name), records_file(name)
    planned = study
    if pairs:
        study = study.model_copy(update={"pairs": min(pairs, study.pairs)})
    unknown = [one for one in conditions if one not in study.conditions]
    if unknown:
        raise UserError(f"conditions: {unknown[0]!r} is none of {', '.join(study.conditions)}")
    if jobs < 1:
        raise UserError(f"jobs: {jobs}; expected 1 or more")
    _train_all(rate_groups(name, study), study, file, jobs)
    groups = pair_groups(name, study, matching(study, read(file)))
    _train_all([one for one in groups if not conditions or one.condition in conditions], study, file, jobs)
    records = matching(planned, read(file))
    print(effects(planned, records).round(4).to_string(index=False))
    groups = [group for group in pair_groups(name, planned, records) if group.lacking(planned, records)]
    counts = {place: sum(group.condition == place for group in groups) for place in planned.conditions}
    lacking = [f"{count} of {planned.pairs} pairs in {place}" for place, count in counts.items() if count]
    print(f"still lacking: {', '.join(lacking) or 'nothing'}")


def _train_all(groups: list[Group], study: Study, file: Path, jobs: int) -> None:
    records = read(file)
    open_groups = [group for group in groups if group.lacking(study, records)]
    total = sum(len(group.lacking(study, records)) for group in open_groups)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    finished, started = 0, time.monotonic()
    context = multiprocessing.get_context("spawn")
    # a process for each group, as a process keeps the memory of the largest network that it has trained;
    # Python's pools may hang with another number than 1 (its issue 115634)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=die_with_parent, max_tasks_per_child=1) as pool:
        futures = [pool.submit(train_group, group, threads) for group in open_groups]
        try:
            for future in as_completed(futures):
                for record in future.result():
                    finished += 1
                    left = (time.monotonic() - started) / finished * (total - finished) / 60
                    print(f"{_in_words(record)}; {finished} of {total}, about {left:.0f} min left", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _in_words(record: Record) -> str:
    where = f"{record['condition']}, {record['arm']}, learning rate {record['learning_rate']:g}"
    scores = [f"validation {100 * value:.1f}%" for value in record["log"]["val_accuracy"][-1:]]
    scores += [f"{test} {score(record, test):.1f}%" for test in record["tests"]]
    shown = ", ".join(scores) or "the loss diverges"
    return f"{where}, pair {record['pair']}: {shown} ({record['seconds']:.0f} s)"


def main(arguments: list[str] | None = None) -> None:
    """Run the study that the command line names."""
    parser = argparse.ArgumentParser(description="Train what a study lacks, and record it.")
    parser.add_argument("name", help="of a file in params/studies/, without .yaml")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="training runs side by side")
    parser.add_argument("--pairs", type=int, default=0, help="largest number of pairs to train in this call")
    parser.add_argument("--conditions", nargs="+", default=[], help="train in these only, in this call")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    try:
        run(options.name, options.jobs, options.pairs, options.conditions)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
