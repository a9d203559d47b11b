"""Notebook 06: Tables 2, 4 and 5, networks compared in pairs, Fig. 10, and the errata of the paper."""

import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from statsmodels.stats.power import TTestPower

from manet_lib.evaluation.metrics import classification_report, late_jumps
from manet_lib.evaluation.paired import compare, holm, images_needed
from manet_lib.evaluation.statistics import share_interval, student_interval
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths
from manet_lib.report.style import backbone_panels, look_of, styled
from manet_lib.report.tables import (
    class_title,
    format_p,
    logs,
    model_title,
    predictions_of,
    published,
    right_by_trial,
    trained_models,
)
from manet_lib.workflow.records import Known, read_done
from manet_lib.workflow.steps import all_steps

_REPORTED = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1-score"))


def test_accuracy(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Table 2: test accuracy of every trained model by trial, and its average.

    The 95% interval draws patients (images, where no patient is known) and, with several trials, training runs;
    see :func:`manet_lib.evaluation.statistics.share_interval`.
    """
    printed = published("table2_test_accuracy").set_index("model")
    done = trained_models(params, paths)
    rows = []
    for model in params.models:
        trials = [trial for name, trial in done if name == model]
        columns = [*(f"Trial {trial}" for trial in params.trial_numbers), "Average (%)", "95% interval"]
        row = {"Model": model_title(model)} | dict.fromkeys(columns, "–")
        if trials:
            right, patients = right_by_trial(paths, model, trials)
            for trial, share in zip(trials, right.mean(axis=1), strict=True):
                row[f"Trial {trial}"] = f"{100 * share:.2f}"
            mean, low, high = share_interval(right, patients)
            row["Average (%)"], row["95% interval"] = f"{100 * mean:.2f}", f"{100 * low:.1f} to {100 * high:.1f}"
        if params.at_paper_size:
            row["Paper, average (%)"] = printed["average"].get(model, "–")
        rows.append(row)
    return pd.DataFrame(rows)


def paired_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Each model with attention beside the plain one, on the same images in the same trials.

    p values are those of exact McNemar tests, one for each trial, adjusted by Holm over all rows and trials.
    """
    done = trained_models(params, paths)
    compared = []
    for model in params.models:
        base, _, attention = model.partition("_")
        trials = [trial for name, trial in done if name == model and (base, trial) in done]
        if not attention or not trials:
            continue
        first, patients = right_by_trial(paths, model, trials)
        second, _ = right_by_trial(paths, base, trials)
        compared.append((model, compare(first, second, patients)))
    adjusted = iter(holm([p for _, found in compared for p in found.p_values]))
    rows = []
    for model, found in compared:
        count = len(found.p_values)
        difference, low, high = (f"{100 * bound:+.1f}" for bound in found.bounds)
        counts = "; ".join(f"{b}, {c}" for b, c in zip(found.only_first, found.only_second, strict=True))
        p_values = "; ".join(format_p(next(adjusted)) for _ in range(count))
        wrong = format_p(found.false_claim) if count == 1 else "–"  # it is of one trial
        won = f"{found.trials_won * count:g} of {count}"
        rows.append((model_title(model), difference, f"{low} to {high}", counts, p_values, won, wrong))
    columns = ["Model", "Minus plain (points)", "95% interval"]
    columns += ["Images right with attention alone, plain alone", "p", "Trials won", "False claim"]
    return pd.DataFrame(rows, columns=columns)


def _gains() -> dict[str, NDArray[np.float64]]:
    """The gain of MA in each of the three trials of the paper's Table 2, by network."""
    printed = published("table2_test_accuracy").set_index("model")[["trial1", "trial2", "trial3"]].astype(float)
    plain = [name for name in printed.index if f"{name}_ma" in printed.index]
    return {name: (printed.loc[f"{name}_ma"] - printed.loc[name]).to_numpy() for name in plain}


def printed_gains_of_the_paper() -> pd.DataFrame:
    """The paper's Table 2 in pairs: gain of MA in each of its three trials, and Student's 95% interval."""
    rows = []
    for network, gains in _gains().items():
        mean, half = student_interval(gains)
        row = {"Network": model_title(network)}
        row |= {f"Trial {number}": f"{gain:+.2f}" for number, gain in enumerate(gains, start=1)}
        rows.append(row | {"Gain of MA": f"{mean:+.2f} ± {half:.2f}", "mean": mean})
    return pd.DataFrame(rows)


def needed_to_see_the_papers_gains(discordance: float = 0.05, power: float = 0.8) -> pd.DataFrame:
    """How much it takes to see each gain of the paper's Table 2, were it true.

    Args:
        discordance: share of the images that one of the two networks alone classifies correctly; the paper does
            not print it.
        power: probability of seeing the gain at the 5% level, two-sided.

    Returns:
        Columns Network, Gain (points), Test images (McNemar's test, one training each), Trials (paired t test).
    """
    rows = []
    for network, gains in _gains().items():
        mean = gains.mean()
        count = TTestPower().solve_power(effect_size=mean / gains.std(ddof=1), power=power, alpha=0.05)
        images = images_needed(mean / 100, discordance, power)
        rows.append((model_title(network), f"{mean:.2f}", f"{images:,}", f"{int(np.ceil(count))}"))
    return pd.DataFrame(rows, columns=["Network", "Gain (points)", "Test images", "Trials"])


def what_the_paper_shows() -> list[str]:
    """What the paper's printed trials can show: a test over networks, and the smallest p of three trials."""
    means, halves = np.transpose([student_interval(gains) for gains in _gains().values()])
    test = scipy.stats.ttest_1samp(means, 0.0)
    significant = (np.abs(means) > halves).sum()
    least = 2 / scipy.special.comb(6, 3)
    return [
        f"over three trials the gain of MA differs significantly from 0 in {significant} of {len(means)} networks",
        f"over the {len(means)} networks, MA gains {means.mean():.2f} points on average "
        f"(t = {test.statistic:.2f}, p = {format_p(test.pvalue)}, {test.df:.0f} degrees of freedom)",
        f"three trials against three: no two-sided permutation test can give a p below {least:.2f}",
    ]


def best_run(params: Params, paths: RunPaths) -> tuple[str, int] | None:
    """The training with the highest test accuracy, as the paper picks it for Tables 4 and 5; the first of ties."""

    def score(pair: tuple[str, int]) -> float:
        table = predictions_of(paths, pair[0], [pair[1]])
        return float((table["label"] == table["predicted"]).mean())

    return max(trained_models(params, paths), key=score, default=None)


def report_table(confusion: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Table 4: precision, recall, F1 and support by class, as text with two decimals."""
    report = classification_report(confusion).reset_index()
    titles = [class_title(name).replace("weighted a", "Weighted a") for name in report["class"]]
    table = pd.DataFrame({"Class": titles})
    for column, title in _REPORTED:
        table[title] = [f"{value:.2f}" for value in report[column]]
    table["Support"] = report["support"]
    if params.at_paper_size:
        printed = published("table4_report_resnet50_ma")
        for column, title in _REPORTED:
            table[f"{title} of ResNet50(MA), paper"] = printed[column].tolist()
    return table


def confusion_table(confusion: pd.DataFrame) -> pd.DataFrame:
    """Table 5: images by actual class (rows) and predicted class (columns)."""
    return confusion.rename(index=class_title, columns=class_title).rename_axis("Actual").reset_index()


def stability_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """How much validation jumps from epoch to epoch over the last quarter of training, by model.

    Standard deviation of the differences between one epoch and the next, averaged over trials.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for (model, _), log in logs(params, paths).items():
        rows.setdefault(model, []).append(late_jumps(log))
    table = [(model_title(model), len(values), *np.mean(values, axis=0)) for model, values in rows.items()]
    return pd.DataFrame(table, columns=["Model", "Trials", "Accuracy (points)", "Loss"]).round(3)


def steps_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """What each step of the run took: seconds, device and arithmetic, from its done.json.

    Where ``old_code`` keeps results that an earlier version of the code made, a last column says so.
    """
    known: Known = {}
    rows = []
    for step in all_steps(params, paths)[:-1]:  # cost has a table of its own
        done = read_done(step.folder)
        if done is not None and step.fault(known) is None:
            row = {"Step": step.folder.name, "Seconds": done["seconds"], "Device": done["device"]}
            row |= {"Precision": done.get("precision", ""), "Changed since": ", ".join(step.outdated_code())}
            rows.append(row)
    table = pd.DataFrame(rows, columns=["Step", "Seconds", "Device", "Precision", "Changed since"])
    return table if table["Changed since"].any() else table.drop(columns="Changed since")


@styled
def accuracy_curves(logs: dict[tuple[str, int], pd.DataFrame]) -> Figure:
    """Fig. 10: validation accuracy over the epochs, one panel per backbone; mean and range of the trials.

    Args:
        logs: log of each (model, trial).

    Raises:
        UserError: nothing has been trained.
    """
    if not logs:
        raise UserError("figure 10: nothing has been trained; run notebook 04")
    models = list(dict.fromkeys(model for model, _ in logs))
    figure, panels = backbone_panels(models, 3.1, 2.9, "validation accuracy (%)")
    for model in models:
        axes = panels[model.partition("_")[0]]
        trials = [log for (name, _), log in logs.items() if name == model]
        epochs = trials[0]["epoch"]
        accuracy = 100 * np.stack([log["val_accuracy"] for log in trials])
        marker = "o" if len(epochs) <= 30 else ""
        look = look_of(model)
        axes.plot(epochs, accuracy.mean(axis=0), marker=marker, markersize=3, linewidth=1.3, **look)
        if len(trials) > 1:
            low, high = accuracy.min(axis=0), accuracy.max(axis=0)
            axes.fill_between(epochs, low, high, color=look["color"], alpha=0.2, linewidth=0)
        axes.set(xlabel="epoch", ylim=(0, 100))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="lower right")
    return figure


def errata() -> list[str]:
    """Printed numbers of the paper that disagree with each other, beside the recomputed value."""
    table2 = published("table2_test_accuracy").set_index("model")
    lines = []
    for name, row in table2.iterrows():
        trials = [float(row[f"trial{number}"]) for number in (1, 2, 3)]
        mean = f"{np.mean(trials):.2f}"
        if mean != row["average"]:
            lines.append(f"Table 2: {model_title(str(name))} averages {mean}, printed {row['average']}")
        lines += [
            f"Table 2: {model_title(str(name))} prints {share}, which no number of 680 images gives; "
            f"{round(6.8 * share)}/680 is {100 * round(6.8 * share) / 680:.2f}"
            for share in trials
            if f"{100 * round(6.8 * share) / 680:.2f}" != f"{share:.2f}"
        ]
    iou = published("segmentation_iou").set_index("class").astype(float)
    *parts, whole = iou.index
    by_class = iou.loc[parts, "test_iou_pct"]
    by_image = np.average(by_class, weights=iou.loc[parts, "test_pairs"])
    lines.append(
        f"Section 4.1: the overall IoU is printed {iou.loc[whole, 'test_iou_pct']:.2f}; over images it is "
        f"{by_image:.2f}, over classes {by_class.mean():.2f}"
    )
    return lines
