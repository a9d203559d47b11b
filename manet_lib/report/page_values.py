"""What the expressions of pages may name: values, and tables as Markdown, computed from the records.

See :mod:`manet_lib.report.pages` for how pages name them.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.evaluation.paired import holm, mcnemar_p
from manet_lib.evaluation.statistics import student_interval
from manet_lib.params import MODELS
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, recorded_results
from manet_lib.report.agreement import recorded, title, tolerances
from manet_lib.report.another_task import recorded_runs
from manet_lib.report.audit import adults_table, recorded_predictions, views_table
from manet_lib.report.evidence import evidence_table, recorded_times
from manet_lib.report.inference import out_of_distribution_table, recorded_scores
from manet_lib.report.overview import claims_map
from manet_lib.report.reach import maps_table, recorded_maps
from manet_lib.report.recorded import seeds
from manet_lib.report.results import errata
from manet_lib.report.studies import arms_table, predictions, study_table, whole_pairs
from manet_lib.report.tables import format_p, model_title, to_markdown, with_interval
from manet_lib.studies.analysis import compared, effects, measured, one_version, paired_runs, with_records
from manet_lib.studies.plan import study_names
from manet_lib.studies.training_records import Record, score


def _tolerances() -> str:
    record = recorded(RunPaths.of(DEFAULT_PROFILE))
    if record is None:
        return "Nothing has been recorded yet.\n"
    known = tolerances(record["repeats"])
    rows = []
    for key, value in record["measured"].items():
        expected = f"± {known[key]:.1f}" if key in known else "–"
        rows.append({"Number": title(key), "Recorded": f"{value:.1f}", "Expect yours within": expected})
    return to_markdown(pd.DataFrame(rows))


def _default_seeds() -> str:
    """Accuracy of the default run's networks over its recorded training runs: mean and standard deviation."""
    shown = {key: f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" for key, values in seeds().items()}
    kinds = {
        "Segmented (%)": "accuracy",
        "Whole (%)": "whole_as_trained",
        "Whole, without markers (%)": "whole_without",
        "Whole, markers swapped (%)": "whole_swapped",
    }
    models = [key.partition(" ")[2] for key in shown if key.startswith("accuracy ")]
    rows = [
        {"Model": model_title(model)} | {title: shown[f"{kind} {model}"] for title, kind in kinds.items()}
        for model in sorted(models, key=MODELS.index)
    ]
    return to_markdown(pd.DataFrame(rows))


def _views(name: str) -> str:
    known = recorded_predictions(name)
    return to_markdown(views_table(known)) if len(known) else "Not recorded.\n"


_contrasts, _whole_pairs, _arms = cache(study_table), cache(whole_pairs), cache(arms_table)
_with_records = cache(with_records)
"""What pages ask for again and again."""


def _study(name: str, *tests: str, only: Sequence[str] = ()) -> str:
    """The contrasts of a study on some of its tests, or on all; all contrasts, or some."""
    table = _contrasts(name)
    if table.empty:
        return "Not recorded.\n"
    table = table[table["Tested on"].isin(tests)] if tests else table
    return to_markdown(table[table["Contrast"].isin(only)] if only else table)


def _runs(name: str, condition: str) -> int:
    """Pairs with all arms that a study has recorded in a condition."""
    if condition not in _with_records(name)[0].conditions:
        raise LookupError(f"{name} has no condition {condition}")
    return int(_whole_pairs(name).query("condition == @condition")["pair"].nunique())


def _effect(name: str, condition: str, test: str, contrast: str) -> str:
    """A difference of a study with its 95% interval, in points."""
    table = _contrasts(name).query("Condition == @condition and `Tested on` == @test and Contrast == @contrast")
    return _only(table["Difference (points, 95% interval)"], name, condition, test, contrast)


def _only(cells: pd.Series, *where: str) -> str:
    if len(cells) != 1:
        raise LookupError(f"{len(cells)} rows of {', '.join(where)}; expected one")
    return str(cells.iloc[0])


def _other_effect(name: str, condition: str, contrast: str, quantity: str) -> str:
    """A difference in `jumps`, `lungs`, `in_lungs` or another quantity of heat maps, as :func:`_effect`."""
    table = effects(*_with_records(name), quantity).query("condition == @condition and contrast == @contrast")
    bounds = table[["difference", "low", "high"]].to_numpy()
    shown = [with_interval(mean, low, high, "+.1f") for mean, low, high in bounds]
    return _only(pd.Series(shown), name, condition, contrast)


def _arm(name: str, condition: str, test: str, arm: str) -> str:
    """Mean of an arm of a study over its training runs, in percent."""
    values = _whole_pairs(name).query("condition == @condition and test == @test and arm == @arm")["value"]
    if values.empty:
        raise LookupError(f"no pair of {name} has {arm} in {condition}, {test}")
    return f"{values.mean():.1f}"


def _trained(name: str, *named: str) -> list[Record]:
    """Training runs of a study's pairs, each arm of a pair once, of a condition, an arm or both."""
    runs = one_version(compared(*_with_records(name)))
    chosen = [one for one in runs if all(word in (one["condition"], one["arm"]) for word in named)]
    if not chosen:
        raise LookupError(f"{name} has no training run of {', '.join(named)}")
    return chosen


def _most_frequent(name: str, condition: str, test: str) -> str:
    """Accuracy of always naming the most frequent class of a study's test images, over its runs, in percent."""
    labels = [pd.Series(one["tests"][test]["label"]) for one in _trained(name, condition)]
    return f"{100 * np.mean([one.value_counts(normalize=True).max() for one in labels]):.1f}"


def _discordant(name: str, condition: str, contrast: str) -> str:
    """Test images that only the first arm, and that only the second, classifies correctly, over all pairs.

    With the p value of McNemar's test, which takes the images of all pairs and of one patient as independent.
    """
    first, second = ({one["pair"]: one for one in _trained(name, condition, arm)} for arm in contrast.split(" − "))
    both = [predictions([first[pair], second[pair]], "as trained").right for pair in first.keys() & second.keys()]
    one, other = np.concatenate(both, axis=1)
    counts = int((one & ~other).sum()), int((other & ~one).sum())
    return f"{counts[0]} to {counts[1]} (McNemar's test, p = {mcnemar_p(*counts):.2f})"


def _final_losses(name: str, *named: str) -> str:
    """Least and largest training loss of a study's last epochs, of a condition, an arm or both."""
    return _from_to([one["log"]["train_loss"][-1] for one in _trained(name, *named)])


def _from_to(losses: list[float]) -> str:
    return " to ".join(dict.fromkeys([f"{min(losses):.2f}", f"{max(losses):.2f}"]))


def _losses() -> str:
    """Least and largest training loss of the last epoch of every arm of every study."""
    rows = []
    for name in study_names():
        study, records = _with_records(name)
        found: dict[tuple[str, str], list[float]] = {}
        for one in one_version(compared(study, records)):
            found.setdefault((one["condition"], one["arm"]), []).append(one["log"]["train_loss"][-1])
        for condition, arm in product(study.conditions, study.arms):
            losses = found.get((condition, arm))
            if losses:
                row = {"Study": f"`{name}`", "Condition": condition, "Arm": arm}
                rows.append(row | {"Training runs": str(len(losses)), "Training loss": _from_to(losses)})
    return to_markdown(pd.DataFrame(rows))


def _left_out() -> str:
    """Pairs that studies plan and lack, with the hours of one thread that their training runs would take.

    The hours follow from the recorded training runs of the same condition: the median of each arm, or the mean of
    these for an arm that has none.
    """
    rows = []
    for name in study_names():
        study, records = _with_records(name)
        seconds = (
            pd.DataFrame(records, columns=["condition", "arm", "seconds"]).groupby(["condition", "arm"]).median()
        )
        made = pd.DataFrame(compared(study, records), columns=["condition", "arm", "pair"]).drop_duplicates()
        for condition in study.conditions:
            arms = made[made["condition"] == condition]["pair"].value_counts()
            row = {"Study": f"`{name}`", "Condition": condition, "Planned": study.pairs}
            row["Recorded"] = int((arms == len(study.arms)).sum())
            each = seconds.query("condition == @condition")["seconds"].mean() / 3600
            hours = (study.pairs * len(study.arms) - arms.sum()) * each
            rows.append(row | {"Hours": f"{hours:.1f}" if np.isfinite(hours) else "not measured"})
    table = pd.DataFrame(rows)
    return to_markdown(table[table["Recorded"] < table["Planned"]])


def _miscalibration(name: str, test: str, condition: str = "") -> str:
    """Least and largest calibration error of a study's arms on one of its tests, in points."""
    table = _arms(name, (test,))
    chosen = table["Condition"].str.contains(condition, regex=False)
    errors = table.loc[chosen, "Calibration error (points)"].astype(int)
    if errors.empty:
        raise LookupError(f"{name} has no condition {condition}")
    return f"{errors.min()} to {errors.max()}"


def _fall(name: str, condition: str, before: str, after: str, first: str, second: str = "") -> str:
    """By how much an arm falls from one test to another, or how much more than another: points, interval."""
    table = _whole_pairs(name).query("condition == @condition")
    wide = table.pivot_table(index=["pair", "code"], columns=["test", "arm"], values="value")
    falls = wide[before] - wide[after]
    values = falls[first] - falls[second] if second else falls[first]
    return _over_runs(values.dropna().to_numpy(), ".1f")


def _change(name: str, condition: str, arm: str, before: str, after: str) -> str:
    """By how much an arm changes from one test to another, on the images that both have: points, interval."""
    quantity, changes = _with_records(name)[0].quantity, []
    for record in _trained(name, condition, arm):
        same = set(record["tests"][before]["image_id"]) & set(record["tests"][after]["image_id"])
        if not same:
            raise LookupError(f"{name}: {before} and {after} have no image in common")
        first, second = (score(record, test, quantity, same) for test in (before, after))
        changes.append(second - first)
    return _over_runs(np.array(changes), "+.1f")


def _over_runs(values: NDArray[np.float64], form: str) -> str:
    if len(values) < 2:
        raise LookupError("fewer than two training runs match; check condition, arm and test")
    mean, half = student_interval(values)
    return with_interval(mean, mean - half, mean + half, form)


def _over_seeds(first: str, second: str) -> str:
    """By how much two numbers of the default run differ over its recorded training runs: points, interval."""
    return _over_runs(np.subtract(seeds()[first], seeds()[second]), ".1f")


def _between(name: str, test: str, contrast: str, first: str, second: str) -> str:
    """By how much a contrast differs between two conditions, over the pairs that both have: points, interval."""
    table, differences = measured(*_with_records(name)), []
    for condition in (first, second):
        chosen = table[(table["condition"] == condition) & (table["test"] == test)]
        both = paired_runs(chosen, *contrast.split(" − ")).droplevel("code")
        differences.append(both.iloc[:, 0] - both.iloc[:, 1])
    return _over_runs((differences[0] - differences[1]).dropna().to_numpy(), "+.1f")


def _adjusted(name: str, test: str, condition: str, contrast: str) -> str:
    """The p value of a difference, adjusted by Holm for all contrasts and conditions of the study on a test."""
    study, records = _with_records(name)
    table = effects(study.model_copy(update={"holm": False}), records)
    table = table[(table["test"] == test) & np.isfinite(table["p"])]
    chosen = np.flatnonzero((table["condition"] == condition) & (table["contrast"] == contrast))
    others = [1.0] * (len(study.contrasts) * len(study.conditions) - len(table))
    return format_p(holm(table["p"].tolist() + others)[chosen.item()])


def _times() -> str:
    table = recorded_times()
    interval = [f"{low:.1f} to {high:.1f}" for low, high in table[["low", "high"]].to_numpy()]
    columns = {"Model": [model_title(name) for name in table.index], "Increase (%)": table["increase"].round(1)}
    return to_markdown(
        pd.DataFrame(columns | {"95% interval": interval, "Paper (%), four P100": table["paper"].to_numpy()})
    )


def _time(model: str) -> str:
    """By how many percent attention lengthens a training step, with its 95% interval."""
    row = recorded_times().loc[model]
    return with_interval(row["increase"], row["low"], row["high"])


def _thumbnails(split: str) -> str:
    """Lowest and highest accuracy of a support vector machine on thumbnails of radiographs, in percent."""
    table = pd.read_csv(recorded_results("thumbnails.csv")).query("split == @split")
    if table.empty:
        raise LookupError(f"no predictions on thumbnails split by {split}")
    accuracy = 100 * (table["label"] == table["predicted"]).groupby(table["seed"]).mean()
    return f"{accuracy.min():.1f} to {accuracy.max():.1f}"


def _detection(run: str, score: str) -> str:
    """Mean AUROC of a score over all kinds of images that are out of distribution for a run's networks."""
    found = recorded_scores(run).query("score == @score")["auroc"]
    if found.empty:
        raise LookupError(f"no AUROC of {score} for {run}")
    return f"{found.mean():.2f}"


def _cost_of_swapping(way: str, other: str = "") -> str:
    """How many points of accuracy swapped markers cost one way of notebook 12, or how many more than another."""
    runs = recorded_runs().set_index(["way", "seed"])
    cost = runs["accuracy"] - runs["swapped markers"]
    return _over_runs((cost[way] - cost[other] if other else cost[way]).to_numpy(), ".1f")


def _cell(table: str, row: str, column: str, profile: str = DEFAULT_PROFILE) -> str:
    """A cell of a recorded table, by the text of its row's first cell, or first two, and its column's title."""
    known = pd.read_csv(RunPaths.of(profile).recorded / f"{table}.csv", dtype=str, keep_default_na=False)
    first = known.iloc[:, 0]
    names = first.where(~first.duplicated(keep=False), first + ", " + known.iloc[:, 1])
    return _only(known.loc[names == row, column], table, row, column)


VALUES: dict[str, Any] = {
    "cell": _cell,
    "measured": lambda: (recorded(RunPaths.of(DEFAULT_PROFILE)) or {"measured": {}})["measured"],
    "seeds": seeds,
    "mean": lambda values: f"{np.mean(values):.1f}",
    "sd": lambda values: f"{np.std(values, ddof=1):.1f}",
    "reach_maps": lambda: to_markdown(
        maps_table(recorded_maps().query("masks == 'phantoms' and padding == 'counted'"))
    ),
    "default_seeds": _default_seeds,
    "tolerances": _tolerances,
    "claims": lambda: to_markdown(evidence_table()),
    "verdicts": lambda: to_markdown(claims_map("notebooks/", numbers=True).drop(columns="In the paper")),
    "errata": lambda: "".join(f"- {line}.\n" for line in errata()),
    "most_frequent": _most_frequent,
    "views": _views,
    "study": _study,
    "runs": _runs,
    "arm": _arm,
    "arms": lambda name, *tests: to_markdown(_arms(name, tests)),
    "miscalibration": _miscalibration,
    "discordant": _discordant,
    "final_losses": _final_losses,
    "losses": _losses,
    "left_out": _left_out,
    "effect": _effect,
    "other_effect": _other_effect,
    "fall": _fall,
    "change": _change,
    "between": _between,
    "over_seeds": _over_seeds,
    "adjusted": _adjusted,
    "thumbnails": _thumbnails,
    "time": _time,
    "times": _times,
    "adults": lambda: to_markdown(adults_table(recorded_predictions("cxr_image"), ["kermany"])),
    "detection": _detection,
    "cost_of_swapping": _cost_of_swapping,
    "out_of_distribution": lambda run: to_markdown(out_of_distribution_table(run)),
}
"""What expressions may name."""
