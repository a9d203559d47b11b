"""The default run, finished: what it makes, what would be redone, and whether a broken network would be noticed.

These tests look at ``runs/phantoms``, so `make reproduce` comes first; without it they are skipped.
"""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from manet_lib.attention.maps import inputs_of
from manet_lib.data.manifest import read_manifest
from manet_lib.params import Params, load_params
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, log_of, params_file, project_root
from manet_lib.report import agreement
from manet_lib.report.agreement import beside_recorded, closing_lines, measured, measured_table, tolerances
from manet_lib.report.provenance import provenance
from manet_lib.report.recorded import may_be_kept, record
from manet_lib.studies.confounders import TESTS
from manet_lib.training.classification import load_classifier, train_classifier
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.graph import nodes, stale
from manet_lib.workflow.parameters import READ_BY
from manet_lib.workflow.records import read_table
from manet_lib.workflow.reproduce import reproduce
from manet_lib.workflow.steps import audit_steps, grid

ROOT = project_root()
PARAMS = load_params(params_file(DEFAULT_PROFILE))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the finished default run; large files are linked."""
    if any(stale(PARAMS, RunPaths(ROOT / "runs" / PARAMS.profile, ROOT / "figures" / PARAMS.profile))):
        pytest.skip("the default run is not finished; call `make reproduce` first")
    output = tmp_path_factory.mktemp("default")
    for name in ("runs", "figures"):
        shutil.copytree(ROOT / name / PARAMS.profile, output / name / PARAMS.profile, copy_function=linked)
    return output


def linked(source, target):
    (os.link if str(source).endswith((".npy", ".safetensors")) else shutil.copy2)(source, target)


@pytest.fixture
def run(finished, monkeypatch):
    monkeypatch.setenv("MANET_OUTPUT", str(finished))
    return RunPaths.of(PARAMS.profile)


def test_one_command_makes_every_table_and_figure(run):
    tables = {f"table{number}" for number in range(1, 6)} | {"segmentation_iou", "attention", "paired", "claims"}
    tables |= {"table3_time", "table5_trials", "class_scores", "calibration", "power", "faithfulness", "agreement"}
    tables |= {"attention_pairs", "attention_controls", "attention_sanity", "shortcut_probe", "confounders"}
    tables |= {"mask_scores", "postprocessing", "perturbed_masks", "reach"}
    for name in tables:
        assert all((run.figures / f"{name}.{ending}").stat().st_size > 30 for ending in ("csv", "md", "tex")), name
    figures = {f"figure{number}" for number in range(1, 11)} | {"overview", "reach", "roc"}
    for name in figures | {"reliability", "sanity", "perturbed_masks", "confounders"}:
        assert all((run.figures / f"{name}.{ending}").stat().st_size > 2000 for ending in ("png", "pdf", "svg"))
    assert "not comparable" in (run.figures / "table2.md").read_text()


def shown(cell):
    """What nbval compares of a cell's outputs: texts, no pictures."""
    return [
        {"text": "".join(one["text"])}
        if one["output_type"] == "stream"
        else {kind: "".join(text) for kind, text in one["data"].items() if not kind.startswith("image/")}
        for one in cell["outputs"]
    ]


def test_checked_outputs_are_those_of_the_committed_notebooks(run):
    checked = 0
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if run.executed(file.stem).is_file():  # 04 has a file for each training run
            made = {cell["id"]: cell for cell in json.loads(run.executed(file.stem).read_text())["cells"]}
            for cell in json.loads(file.read_text())["cells"]:
                if "nbval-check-output" in cell["metadata"].get("tags", []):
                    assert shown(made[cell["id"]]) == shown(cell), (file.stem, cell["id"])
                    checked += 1
    assert checked >= 8


def test_a_second_call_does_nothing(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}
    assert reproduce(params_file(DEFAULT_PROFILE), cores=2) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()} == before


def test_networks_converge_and_do_better_than_thumbnails(run):
    predictions = read_table(run.confounders / "predictions.csv")
    correct = predictions["label"] == predictions["predicted"]
    accuracy = correct.groupby([predictions[name] for name in ("view", "model", "test")]).mean()
    for model in PARAMS.models:
        loss = pd.read_csv(log_of(run.classifier(model, 1)))["train_loss"]
        assert loss.iloc[-1] < 0.5 * loss.iloc[0]
        assert accuracy["lungs", model, "as trained"] > accuracy["lungs", "thumbnails", "as trained"] + 0.05
        lungs = [accuracy["lungs", model, test] for test in TESTS]
        assert max(lungs) - min(lungs) < 0.05, "what lies outside the lungs is not seen"
    assert 0.6 < accuracy["lungs", "resnet34", "without"] < 0.95, "neither trivial nor hopeless"
    assert read_table(run.iou)["iou"].mean() > 0.9
    lost = {name: accuracy["whole", name, TESTS[0]] - accuracy["whole", name, "swapped"] for name in PARAMS.models}
    assert lost["resnet34_ma"] < 0.5 * min(lost["resnet34"], lost["resnet34_cbam"])


