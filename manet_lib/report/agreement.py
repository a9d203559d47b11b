"""Whether a run agrees with the recorded one of the same profile: what must be the same, and what may differ.

Counts, hashes and Table 3 follow from seed and code, so they are the same on every machine, to the digit. What is
trained is not: arithmetic differs in its last bit from processor to processor, and training makes that grow into
another network, as other random numbers would. So the tolerance of what is measured is the spread between recorded
training runs: the difference of two of them lies within it in 95 of 100 cases.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from manet_lib.data.manifest import read_manifest
from manet_lib.params import Params
from manet_lib.paths import RunPaths, log_of, output_root
from manet_lib.report.confounders import accuracy_with_markers, title_of
from manet_lib.report.cost import count_table
from manet_lib.report.provenance import write_provenance
from manet_lib.report.tables import model_title, right_by_trial, trained_models
from manet_lib.studies.confounders import THUMBNAILS
from manet_lib.workflow import steps
from manet_lib.workflow.parameters import fingerprint
from manet_lib.workflow.records import read_done, read_json, read_table


def facts(params: Params, paths: RunPaths) -> dict[str, Any]:
    """What is the same on every machine, of the steps that are done: names and plain JSON values."""
    found: dict[str, Any] = {}
    done = read_done(paths.store) if steps.store_step(params, paths).is_done() else None
    if done is not None:
        found["pixels of all images"] = done["outputs"]["images.npy"]["sha256"][:16]
    if steps.manifest_step(params, paths).is_done():
        manifest = read_manifest(paths)
        for side, part in manifest.groupby("split"):
            counts = part["label"].value_counts().reindex(params.classes, fill_value=0)
            found[f"images for {side}, by class"] = counts.tolist()
        sides = manifest[["image_id", "split", "seg_split"]].to_csv(index=False)
        found["which image is on which side"] = hashlib.sha256(sides.encode()).hexdigest()[:16]
    for model, trial in trained_models(params, paths):
        log = pd.read_csv(log_of(paths.classifier(model, trial)))
        found[f"epochs of {model_title(model)}, trial {trial}"] = len(log)
    if steps.cost_step(params, paths).is_done():
        table = count_table(pd.read_csv(paths.cost / "counts.csv")).set_index("Model")
        for name, row in table.iterrows():
            found[f"Table 3, {name}: parameters and FLOPs in millions"] = [row["Params (M)"], row["FLOPs (M)"]]
    return found


def measured(params: Params, paths: RunPaths) -> dict[str, float]:
    """What training makes of it, in percent, of the steps that are done: means over trials; see :func:`title`."""
    return {key: float(np.mean(values)) for key, values in measured_by_trial(params, paths).items()}


def measured_by_trial(params: Params, paths: RunPaths) -> dict[str, list[float]]:
    """The same for each trial; stage 1 is trained once."""
    found: dict[str, list[float]] = {}
    if steps.segmentation_step(params, paths).is_done():
        found["iou"] = [100 * float(pd.read_csv(paths.iou)["iou"].mean())]
    accuracy: dict[str, dict[int, float]] = {}
    for model, trial in trained_models(params, paths):
        share = 100 * float(right_by_trial(paths, model, [trial])[0].mean())
        accuracy.setdefault(model, {})[trial] = share
        found.setdefault(f"accuracy {model}", []).append(share)
    if steps.confounders_step(params, paths).is_done():
        for key, value in _with_other_markers(read_table(paths.confounders / "predictions.csv"), params.view):
            found.setdefault(key, []).append(value)
    if steps.attention_step(params, paths, steps.grid(params)).is_done():
        scores = pd.read_csv(paths.attention / "scores.csv")
        shares = scores.groupby(["model", "trial"], sort=False)
        if "lung_share" in scores:
            for (model, _), share in shares["lung_share"].mean().items():
                found.setdefault(f"in_lungs {model}", []).append(100 * float(share))
    return found | _gains(accuracy)


def _with_other_markers(predictions: pd.DataFrame, own_view: str) -> Iterator[tuple[str, float]]:
    """Accuracy of networks that see whole images, with the markers as trained, without and swapped, by trial."""
    networks = predictions[(predictions["view"] == "whole") & (predictions["model"] != THUMBNAILS)]
    if own_view == "whole":
        return
    correct = networks["label"] == networks["predicted"]
    keys = [networks[name] for name in ("model", "test", "trial")]
    for (model, test, _), share in correct.groupby(keys, sort=False).mean().items():
        yield f"whole_{test.replace(' ', '_')} {model}", 100 * float(share)


def _gains(accuracy: Mapping[str, Mapping[int, float]]) -> dict[str, list[float]]:
    """Accuracy with attention minus that of the plain network, in the trials that both have."""
    gains = {}
    for model, by_trial in accuracy.items():
        base, _, attention = model.partition("_")
        plain = accuracy.get(base, {})
        both = [by_trial[trial] - plain[trial] for trial in by_trial if trial in plain]
        if attention and both:
            gains[f"gain {model}"] = both
    return gains


_KINDS = {
    "accuracy": "test accuracy (%)",
    "in_lungs": "Grad-CAM in the lungs (%)",
    "gain": "accuracy minus plain (points)",
    "whole_as_trained": "whole images, test accuracy (%)",
    "whole_without": "whole images without markers (%)",
    "whole_swapped": "whole images with swapped markers (%)",
}


def title(key: str) -> str:
    """What a measured number is called in tables."""
    kind, _, model = key.partition(" ")
    return "Stage 1, mean test IoU (%)" if kind == "iou" else f"{model_title(model)}, {_KINDS[kind]}"


LEAST_TOLERANCE = 6.0
"""In points, of what stage 2 makes: the recorded training runs share their lung masks, which matter, too.

