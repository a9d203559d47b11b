"""Every table of the paper from the files of a run, as CSV, Markdown and LaTeX."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.artifacts import Known, read_done, write_text
from manet_lib.data.manifest import read_manifest, same_patient_share, stage_1_share
from manet_lib.data.sources.public import SOURCES
from manet_lib.data.splits import SPLITS
from manet_lib.evaluation.metrics import classification_report, confusion_matrix
from manet_lib.evaluation.statistics import bootstrap_interval, share_interval
from manet_lib.params import CLASS_TITLES, Params
from manet_lib.paths import RunPaths, log_of
from manet_lib.steps import all_steps, classification_step
from manet_lib.training.classification import read_predictions

SPLIT_TITLES = {"train": "Training", "val": "Validation", "test": "Test"}

_REPORTED = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1-score"))

MODEL_TITLES = {
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "inceptionv3": "Inceptionv3",
}


NETWORKS = tuple(MODEL_TITLES)
"""The four networks of Table 2."""


def model_title(name: str) -> str:
    """How the paper prints a model: ``resnet50_ma`` is ResNet50(MA); other networks stay as they are."""
    base, _, attention = name.partition("_")
    return MODEL_TITLES.get(base, base) + (f"({attention.upper()})" if attention else "")


def class_title(name: str) -> str:
    """How the paper prints a class; other names stay as they are."""
    return CLASS_TITLES.get(name, name)


def published(name: str) -> pd.DataFrame:
    """A printed table of the paper, digit for digit, all cells as text.

    Args:
        name: table1_distribution, table2_test_accuracy, table3_cost, table4_report_resnet50_ma,
            table5_confusion_resnet50_ma or segmentation_iou.
    """
    with (files("manet_lib.report") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def data_note(params: Params) -> str:
    """What a title says about the data, so that no table is taken for a reproduction that is none."""
    if params.data_source == "phantom":
        return "drawn phantoms, not comparable with the paper"
    if not params.published:
        return f"data of profile {params.profile}, not the paper's"
    size = f" at {params.image_size} pixels instead of 512" if not params.at_paper_size else ""
    return f"the paper's data{size}"


def trained_models(params: Params, paths: RunPaths) -> list[tuple[str, int]]:
    """The (model, trial) pairs of a run that are trained, with its parameters of today, in Table 2's order."""
    pairs = [(model, trial) for model in params.models for trial in params.trial_numbers]
    known: Known = {}
    return [pair for pair in pairs if classification_step(params, paths, *pair).fault(known) is None]