def test_a_run_that_is_recorded_agrees_with_itself(run, tmp_path, monkeypatch):
    monkeypatch.setattr(RunPaths, "recorded", property(lambda self: tmp_path / "recorded"))
    found = provenance(PARAMS, run)
    assert found["run"]["command"] == "make reproduce"
    assert found["run"]["images"] == sha256_of(run.store / "images.npy")[:16]
    status = {name: found[name]["status"] for name in ("figure9", "table3", "figure5")}
    assert status == {"figure9": "phantoms only", "table3": "reproduced", "figure5": "reproduced"}
    assert all(entry["status"] != "not run" for name, entry in found.items() if name != "run")
    trained = [json.loads((run.classifier(*pair) / "done.json").read_text())["seconds"] for pair in grid(PARAMS)]
    others = [json.loads((step.folder / "done.json").read_text())["seconds"] for step in audit_steps(PARAMS, run)]
    assert sum(trained) <= found["figure10"]["seconds"] < sum(trained) + sum(others)
    assert provenance(PARAMS.model_copy(update={"seed": 1}), run)["table2"].get("seconds") is None

    assert "nothing to compare with" in beside_recorded(PARAMS, run)[0]
    record(PARAMS, run)
    assert (tmp_path / "recorded/figure9.png").read_bytes() == (run.figures / "figure9.png").read_bytes()
    images = (
        "figure1",
        "figure2",
        "figure3",
        "figure8",
        "figure9",
        "overview",
        "perturbed_masks_images",
        "mask_maps",
    )
    assert not any(may_be_kept(name, PARAMS.model_copy(update={"data_source": "manifest"})) for name in images)
    content = json.loads((tmp_path / "recorded/record.json").read_text())
    tested = pd.read_csv(tmp_path / "recorded/table1.csv").iloc[2, 1:-1].tolist()
    assert content["facts"]["images for test, by class"] == tested
    assert len([name for name in content["facts"] if name.startswith("Table 3")]) == 10
    said, numbers = beside_recorded(PARAMS, run)
    assert "This run agrees with the recorded one" in said
    assert numbers["Difference"].tolist() == ["+0.00"] * len(content["measured"])

    other = PARAMS.model_copy(update={"epochs": 2, "num_workers": 1})
    assert "another epochs" in beside_recorded(other, run)[0]
    broken = content["facts"] | {"epochs of ResNet34, trial 1": 7}
    (tmp_path / "recorded/record.json").write_text(json.dumps(content | {"facts": broken}))
    said = beside_recorded(PARAMS, run)[0]
    assert "does NOT agree" in said
    assert "epochs of ResNet34, trial 1" in said


def test_the_end_of_a_run_names_what_is_there(run, finished):
    lines = list(closing_lines(PARAMS, run))
    assert len(lines) <= 10
    named = [word.rstrip(";,") for word in lines[-1].split() if word.rstrip(";,").endswith(".png")]
    assert named
    assert all((finished / name).is_file() for name in named)


RECORDED = json.loads((ROOT / "figures/recorded/phantoms/record.json").read_text())


def test_an_accuracy_may_differ_by_few_points_only():
    known = tolerances(RECORDED["repeats"])
    assert all(len(values) >= 10 for values in RECORDED["repeats"].values())
    own = {key: tolerance for key, tolerance in known.items() if key.startswith("accuracy ")}
    assert own.keys() == {f"accuracy {model}" for model in PARAMS.models}
    assert max(own.values()) <= 6


def accuracy_of(run, network, mask=lambda mask: mask):
    """Test accuracy in percent of a network as it is, in whatever mode."""
    manifest = read_manifest(run)
    given = inputs_of(PARAMS, run, manifest[manifest["split"] == "test"])
    with torch.inference_mode():
        parts = zip(given.image.split(64), given.mask.split(64), strict=True)
        predicted = torch.cat([network(image, mask(lungs)).argmax(1) for image, lungs in parts])
    return 100 * float((predicted == given.target).double().mean())


def zeroed_masks(run):
    network = load_classifier(PARAMS, run, "resnet34_ma", 1)
    assert accuracy_of(run, network) == pytest.approx(measured(PARAMS, run)["accuracy resnet34_ma"], abs=2)
    return "resnet34_ma", accuracy_of(run, network, torch.zeros_like)