With a stage 1 that differed in rounding alone, the plain ResNet34 of the default run lost 2.2 points.
"""


def tolerances(repeats: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Within which the difference of two runs of each number lies in 95 of 100 cases, in points.

    Args:
        repeats: values of each number in recorded training runs that differ in their random numbers; numbers with
            fewer than two are left out.

    Returns:
        By number; for stage 2 at least ``LEAST_TOLERANCE``.
    """
    found = {}
    for key, values in repeats.items():
        if len(values) > 1:
            spread = float(np.sqrt(2) * np.std(values, ddof=1))
            least = 0.0 if key == "iou" else LEAST_TOLERANCE
            found[key] = max(least, float(scipy.stats.t.ppf(0.975, len(values) - 1)) * spread)
    return found


def recorded(paths: RunPaths) -> dict[str, Any] | None:
    """The record of a profile in ``figures/recorded/``; None where there is none."""
    return read_json(paths.recorded / "record.json")


def other_settings(params: Params, paths: RunPaths, record: Mapping[str, Any]) -> list[str]:
    """Parameters with an effect on results that differ from those of the recorded run."""
    mine, usual = (json.loads(one.model_dump_json()) for one in (params, Params(profile=params.profile)))
    theirs = usual | record["parameters"]  # a parameter that did not exist yet had its default
    names = {name for step in steps.all_steps(params, paths) for name in fingerprint(params, step.name)}
    return [name for name in sorted(names) if theirs[name] != mine[name]]


def exact_table(params: Params, paths: RunPaths, record: Mapping[str, Any]) -> pd.DataFrame:
    """Exact facts of a run beside the recorded ones: which there are, and whether they are the same."""
    mine, theirs = json.loads(json.dumps(facts(params, paths))), record["facts"]
    shared = [name for name in theirs if name in mine]
    rows = [(name, str(theirs[name]), str(mine[name]), mine[name] == theirs[name]) for name in shared]
    return pd.DataFrame(rows, columns=["Fact", "Recorded", "This run", "Same"])


_FACTORS = {"Agrees": 1.0, "Agrees at half the tolerance": 0.5, "Agrees at double the tolerance": 2.0}


def measured_table(params: Params, paths: RunPaths, record: Mapping[str, Any]) -> pd.DataFrame:
    """What a run measured beside the recorded values; the verdict at the tolerance, at half and at double of it.

    Numbers whose spread nobody measured are given without a verdict.
    """
    mine, known = measured(params, paths), tolerances(record["repeats"])
    rows = []
    for key, theirs in record["measured"].items():
        if key not in mine:
            continue
        difference, tolerance = mine[key] - theirs, known.get(key)
        row: dict[str, Any] = {"Number": title(key), "Recorded": f"{theirs:.2f}", "This run": f"{mine[key]:.2f}"}
        row["Difference"] = f"{difference:+.2f}"
        row["Tolerance"] = "–" if tolerance is None else f"{tolerance:.2f}"
        for name, factor in _FACTORS.items():
            within = tolerance is not None and abs(difference) <= factor * tolerance
            row[name] = "–" if tolerance is None else "yes" if within else "no"
        rows.append(row)
    columns = ["Number", "Recorded", "This run", "Difference", "Tolerance", *_FACTORS]
    return pd.DataFrame(rows, columns=columns)


