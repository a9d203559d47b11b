"""What a study shows: paired differences between its arms, and whether they differ or are equivalent."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from statsmodels.stats.weightstats import DescrStatsW

from manet_lib.evaluation.metrics import late_jumps
from manet_lib.evaluation.paired import holm
from manet_lib.evaluation.statistics import student_interval
from manet_lib.params import UserError
from manet_lib.studies.plan import Study, load_study
from manet_lib.studies.training_records import Record, read, records_file, score

LEVEL = 0.05
"""Of the two-sided test of a difference, and of each of the two one-sided tests of equivalence."""
MOST = 200
"""Pairs of training runs beyond which no need is computed."""


def with_records(name: str) -> tuple[Study, list[Record]]:
    """A study, and its records as far as they were made with the settings that it has now.

    Raises:
        UserError: there is no such study.
    """
    study = load_study(name)
    return study, matching(study, read(records_file(name)))


def matching(study: Study, records: Sequence[Record]) -> list[Record]:
    """The records that were made with the settings that the study has now."""
    arms = {(one["condition"], one["arm"]) for one in records}
    known = [arm for arm in arms if arm[0] in study.conditions and arm[1] in study.arms]
    settings = {arm: study.settings_of(*arm) for arm in known}
    return [one for one in records if settings.get((one["condition"], one["arm"])) == one["settings"]]


def chosen_rate(study: Study, records: Sequence[Record], condition: str, arm: str) -> float:
    """The learning rate of an arm: the one with the highest mean validation accuracy after the last epoch.

    Of equal ones, the one with the lowest validation loss. Training runs of all versions of the code count. A rate
    at which the loss diverges is never chosen.

    Raises:
        UserError: the training runs that choose it are not recorded, or diverge with every rate.
    """
    if len(study.rates) == 1:
        return study.rates[0]
    where = study.rates_chosen_in or condition
    found: dict[float, tuple[float, float]] = {}
    for rate in study.rates:
        key = {"pair": 0, "condition": where, "arm": arm, "learning_rate": rate}
        same = [record["log"] for record in records if key.items() <= record.items()]
        if not same:
            raise UserError(f"rates: {arm} in {where} has no training run with {rate:g}; run the study")
        if all(log["val_accuracy"] for log in same):
            accuracy = np.mean([log["val_accuracy"][-1] for log in same])
            found[rate] = (-round(float(accuracy), 6), float(np.mean([log["val_loss"][-1] for log in same])))
    if not found:
        raise UserError(f"rates: {arm} in {where} diverges with all of them; add lower ones")
    return min(found, key=found.__getitem__)


def measured(study: Study, records: Sequence[Record], quantity: str = "") -> pd.DataFrame:
    """A quantity of each training run that is compared: condition, arm, pair, code, test and value.

    Args:
        study: of the records.
        records: of the study.
        quantity: one of :func:`manet_lib.studies.training_records.score` in percent, in each test (the study's
            own, if not given); `jumps`, the standard deviation of the changes of validation accuracy over the last
            quarter of the epochs, in points; `lungs` or `lesions`, the share of heat maps in the lungs or the true
            lesions, in percent; or `in_lungs` or `in_lesions`, this share minus that with fresh weights.
    """
    quantity = quantity or study.quantity
    rows = []
    for record in compared(study, records):
        if quantity == "jumps":
            found = {"log": late_jumps(pd.DataFrame(record["log"]))[0]}
        elif quantity.removeprefix("in_") in ("lungs", "lesions"):
            maps, region = record["heat_maps"], quantity.removeprefix("in_").removesuffix("s")
            known = f"{region}, trained" in maps
            fresh = maps[f"{region}, untrained"] if known and quantity.startswith("in_") else 0.0
            found = {"heat maps": maps[f"{region}, trained"] - fresh} if known else {}
        else:
            found = {test: score(record, test, quantity) for test in record["tests"]}
        where = [record[key] for key in ("condition", "arm", "pair", "code")]
        rows += [(*where, test, value) for test, value in found.items()]
    return pd.DataFrame(rows, columns=["condition", "arm", "pair", "code", "test", "value"])


def compared(study: Study, records: Sequence[Record]) -> list[Record]:
    """The training runs of the pairs, each with the learning rate that is chosen for its arm, by condition."""
    rates, found, places = dict[tuple[str, str], float](), [], list(study.conditions)
    for record in records:
        arm = (record["condition"], record["arm"])
        if record["pair"] and arm not in rates:
            try:
                rates[arm] = chosen_rate(study, records, *arm)
            except UserError:  # none was chosen
                rates[arm] = record["learning_rate"]
        if record["pair"] and record["learning_rate"] == rates[arm]:
            found.append(record)
    return sorted(found, key=lambda one: places.index(one["condition"]))


def effects(study: Study, records: Sequence[Record], quantity: str = "") -> pd.DataFrame:
    """Each contrast in each condition and test, a row each.

    Columns: condition, test, contrast, pairs (how many there are), first and second (mean of each arm),
    difference with low and high (its 95% interval), p (paired t test), p_equivalent (two one-sided tests with the
    study's margin), verdict (see :func:`verdict`), needed (pairs that give one with 80% probability, if no p value
    is adjusted) and versions (of the code; both runs of a pair have the same one, other pairs are left out). Other
    quantities than the study's have no margin: their significance alone is tested.

    Args:
        study: of the records.
        records: of the study.
        quantity: see :func:`measured`.
    """
    table, rows = measured(study, records, quantity), []
    margin = study.margin if quantity in ("", study.quantity) else 0.0
    for (condition, test), part in table.groupby(["condition", "test"], sort=False):
        found = []
        for first, second in study.contrasts:
            if {first, second} <= set(part["arm"]):
                both = paired_runs(part, first, second)
                row = {"condition": condition, "test": test, "contrast": f"{first} − {second}"}
                row["versions"] = both.index.get_level_values("code").nunique()
                found.append(row | paired_effect(both[first].to_numpy(), both[second].to_numpy(), margin))
        tested = [row for row in found if np.isfinite(row["p"])]
        if study.holm:  # over all contrasts of the study, also those that are not recorded yet
            others = [1.0] * (len(study.contrasts) - len(tested))
            for row, p in zip(tested, holm([row["p"] for row in tested] + others), strict=False):
                row |= {"p": p, "verdict": verdict(row["difference"], p, row["p_equivalent"])}
        rows += found
    columns = ["condition", "test", "contrast", "pairs", "first", "second", "difference", "low", "high"]
    columns += ["p", "p_equivalent", "verdict", "needed", "versions"]
    return pd.DataFrame(rows, columns=columns)


def paired_runs(values: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """The pairs in which two arms were trained with one version of the code, each pair once.

    Args:
        values: from :func:`measured`, of one condition and test.
        first: arm.
        second: arm.

    Returns:
        Indexed by pair and code; a column of values for each of the two arms.
    """
    wide = values[values["arm"].isin([first, second])].pivot(index=["pair", "code"], columns="arm", values="value")
    both = wide.reindex(columns=[first, second]).dropna()
    return both[~both.index.get_level_values("pair").duplicated()]


def one_version(records: Sequence[Record]) -> list[Record]:
    """Each arm of a pair once: of several versions of the code, the one with which most arms were trained."""
    arms = Counter((one["condition"], one["pair"], one["code"]) for one in records)
    found: dict[tuple[str, str, int], Record] = {}
    for one in sorted(records, key=lambda one: -arms[one["condition"], one["pair"], one["code"]]):
        found.setdefault((one["condition"], one["arm"], one["pair"]), one)
    return [one for one in records if found[one["condition"], one["arm"], one["pair"]] is one]


def paired_effect(first: NDArray[np.float64], second: NDArray[np.float64], margin: float) -> dict[str, Any]:
    """Compare two arms over their pairs of training runs; see :func:`effects` for what is returned.

    Args:
        first: value of the first arm in each pair, percent.
        second: of the second.
        margin: of equivalence, percentage points.
    """
    means = {"pairs": len(first), "first": first.mean() if len(first) else np.nan}
    means["second"] = second.mean() if len(second) else np.nan
    nothing = dict.fromkeys(("difference", "low", "high", "p", "p_equivalent"), np.nan)
    differences = first - second
    if len(first) < 2 or differences.std() < 1e-9:  # Student's t needs a spread
        return means | nothing | {"verdict": "undecided", "needed": 0}
    p = float(scipy.stats.ttest_1samp(differences, 0).pvalue)
    equivalent = float(DescrStatsW(differences).ttost_mean(-margin, margin)[0]) if margin else 1.0
    mean, half = student_interval(differences)
    found = {"difference": mean, "low": mean - half, "high": mean + half, "p": p, "p_equivalent": equivalent}
    return means | found | {"verdict": verdict(mean, p, equivalent), "needed": pairs_needed(differences, margin)}


def verdict(difference: float, p: float, p_equivalent: float) -> str:
    """`higher` or `lower` if the difference is significant, else `equivalent` within the margin or `undecided`."""
    if p < LEVEL:
        return "higher" if difference > 0 else "lower"
    return "equivalent" if p_equivalent < LEVEL else "undecided"


POWER = 0.8
"""Power for which :func:`pairs_needed` is computed."""


def pairs_needed(differences: NDArray[np.float64], margin: float, most: int = MOST) -> int:
    """Pairs that give a verdict with probability ``POWER``, if mean and spread of the differences stay the same.

    A verdict: the difference is significant or, if not, the arms are equivalent.

    Args:
        differences: percentage points, two or more.
        margin: percentage points; 0 for no test of equivalence.
        most: what is returned if no smaller number is enough.
    """
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    levels = (np.arange(200) + 0.5) / 200  # of the variance that such pairs will show, a chi-squared quantity
    for count in range(2, most):
        freedom = count - 1
        found = spread * np.sqrt(scipy.stats.chi2.ppf(levels, freedom) / freedom / count)
        significant = scipy.stats.t.ppf(1 - LEVEL / 2, freedom) * found
        equivalent = np.clip(margin - scipy.stats.t.ppf(1 - LEVEL, freedom) * found, 0, significant)
        drawn = scipy.stats.norm(mean, spread / np.sqrt(count))
        undecided = (
            drawn.cdf(significant) - drawn.cdf(equivalent) + drawn.cdf(-equivalent) - drawn.cdf(-significant)
        )
        if 1 - undecided.mean() >= POWER:
            return count
    return most
