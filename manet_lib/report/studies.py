"""What studies show: a table of paired differences and a figure of all arms, for notebooks 08 and 10."""

from itertools import cycle, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.evaluation.scores import auc_values, brier_interval, calibration_by_chance, calibration_values
from manet_lib.evaluation.statistics import crossed_interval, share_interval, student_interval
from manet_lib.report.probabilities import Predictions
from manet_lib.report.style import legend_below, row_of_panels, styled
from manet_lib.report.tables import in_percent, with_interval
from manet_lib.studies.analysis import compared, effects, measured, one_version, paired_runs, with_records
from manet_lib.studies.plan import Study, load_study
from manet_lib.studies.training_records import Record, probabilities_of

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222", "#e07b00")


def study_table(name: str, tests: tuple[str, ...] = ()) -> pd.DataFrame:
    """The contrasts of a study, in the order of its file: means, difference with 95% interval, verdict.

    Args:
        name: of the study.
        tests: which of its tests; all, if none is named.

    Returns:
        One row per condition, test and contrast; Runs counts the pairs of training runs behind it, and Versions
        those of the code. Interval and verdict are over training runs; where all of them have the same test
        images, a further interval is over images, too. Empty where nothing is recorded.
    """
    study, records = with_records(name)
    table = effects(study, records)
    table = table[table["test"].isin(tests)] if tests else table
    rows = []
    for row in table.to_dict("records"):
        interval = with_interval(row["difference"], row["low"], row["high"], "+.1f")
        means = [f"{row[arm]:.1f}" if row["pairs"] else "–" for arm in ("first", "second")]
        names = row["condition"], row["test"], row["contrast"], int(row["pairs"])
        shown = interval if np.isfinite(row["low"]) else "–"
        rows.append((*names, *means, shown, row["verdict"], int(row["versions"])))
    columns = ["Condition", "Tested on", "Contrast", "Runs", "First (%)", "Second (%)"]
    columns += ["Difference (points, 95% interval)", "Verdict", "Versions"]
    found = pd.DataFrame(rows, columns=columns)
    if not study.new_images:
        known, runs = measured(study, records), compared(study, records)
        over_images = [_over_images(study, known, runs, row) for row in table.to_dict("records")]
        found.insert(columns.index("Verdict"), "95% interval over images, too", over_images)
    return found.astype({"Runs": int, "Versions": int})  # whole numbers also beside empty tables


def _over_images(study: Study, known: pd.DataFrame, runs: list[Record], row: dict[str, Any]) -> str:
    """The 95% interval of a contrast over test images and training runs; an image counts as a patient."""
    arms = row["contrast"].split(" − ")
    both = paired_runs(known[(known["condition"] == row["condition"]) & (known["test"] == row["test"])], *arms)
    if len(both) < 2:
        return "–"
    own = {(one["arm"], one["pair"], one["code"]): one for one in runs if one["condition"] == row["condition"]}
    values = []
    for arm in arms:
        found = predictions([own[arm, *place] for place in both.index], row["test"])
        values.append(100 * _auc_values(found) if study.quantity == "auc" else 100.0 * found.right)
    _, low, high = crossed_interval(values[0] - values[1])
    return f"{low:+.1f} to {high:+.1f}"


def _auc_values(found: Predictions) -> NDArray[np.float64]:
    """Values (training runs, images) whose mean is the AUC of the second of two classes."""
    return auc_values(found.actual[:, 1], found.probabilities[:, :, 1])


