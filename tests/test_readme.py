"""What README, findings and report say of training runs follows from the records, computed without the library.

All of the README is recomputed; of other pages the values of the functions in `BY_HAND`, and tables of contrasts.
"""

import gzip
import json
import re
from collections import Counter
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
VALUE = re.compile(r"<!-- = (\w+)\((.*?)\) -->(.*?)<!-- / -->", flags=re.DOTALL)
SHOWN = VALUE.findall(README)
DOCS = "".join(
    (project_root() / "docs" / name).read_text(encoding="utf-8")
    for name in ("findings.md", "report.md", "limitations.md")
)


@cache
def records_of(name: str) -> list[dict]:
    with gzip.open(RESULTS / "studies" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def plan_of(name: str) -> dict:
    return yaml.safe_load((project_root() / "params" / "studies" / f"{name}.yaml").read_text())


def value_of(record: dict, test: str) -> float:
    """Accuracy, AUC or another quantity of a test, jumps, or the share of heat maps in a region, in percent.

    Or `loss`, the training loss of the last epoch.
    """
    if test == "loss":
        return record["log"]["train_loss"][-1]
    if test == "jumps":
        accuracy = np.array(record["log"]["val_accuracy"])
        return 100 * np.diff(accuracy[-(len(accuracy) // 4 + 1) :]).std(ddof=1)
    if test.removeprefix("in_") in ("lungs", "lesions"):
        region = test.removeprefix("in_").removesuffix("s")
        untrained = record["heat_maps"][f"{region}, untrained"] if test.startswith("in_") else 0.0
        return record["heat_maps"][f"{region}, trained"] - untrained
    of_classes = test == "pneumonias" or test.startswith("recall ")
    tested = record["tests"]["as trained" if of_classes else test]
    labels, logits = np.array(tested["label"]), np.array(tested["logits"])
    named = np.array(record["classes"])[logits.argmax(axis=1)]
    if test.startswith("recall "):
        return 100 * float((named == labels)[labels == test.removeprefix("recall ")].mean())
    if test == "pneumonias":
        pneumonia = np.isin(labels, ["bp", "vp"])
        return 100 * float((np.isin(named, ["bp", "vp"]) & (named != labels))[pneumonia].mean())
    if len(record["classes"]) == 2:
        return 100 * roc_auc_score(labels == record["classes"][1], logits[:, 1] - logits[:, 0])
    return 100 * float((named == labels).mean())


Run = tuple[int, str]
"""Number of a pair, and version of the code."""


@cache
def runs_by_hand(name: str, condition: str, test: str) -> dict[str, dict[Run, float]]:
    """A quantity of each arm, pair and version, straight from the lines of the record."""
    records = records_of(name)
    found: dict[str, dict[Run, float]] = {}
    for arm in {one["arm"] for one in records}:
        own = [one for one in records if one["arm"] == arm]
        tuning = [one for one in own if not one["pair"] and one["log"]["val_accuracy"]]
        here = [one for one in tuning if one["condition"] == condition]
        best = max(
            here or tuning or own, key=lambda one: (one["log"]["val_accuracy"][-1], -one["log"]["val_loss"][-1])
        )
        for one in own:
            if one["pair"] and (one["condition"], one["learning_rate"]) == (condition, best["learning_rate"]):
                found.setdefault(arm, {})[one["pair"], one["code"]] = value_of(one, test)
    return found


def paired(first: dict[Run, float], second: dict[Run, float]) -> tuple[float, float, float]:
    return interval(np.array([first[run] - second[run] for run in first.keys() & second.keys()]))


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    return (differences.mean(), *scipy.stats.ttest_1samp(differences, 0).confidence_interval())


def compared_by_hand(name: str, condition: str, test: str, contrast: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of both arms in the pairs that both have, each pair once."""
    first, second = (runs_by_hand(name, condition, test).get(arm, {}) for arm in contrast.split(" − "))
    both = {pair: (pair, code) for pair, code in sorted(first.keys() & second.keys(), reverse=True)}.values()
    return np.array([first[run] for run in both]), np.array([second[run] for run in both])


def effect(name: str, condition: str, test: str, contrast: str) -> tuple[float, float, float]:
    return interval(np.subtract(*compared_by_hand(name, condition, test, contrast)))


def other_effect(name: str, condition: str, contrast: str, quantity: str) -> tuple[float, float, float]:
    return effect(name, condition, quantity, contrast)


def arm(name: str, condition: str, test: str, arm: str) -> tuple[float]:
    """Over the pairs with as many arms as any has."""
    values = runs_by_hand(name, condition, test)
    arms = Counter(pair for runs in values.values() for pair in {pair for pair, _ in runs})
    return (np.mean([value for (pair, _), value in values[arm].items() if arms[pair] == max(arms.values())]),)


def fall(name: str, condition: str, test: str, after: str, *arms: str) -> tuple[float, float, float]:
    first, second = runs_by_hand(name, condition, test), runs_by_hand(name, condition, after)
    falls = [{run: first[arm][run] - second[arm][run] for run in first[arm]} for arm in arms]
    return paired(falls[0], falls[1] if len(falls) > 1 else dict.fromkeys(falls[0], 0.0))


def change(name: str, condition: str, arm: str, before: str, after: str) -> tuple[float, float, float]:
    """On the images of the later test, which may have fewer."""
    changes = []
    for one in records_of(name):
        if one["pair"] and (one["condition"], one["arm"]) == (condition, arm):
            images = set(one["tests"][after]["image_id"])
            tested = one["tests"][before]
            same = [place for place, image in enumerate(tested["image_id"]) if image in images]
            first = {key: [values[place] for place in same] for key, values in tested.items()}
            changes.append(value_of(one, after) - value_of(one | {"tests": {before: first}}, before))
    return interval(np.array(changes))


def over_seeds(*keys: str) -> tuple[float, float, float]:
    table = pd.read_csv(RESULTS / "seeds.csv").pivot(index="trial", columns="key", values="value")
    return interval((table[keys[0]] - table[keys[1]]).to_numpy())


def between(name: str, test: str, contrast: str, *conditions: str) -> tuple[float, float, float]:
    gains = []
    for condition in conditions:
        first, second = (runs_by_hand(name, condition, test)[arm] for arm in contrast.split(" − "))
        gains.append({(run[0], ""): first[run] - second[run] for run in first.keys() & second.keys()})
    return paired(*gains)


def discordant(name: str, condition: str, contrast: str) -> tuple[float, float, float]:
    tables = []
    for arm in contrast.split(" − "):
        for one in records_of(name):
            if one["pair"] and (one["condition"], one["arm"]) == (condition, arm):
                tested = one["tests"]["as trained"]
                named = np.take(one["classes"], np.argmax(tested["logits"], axis=1))
                table = pd.DataFrame({"image": tested["image_id"], "right": named == np.array(tested["label"])})
                tables.append(table.assign(arm=arm, pair=one["pair"]))
    wide = pd.concat(tables).pivot(index=["pair", "image"], columns="arm", values="right")
    first, second = (wide[arm].to_numpy(bool) for arm in contrast.split(" − "))
    counts = int((first & ~second).sum()), int((second & ~first).sum())
    return (*counts, scipy.stats.binomtest(counts[0], sum(counts)).pvalue)


def final_losses(name: str, *named: str) -> tuple[float, ...]:
    conditions = {one["condition"] for one in records_of(name)}
    losses = [
        loss
        for condition in conditions.intersection(named) or conditions
        for arm, runs in runs_by_hand(name, condition, "loss").items()
        if not set(named) - conditions or arm in named
        for loss in runs.values()
    ]
    return tuple(dict.fromkeys([round(min(losses), 2), round(max(losses), 2)]))


def runs(name: str, condition: str) -> tuple[int]:
    found: dict[int, set[str]] = {}
    for one in records_of(name):
        if one["condition"] == condition and one["pair"]:
            found.setdefault(one["pair"], set()).add(one["arm"])
    most = max(len(arms) for arms in found.values())
    return (sum(len(arms) == most for arms in found.values()),)


def adjusted(name: str, test: str, condition: str, contrast: str) -> tuple[float]:
    plan = plan_of(name)
    found = {}
    for place in plan["conditions"]:
        for one in [" − ".join(arms) for arms in plan["contrasts"]]:
            first, second = compared_by_hand(name, place, test, one)
            assert len(first) == plan["pairs"]
            found[place, one] = scipy.stats.ttest_rel(first, second).pvalue
    corrected = dict(zip(found, multipletests(list(found.values()), method="holm")[1], strict=True))
    return (corrected[condition, contrast],)


def most_frequent(name: str, condition: str, test: str) -> tuple[float]:
    runs = [one for one in records_of(name) if one["pair"] and one["condition"] == condition]
    shares = []
    for one in runs:
        labels = one["tests"][test]["label"]
        shares.append(100 * max(labels.count(label) for label in one["classes"]) / len(labels))
    return (np.mean(shares),)


def thumbnails(split: str) -> tuple[float, float]:
    table = pd.read_csv(RESULTS / "thumbnails.csv").query("split == @split")
    each = [100 * np.mean(part["label"] == part["predicted"]) for _, part in table.groupby("seed")]
    return min(each), max(each)


BY_HAND = {
    one.__name__: one
    for one in (
        effect,
        other_effect,
        arm,
        change,
        fall,
        between,
        over_seeds,
        discordant,
        final_losses,
        runs,
        adjusted,
        most_frequent,
        thumbnails,
    )
}


def numbers_in(text: str) -> list[str]:
    return re.findall(r"(?<!\d)[+-]?\d+(?:\.\d+)?", text)


IN_DOCS = VALUE.findall(DOCS)
assert len(SHOWN) == README.count("<!-- = ")
assert len(IN_DOCS) == DOCS.count("<!-- = ")
CHECKED = [one for one in SHOWN if one[0] != "verdicts"] + [one for one in IN_DOCS if one[0] in BY_HAND]


@pytest.mark.parametrize(("name", "arguments", "text"), dict.fromkeys(CHECKED))
def test_every_value_in_the_text_follows_from_the_records(name, arguments, text) -> None:
    shown, expected = numbers_in(text), BY_HAND[name](*json.loads(f"[{arguments}]"))
    assert len(shown) == len(expected)
    for number, value in zip(shown, expected, strict=True):
        assert float(number) == pytest.approx(value, abs=0.6 * 10.0 ** -len(number.partition(".")[2]))


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
    return "equivalent" if equivalent(differences, margin) else "undecided"


def equivalent(differences: np.ndarray, margin: float) -> bool:
    """Whether two one-sided tests show that the differences are smaller than the margin; never if it is 0."""
    above = scipy.stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return max(above, below) < 0.05


def decided(differences: np.ndarray, margin: float, pairs: int) -> float:
    """How often so many pairs give a verdict, in simulations with the mean and the spread of the differences."""
    drawn = np.random.default_rng(0).normal(differences.mean(), differences.std(ddof=1), (20000, pairs))
    error = drawn.std(axis=1, ddof=1) / np.sqrt(pairs)
    significant = np.abs(drawn.mean(axis=1)) > scipy.stats.t.ppf(0.975, pairs - 1) * error
    equivalent = np.abs(drawn.mean(axis=1)) + scipy.stats.t.ppf(0.95, pairs - 1) * error < margin
    return float((significant | equivalent).mean())


@pytest.mark.parametrize(("arguments", "text"), [one[1:] for one in IN_DOCS if one[0] == "study"])
def test_tables_of_contrasts_follow_from_the_records(arguments, text) -> None:
    name, *tests = json.loads(f"[{arguments.partition(', only')[0]}]")
    plan = plan_of(name)
    contrasts = [" − ".join(one) for one in plan["contrasts"]]
    rows = [line.strip("| ").split(" | ") for line in text.strip().splitlines()[2:]]
    recorded = {
        (condition, test, " − ".join(both))
        for condition in plan["conditions"]
        for test in tests or plan["tests"]
        for both in plan["contrasts"]
        if set(both) <= runs_by_hand(name, condition, test).keys()
    }
    only = json.loads(arguments.partition("only=")[2] or "[]")
    assert {tuple(row[:3]) for row in rows} == {one for one in recorded if not only or one[2] in only}
    for condition, test, contrast, pairs, first, second, difference, *_, verdict, _ in rows:
        values = compared_by_hand(name, condition, test, contrast)
        assert int(pairs) == len(values[0])
        assert [float(first), float(second)] == pytest.approx([one.mean() for one in values], abs=0.06)
        assert [float(one) for one in numbers_in(difference)] == pytest.approx(
            interval(values[0] - values[1]), abs=0.06
        )
        found = verdict_on(values[0] - values[1], plan["margin"], 1)
        if plan.get("holm") and found in ("supported", "not supported"):
            others = [compared_by_hand(name, condition, test, one) for one in contrasts]
            p = [scipy.stats.ttest_rel(*one).pvalue if len(one[0]) > 1 else 1.0 for one in others]
            if multipletests(p, method="holm")[1][contrasts.index(contrast)] >= 0.05:
                found = "equivalent" if equivalent(values[0] - values[1], plan["margin"]) else "undecided"
        words = {"supported": "higher", "not supported": "lower"}
        assert verdict == words.get(found, found)


def test_the_table_of_claims_shows_each_study_that_decides_one() -> None:
    assert CELLS.keys() == PLACES.keys()


@pytest.mark.parametrize("place", CELLS)
def test_the_table_of_claims_follows_from_the_records(place) -> None:
    study, quantity, margin = PLACES[place]
    claimed = -1 if "less" in place[0] else 1
    planned = plan_of(study)
    found, enough = [], []
    for contrast, condition, mean, low, high, pairs, needed, said in CONTRAST.findall(CELLS[place]):
        first, second = compared_by_hand(study, condition, quantity, contrast.strip())
        differences = first - second
        assert [float(mean), float(low), float(high)] == pytest.approx(interval(differences), abs=0.06)
        assert int(pairs) == len(differences)
        found.append(verdict_on(differences, margin, claimed))
        enough.append(len(differences) >= planned["pairs"])
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
    parts = shown[2].split("), ")
    assert len(parts) == len(printed.filter(like="_ma"))
    for part in parts:
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
        plan = plan_of(file.stem)
        known = (RESULTS / "studies" / f"{file.stem}.jsonl.gz").is_file()
        for condition in plan["conditions"]:
            here = [one for one in (records_of(file.stem) if known else []) if one["condition"] == condition]
            arms: dict[int, set[str]] = {}
            for one in here:
                if one["pair"]:
                    arms.setdefault(one["pair"], set()).add(one["arm"])
            done = sum(set(plan["arms"]) <= there for there in arms.values())
            numbers = found.pop((file.stem, condition), None)
            assert (numbers is None) == (done >= plan["pairs"])
            if numbers:
                assert [int(one) for one in numbers[:2]] == [plan["pairs"], done]
                lacking = plan["pairs"] * len(plan["arms"]) - sum(len(there) for there in arms.values())
                each = pd.DataFrame(here, columns=["arm", "seconds"]).groupby("arm")["seconds"].median().mean()
                assert numbers[2] == (f"{lacking * each / 3600:.1f}" if here else "not measured")
    assert not found
