"""Every number of the README that depends on training follows from the records, computed without the library."""

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from manet_lib.paths import project_root
from manet_lib.report.page_values import VALUES

RESULTS = project_root() / "benchmarks" / "results"
README = (project_root() / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- = (\w+)\((.*?)\) -->(.*?)<!-- / -->", README, flags=re.DOTALL)


@cache
def records_of(name: str) -> list[dict]:
    with gzip.open(RESULTS / "studies" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def value_of(record: dict, test: str) -> float:
    """Accuracy or AUC on a test, jumps, or the share of heat maps in the lungs or lesions, in percent."""
    if test == "jumps":
        accuracy = np.array(record["log"]["val_accuracy"])
        return 100 * np.diff(accuracy[-(len(accuracy) // 4 + 1) :]).std(ddof=1)
    if test.removeprefix("in_") in ("lungs", "lesions"):
        region = test.removeprefix("in_").removesuffix("s")
        untrained = record["heat_maps"][f"{region}, untrained"] if test.startswith("in_") else 0.0
        return record["heat_maps"][f"{region}, trained"] - untrained
    labels, logits = np.array(record["tests"][test]["label"]), np.array(record["tests"][test]["logits"])
    if len(record["classes"]) == 2:
        return 100 * roc_auc_score(labels == record["classes"][1], logits[:, 1] - logits[:, 0])
    return 100 * float((np.array(record["classes"])[logits.argmax(axis=1)] == labels).mean())


def runs_by_hand(name: str, condition: str, test: str) -> dict[str, dict[int, float]]:
    """A quantity of each arm and pair, straight from the lines of the record."""
    records = records_of(name)
    found: dict[str, dict[int, float]] = {}
    for arm in {one["arm"] for one in records}:
        own = [one for one in records if one["arm"] == arm]
        tuning = [one for one in own if not one["pair"] and one["log"]["val_accuracy"]]
        here = [one for one in tuning if one["condition"] == condition]
        best = max(here or tuning, key=lambda one: (one["log"]["val_accuracy"][-1], -one["log"]["val_loss"][-1]))
        for one in own:
            if one["pair"] and (one["condition"], one["learning_rate"]) == (condition, best["learning_rate"]):
                found.setdefault(arm, {})[one["pair"]] = value_of(one, test)
    return found


def paired(first: dict[int, float], second: dict[int, float]) -> tuple[float, float, float]:
    differences = np.array([first[pair] - second[pair] for pair in sorted(first.keys() & second.keys())])
    test = scipy.stats.ttest_1samp(differences, 0)
    return (differences.mean(), *test.confidence_interval())


def effect(name: str, condition: str, test: str, contrast: str) -> tuple[float, float, float]:
    values = runs_by_hand(name, condition, test)
    return paired(*(values[arm] for arm in contrast.split(" − ")))


def other_effect(name: str, condition: str, contrast: str, quantity: str) -> tuple[float, float, float]:
    return effect(name, condition, quantity, contrast)


def arm(name: str, condition: str, test: str, arm: str) -> tuple[float]:
    return (np.mean(list(runs_by_hand(name, condition, test)[arm].values())),)


def fall(name: str, condition: str, test: str, after: str, *arms: str) -> tuple[float, float, float]:
    first, second = runs_by_hand(name, condition, test), runs_by_hand(name, condition, after)
    return paired(*({pair: first[arm][pair] - second[arm][pair] for pair in first[arm]} for arm in arms))


def between(name: str, test: str, contrast: str, *conditions: str) -> tuple[float, float, float]:
    gains = []
    for condition in conditions:
        first, second = (runs_by_hand(name, condition, test)[arm] for arm in contrast.split(" − "))
        gains.append({pair: first[pair] - second[pair] for pair in first.keys() & second.keys()})
    return paired(*gains)


def runs(name: str, condition: str) -> tuple[int]:
    found: dict[int, set[str]] = {}
    for one in records_of(name):
        if one["condition"] == condition and one["pair"]:
            found.setdefault(one["pair"], set()).add(one["arm"])
    most = max(len(arms) for arms in found.values())
    return (sum(len(arms) == most for arms in found.values()),)


def adjusted(name: str, test: str, condition: str, contrast: str) -> tuple[float]:
    contrasts = ["whole MA − whole plain", "segmented MA − segmented plain", "segmented plain − whole plain"]
    found = {}
    for place in ("Shenzhen to Montgomery", "Montgomery to Shenzhen"):
        values = runs_by_hand(name, place, test)
        for one in contrasts:
            first, second = (np.array([values[arm][pair] for pair in range(1, 6)]) for arm in one.split(" − "))
            found[place, one] = scipy.stats.ttest_rel(first, second).pvalue
    corrected = dict(zip(found, multipletests(list(found.values()), method="holm")[1], strict=True))
    return (corrected[condition, contrast],)


def view(name: str, view: str) -> tuple[float]:
    table = pd.read_csv(RESULTS / "shortcuts" / "views.csv").query("images == @name and view == @view")
    return (100 * sum(table["label"] == table["predicted"]) / len(table),)


def most_frequent(name: str) -> tuple[float]:
    table = pd.read_csv(RESULTS / "shortcuts" / "views.csv").query("images == @name and view == 'lungs'")
    return (100 * max(sum(table["label"] == label) for label in set(table["label"])) / len(table),)


def thumbnails(split: str) -> tuple[float, float]:
    table = pd.read_csv(RESULTS / "thumbnails.csv").query("split == @split")
    each = [100 * np.mean(part["label"] == part["predicted"]) for _, part in table.groupby("seed")]
    return min(each), max(each)


BY_HAND = {
    one.__name__: one
    for one in (effect, other_effect, arm, fall, between, runs, adjusted, view, most_frequent, thumbnails)
}


def numbers_in(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"(?<!\d)[+-]?\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize(("name", "arguments", "text"), [one for one in SHOWN if one[0] != "verdicts"])
def test_every_value_in_the_text_follows_from_the_records(name, arguments, text) -> None:
    numbers, expected = numbers_in(text), BY_HAND[name](*json.loads(f"[{arguments}]"))
    places = len(text.split("(")[0].partition(".")[2].split(" ")[0])
    assert numbers == pytest.approx(expected, abs=0.6 * 10.0**-places)


PLACES = {
    ("MA raises the test accuracy of ResNet34", 2): ("segmented_resnet34", "as trained", 2.0),
    ("MA raises the test accuracy of ResNet34", 4): ("radiographs_resnet34", "as trained", 1.0),
    ("MA raises the test accuracy of ResNet50", 2): ("segmented_resnet50", "as trained", 2.0),
    ("MA raises the test accuracy of VGG16", 2): ("segmented_vgg16", "as trained", 2.0),
    ("MA raises the test accuracy of Inception v3", 2): ("segmented_inceptionv3", "as trained", 2.0),
    ("with MA, validation accuracy of ResNet50 jumps less", 2): ("segmented_resnet50", "jumps", 0.0),
    ("Grad-CAM of ResNet50 lies more in the lungs", 2): ("segmented_resnet50", "in_lungs", 0.0),
    ("MA generalises better", 2): ("confounders", "swapped", 2.0),
    ("MA generalises better", 3): ("external", "outside", 1.0),
}
"""Claim and column of the table: study, test or quantity, and the margin of equivalence in the study's file."""

CONTRAST = re.compile(
    r"([\w ]+ − [\w ]+), ([^:;]+): ([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\), (\d+) pairs"
    r"(?:, about (\d+) needed)?(?:, (supported|not supported|equivalent|undecided))?"
)


def cells() -> Iterator[tuple[tuple[str, int], str]]:
    """The cells of the table of claims that rest on a study, with their place."""
    (table,) = (text for name, _, text in SHOWN if name == "verdicts")
    for line in table.strip().splitlines()[2:]:
        for column, cell in enumerate(line.strip("| ").split(" | ")):
            if CONTRAST.search(cell):
                (place,) = (one for one in PLACES if line.startswith(f"| {one[0]}") and one[1] == column)
                yield place, cell


CELLS = dict(cells())


def verdict_on(differences: np.ndarray, margin: float, claimed: int) -> str:
    """The verdict on a claim that the differences are positive (1) or negative (-1)."""
    if scipy.stats.ttest_1samp(differences, 0).pvalue < 0.05:
        return "supported" if np.sign(differences.mean()) == claimed else "not supported"
    if margin:
        above = scipy.stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = scipy.stats.ttest_1samp(differences, margin, alternative="less").pvalue
        if max(above, below) < 0.05:
            return "equivalent"
    return "undecided"


def decided(differences: np.ndarray, margin: float, pairs: int) -> float:
    """How often so many pairs give a verdict, in simulations with the mean and the spread of the differences."""
    drawn = np.random.default_rng(0).normal(differences.mean(), differences.std(ddof=1), (20000, pairs))
    error = drawn.std(axis=1, ddof=1) / np.sqrt(pairs)
    significant = np.abs(drawn.mean(axis=1)) > scipy.stats.t.ppf(0.975, pairs - 1) * error
    equivalent = np.abs(drawn.mean(axis=1)) + scipy.stats.t.ppf(0.95, pairs - 1) * error < margin
    return float((significant | equivalent).mean())


def test_the_table_of_claims_shows_each_study_that_decides_one() -> None:
    assert CELLS.keys() == PLACES.keys()


@pytest.mark.parametrize("place", CELLS)
def test_the_table_of_claims_follows_from_the_records(place) -> None:
    study, quantity, margin = PLACES[place]
    claimed = -1 if "less" in place[0] else 1
    planned = yaml.safe_load((project_root() / "params" / "studies" / f"{study}.yaml").read_text())
    found, enough = [], []
    for contrast, condition, mean, low, high, pairs, needed, said in CONTRAST.findall(CELLS[place]):
        contrast = contrast.strip()
        values = runs_by_hand(study, condition, quantity)
        first, second = (values[arm] for arm in contrast.split(" − "))
        both = sorted(first.keys() & second.keys())
        differences = np.array([first[pair] - second[pair] for pair in both])
        assert [float(mean), float(low), float(high)] == pytest.approx(paired(first, second), abs=0.06)
        assert int(pairs) == len(both)
        found.append(verdict_on(differences, margin, claimed))
        enough.append(len(both) >= planned["pairs"])
        assert said in ("", found[-1])
        assert (found[-1] == "undecided") == bool(needed)
        if needed:
            assert decided(differences, margin, int(needed)) > 0.78
            assert decided(differences, margin, int(needed) - 1) < 0.82
    verdict = found[0] if len(set(found)) == 1 else "undecided"
    conditions = [one for one in planned["conditions"] if (study, one) != ("confounders", "strength 0")]
    contrasts = 2 if study == "external" else 1
    assert len(found) == contrasts * sum(bool(runs_by_hand(study, one, quantity)) for one in conditions)
    whole = all(enough) and len(found) == contrasts * len(conditions)
    assert CELLS[place].partition(":")[0] == verdict + ("" if whole else " so far")


def test_running_times_follow_from_the_recorded_rounds() -> None:
    seconds = json.loads((RESULTS / "mask_attention-cpu-128.json").read_text())["seconds_of_each_round"]
    table3 = project_root() / "manet_lib" / "report" / "published" / "table3_cost.csv"
    printed = pd.read_csv(table3).set_index("model")["time_increase_pct"]
    shown = re.search(r"\| supported on a CPU at 128 px, (\d+) rounds: (.+?) \(GPUs", README)
    assert {len(rounds) for rounds in seconds.values()} == {int(shown[1])}
    for part in shown[2].split("), "):
        model, mean, low, high = re.match(r"(\w+) ([+-][\d.]+)% \(([\d.-]+) to ([\d.-]+)", part).groups()
        network = model.lower()
        increases = 100 * (np.array(seconds[f"{network}_ma"]) / np.array(seconds[network]) - 1)
        assert float(mean) == pytest.approx(np.median(increases), abs=0.06)
        again = scipy.stats.bootstrap((increases,), np.median, method="percentile", rng=0).confidence_interval
        assert [float(low), float(high)] == pytest.approx(again, abs=0.3)
        assert float(high) < printed[f"{network}_ma"]  # which makes the claim supported


def test_the_counts_of_table_3_are_the_printed_ones_in_as_many_cells_as_the_readme_says() -> None:
    counted = pd.read_csv(project_root() / "figures" / "recorded" / "phantoms" / "table3.csv", dtype=str)
    printed = pd.read_csv(project_root() / "manet_lib" / "report" / "published" / "table3_cost.csv", dtype=str)
    same = sum(
        int((counted[f"{ours} (M)"].to_numpy() == printed[theirs].to_numpy()).sum())
        for ours, theirs in (("Params", "params_m"), ("FLOPs", "flops_m"))
    )
    assert f"supported: {same} of {2 * len(printed)} cells" in README


def test_what_is_left_out_is_planned_and_not_recorded_and_costs_what_recorded_runs_took() -> None:
    shown = re.findall(r"\| `(\w+)` \| (.+?) \| (\d+) \| (\d+) \| (.+?) \|", VALUES["left_out"]())
    found = {(name, condition): numbers for name, condition, *numbers in shown}
    for file in (project_root() / "params" / "studies").glob("*.yaml"):
        plan = yaml.safe_load(file.read_text())
        known = (RESULTS / "studies" / f"{file.stem}.jsonl.gz").is_file()
        for condition in plan["conditions"]:
            arms: dict[int, set[str]] = {}
            for one in records_of(file.stem) if known else []:
                if one["pair"] and one["condition"] == condition:
                    arms.setdefault(one["pair"], set()).add(one["arm"])
            done = sum(set(plan["arms"]) <= there for there in arms.values())
            numbers = found.pop((file.stem, condition), None)
            assert (numbers is None) == (done >= plan["pairs"])
            assert numbers is None or [int(one) for one in numbers[:2]] == [plan["pairs"], done]
    assert not found
    seconds = pd.DataFrame(records_of("segmented_vgg16")).query("condition == '96 px'")[["arm", "seconds"]]
    plain, attention = (seconds[seconds["arm"] == arm]["seconds"].median() for arm in ("plain", "MA"))
    (hours,) = (hours for *place, _, _, hours in shown if place == ["segmented_vgg16", "96 px"])
    assert float(hours) == pytest.approx(7 * (plain + attention) / 3600, abs=0.06)
