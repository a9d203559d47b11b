"""Is it the lungs? What stage 2 makes of other parts of the film, and how far the source of a film goes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.artifacts import Known
from manet_lib.confounders import TESTS
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import seen
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import predicted_rightly, thumbnails
from manet_lib.evaluation.paired import Comparison, compare
from manet_lib.evaluation.statistics import share_interval, student_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths, recorded_shortcuts
from manet_lib.report.tables import class_title, model_title, patients_of
from manet_lib.steps import classification_step
from manet_lib.training.classification import read_predictions

VIEWS = ("lungs", "whole", "background", "shape")
"""What stage 2 may see, the paper's first; see ``view`` in :class:`manet_lib.params.Params`."""

_ANSWER = ["view", "model", "trial", "image_id", "label", "source", "patient", "predicted"]

_SWAPS = {
    "as trained": "of the new patients with the marks as trained",
    "without": "without",
    "swapped": "swapped",
}


def run_answers(params: Params, paths: RunPaths) -> pd.DataFrame:
    """What the networks of a run say of its test films with each view that they were trained with.

    Returns:
        Columns view, model, trial, image_id, label, source, patient, predicted.
    """
    manifest = read_manifest(paths).set_index("image_id")
    known: Known = {}
    tables = []
    for view in dict.fromkeys([params.view, *params.audit_views]):
        where = paths if view == params.view else paths.seeing(view)
        for model in params.models:
            for trial in params.trial_numbers:
                step = classification_step(params.seeing(view), where, model, trial)
                table = None if step.fault(known) else read_predictions(where, model, trial)
                if table is not None:
                    tables.append(table.assign(view=view, model=model, trial=trial))
    found = pd.concat(tables) if tables else pd.DataFrame(columns=_ANSWER)
    films = pd.Index(found["image_id"])
    found = found.assign(source=manifest["source"].loc[films].to_numpy(), patient=patients_of(paths, films))
    return found[_ANSWER]


def recorded_answers(name: str) -> pd.DataFrame:
    """The same of trainings that benchmarks/shortcuts.py has recorded under a name; empty where there are none."""
    file = recorded_shortcuts() / "views.csv"
    if not file.is_file():
        return pd.DataFrame(columns=_ANSWER)
    table = pd.read_csv(file, dtype={"image_id": str, "patient": str, "source": str}, keep_default_na=False)
    return table[table["films"] == name].drop(columns="films")


def _wide(answers: pd.DataFrame) -> pd.DataFrame:
    """Whether each film (columns) is classified rightly in each trial (rows)."""
    right = answers.assign(right=answers["label"] == answers["predicted"])
    wide = right.pivot(index="trial", columns="image_id", values="right")
    if wide.isna().any(axis=None):
        raise ValueError("some trials have other films than others; expected the same test films in all")
    return wide.astype(bool)


def _right(answers: pd.DataFrame) -> tuple[NDArray[np.bool_], list[str]]:
    """The same as bool (trials, films), and the films' patients."""
    wide = _wide(answers)
    patients = answers.drop_duplicates("image_id").set_index("image_id")["patient"].loc[wide.columns]
    return wide.to_numpy(bool), patients.tolist()