def untouched_statistics(run):
    """Batch norms that normalise by the statistics of their initialisation."""
    network = load_classifier(PARAMS, run, "resnet34", 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    return "resnet34", accuracy_of(run, network)


def shuffled_labels(run):
    manifest = read_manifest(run)
    rows = np.flatnonzero(manifest["split"] == "train")
    labels = manifest["label"].to_numpy(copy=True)
    labels[rows] = np.random.default_rng(0).permutation(labels[rows])
    changed = manifest.assign(label=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manet_lib.training.classification.read_manifest", lambda paths: changed)
        few = PARAMS.model_copy(update={"epochs": 3})
        train_classifier(few, run.seeing("shuffled"), "resnet34", 1)
    return "resnet34", accuracy_of(run, load_classifier(PARAMS, run.seeing("shuffled"), "resnet34", 1))


@pytest.mark.parametrize(
    "broken",
    [zeroed_masks, untouched_statistics, pytest.param(shuffled_labels, marks=pytest.mark.exhaustive)],
)
def test_a_broken_network_does_not_agree_with_the_recorded_one(run, monkeypatch, broken):
    model, accuracy = broken(run)
    own = measured(PARAMS, run)
    monkeypatch.setattr(agreement, "measured", lambda *_: own | {f"accuracy {model}": accuracy})
    numbers = measured_table(PARAMS, run, RECORDED).set_index("Number")
    assert numbers.loc[agreement.title(f"accuracy {model}"), "Agrees at double the tolerance"] == "no"


TRAINED = {name for name in nodes(PARAMS, RunPaths.of(PARAMS.profile)) if name.startswith("04_")}
# Which notebooks show the result of each step; a notebook of a step that is done again is executed again.
SHOWN_BY = {
    "store": {"01_data", "10_shortcut_audit", "11_your_own_xray"},
    "manifest": {"01_data", "10_shortcut_audit", "11_your_own_xray"},
    "segmentation": {"02_segmentation", "11_your_own_xray"},
    "raw_masks": {"02_segmentation"},
    "clean_masks": {"03_postprocessing", "08_reach", "09_masks", "11_your_own_xray"},
    "classification": TRAINED | {"09_masks", "10_shortcut_audit", "11_your_own_xray"},
    "attention": {"05_attention_maps"},
    "mask_scores": {"09_masks"},
    "perturbed_masks": {"09_masks"},
    "confounders": {"10_shortcut_audit"},
    "probes": {"05_attention_maps"},
    "cost": {"07_cost", "06_results"},
}
ORDER = ("store", "manifest", "segmentation", "raw_masks", "clean_masks", "classification", "attention")
NO_EFFECT = {"profile", "accelerator", "num_workers", "threads", "download", "mirror", "restarts"} | {
    *("timeout_minutes", "checkpoint_minutes", "old_code")
}


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return value | {"resnet34": 1.0}
    if isinstance(value, list):
        return [*value, value[0]] if value else ["whole"]
    return f"{value}x" if isinstance(value, str) else value + 1


def test_every_key_redoes_what_depends_on_it_and_nothing_else(run):
    assert dict(stale(PARAMS, run)) == {}
    assert len(TRAINED) == len(grid(PARAMS)) + len(audit_steps(PARAMS, run))
    for key in Params.model_fields:
        changed = PARAMS.model_copy(update={key: other(getattr(PARAMS, key))})
        if key == "audit_views":
            changed = PARAMS.model_copy(update={key: [*PARAMS.audit_views, "shape"]})
        found = {name for name, _ in stale(changed, run)}
        first = next((step for step in ORDER if key in READ_BY[step]), None)
        expected = set()
        if key not in NO_EFFECT:
            after = ORDER[ORDER.index(first) :] if first else ()
            expected = set().union(*(SHOWN_BY[step] for step in after)) | ({"06_results"} if after else set())
            for step in ("cost", "probes", "mask_scores", "perturbed_masks", "confounders"):
                expected |= SHOWN_BY[step] if key in READ_BY[step] else set()
        if key == "threads":  # running times depend on them, results do not
            expected = SHOWN_BY["cost"]
        own_rate = {name for name in TRAINED if name.split("-")[1] in PARAMS.learning_rates}
        if key == "learning_rate":
            expected -= own_rate
        if key == "learning_rates":
            expected -= {name for name in TRAINED if name.split("-")[1] != "resnet34"}
        if key == "view":  # the audit has views of its own
            expected -= {name for name in TRAINED if name.endswith("-whole")}
        if key == "count_include_pad":
            expected |= {"08_reach"}
        if key == "figure_dpi":
            expected = set().union(*SHOWN_BY.values()) | {"06_results"}
        if key == "trials":  # one more training of each
            expected |= {"10_shortcut_audit", "11_your_own_xray"}
        if key == "published":
            expected = {"01_data", "02_segmentation", "06_results", "07_cost"}
        new = {name for name in found if name.startswith("04_") and name not in TRAINED}
        assert found - new == expected, key
