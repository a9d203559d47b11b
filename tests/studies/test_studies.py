"""Studies: what their files may say, how training runs are recorded, and what follows from the records."""

import json
import multiprocessing

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import yaml
from sklearn.metrics import brier_score_loss, recall_score, roc_auc_score

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.report.studies import arms_table
from manet_lib.studies import plan
from manet_lib.studies.analysis import (
    chosen_rate,
    effects,
    measured,
    one_version,
    paired_effect,
    pairs_needed,
    with_records,
)
from manet_lib.studies.images import matched_to
from manet_lib.studies.plan import Study, load_study
from manet_lib.studies.run import Group, _heat_map_scores, pair_groups, rate_groups, run, train_group
from manet_lib.studies.training_records import append, key_of, probabilities_of, read, records_file, score

PLAN = {
    "question": "Does it help?",
    "decision": "If it is significantly higher.",
    "margin": 2.0,
    "contrasts": [["MA", "plain"]],
    "tests": ["as trained", "swapped"],
    "base": "tiny",
    "conditions": {"weak": {"settings": {"confounder_strength": 0.5}}},
    "arms": {"plain": {"model": "resnet34", "view": "whole"}, "MA": {"model": "resnet34_ma", "view": "whole"}},
    "pairs": 2,
    "rates": [0.003, 0.01],
    "rate_seeds": [1001],
}
STUDIES = sorted(file.stem for file in (project_root() / "params/studies").glob("*.yaml"))


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Write the file of a study, as changed, and return its name."""
    monkeypatch.setenv("MANET_OUTPUT", str(tmp_path))
    monkeypatch.setattr(plan, "study_file", lambda name: tmp_path / f"{name}.yaml")
    records = tmp_path / "records.jsonl.gz"
    monkeypatch.setattr("manet_lib.studies.run.records_file", lambda name: records)

    def write(**changes):
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(PLAN | changes, sort_keys=False))
        return "own"

    write.records = records
    return write


def record(arm="plain", pair=1, value=0.5, rate=0.003, **more):
    """A record in which the share `value` of ten images is classified correctly."""
    right = [[2.0, 0.0]] * round(10 * value) + [[0.0, 2.0]] * round(10 * (1 - value))
    tested = {"image_id": [str(n) for n in range(10)], "label": ["normal"] * 10, "logits": right}
    log = {"train_loss": [0.1], "val_loss": [0.2], "val_accuracy": [value]}
    own = {"condition": "weak", "arm": arm, "pair": pair, "seed": pair, "learning_rate": rate, "code": "a"}
    own["settings"] = "s"
    return own | {"log": log, "classes": ["normal", "tb"], "tests": {"as trained": tested}} | more


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_project_can_be_read(name):
    study = load_study(name)
    assert bool(rate_groups(name, study)) == (len(study.rates) > 1)
    assert study.decision


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tests": ["upside down"]}, "upside down"),
        ({"contrasts": [["MA", "CBAM"]]}, "CBAM"),
        ({"rates_chosen_in": "strong"}, "strong"),
        ({"settings": {"epoch": 3}}, "epochs"),
        ({"arms": {"plain": {"model": "resnet18"}}}, "arms.plain.model"),
        ({"conditions": {"weak": {"outside": {"source": ["east"]}}}}, "outside"),
        ({"margin": 0.0}, "margin"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(planned, changes, said):
    with pytest.raises(UserError, match=said) as error:
        load_study(planned(**changes))
    assert "\n" not in str(error.value)


def test_an_unknown_study_names_those_that_there_are(planned):
    planned()
    with pytest.raises(UserError, match="there are own"):
        load_study("other")


def test_records_are_read_as_written_and_a_torn_one_is_left_out(tmp_path):
    file = tmp_path / "records" / "own.jsonl.gz"
    assert read(file) == []
    append(file, record(pair=1))
    append(file, record(pair=2))
    assert [one["pair"] for one in read(file)] == [1, 2]
    file.write_bytes(file.read_bytes()[:-20])
    assert [one["pair"] for one in read(file)] == [1]
    append(file, record(pair=3))
    assert [one["pair"] for one in read(file)] == [1, 3]


def test_of_two_records_of_a_training_run_the_first_counts(tmp_path):
    for value in (0.5, 0.9):
        append(tmp_path / "own.jsonl.gz", record(value=value))
    assert [score(one, "as trained") for one in read(tmp_path / "own.jsonl.gz")] == [50]


def _append_many(file, first):
    for number in range(first, first + 20):
        append(file, record(pair=number))


def test_processes_that_record_side_by_side_lose_nothing(tmp_path):
    file, context = tmp_path / "own.jsonl.gz", multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_many, args=(file, first)) for first in (100, 200, 300)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(one["pair"] for one in read(file)) == [*range(100, 120), *range(200, 220), *range(300, 320)]


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, logits = rng.choice(["normal", "tb"], 40), rng.normal(size=(40, 2))
    tested = {"image_id": list("a" * 40), "label": labels.tolist(), "logits": logits.tolist()}
    one = record() | {"tests": {"outside": tested}}
    chosen = np.array(["normal", "tb"])[logits.argmax(axis=1)]
    assert score(one, "outside") == pytest.approx(100 * (chosen == labels).mean())
    expected = roc_auc_score(labels == "tb", logits[:, 1] - logits[:, 0])
    assert score(one, "outside", "auc") == pytest.approx(100 * expected)
    assert probabilities_of(one, "outside").sum(axis=1) == pytest.approx(1)
    assert score(one, "outside", "recall tb") == pytest.approx(100 * recall_score(labels, chosen, pos_label="tb"))


def test_confused_pneumonias_are_counted_of_both_classes():
    tested = {"image_id": list("abcdef"), "label": ["bp", "bp", "vp", "vp", "tb", "tb"]}
    said = [1, 2, 1, 2, 0, 0], [0, 1, 2, 1, 1, 2]  # classes tb, bp, vp
    for predicted, share in zip(said, (50, 25), strict=True):
        tested["logits"] = np.eye(3)[predicted].tolist()
        one = record() | {"classes": ["tb", "bp", "vp"], "tests": {"as trained": tested}}
        assert score(one, "as trained", "pneumonias") == share


def test_the_rate_with_the_highest_validation_accuracy_is_taken():
    study = Study.model_validate(PLAN)
    with pytest.raises(UserError, match="rates"):
        chosen_rate(study, [], "weak", "plain")
    tuning = [record(pair=0, rate=0.003, value=0.6), record(pair=0, rate=0.01, value=0.8)]
    assert chosen_rate(study, tuning, "weak", "plain") == 0.01
    tied = [record(pair=0, rate=0.003, value=0.8), record(pair=0, rate=0.01, value=0.8)]
    tied[0]["log"]["val_loss"] = [0.1]
    assert chosen_rate(study, tied, "weak", "plain") == 0.003
    diverged = record(pair=0, rate=0.01, value=0.8) | {"log": {"val_accuracy": [], "val_loss": []}}
    assert chosen_rate(study, [tuning[0], diverged], "weak", "plain") == 0.003
    with pytest.raises(UserError, match="rates"):
        chosen_rate(study, [diverged | {"learning_rate": 0.003}, diverged], "weak", "plain")
    assert pair_groups("own", study, [*tuning, *(one | {"arm": "MA"} for one in tuning)])[0].runs == (
        ("plain", 0.01),
        ("MA", 0.01),
    )


def test_effects_are_paired_and_of_one_version_each():
    study = Study.model_validate(PLAN | {"tests": ["as trained"]})
    first, second = [0.9, 0.8, 0.9], [0.5, 0.5, 0.4]
    records = [record("MA", pair, value) for pair, value in enumerate(first, start=1)]
    records += [record("plain", pair, value) for pair, value in enumerate(second, start=1)]
    (row,) = effects(study, records).to_dict("records")
    expected = scipy.stats.ttest_rel(100 * np.array(first), 100 * np.array(second))
    assert row["difference"] == pytest.approx(100 * (np.mean(first) - np.mean(second)), abs=1e-3)
    assert row["p"] == pytest.approx(expected.pvalue, abs=1e-4)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-3)
    assert (row["pairs"], row["versions"], row["verdict"]) == (3, 1, "higher")
    records[0]["code"] = "b"  # its pair is of two versions
    assert effects(study, records)["pairs"].tolist() == [2]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([5, 6, 7], "higher"),
        ([-5, -6, -7], "lower"),
        ([0.9, 1.0, 1.1], "higher"),  # significant, though within the margin
        ([0.1, -0.2, 0.1], "equivalent"),
        ([9, -8, 4], "undecided"),
    ],
)
def test_the_verdict_is_that_of_the_tests_written_out(differences, verdict):
    second = np.array([50.0, 60.0, 70.0])
    found = paired_effect(second + differences, second, margin=2)
    assert found["verdict"] == verdict
    error = scipy.stats.sem(differences)
    one_sided = [
        scipy.stats.t.sf((np.mean(differences) + 2) / error, 2),
        scipy.stats.t.cdf((np.mean(differences) - 2) / error, 2),
    ]
    assert found["p_equivalent"] == pytest.approx(max(one_sided))


def test_equal_differences_and_a_single_pair_decide_nothing():
    same = np.array([50.0, 60.0])
    for first in (same, same + 5):
        assert paired_effect(first, same, 2)["verdict"] == "undecided"
    assert paired_effect(same[:1], same[:1] + 9, 2)["verdict"] == "undecided"


def test_without_a_margin_nothing_is_equivalent():
    second = np.array([50.0, 60.0, 70.0])
    assert paired_effect(second + np.array([0.1, -0.2, 0.1]), second, margin=0)["verdict"] == "undecided"


def test_holm_adjusts_for_all_contrasts_of_a_condition():
    arms = {name: {"model": "resnet34"} for name in ("plain", "MA", "other")}
    contrasts = [["MA", "plain"], ["other", "plain"]]
    study = Study.model_validate(PLAN | {"arms": arms, "contrasts": contrasts, "tests": ["as trained"]})
    values = {"plain": [0.5, 0.5, 0.4], "MA": [0.9, 0.7, 0.8], "other": [0.7, 0.4, 0.5]}
    records = [record(arm, pair, one) for arm, many in values.items() for pair, one in enumerate(many, start=1)]
    plain = effects(study, records)["p"].tolist()
    adjusted = effects(study.model_copy(update={"holm": True}), records)["p"].tolist()
    assert adjusted == pytest.approx([min(1, 2 * min(plain)), max(2 * min(plain), max(plain))], abs=1e-3)
    first = [one for one in records if one["arm"] != "other"]  # the other is planned, and not recorded yet
    (only,) = effects(study.model_copy(update={"holm": True}), first)["p"].tolist()
    assert only == pytest.approx(2 * min(plain), abs=1e-3)


@pytest.mark.parametrize(
    ("differences", "margin"),
    [([2.0, 8.0, 5.0, 1.0], 1), ([0.3, 0.6, -0.1], 1), ([0.83 - 1.72, 0.83, 0.83 + 1.72], 2)],
)
def test_pairs_needed_are_the_fewest_that_give_a_verdict_with_the_power_asked_for(differences, margin):
    rng, values = np.random.default_rng(0), np.array(differences)
    needed = pairs_needed(values, margin)

    def share_decided(count):
        drawn = rng.normal(values.mean(), values.std(ddof=1), (20_000, count))
        error, mean = scipy.stats.sem(drawn, axis=1), np.abs(drawn.mean(axis=1))
        significant = scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
        equivalent = mean + scipy.stats.t.ppf(0.95, count - 1) * error < margin
        return (significant | equivalent).mean()

    assert share_decided(needed) > 0.79
    assert share_decided(needed - 1) < 0.81
    assert pairs_needed(np.array([10.0, -10.0, 3.0]), margin=1, most=20) == 20


def test_matched_images_have_the_grey_values_of_the_reference():
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 100, (4, 64, 64)).astype(np.uint8)
    bright = rng.integers(120, 220, (9, 64, 64)).astype(np.uint8)
    matched = matched_to(dark, bright)
    assert np.quantile(matched, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(bright, [0.1, 0.5, 0.9]), abs=2)
    darker = dark.astype(int)[:, :, :, None] < dark.astype(int)[:, :, None, :]
    assert not (darker & (matched[:, :, :, None] > matched[:, :, None, :])).any()  # one mapping that keeps order


def test_a_study_runs_goes_on_where_it_was_and_repeats_nothing(planned, tmp_path):
    name = planned(rates=[0.003], tests=["as trained", "without", "swapped", "shrunk"], heat_maps=True)
    study = load_study(name)
    first, second = pair_groups(name, study, [])
    train_group(Group(**vars(first) | {"runs": first.runs[:1]}), threads=1)
    before = planned.records.read_bytes()
    assert [one["arm"] for one in train_group(first, threads=1)] == ["MA"]
    assert planned.records.read_bytes()[: len(before)] == before
    assert train_group(first, threads=1) == []
    torch.set_num_threads(2)
    train_group(second, threads=1)
    segmenters = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/segmentation/done.json")]
    assert [one["device"].partition(", ")[2] for one in segmenters] == ["1 thread"] * 2  # jobs share the cores
    found = read(planned.records)
    assert {key_of(one) for one in found} == {*first.keys, *second.keys}
    for one in found:
        assert list(one["tests"]) == study.tests
        assert len(one["tests"]["swapped"]["logits"]) == 12
        assert len(one["log"]["train_loss"]) == 1
        assert all(0 < value < 100 for value in one["heat_maps"].values())
        assert one["heat_maps"]["lung, trained"] != one["heat_maps"]["lung, untrained"]
    ids = {one["pair"]: one["tests"]["as trained"]["image_id"] for one in found if one["arm"] == "plain"}
    assert all(one["tests"]["as trained"]["image_id"] == ids[one["pair"]] for one in found)
    assert not list(tmp_path.glob("runs/*/classification/*/weights.safetensors"))
    assert json.dumps(effects(study, found).to_dict("records"))


def test_a_rate_at_which_the_loss_diverges_is_recorded_and_a_pair_with_it_is_refused(planned):
    name = planned(rates=[0.003, 1e38], tests=["as trained"])
    group = rate_groups(name, load_study(name))[0]
    first, second = train_group(group, threads=1)
    assert (len(first["log"]["val_loss"]), len(second["log"]["val_loss"])) == (1, 0)
    assert (first["device"], first["precision"]) == (second["device"], second["precision"])
    assert chosen_rate(load_study(name), read(planned.records), "weak", "plain") == 0.003
    with pytest.raises(UserError, match=r"1e\+38"):
        train_group(Group(**vars(group) | {"pair": 1, "runs": group.runs[1:]}), threads=1)


def test_a_pair_that_another_version_began_is_trained_whole_and_counted_once(planned):
    name = planned(rates=[0.003], tests=["as trained"])
    (group, _) = pair_groups(name, load_study(name), [])
    settings = {arm: load_study(name).settings_of("weak", arm) for arm in ("plain", "MA")}
    append(planned.records, record("plain", 1, 0.9, seed=group.seed, code="earlier", settings=settings["plain"]))
    assert [one["arm"] for one in train_group(group, threads=1)] == ["plain", "MA"]
    assert not group.lacking(load_study(name), read(planned.records))
    append(planned.records, record("MA", 1, 0.9, seed=group.seed, code="earlier", settings=settings["MA"]))
    study = load_study(name)
    assert effects(study, read(planned.records))["pairs"].tolist() == [1]
    changed = load_study(planned(rates=[0.003], tests=["as trained"], settings={"epochs": 2}))
    assert len(group.lacking(changed, read(planned.records))) == 2


def test_an_arm_that_is_added_is_trained_with_those_alone_that_it_is_compared_with():
    arms = PLAN["arms"] | {"other": {"model": "resnet34_cbam"}}
    study = Study.model_validate(PLAN | {"arms": arms, "contrasts": [["MA", "plain"], ["other", "MA"]]})
    group = Group("own", "weak", 1, 1, 1, (("plain", 0.003), ("MA", 0.01), ("other", 0.01)))
    settings = {arm: study.settings_of("weak", arm) for arm in arms}
    rates = dict(group.runs)

    def recorded(code, *names):
        return [record(arm, 1, rate=rates[arm], code=code, settings=settings[arm]) for arm in names]

    before = recorded("earlier", "plain", "MA")
    assert group.lacking(study, before, "now") == [("MA", 0.01), ("other", 0.01)]
    assert group.lacking(study, before + recorded("now", "MA"), "now") == [("other", 0.01)]
    assert group.lacking(study, before + recorded("now", "MA", "other"), "now") == []
    assert group.lacking(study, recorded("now", "plain", "MA"), "now") == [("other", 0.01)]
    both = before + recorded("now", "MA", "other")
    assert [(one["arm"], one["code"]) for one in one_version(both)] == [
        ("plain", "earlier"),
        ("MA", "earlier"),
        ("other", "now"),
    ]
    found = effects(study, both)
    found = found[found["test"] == "as trained"]
    assert dict(zip(found["contrast"], found["pairs"], strict=True)) == {"MA − plain": 1, "other − MA": 1}


def test_a_second_call_of_a_finished_study_trains_nothing(planned, capsys):
    name = planned(rates=[0.003], tests=["as trained"])
    for group in pair_groups(name, load_study(name), []):
        for (arm, rate), key in zip(group.runs, group.keys, strict=True):
            settings = load_study(name).settings_of("weak", arm)
            append(planned.records, record(arm, group.pair, seed=key[3], rate=rate, settings=settings))
    before = planned.records.read_bytes()
    run(name, jobs=1)
    assert planned.records.read_bytes() == before
    said = capsys.readouterr().out
    assert "undecided" in said
    assert said.endswith("still lacking: nothing\n")


def test_a_call_for_some_of_the_pairs_names_those_that_are_still_lacking(planned, capsys):
    name = planned(rates=[0.003], tests=["as trained"], conditions=PLAN["conditions"] | {"strong": {}}, pairs=3)
    study = load_study(name)
    for group in pair_groups(name, study, []):
        if (group.condition, group.pair) in (("weak", 1), ("weak", 2), ("strong", 1)):
            for (arm, rate), key in zip(group.runs, group.keys, strict=True):
                settings = study.settings_of(group.condition, arm)
                given = {"condition": group.condition, "seed": key[3], "rate": rate, "settings": settings}
                append(planned.records, record(arm, group.pair, **given))
    run(name, jobs=1, pairs=1)
    assert capsys.readouterr().out.endswith("still lacking: 1 of 3 pairs in weak, 2 of 3 pairs in strong\n")


def test_records_of_other_settings_are_left_out(planned, monkeypatch):
    monkeypatch.setattr("manet_lib.studies.analysis.records_file", lambda name: planned.records)
    name = planned()
    settings = load_study(name).settings_of("weak", "plain")
    for pair, own in ((1, settings), (2, "of another file")):
        append(planned.records, record("plain", pair, settings=own))
    append(planned.records, record("an arm that is gone", 3, settings=settings))
    assert [one["pair"] for one in with_records(name)[1]] == [1]


def test_records_of_studies_hold_what_their_files_plan():
    for name in STUDIES:
        study, found = load_study(name), read(records_file(name))
        for one in found:
            assert one["condition"] in study.conditions
            assert one["arm"] in study.arms
            assert one["learning_rate"] in study.rates


def test_scores_of_an_arm_are_those_of_scikit_learn_averaged_over_its_runs():
    test = "outside, matched"
    table = arms_table("external", (test,)).set_index(["Condition", "Arm"])
    records = read(records_file("external"))
    for (condition, arm), row in table.iterrows():
        auc, right, brier = [], [], []
        for one in records:
            if one["pair"] and (one["condition"], one["arm"]) == (condition, arm):
                actual, shown = np.array(one["tests"][test]["label"]) == "tb", probabilities_of(one, test)[:, 1]
                auc.append(100 * roc_auc_score(actual, shown))
                right.append(100 * ((shown > 0.5) == actual).mean())
                brier.append(2 * brier_score_loss(actual, shown))
        assert row["Runs"] == len(auc) > 1
        for column, values in {"AUC (%)": auc, "Accuracy (%)": right, "Brier score (0 to 2)": brier}.items():
            mean, low, high = map(float, row[column].replace("(", "").replace(")", "").replace("to", "").split())
            assert mean == pytest.approx(np.mean(values), abs=0.06 if max(values) > 2 else 0.006)
            assert low < mean < high


def test_arms_are_not_shown_where_their_runs_have_other_images(monkeypatch):
    several = [record(pair=1), record(pair=2)]
    several[1]["tests"]["as trained"]["image_id"] = list("abcdefghij")
    monkeypatch.setattr(
        "manet_lib.report.studies.with_records", lambda name: (Study.model_validate(PLAN), several)
    )
    with pytest.raises(ValueError, match="other test images"):
        arms_table("own", ("as trained",))


def test_heat_maps_are_scored_as_far_as_regions_are_known(monkeypatch):
    scores = pd.DataFrame({"lung_share": [0.2, 0.4]})
    monkeypatch.setattr("manet_lib.studies.run.attention_scores", lambda *_, **__: scores)
    assert _heat_map_scores(None, None, ("resnet34", 1)) == {"lung, trained": 30.0, "lung, untrained": 30.0}
    study = Study.model_validate(PLAN | {"rates": [0.003]})
    known = record(heat_maps={"lung, trained": 30.0, "lung, untrained": 20.0})
    assert measured(study, [known], "in_lungs")["value"].tolist() == [10.0]
    assert measured(study, [known], "lesions").empty


def test_an_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match="quantity: 'jump'"):
        score(record(), "as trained", "jump")