def distribution(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Table 1: films by class and set; with the printed counts behind each where the data is the paper's."""
    counts = pd.crosstab(manifest["split"], manifest["label"])
    counts = counts.reindex(index=list(SPLITS), columns=params.classes, fill_value=0)
    counts.loc["total"] = counts.sum()
    table = pd.DataFrame({"Set": [SPLIT_TITLES.get(name, "Total") for name in counts.index]})
    printed = published("table1_distribution").set_index("set")
    for label in params.classes:
        table[class_title(label)] = counts[label].to_numpy()
        if params.published and label in printed:
            table[f"{class_title(label)}, paper"] = [printed.loc[name, label] for name in counts.index]
    table["All"] = counts.sum(axis=1).to_numpy()
    return table


def composition(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Section 2.1: films by class and source, and image-mask pairs; the paper's beside them where fair."""
    films = pd.crosstab(manifest["label"], manifest["source"]).reindex(params.classes, fill_value=0)
    table = pd.DataFrame({"Class": [class_title(label) for label in films.index]})
    for source in films.columns:
        table[source or "no source"] = films[source].to_numpy()
    table["Films"] = films.sum(axis=1).to_numpy()
    pairs = manifest[manifest["mask_path"] != ""]["label"].value_counts().reindex(params.classes, fill_value=0)
    if not params.published:
        return table.assign(**{"With lung mask": pairs.to_numpy()})
    printed = published("table1_distribution").set_index("set").loc["total", params.classes].astype(int)
    table["Films, paper"] = printed.to_numpy()
    table["Difference"] = table["Films"] - table["Films, paper"]
    table["With lung mask"] = pairs.to_numpy()
    masked = published("segmentation_iou").set_index("class")
    counts = masked[["train_pairs", "test_pairs"]].astype(int).sum(axis=1)
    table["With lung mask, paper"] = [int(counts.get(label, 0)) for label in params.classes]
    return table


def leakage(manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """What the split leaks: test films, by class, that training has seen in one way or another."""
    patient, mask = same_patient_share(manifest), stage_1_share(manifest)
    rows = [
        (class_title(label), *(_percent(share.get(label)) for share in (patient, mask)))
        for label in params.classes
    ]
    columns = ["Class", "Same patient in training (%)", "Lung mask in stage 1's training (% of those with one)"]
    return pd.DataFrame(rows, columns=columns)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def collections_card() -> pd.DataFrame:
    """The paper's four public collections: published films by class, terms, and how to cite them."""
    return pd.DataFrame(
        {
            "Collection": [f"[{source.title}]({source.home})" for source in SOURCES],
            "Films": [
                ", ".join(f"{count} {class_title(label)}" for label, count in source.counts.items())
                for source in SOURCES
            ],
            "Terms": [source.licence for source in SOURCES],
            "Citation": [source.citation for source in SOURCES],
        }
    )


def segmentation_scores(iou: pd.DataFrame, manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Section 4.1: mean test IoU of stage 1 by class, with a 95% bootstrap interval over images."""
    printed = published("segmentation_iou").set_index("class")
    train = manifest[manifest["seg_split"] == "train"]["label"].value_counts()
    rows = []
    for label in [*params.classes, "overall"]:
        values = (iou if label == "overall" else iou[iou["label"] == label])["iou"].to_numpy()
        if not len(values):
            continue
        low, high = bootstrap_interval(values)
        row: dict[str, Any] = {
            "Class": "All images" if label == "overall" else class_title(label),
            "Training pairs": int(train.sum() if label == "overall" else train.get(label, 0)),
            "Test pairs": len(values),
            "Test IoU (%)": f"{100 * values.mean():.2f}",
            "95% interval": f"{100 * low:.2f} to {100 * high:.2f}",
        }
        if params.at_paper_size:
            row["Paper (%)"] = printed["test_iou_pct"].get(label, "")
        rows.append(row)
    return pd.DataFrame(rows)


def right_by_trial(
    params: Params, paths: RunPaths, model: str, trials: list[int]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which test films a model classifies rightly: bool (trials, films), and the patient of each film."""
    tables = [read_predictions(paths, model, trial) for trial in trials]
    ordered = [table.set_index("image_id").sort_index() for table in tables if table is not None]
    assert len(ordered) == len(trials) > 0, "asked for a training that has not been run"
    right = np.stack([(table["label"] == table["predicted"]).to_numpy() for table in ordered])
    return right, patients_of(paths, ordered[0].index)


def patients_of(paths: RunPaths, films: pd.Index) -> list[str]:
    """The patient of each film by its image_id; a film of nobody known is a patient of its own."""
    patients = read_manifest(paths).set_index("image_id")["patient"].loc[films]
    return [patient or str(film) for film, patient in patients.items()]


def test_accuracy(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Table 2: test accuracy of every trained model by trial, and its average.

    The 95% interval draws patients (films, where no patient is known) and, with several trials, trainings; see
    :func:`manet_lib.evaluation.statistics.share_interval`.
    """
    printed = published("table2_test_accuracy").set_index("model")
    done = trained_models(params, paths)
    rows = []
    for model in params.models:
        trials = [trial for name, trial in done if name == model]
        row: dict[str, Any] = {"Model": model_title(model)}
        row |= {f"Trial {trial}": "–" for trial in params.trial_numbers} | {
            "Average (%)": "–",
            "95% interval": "–",
        }
        if trials:
            right, patients = right_by_trial(params, paths, model, trials)
            for trial, share in zip(trials, right.mean(axis=1), strict=True):
                row[f"Trial {trial}"] = f"{100 * share:.2f}"
            mean, low, high = share_interval(right, patients)
            row["Average (%)"], row["95% interval"] = f"{100 * mean:.2f}", f"{100 * low:.1f} to {100 * high:.1f}"
        if params.at_paper_size:
            row["Paper, average (%)"] = printed["average"].get(model, "–")
        rows.append(row)
    return pd.DataFrame(rows)


def best_run(params: Params, paths: RunPaths) -> tuple[str, int] | None:
    """The training with the highest test accuracy, as the paper picks it for Tables 4 and 5; the first of ties."""
    scores = {}
    for pair in trained_models(params, paths):
        table = read_predictions(paths, *pair)
        if table is not None:
            scores[pair] = float((table["label"] == table["predicted"]).mean())
    return max(scores, key=lambda pair: scores[pair]) if scores else None


def confusion_of(params: Params, paths: RunPaths, model: str, trial: int) -> pd.DataFrame:
    """Confusion matrix of one training on the test films."""
    table = read_predictions(paths, model, trial)
    assert table is not None, "asked for a training that has not been run"
    return confusion_matrix(table["label"], table["predicted"], params.classes)


def report_table(confusion: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Table 4: precision, recall, F1 and support by class, as text with two decimals."""
    report = classification_report(confusion).reset_index()
    table = pd.DataFrame(
        {"Class": [class_title(name).replace("weighted a", "Weighted a") for name in report["class"]]}
    )
    for column, title in _REPORTED:
        table[title] = [f"{value:.2f}" for value in report[column]]
    table["Support"] = report["support"]
    if params.at_paper_size:
        printed = published("table4_report_resnet50_ma")
        for column, title in _REPORTED:
            table[f"{title} of ResNet50(MA), paper"] = printed[column].tolist()
    return table


def confusion_table(confusion: pd.DataFrame) -> pd.DataFrame:
    """Table 5: films by actual class (rows) and predicted class (columns)."""
    table = confusion.rename(columns=class_title).reset_index()
    table["actual"] = [class_title(name) for name in table["actual"]]
    return table.rename(columns={"actual": "Actual"})


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


def logs(params: Params, paths: RunPaths) -> dict[tuple[str, int], pd.DataFrame]:
    """The log of every trained model and trial."""
    return {pair: pd.read_csv(log_of(paths.classifier(*pair))) for pair in trained_models(params, paths)}


def late_epochs(epochs: int) -> int:
    """How many epochs count as late in a training: the last quarter, and the one before it that it jumps from."""
    return min(epochs, max(3, epochs // 4 + 1))


def late_jumps(log: pd.DataFrame) -> tuple[float, float]:
    """How much validation jumps from epoch to epoch over the last quarter of a training.

    Returns:
        Standard deviation of the differences of accuracy, in percentage points, and of loss.
    """
    late = log.tail(late_epochs(len(log)))
    jumps = late[["val_accuracy", "val_loss"]].diff().dropna().std(ddof=1)
    return 100 * float(jumps["val_accuracy"]), float(jumps["val_loss"])


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
            f"Table 2: {model_title(str(name))} prints {share}, which no number of 680 films gives; "
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


def to_markdown(table: pd.DataFrame) -> str:
    """A table as GitHub-flavoured Markdown; numbers to the right."""
    number = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    lines = [list(map(_cell, table.columns)), ["---:" if flag else "---" for flag in number]]
    lines += [list(map(_cell, row)) for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    """A cell of a Markdown table: in one line, and without a bar that would end it."""
    return " ".join(str(value).splitlines()).replace("|", r"\|")


_NAMED = {"\\": "textbackslash", "^": "textasciicircum", "~": "textasciitilde", "|": "textbar"}
_LATEX = str.maketrans(
    {sign: rf"\{sign}" for sign in "%_&#${}"}
    | {sign: rf"\{name}{{}}" for sign, name in _NAMED.items()}
    | {"–": "--", "\n": " "}
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def write_table(table: pd.DataFrame, paths: RunPaths, name: str, caption: str) -> str:
    """Write a table as CSV, Markdown and LaTeX to the figures folder.

    Args:
        table: cells as they shall be printed.
        paths: of the run.
        name: file name without ending, such as `table1`.
        caption: one sentence, first line of the Markdown file and caption in LaTeX.

    Returns:
        Caption and table as Markdown, to be shown.
    """
    text = f"**{caption}**\n\n{to_markdown(table)}"
    write_text(paths.figures / f"{name}.csv", table.to_csv(index=False))
    write_text(paths.figures / f"{name}.md", text)
    printed = table.map(lambda value: _latex(str(value))).set_axis([_latex(str(c)) for c in table.columns], axis=1)
    latex = printed.to_latex(index=False, caption=_latex(caption), label=f"tab:{name}")
    write_text(paths.figures / f"{name}.tex", latex)
    return text
