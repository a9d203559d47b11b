"""Tables of the audit from answers that are written down here, and from a run."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from manet_lib.data.manifest import read_manifest
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import predicted_rightly, thumbnails
from manet_lib.params import Params
from manet_lib.report import audit
from manet_lib.report.audit import (
    TESTS,
    adults_table,
    dose_means,
    dose_table,
    losses_in_words,
    probe_table,
    recorded_answers,
    recorded_doses,
    run_answers,
    sources_table,
    splits_table,
    views_table,
)
from manet_lib.steps import all_steps, audit_steps
from manet_lib.training.classification import read_predictions, train_classifier

FILMS = [f"film{number:02}" for number in range(20)]
LABELS = ["tb", "normal"] * 10


def said(view: str, wrong: int, trial: int = 1) -> pd.DataFrame:
    """Answers that are wrong in the last films."""
    right = np.arange(20) < 20 - wrong
    table = pd.DataFrame({"view": view, "model": "resnet34", "trial": trial, "image_id": FILMS, "label": LABELS})
    table["source"] = ["here", "here", "there", "there"] * 5
    table["patient"] = FILMS
    return table.assign(predicted=np.where(right, LABELS, "vp"))


def test_views_are_compared_with_the_lungs_film_by_film() -> None:
    answers = pd.concat([said("shape", 10), said("lungs", 2), said("whole", 0)])
    table = views_table(answers).set_index("View")
    assert table.index.tolist() == ["lungs", "whole", "shape"]
    assert table.loc["lungs", "Less lungs (points)"] == "–"
    assert table.loc["whole", "Less lungs (points)"].startswith("+10.0 (")
    assert table.loc["shape", "Less lungs (points)"].startswith("-40.0 (")
    assert table["Accuracy (%)"].str.startswith(("90.0", "100.0", "50.0")).all()
    assert table.loc["shape", ["TB", "Normal"]].tolist() == ["50", "50"]


def test_pneumonias_that_are_taken_for_one_another_are_counted_apart() -> None:
    answers = said("lungs", 0)
    answers["label"] = ["bp", "vp", "bp", "tb"] * 5
    answers["predicted"] = ["bp", "bp", "tb", "bp"] * 5
    assert views_table(answers)["BP and VP confused"].tolist() == ["5 of 15"]


def test_views_are_compared_in_the_trials_that_both_have() -> None:
    answers = pd.concat([said("lungs", 2), said("whole", 0, 1), said("whole", 10, 2)])
    shown = views_table(answers).set_index("View").loc["whole", "Less lungs (points)"]
    assert shown.startswith("+10.0 (")
    assert (
        views_table(pd.concat([said("lungs", 2), said("whole", 0, 2)]))["Less lungs (points)"].tolist()
        == ["–"] * 2
    )


def test_trials_on_other_films_are_refused() -> None:
    other = said("lungs", 2, 2)
    other.loc[3, "image_id"] = "another film"
    with pytest.raises(ValueError, match="the same test films"):
        views_table(pd.concat([said("lungs", 2), other]))


def test_sources_are_compared_within_a_class() -> None:
    answers = said("lungs", 0)
    answers.loc[(answers["source"] == "there") & (answers["label"] == "tb"), "predicted"] = "bp"
    table = sources_table(answers).set_index(["Class", "Source"])["Accuracy (%)"]
    assert table["TB", "here"].startswith("100.0")
    assert table["TB", "there"].startswith("0.0")
    assert table["Normal", "there"].startswith("100.0")
    answers["source"] = answers["label"]
    assert sources_table(answers).empty  # nothing to compare


def doses() -> pd.DataFrame:
    rows = [
        (strength, "whole", "resnet34", trial, test, 60 + 30 * strength + trial)
        for strength in (0.0, 0.5, 1.0)
        for trial in (1, 2)
        for test in audit.TESTS
    ]
    return pd.DataFrame(rows, columns=["strength", "view", "model", "trial", "test", "accuracy"])


def test_doses_are_averaged_over_trials() -> None:
    means = dose_means(doses())
    row = means[(means["test"] == "swapped") & (means["strength"] == 1)].iloc[0]
    assert row["accuracy"] == 91.5
    half = 12.706 * 0.5  # t with one degree of freedom; the standard error of 91 and 92 is one half
    assert row["low"] == pytest.approx(91.5 - half, abs=0.01)
    assert row["high"] == pytest.approx(min(100, 91.5 + half), abs=0.01)
    shown = dose_table(doses()).iloc[0]
    assert (shown["swapped, strength 0"], shown["swapped, strength 1"]) == ("61.5", "91.5")
    assert shown["Trials"] == 2


def test_what_tables_show_is_said_in_words() -> None:
    answers = pd.concat([said("shape", 10), said("lungs", 2), said("whole", 0)])
    assert (
        audit.views_in_words(answers)
        == "ResNet34: 90% with the lungs alone, 100% with view whole, 50% with view shape."
    )
    assert audit.views_in_words(said("lungs", 2)) == ""
    assert "92% with swapped ones." in audit.doses_in_words(doses())
    cells = {"nothing: the most frequent": "20.0", "lungs": "41.0 (30.0 to 50.0)", "whole": "72.0 (60.0 to 80.0)"}
    cells |= {"background": "61.0 (50.0 to 70.0)", "shape": "33.0 (20.0 to 40.0)"}
    table = pd.DataFrame({"Seen": list(cells), "Class (%)": list(cells.values())})
    words = audit.probe_in_words(table)
    assert all(
        part in words for part in ("lungs alone", "41%", "61%", "33%", "20%", "Most is got from the view *whole*.")
    )
    assert "source" not in words
    assert "recognised from the lungs in 41%" in audit.probe_in_words(
        table.assign(**{"Source (%)": table["Class (%)"]})
    )


def test_warnings_are_held_against_mistakes() -> None:
    films = pd.DataFrame(
        {"label": list("aabb"), "predicted": list("abbb"), "warnings": ["", "unlike", "", "unlike"]}
    )
    assert audit.elsewhere_in_words(films, 0.9, 0.1) == (
        "It is right in 3 of 4 films; of its run's own test films in 90%. Of the films 50% get a warning, of its "
        "run's own test films 10%; right are 1 of 2 with a warning and 2 of 2 without a warning."
    )
    assert audit.elsewhere_in_words(films[::2], 0.9, 0.1).endswith("right are 2 of 2 without a warning.")


def test_recorded_answers_are_of_whole_trainings() -> None:
    for name in ("phantoms", "cxr_image", "cxr_patient"):
        answers = recorded_answers(name)
        for _, part in answers.groupby(["view", "model", "trial"]):
            assert part["image_id"].is_unique
            assert set(part["image_id"]) == set(answers["image_id"])
    assert recorded_answers("nothing of this name").empty
    found = recorded_doses()
    assert found["accuracy"].between(0, 100).all()
    assert not found.duplicated(["strength", "view", "model", "trial", "test"]).any()


@pytest.fixture
def audited(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    return run.params.model_copy(update={"models": ["resnet34"], "audit_views": ["shape"]}), run.paths


def test_an_audit_trains_what_it_says_and_leaves_the_run_alone(audited) -> None:
    params, paths = audited
    (step,) = audit_steps(params, paths)
    assert step.folder == paths.root / "classification" / "resnet34-1-shape"
    assert step.folder in [one.folder for one in all_steps(params, paths)]
    train_classifier(params, paths, "resnet34", 1)
    before = paths.predictions("resnet34", 1).read_bytes()
    assert train_classifier(params.seeing("shape"), paths.seeing("shape"), "resnet34", 1)
    assert step.is_done()
    assert paths.predictions("resnet34", 1).read_bytes() == before
    answers = run_answers(params, paths)
    assert answers["view"].unique().tolist() == ["lungs", "shape"]
    shape = read_predictions(paths.seeing("shape"), "resnet34", 1)
    assert shape is not None
    found = answers[answers["view"] == "shape"]
    assert found["predicted"].tolist() == shape["predicted"].tolist()
    assert set(found["source"]) <= {"north", "south", "east"}
    lungs = run_answers(params.model_copy(update={"audit_views": []}), paths)
    assert lungs["view"].unique().tolist() == ["lungs"]


def test_the_probe_is_logistic_regression_on_what_each_view_shows(audited) -> None:
    params, paths = audited
    table = probe_table(params, paths).set_index("Seen")
    assert table.index.tolist() == ["nothing: the most frequent", *audit.VIEWS]
    manifest, masks = read_manifest(paths), np.load(paths.clean_masks)
    right = predicted_rightly(thumbnails(255 * masks), manifest, "source")
    assert table.loc["shape", "Source (%)"].startswith(f"{100 * right.mean():.1f} (")
    whole = predicted_rightly(thumbnails(Store.open(paths.store).images), manifest, "label")
    assert table.loc["whole", "Class (%)"].startswith(f"{100 * whole.mean():.1f} (")
    frequent = manifest.loc[manifest["split"] == "train", "source"].value_counts().index[0]
    share = (manifest.loc[manifest["split"] == "test", "source"] == frequent).mean()
    assert table.loc["nothing: the most frequent", "Source (%)"] == f"{100 * share:.1f}"


def test_params_refuse_a_view_twice(refused) -> None:
    with pytest.raises(ValueError, match="audit_views"):
        Params(profile="x", audit_views=["whole", "whole"])


def test_a_classifier_goes_by_the_hospital_only_if_swapping_takes_it_below_a_guess() -> None:
    rows = [[1.0, 0.5, 0.0], [40 / 60, 40 / 60, 41 / 60], [0.9, 0.8, 0.6], [0.5, 0.5, 0.0]]
    right = pd.DataFrame(rows, index=["whole", "lungs", "both", "blind"], columns=list(audit.TESTS))
    whole, lungs, both, blind = audit.swapped_in_words(right, 2).split(". ")
    assert "100% of the new patients" in whole
    assert "goes by the hospital" in whole
    assert "+2 points" in lungs
    assert "hospital" not in lungs
    assert "-30 points" in both
    assert "tells nothing" in blind
    assert "goes by the hospital" in audit.swapped_in_words(right.loc[["whole"]], 3)
    assert "hospital" not in audit.swapped_in_words(pd.DataFrame([[0.9, 0.8, 0.4]], ["whole"], right.columns), 3)


def _doses(rows: list[tuple[str, str, float, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["view", "model", "strength", "trial", "accuracy"])
    return table.assign(test="as trained")


def test_gains_are_paired_by_trial_and_averaged_at_each_strength() -> None:
    doses = _doses(
        [
            *(("whole", "resnet34", 0.0, 1, 50.0), ("whole", "resnet34_ma", 0.0, 1, 60.0)),
            *(("whole", "resnet34", 0.0, 2, 50.0), ("whole", "resnet34_ma", 0.0, 2, 40.0)),
            *(("whole", "resnet34", 1.0, 1, 50.0), ("whole", "resnet34_ma", 1.0, 1, 57.0)),
            ("whole", "resnet34", 1.0, 2, 50.0),  # its partner is not trained yet
            *(("lungs", "resnet34", 1.0, 1, 50.0), ("lungs", "resnet34_ma", 1.0, 1, 47.0)),
        ]
    )
    assert audit.gains_by_view_in_words(doses, "resnet34_ma") == (
        "ResNet34(MA) beside the plain network, by strength of the marks: on whole films it changes accuracy by "
        "+0 (0), +7 (1) points, in 2 of 3 pairs of trainings upwards; on segmented films it changes accuracy by "
        "-3 (1) points, in 0 of 1 pairs of trainings upwards."
    )


def test_spread_is_that_of_the_difference_of_two_trainings() -> None:
    rows = [("whole", "resnet34", strength, trial, 10.0 * trial) for strength in (0.0, 1.0) for trial in (1, 2, 3)]
    # each group has a standard deviation of 10, the difference of two draws one of 14.1, and 1.96 times that is 28
    assert "are up to 28 points apart" in audit.spread_in_words(_doses(rows))
    assert audit.spread_in_words(_doses(rows[:1])) == ""


def test_the_difference_of_two_shares_is_that_of_statsmodels() -> None:
    """Newcombe's interval, where each film is of a patient of its own and there is one trial."""
    answers = pd.concat([said("lungs", 0)] * 20, ignore_index=True).assign(label="normal")
    answers["image_id"] = answers["patient"] = [f"film{number:03}" for number in range(400)]
    answers["source"] = np.repeat(["kermany", "shenzhen"], 200)
    answers["predicted"] = ["normal"] * 180 + ["tb"] * 20 + ["normal"] * 110 + ["tb"] * 90
    row = adults_table(answers, ["kermany"]).squeeze()
    assert row["Children: films"] == row["Adults: films"] == "200"
    low, high = confint_proportions_2indep(110, 200, 180, 200, method="newcomb")
    shown = [float(part) for part in row["Adults less children (points)"].split("(")[1].rstrip(")").split(" to ")]
    assert row["Adults less children (points)"].startswith("-35.0 (")
    assert shown == pytest.approx([100 * low, 100 * high], abs=0.3)  # the library takes t for z


