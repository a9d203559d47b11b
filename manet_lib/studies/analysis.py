"""What a study shows: paired differences between its arms, and whether they differ or are equivalent."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from statsmodels.stats.weightstats import DescrStatsW

from manet_lib.evaluation.statistics import student_interval
from manet_lib.params import UserError
from manet_lib.studies.plan import Study
from manet_lib.studies.training_records import Record, score

LEVEL = 0.05
"""Of the two-sided test of a difference, and of each of the two one-sided tests of equivalence."""


def chosen_rate(study: Study, records: Sequence[Record], condition: str, arm: str) -> float:
    """The learning rate of an arm: the one with the highest mean validation accuracy after the last epoch.

    Of equal ones, the one with the lowest validation loss.

    Raises:
        UserError: the training runs that choose it are not recorded.
    """
    if len(study.rates) == 1:
        return study.rates[0]
    where = study.rates_chosen_in or condition
    found: dict[float, tuple[float, float]] = {}
    for rate in study.rates:
        same = [
            record["log"]
            for record in records
            if (record["pair"], record["condition"], record["arm"], record["learning_rate"])
            == (0, where, arm, rate)
        ]
        if len(same) < len(study.rate_seeds):
            raise UserError(f"rates: {arm} in {where} has {len(same)} training runs with {rate:g}; run the study")
        accuracy, loss = (float(np.mean([log[key][-1] for log in same])) for key in ("val_accuracy", "val_loss"))
        found[rate] = (-round(accuracy, 6), loss)
    return min(found, key=found.__getitem__)


def scores(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """Condition, arm, pair, code, test and value (percent) of each training run and test."""
    rows = [
        (
            record["condition"],
            record["arm"],
            record["pair"],
            record["code"],
            test,
            score(record, test, study.quantity),
        )
        for record in records
        if record["pair"]
        for test in study.tests
        if test in record["tests"]
    ]
    return pd.DataFrame(rows, columns=["condition", "arm", "pair", "code", "test", "value"])


def effects(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """Each contrast in each condition and test, a row each.

    Columns: condition, test, contrast, pairs (how many there are), first and second (mean of each arm, percent),
    difference with low and high (its 95% interval, percentage points), p (paired t test), p_equivalent (two
    one-sided tests with the study's margin), verdict (see :func:`verdict`) and versions (of the code; both runs of
    a pair have the same one, other pairs are left out).
    """
    table, rows = scores(study, records), []
    for condition in study.conditions:
        for test in study.tests:
            part = table[(table["condition"] == condition) & (table["test"] == test)]
            wide = part.pivot_table(index=["pair", "code"], columns="arm", values="value")
            for first, second in study.contrasts:
                if first in wide and second in wide:
                    both = wide[[first, second]].dropna()
                    versions = both.index.get_level_values("code").nunique()
                    row = {"condition": condition, "test": test, "contrast": f"{first} − {second}"}
                    found = paired_effect(both[first].to_numpy(), both[second].to_numpy(), study.margin)
                    rows.append(row | found | {"versions": versions})
    return pd.DataFrame(rows).round(4)


def paired_effect(first: NDArray[np.float64], second: NDArray[np.float64], margin: float) -> dict[str, object]:
    """Compare two arms over their pairs of training runs; see :func:`effects` for what is returned.

    Args:
        first: value of the first arm in each pair, percent.
        second: of the second.
        margin: of equivalence, percentage points.
    """
    means = {"pairs": len(first), "first": first.mean() if len(first) else np.nan}
    means["second"] = second.mean() if len(second) else np.nan
    nothing = dict.fromkeys(("difference", "low", "high", "p", "p_equivalent"), np.nan)
    if len(first) < 2:
        return means | nothing | {"verdict": "undecided"}
    differences = first - second
    if not differences.std():  # Student's t is not defined
        p, equivalent = float(differences[0] == 0), float(abs(differences[0]) >= margin)
    else:
        p = float(scipy.stats.ttest_1samp(differences, 0).pvalue)
        equivalent = float(DescrStatsW(differences).ttost_mean(-margin, margin)[0])
    mean, half = student_interval(differences)
    found = {"difference": mean, "low": mean - half, "high": mean + half, "p": p, "p_equivalent": equivalent}
    return means | found | {"verdict": verdict(mean, p, equivalent)}


def verdict(difference: float, p: float, p_equivalent: float) -> str:
    """`equivalent` within the margin, `higher` or `lower` (the difference is significant), or `undecided`."""
    if p_equivalent < LEVEL:
        return "equivalent"
    if p < LEVEL:
        return "higher" if difference > 0 else "lower"
    return "undecided"


def pairs_needed(differences: NDArray[np.float64], margin: float, most: int = 200) -> int:
    """Pairs after which a verdict is likely, if mean and spread of the differences stay what they are.

    The first number for which either the 95% interval leaves out zero or the 90% interval lies within the margin.

    Args:
        differences: percentage points, two or more.
        margin: percentage points.
        most: what is returned if no smaller number is enough.
    """
    mean, spread = abs(float(differences.mean())), float(differences.std(ddof=1))
    for count in range(2, most):
        error = spread / np.sqrt(count)
        significant = mean > scipy.stats.t.ppf(1 - LEVEL / 2, count - 1) * error
        equivalent = mean + scipy.stats.t.ppf(1 - LEVEL, count - 1) * error < margin
        if significant or equivalent:
            return count
    return most