def verdict(exact: pd.DataFrame, numbers: pd.DataFrame) -> str:
    """One sentence: whether the run agrees with the recorded one, and what does not.

    Of numbers that each lie within their tolerance in 95 of 100 cases, some lie outside in an honest run; as many
    are allowed as 95 of 100 runs would have if the numbers were independent, but none beyond twice its tolerance.
    """
    judged = numbers[numbers["Tolerance"] != "–"]
    outside, far = (judged.loc[judged[name] == "no", "Number"] for name in list(_FACTORS)[::2])
    allowed = int(scipy.stats.binom.ppf(0.95, len(judged), 0.05))
    wrong = [*exact.loc[~exact["Same"].astype(bool), "Fact"], *(outside if len(outside) > allowed else far)]
    same, within = int(exact["Same"].sum()), int((judged["Agrees"] == "yes").sum())
    counted = f"{same} of {len(exact)} exact facts are the same, {within} of {len(judged)} measured numbers agree"
    if not wrong:
        none_differs = len(numbers) and (numbers["Recorded"] == numbers["This run"]).all()
        itself = " All printed digits are the recorded ones."
        return f"This run agrees with the recorded one: {counted}.{itself if none_differs else ''}"
    return f"This run does NOT agree with the recorded one: {counted}. What differs: {'; '.join(wrong)}."


def beside_recorded(params: Params, paths: RunPaths) -> tuple[str, pd.DataFrame]:
    """A run beside the recorded one of its profile, if there is one that was made with the same settings.

    A sentence that says whether it agrees and what does not, or why it is not compared; and
    :func:`measured_table`, without rows where nothing is compared.
    """
    record, nothing = recorded(paths), pd.DataFrame()
    if record is None:
        said = (
            f"No results of profile {params.profile} come with the project, so there is nothing to compare with."
        )
        return said, nothing
    changed = other_settings(params, paths, record)
    if changed:
        return f"Not compared with the recorded run, which has another {', '.join(changed)}.", nothing
    exact, numbers = exact_table(params, paths, record), measured_table(params, paths, record)
    made = record["made"]
    where = f"figures/recorded/{params.profile}/, made on {made['device']} in {' and '.join(made['precision'])}"
    return f"{verdict(exact, numbers)} ({where})", numbers


_FIRST = ("overview", "figure9", "confounders")
"""Figures to open first."""


def closing_lines(params: Params, paths: RunPaths) -> Iterator[str]:
    """At most ten lines: what a run made and shows, whether it agrees with the recorded one, what to open."""
    write_provenance(params, paths)
    root = output_root()
    figures = sorted({path.stem for path in paths.figures.glob("*.png")})
    tables = sorted({path.stem for path in paths.figures.glob("*.csv")})
    yield f"{len(tables)} tables and {len(figures)} figures are in {paths.figures.relative_to(root)}/."
    yield from _accuracies(params, paths)
    yield beside_recorded(params, paths)[0]
    first = [f"{paths.figures.relative_to(root)}/{name}.png" for name in _FIRST if name in figures]
    executed = (paths.root / "notebooks").relative_to(root)
    yield f"Open first: {', '.join(first)}; the executed notebooks are in {executed}/."


def _accuracies(params: Params, paths: RunPaths) -> Iterator[str]:
    """Test accuracy of each network, and with other markers where it was trained on whole images."""
    file = paths.confounders / "predictions.csv"
    if not file.is_file():
        return
    table = accuracy_with_markers(read_table(file))
    own = table[(table["view"] == params.view) & (table["test"] == "as trained")]
    named = [f"{title_of(row.model)} {row.accuracy:.0f}%" for row in own.itertuples()]
    yield f"Test accuracy, {params.view}: {', '.join(named)}."
    whole = table[(table["view"] == "whole") & (table["model"] != THUMBNAILS)]
    wide = whole.pivot(index="model", columns="test", values="accuracy")
    if params.view != "whole" and "swapped" in wide:
        named = [
            f"{title_of(model)} {wide.loc[model, 'as trained']:.0f}% → {wide.loc[model, 'swapped']:.0f}%"
            for model in dict.fromkeys(whole["model"])
        ]
        yield f"Whole images, the sources' markers swapped between classes: {', '.join(named)}."