def arms_table(name: str, tests: tuple[str, ...] = ()) -> pd.DataFrame:
    """What each arm of a study of two classes reaches, with 95% intervals over images and training runs.

    The intervals are those of :func:`manet_lib.evaluation.statistics.share_interval`, for which all training runs
    of a condition must have the same test images: the study's file says ``new_images: false``. An image counts as
    a patient.

    Args:
        name: of the study.
        tests: which of its tests; all, if none is named.

    Returns:
        One row per condition, test and arm: AUC and accuracy in percent, Brier score (0 to 2), by how many points
        confidence and accuracy differ on average over ten bins (expected calibration error), and the 95th
        percentile of this error if every probability were true.
    """
    study, records = with_records(name)
    shown, rows, groups = tests or tuple(study.tests), [], dict[tuple[str, str], list[Record]]()
    for record in one_version(compared(study, records)):
        groups.setdefault((record["condition"], record["arm"]), []).append(record)
    for condition, test, arm in product(study.conditions, shown, study.arms):
        if (condition, arm) not in groups:
            continue
        found = predictions(groups[condition, arm], test)
        row: dict[str, Any] = {"Condition": condition, "Tested on": test, "Arm": arm}
        row["Runs"] = len(found.probabilities)
        row["AUC (%)"] = in_percent(share_interval(_auc_values(found)))
        row["Accuracy (%)"] = in_percent(share_interval(found.right))
        row["Brier score (0 to 2)"] = with_interval(*brier_interval(found.actual, found.probabilities), ".2f")
        row["Calibration error (points)"] = f"{100 * calibration_values(found.confidence, found.right).mean():.0f}"
        row["95th percentile by chance (points)"] = f"{100 * calibration_by_chance(found.confidence):.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def predictions(records: list[Record], test: str) -> Predictions:
    """What training runs with the same test images predict for them; ValueError if the images differ."""
    tested = [record["tests"][test] for record in records]
    if any(one["image_id"] != tested[0]["image_id"] for one in tested):
        raise ValueError(f"{test}: the training runs have other test images than each other; expected the same")
    actual = np.array(tested[0]["label"])[:, None] == np.array(records[0]["classes"])
    probabilities = np.stack([probabilities_of(record, test) for record in records])
    return Predictions(actual, probabilities, tested[0]["image_id"])


def whole_pairs(name: str) -> pd.DataFrame:
    """Measurements of the complete pairs: those with as many arms as any pair of their condition has.
    See :func:`manet_lib.studies.analysis.measured` for the columns.
    """
    study, records = with_records(name)
    chosen = [one for one in records if not one["pair"]] + one_version(compared(study, records))
    table = measured(study, chosen)
    arms = table.groupby(["condition", "pair"])["arm"].transform("nunique")
    return table[arms == arms.groupby(table["condition"]).transform("max")]


@styled
def study_figure(name: str, tests: tuple[str, ...] = ()) -> Figure:
    """Every arm of a study in each condition and test: complete pairs as points, their mean with its 95% interval.

    The axis shows the range of the runs; a wider interval, as of three runs, is cut off there.

    Args:
        name: of the study.
        tests: which of its tests; all, if none is named.
    """
    study, table = load_study(name), whole_pairs(name)
    shown = list(tests) or study.tests
    there = [one for one in study.conditions if one in set(table["condition"])]
    conditions = there or list(study.conditions)[:1]
    figure, panels = row_of_panels(len(conditions), 3.2, 3.1, sharey=True)
    for axes, condition in zip(panels, conditions, strict=True):
        _draw_arms(axes, table[table["condition"] == condition], list(study.arms), shown)
        axes.set(title=condition, xticks=range(len(shown)), xlim=(-0.5, len(shown) - 0.5))
        axes.set_xticklabels(shown, rotation=20, ha="right")
        axes.grid(alpha=0.25, axis="y")
    if len(table):
        values = table.loc[table["test"].isin(shown), "value"]
        panels[0].set_ylim(values.min() - 3, values.max() + 3)
    panels[0].set_ylabel("AUC (%)" if study.quantity == "auc" else "accuracy (%)")
    legend_below(figure, panels[0], 4)
    return figure


def _draw_arms(axes: Axes, table: pd.DataFrame, arms: list[str], tests: list[str]) -> None:
    for number, (arm, colour) in enumerate(zip(arms, cycle(_COLOURS), strict=False)):
        own = table[table["arm"] == arm]
        found = [own.loc[own["test"] == test, "value"].to_numpy() for test in tests]
        at = np.arange(len(tests)) + (number - (len(arms) - 1) / 2) * 0.8 / len(arms)
        for place, values in zip(at, found, strict=True):
            axes.plot(np.full(len(values), place), values, "o", markersize=3, markerfacecolor="none", color=colour)
        several = [place for place, values in enumerate(found) if len(values) > 1]
        bounds = np.array([student_interval(found[place]) for place in several]).reshape(-1, 2)
        style: dict[str, Any] = {"fmt": "o", "markersize": 4, "elinewidth": 1, "color": colour}
        axes.errorbar(at[several], bounds[:, 0], yerr=bounds[:, 1], label=arm, **style)