def _compared(first: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """Two networks' answers in the trials and on the films that both have."""
    one, other = _wide(first), _wide(second)
    trials, films = one.index.intersection(other.index), one.columns.intersection(other.columns)
    if not len(trials) or not len(films):
        return None
    patients = first.drop_duplicates("image_id").set_index("image_id")["patient"].loc[films].tolist()
    return compare(one.loc[trials, films].to_numpy(bool), other.loc[trials, films].to_numpy(bool), patients)


def _percent(bounds: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in bounds)
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _by_view(answers: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for model in dict.fromkeys(answers["model"]):
        for view in VIEWS:
            part = answers[(answers["model"] == model) & (answers["view"] == view)]
            if len(part):
                yield model, view, part


def views_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy by view, less that with the lungs alone on the same films, and recall by class, in percent.

    Where films of both pneumonias are there, the last column counts those that are taken for the other of the two.

    Args:
        answers: from :func:`run_answers` or :func:`recorded_answers`.
    """
    rows = []
    for model, view, part in _by_view(answers):
        right, patients = _right(part)
        row = {
            "Model": model_title(model),
            "View": view,
            "Accuracy (%)": _percent(share_interval(right, patients)),
        }
        lungs = answers[(answers["model"] == model) & (answers["view"] == "lungs")]
        row["Less lungs (points)"] = "–"
        found = _compared(part, lungs) if view != "lungs" and len(lungs) else None
        if found is not None:
            row["Less lungs (points)"] = _points((found.difference, found.low, found.high))
        for label in dict.fromkeys(answers["label"]):
            films = part[part["label"] == label]
            row[class_title(label)] = f"{100 * (films['label'] == films['predicted']).mean():.0f}"
        confused = _confused(part)
        if len(confused):
            row["BP and VP confused"] = f"{confused.sum()} of {len(confused)}"
        rows.append(row)
    return pd.DataFrame(rows)


def _confused(answers: pd.DataFrame) -> pd.Series:
    """Whether each film of a bacterial or viral pneumonia is taken for the other of the two."""
    pneumonias = answers[answers["label"].isin(["bp", "vp"])]
    return pneumonias["predicted"].isin(["bp", "vp"]) & (pneumonias["label"] != pneumonias["predicted"])


def adults_table(answers: pd.DataFrame, children: Sequence[str]) -> pd.DataFrame:
    """Normal films of children beside those of adults, by view: recall in percent, and the difference in points.

    Films of different patients, so the intervals of both make that of the difference (square-and-add).

    Args:
        answers: from :func:`run_answers` or :func:`recorded_answers`.
        children: sources whose films are of children.
    """
    rows = []
    for model, view, part in _by_view(answers[answers["label"] == "normal"]):
        young = part["source"].isin(children)
        found = [_right(part[which]) for which in (young, ~young) if which.any()]
        if len(found) == 2:
            shares = [share_interval(*one) for one in found]
            row = {"Model": model_title(model), "View": view}
            for title, one, share in zip(("Children", "Adults"), found, shares, strict=True):
                row |= {f"{title}: films": str(one[0].shape[1]), f"{title} (%)": _percent(share)}
            rows.append(row | {"Adults less children (points)": _points(_difference(*shares[::-1]))})
    return pd.DataFrame(rows)


_Bounds = tuple[float, float, float]
"""A mean and its 95% interval."""


def _difference(first: _Bounds, second: _Bounds) -> _Bounds:
    """The first less the second, which have nothing to do with each other: Newcombe's square-and-add."""
    difference = first[0] - second[0]
    low = difference - np.hypot(first[0] - first[1], second[2] - second[0])
    high = difference + np.hypot(first[2] - first[0], second[0] - second[1])
    return difference, float(low), float(high)


def _points(bounds: _Bounds) -> str:
    mean, low, high = (100 * value for value in bounds)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def splits_table(image: pd.DataFrame, patient: pd.DataFrame) -> pd.DataFrame:
    """Recall by class with a split by image and with one by patient, which have other test films.

    Args:
        image: answers of networks whose films were split by image; see :func:`recorded_answers`.
        patient: answers of the same networks, split by patient.

    Returns:
        By view: recall in the one and the other, and the difference in points with a 95% interval, for each class,
        and for the mean over the classes, which does not change with how many films of a class are tested.
    """
    rows = []
    for _, view, part in _by_view(image):
        other = patient[patient["view"] == view]
        if other.empty:
            continue
        row, found = {"View": view}, []
        for label in dict.fromkeys(part["label"]):
            shares = [share_interval(*_right(one[one["label"] == label])) for one in (other, part)]
            found.append((*shares, _difference(*shares)))
            row[class_title(label)] = _moved(*found[-1])
        values = np.array(found)  # (classes, patient and image and difference, mean and bounds)
        means = values[:, :, 0].mean(axis=0)
        low, high = (
            means[2] + sign * np.sqrt(((values[:, 2, bound] - values[:, 2, 0]) ** 2).sum()) / len(values)
            for sign, bound in ((-1, 1), (1, 2))
        )
        row["Mean of the classes"] = _moved((means[0],), (means[1],), (means[2], low, high))
        rows.append(row)
    return pd.DataFrame(rows)


def _moved(after: Sequence[float], before: Sequence[float], difference: _Bounds) -> str:
    return f"{100 * before[0]:.0f} → {100 * after[0]:.0f}: {_points(difference)}"


def sources_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by source within each class, with the lungs alone, where a class has films of several sources.

    Where one hospital's films of a class are recognised and another's are not, something else than the class may
    have been learnt; or the films differ in more than the hospital, such as in the age of the patients.
    """
    rows = []
    for model, view, part in _by_view(answers):
        for (label, source), films in part.groupby(["label", "source"]):
            if view == "lungs" and part.loc[part["label"] == label, "source"].nunique() > 1:
                right, patients = _right(films)
                row = {"Model": model_title(model), "Class": class_title(str(label)), "Source": str(source)}
                row |= {"Films": str(right.shape[1]), "Accuracy (%)": _percent(share_interval(right, patients))}
                rows.append(row)
    return pd.DataFrame(rows)


def probe_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """How far coarse grey values go: class and source from 16×16 thumbnails of each view, by logistic regression.

    Returns:
        Test accuracy in percent with its 95% interval, and in the first row that of the training's most frequent
        answer.
    """
    manifest, store = read_manifest(paths), Store.open(paths.store)
    masks = np.load(paths.clean_masks, mmap_mode="r")
    test, train = (manifest[manifest["split"] == side] for side in ("test", "train"))
    patients = patients_of(paths, pd.Index(test["image_id"]))
    targets = [name for name in ("label", "source") if manifest[name].nunique() > 1]
    titles = {"label": "Class (%)", "source": "Source (%)"}
    frequent = {name: train[name].value_counts().index[0] for name in targets}
    most = {titles[name]: f"{100 * (test[name] == frequent[name]).mean():.1f}" for name in targets}
    rows: list[dict[str, Any]] = [{"Seen": "nothing: the most frequent"} | most]
    for view in VIEWS:
        shown = thumbnails(seen(image, mask, view) for image, mask in zip(store.images, masks, strict=True))
        row: dict[str, Any] = {"Seen": view}
        for name in targets:
            right = predicted_rightly(shown, manifest, name)
            row[titles[name]] = _percent(share_interval(right[None], patients))
        rows.append(row)
    return pd.DataFrame(rows)


def recorded_doses() -> pd.DataFrame:
    """The dose-response trainings of benchmarks/shortcuts.py.

    Returns:
        One row per training and test: strength, view, model, trial, test (one of ``TESTS``), accuracy in percent,
        films, device, precision; empty where there are none.
    """
    file = recorded_shortcuts() / "doses.csv"
    columns = ["strength", "view", "model", "trial", "test", "accuracy", "films", "device", "precision"]
    return (
        pd.read_csv(file).sort_values("view", kind="stable") if file.is_file() else pd.DataFrame(columns=columns)
    )


def dose_means(doses: pd.DataFrame) -> pd.DataFrame:
    """Mean over trials, and Student's 95% interval where there are several: columns low and high, in percent."""
    rows = []
    keys = ["test", "view", "model", "strength"]
    for key, part in doses.groupby(keys, sort=False):
        values = part["accuracy"].to_numpy(float)
        mean, half = student_interval(values) if len(values) > 1 else (float(values[0]), 0.0)
        rows.append((*key, len(values), mean, max(0.0, mean - half), min(100.0, mean + half)))
    return pd.DataFrame(rows, columns=[*keys, "trials", "accuracy", "low", "high"])


def dose_table(doses: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent by view and model, at the lowest and the highest strength in each test."""
    means = dose_means(doses)
    rows = []
    for (view, model), part in means.groupby(["view", "model"], sort=False):
        ends = part[part["strength"].isin([part["strength"].min(), part["strength"].max()])]
        row = {"View": str(view), "Model": model_title(str(model)), "Trials": int(ends["trials"].min())}
        for test in TESTS:
            chosen = part[part["test"] == test].set_index("strength")["accuracy"]
            for strength in (chosen.index.min(), chosen.index.max()):
                row[f"{test}, strength {strength:g}"] = f"{chosen.loc[strength]:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def probe_in_words(table: pd.DataFrame) -> str:
    """What stands out in the table of :func:`probe_table`, in a sentence."""
    share = table.set_index("Seen")["Class (%)"].str.split().str[0].astype(float)
    best = share[list(VIEWS)].idxmax()
    text = (
        f"From the lungs alone sixteen pixels a side get {share['lungs']:.0f}% of the classes right, from the "
        f"film with the lungs blackened {share['background']:.0f}%, from the outline {share['shape']:.0f}%; "
        f"always giving the most frequent answer gets {share.iloc[0]:.0f}%. Most is got from the view *{best}*."
    )
    if "Source (%)" in table:
        source = table.set_index("Seen")["Source (%)"].str.split().str[0].astype(float)
        text += (
            f" The source itself is recognised from the lungs in {source['lungs']:.0f}% of the films, by always "
            f"giving the most frequent one in {source.iloc[0]:.0f}%."
        )
    return text


def views_in_words(answers: pd.DataFrame) -> str:
    """How well each network does without the lungs' grey values, in a sentence for each.

    Args:
        answers: from :func:`run_answers` or :func:`recorded_answers`.
    """
    said = []
    for model in dict.fromkeys(answers["model"]):
        own = answers[answers["model"] == model]
        share = (own["label"] == own["predicted"]).groupby(own["view"]).mean() * 100
        if "lungs" in share and len(share) > 1:
            others = ", ".join(f"{share[view]:.0f}% with view {view}" for view in VIEWS[1:] if view in share)
            said.append(f"{model_title(model)}: {share['lungs']:.0f}% with the lungs alone, {others}.")
    return " ".join(said)


def doses_in_words(doses: pd.DataFrame) -> str:
    """What the strongest marks do to each network, in a sentence for each.

    Args:
        doses: from :func:`recorded_doses`.
    """
    means = dose_means(doses)
    strongest = means[means["strength"] == means["strength"].max()]
    said = []
    for (view, model), part in strongest.groupby(["view", "model"], sort=False):
        test = part.set_index("test")["accuracy"]
        said.append(
            f"{model_title(str(model))}, {view}: {test['as trained']:.0f}% as trained, "
            f"{test['without']:.0f}% without the marks, {test['swapped']:.0f}% with swapped ones."
        )
    return " ".join(said)


def losses_in_words(doses: pd.DataFrame) -> str:
    """What each network owes to the strongest marks: as trained less swapped, over trials, told from 0 or not.

    Args:
        doses: from :func:`recorded_doses`.
    """
    strongest = doses[doses["strength"] == doses["strength"].max()]
    wide = strongest.pivot(index=["view", "model", "trial"], columns="test", values="accuracy")
    lost = wide["as trained"] - wide["swapped"]
    said = []
    for (view, model), part in lost.groupby(level=["view", "model"], sort=False):
        if len(part) > 1:
            mean, half = student_interval(part.to_numpy(float))
            verdict = "told from 0" if abs(mean) > half else "not told from 0"
            said.append(f"{model_title(str(model))}, {view}, {mean:.0f} ± {half:.0f} ({verdict})")
    return f"Points lost to swapped marks, mean and 95% interval over trials: {'; '.join(said)}."


def elsewhere_in_words(table: pd.DataFrame, own: float, warned_of_own: float) -> str:
    """How well a network does on films from elsewhere, and whether its warnings find those that it gets wrong.

    Args:
        table: from :func:`manet_lib.external.answers`.
        own: its accuracy on the test films of its run, in [0, 1].
        warned_of_own: share of these that get a warning, in [0, 1].
    """
    right, warned = table["label"] == table["predicted"], table["warnings"] != ""
    text = f"It is right in {right.sum()} of {len(table)} films; of its run's own test films in {100 * own:.0f}%."
    parts = [
        f"{right[which].sum()} of {which.sum()} {words} a warning"
        for words, which in (("with", warned), ("without", ~warned))
        if which.any()
    ]
    shares = f"{100 * warned.mean():.0f}% get a warning, of its run's own test films {100 * warned_of_own:.0f}%"
    return f"{text} Of the films {shares}; right are {' and '.join(parts)}."


def spread_in_words(doses: pd.DataFrame) -> str:
    """How far trainings differ that differ in the trial alone; empty where there is one trial of each.

    Args:
        doses: from :func:`recorded_doses`.
    """
    groups = doses.groupby(["test", "view", "model", "strength"])["accuracy"]
    variances = groups.var(ddof=1).dropna()
    if variances.empty:
        return ""
    half = 1.96 * np.sqrt(2 * variances.mean())
    return (
        "Two trainings that differ in nothing but the trial are up to "
        f"{half:.0f} points apart in 95 of 100 cases, so a smaller distance between two single ones tells nothing."
    )


def gains_by_view_in_words(doses: pd.DataFrame, model: str) -> str:
    """What attention changes on whole and on segmented films, at each strength of the marks.

    Args:
        doses: from :func:`recorded_doses`.
        model: with attention; the plain one of its trials is taken off.
    """
    tested = doses[doses["test"] == TESTS[0]]
    keys = ["view", "strength", "trial"]
    own, plain = (
        tested[tested["model"] == name].set_index(keys)["accuracy"] for name in (model, model.partition("_")[0])
    )
    gains = (own - plain).dropna()
    said = []
    for view, words in (("whole", "whole films"), ("lungs", "segmented films")):
        part = gains.loc[view] if view in gains.index.get_level_values("view") else gains.iloc[:0]
        if len(part):
            mean = part.groupby("strength").mean()
            each = ", ".join(f"{gain:+.0f} ({strength:g})" for strength, gain in mean.items())
            said.append(
                f"on {words} it changes accuracy by {each} points, in {(part > 0).sum()} of {len(part)} pairs of "
                "trainings upwards"
            )
    return f"{model_title(model)} beside the plain network, by strength of the marks: {'; '.join(said)}."


def swapped_in_words(right: pd.DataFrame, classes: int) -> str:
    """What a classifier of each view owes to the marks, judged by what swapping them does to it.

    Args:
        right: share of the films classified rightly, in [0, 1]; rows are views, columns :data:`TESTS`.
        classes: how many classes there are, each with as many films, so that guessing gets one in so many.
    """
    said = []
    for view, row in right.iterrows():
        shares = ", ".join(f"{100 * row[test]:.0f}% {words}" for test, words in _SWAPS.items())
        if row["as trained"] <= 1 / classes:
            verdict = "no better than a guess even with the marks of the training, so swapping tells nothing"
        elif row["swapped"] < 1 / classes:
            verdict = "worse than a guess once they are swapped: it goes by the hospital"
        else:
            change = 100 * (row["swapped"] - row["as trained"])
            verdict = f"swapping changes it by {change:+.0f} points and leaves it no worse than a guess"
        said.append(f"Seeing {view}: {shares}; {verdict}.")
    return " ".join(said)