def test_splits_are_compared_class_by_class() -> None:
    image, patient = said("lungs", 0), said("lungs", 0)
    patient.loc[patient["label"] == "tb", "predicted"] = ["tb", "bp"] * 5
    row = splits_table(image, patient).squeeze()
    assert row["TB"].startswith("100 → 50: -50.0 (")
    assert row["Normal"].startswith("100 → 100: +0.0 (")
    assert row["Mean of the classes"].startswith("100 → 75: -25.0 (")
    assert splits_table(image, said("whole", 0)).empty


def test_what_is_lost_to_swapped_marks_is_told_from_nothing_over_trials() -> None:
    rows = [("whole", "vgg16", trial, 80 + trial, 50 + trial + trial % 2) for trial in (1, 2, 3)]
    rows += [("whole", "vgg16_ma", trial, 80, 78 + 2 * (trial - 1)) for trial in (1, 2, 3)]
    keys = ["view", "model", "trial", *TESTS]
    wide = pd.DataFrame([(*row[:4], 0, row[4]) for row in rows], columns=keys)
    table = wide.melt(keys[:3], var_name="test", value_name="accuracy").assign(strength=1.0)
    words = losses_in_words(table)
    assert "VGG16, whole, 29 ± 1 (told from 0)" in words
    assert "VGG16(MA), whole, 0 ± 5 (not told from 0)" in words
