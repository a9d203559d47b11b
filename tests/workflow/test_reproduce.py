"""What `make reproduce` says of a run: how long it will take, how far it is, and why it failed."""

import time

import pytest
import torch

from manet_lib.models import create_model
from manet_lib.params import load_params
from manet_lib.paths import RunPaths, log_of, params_file
from manet_lib.training.cost import fvcore_cost
from manet_lib.workflow.estimates import arithmetic, estimates, training_operations
from manet_lib.workflow.graph import nodes
from manet_lib.workflow.records import write_json, write_text
from manet_lib.workflow.reproduce import Progress, in_minutes, reasons, reproduce

PARAMS = load_params(params_file("phantoms"))


@pytest.mark.parametrize("name", ["resnet34", "resnet50_ma", "vgg16"])
def test_the_arithmetic_of_training_is_six_times_the_multiply_accumulates(name):
    with torch.device("meta"):
        image = torch.zeros(1, 1, 128, 128)
        counted = arithmetic(create_model(name), image, image)
    assert counted == pytest.approx(6 * fvcore_cost(name, 128)[1], rel=0.02)  # which counts batch norms, too


def test_training_is_proportional_to_epochs_and_images_and_other_notebooks_have_none(output):
    paths = RunPaths.of("phantoms")

    def operations(name, **changes):
        params = PARAMS.model_copy(update=changes)
        return training_operations(nodes(params, paths)[name], params, paths)

    one = "04_classification-resnet34-1"
    assert operations(one, epochs=20) == pytest.approx(2 * operations(one, epochs=10))
    assert operations(one, phantom_images=1600) == pytest.approx(2 * operations(one, phantom_images=800))
    assert operations("04_classification-resnet34-1-whole") == operations(one)
    assert operations("02_segmentation") > 0
    assert operations("05_attention_maps") == 0
    assert operations(one, data_source="public") == 0, "nobody knows yet how many images there are"


def test_a_machine_that_is_twice_as_fast_takes_half_the_time(output):
    paths = RunPaths.of("phantoms")
    known = nodes(PARAMS, paths)
    operations = {name: training_operations(known[name], PARAMS, paths) for name in known}
    slow, fast = (estimates(PARAMS, paths, operations, speed) for speed in (10.0, 20.0))
    assert slow.keys() == fast.keys() == {*known}
    assert sum(slow.values()) == pytest.approx(2 * sum(fast.values()))


def test_progress_counts_notebooks_and_epochs_and_corrects_the_time_that_is_left(output):
    paths = RunPaths.of("phantoms")
    names = ["01_data", "04_classification-resnet34-1", "06_results"]
    progress = Progress(PARAMS, paths, dict.fromkeys(names, 100.0), started=time.time() - 200)
    assert (progress.share, progress.look()) == (0, [])
    untouched = progress.left
    assert untouched > 300, "nothing is done after two thirds of the time"

    write_json(paths.node_record("01_data"), {})
    assert progress.look() == ["01_data"]
    assert progress.look() == []
    assert progress.share == pytest.approx(1 / 3)
    log = log_of(paths.classifier("resnet34", 1))
    write_text(log, "epoch,train_loss\n" + "1,1.0\n" * (PARAMS.epochs // 2))
    assert 1 / 3 < progress.share < 1 / 2
    assert progress.left < untouched

    for name in names[1:]:
        write_json(paths.node_record(name), {})
    progress.look()
    assert progress.share == pytest.approx(1)
    assert progress.left == pytest.approx(0)


def test_a_failure_is_explained_by_its_own_lines():
    log = "Building DAG\n04_classification-vgg16-1: ValueError: too\nlong\nError in rule\n\nExiting\n"
    assert list(reasons(log, ["04_classification-vgg16-1"])) == ["04_classification-vgg16-1: ValueError: too"]
    assert list(reasons(log, ["01_data"])) == ["long", "Error in rule", "Exiting"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (65, "1 min 05 s"), (3600, "1 h 00 min"), (8999, "2 h 29 min")]
)
def test_durations(seconds, words):
    assert in_minutes(seconds) == words


def test_of_the_data_only_their_notebook_is_run(output, monkeypatch):
    asked = []
    monkeypatch.setattr("manet_lib.workflow.reproduce.apart", lambda work, *given: asked.append(given) or 1 / 0)
    for data_only in (False, True):
        with pytest.raises(ZeroDivisionError):
            reproduce(params_file("tiny"), 1, data_only=data_only)
    assert asked[0][2] == tuple(nodes(load_params(params_file("tiny")), RunPaths.of("tiny")))
    assert asked[1][2] == ("01_data",)
