from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from manet_lib.notebook import command, settings, used
from manet_lib.params import Params, load_params
from manet_lib.paths import RunPaths, params_file
from manet_lib.workflow import execute
from manet_lib.workflow.edited import edited_profile
from manet_lib.workflow.parameters import READ_BY


def test_profile_alone_is_its_file(output: Path) -> None:
    params, paths = settings({"profile": "tiny"})
    assert params == load_params(params_file("tiny"))
    assert paths == RunPaths.of("tiny")
    assert paths.root == output / "runs" / "tiny"
    assert load_params(paths.settings) == params


def test_names_of_the_first_cell_overlay_the_file() -> None:
    params, _ = settings({"profile": "tiny", "epochs": 2, "models": ["vgg16"]})
    expected = load_params(params_file("tiny")).model_dump() | {"epochs": 2, "models": ["vgg16"]}
    assert params.model_dump() | {"profile": "tiny"} == expected


def test_edits_get_a_folder_of_their_own(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, whole = settings({"profile": "tiny"})
    before = whole.settings.read_bytes()
    params, paths = settings({"profile": "tiny", "split": "patient"})
    assert params.profile == paths.root.name == paths.figures.name == "tiny-split-patient"
    assert "split: 'patient'" in capsys.readouterr().out
    assert whole.settings.read_bytes() == before
    assert load_params(paths.settings) == params
    assert command(paths) == f"make reproduce PARAMS={paths.settings}"
    assert command(whole) == "make reproduce PARAMS=params/tiny.yaml"


def test_an_open_notebook_writes_its_figures_beside_those_of_the_run(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/03_postprocessing.ipynb")
    paths = settings({"profile": "tiny"})[1]
    assert paths.figures == output / "figures/tiny/live"
    assert paths.root == output / "runs/tiny"
    whole = load_params(params_file("tiny")).model_dump()
    assert settings(whole)[1] == RunPaths.of("tiny")  # the workflow, called from a notebook's cell


def test_edits_of_where_to_compute_stay_in_the_run() -> None:
    assert settings({"profile": "tiny", "threads": 2})[1].root.name == "tiny"


def test_the_workflow_injects_every_parameter(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no line that was saved in a notebook's parameters cell can change a run."""
    given = {}
    monkeypatch.setattr("manet_lib.workflow.execute.execute", lambda _, output, values: given.update(values))
    monkeypatch.setattr("manet_lib.workflow.graph.Node.results", lambda _: {})
    for of_a_process in ("die_with_parent", "keep_freed_memory"):
        monkeypatch.setattr(f"manet_lib.workflow.execute.{of_a_process}", lambda: None)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"profile": "tiny", "epochs": 2}))
    node = ["04_classification-resnet34-1", "-f", str(tmp_path / "tiny.yaml")]
    execute.main([*node, "-p", "models", '["resnet34"]'])
    own = {"model": "resnet34", "trial": 1, "audit_view": ""}
    expected = Params(profile="tiny", epochs=2, models=["resnet34"])
    assert given == expected.model_dump() | own
    params, paths = settings(given, *own)
    assert params == expected
    assert paths.root == output / "runs" / "tiny"


@pytest.mark.parametrize("profile", ["tiny", "somewhere"])
def test_values_for_every_parameter_are_no_edits(profile: str) -> None:
    whole = load_params(params_file("tiny")).model_dump() | {"profile": profile, "epochs": 7}
    params, paths = settings(dict(whole))
    assert params.model_dump() == whole
    assert paths.root.name == profile


@pytest.mark.parametrize("seed", range(3))
def test_names_of_edited_runs_are_short_and_tell_edits_apart(seed: int) -> None:
    given: list[dict[str, Any]] = [
        {"split": "patient"},
        {"models": ["vgg16", "resnet50_ma", "inceptionv3_cbam"], "epochs": seed},
        {"models": ["vgg16", "resnet50_ma", "inceptionv3_cbam"], "epochs": seed + 1},
        {"data_dir": "/a/b c/" + "d" * 100},
        *({"data_dir": place} for place in ("/films/ä", "/films/ö", "~/films")),
        *({"data_csv": name} for name in ("a-b.csv", "a b.csv", "a.b.csv")),
    ]
    names = [edited_profile("phantoms", changes) for changes in given]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 40 and re.fullmatch("[A-Za-z0-9_-]+", name) for name in names)
    assert names == [edited_profile("phantoms", dict(reversed(list(one.items())))) for one in given]


def test_a_profile_of_the_readers_starts_from_the_default() -> None:
    params, paths = settings({"profile": "mine", "epochs": 2})
    assert (params.profile, params.epochs, paths.root.name) == ("mine", 2, "mine")
    expected = load_params(params_file("phantoms")).model_dump() | {"profile": "mine", "epochs": 2}
    assert params.model_dump() == expected


def live(*cells: str) -> dict[str, Any]:
    """What a kernel holds after some cells."""
    namespace: dict[str, Any] = {}
    for cell in cells:
        exec(cell, namespace)
    return {name: value for name, value in namespace.items() if name != "__builtins__"} | {"In": ["", *cells]}


def test_a_line_that_was_deleted_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    first, again = "profile = 'tiny'\nsplit = 'patient'", "profile = 'tiny'"
    assert settings(live(first))[0].split == "patient"
    assert settings(live(first, again)) == settings({"profile": "tiny"})
    assert settings(live(first, again, "split = 'patient'"))[0].split == "patient"
    own = live("profile = 'tiny'\nmodel = 'vgg16'\nepochs = 3", "profile = 'tiny'\nmodel = 'vgg16'")
    assert settings(own, "model")[0] == load_params(params_file("tiny"))


@pytest.mark.parametrize(
    "lines",
    ["epochs: int = 9", "epochs, trials = 9, 2", "if True:\n  epochs = 9", "for epochs in (9,):\n  pass"],
)
def test_a_value_counts_however_it_is_assigned(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    assert settings(live(f"profile = 'tiny'\n{lines}"))[0].epochs == 9


def test_a_misspelt_name_is_refused_when_cells_run_again(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    kernel = live("profile = 'tiny'")
    settings(kernel)
    later = {"something": 3, "view": settings, "epoch": 9}
    kernel |= later | {"In": [*kernel["In"], "something = 3", "from x import view", "profile = 'tiny'\nepoch = 9"]}
    with refused("epoch: 9 is not a known parameter"):
        settings(kernel)
    del kernel["epoch"]
    assert settings(kernel | {"In": kernel["In"][:-1]})[0] == load_params(params_file("tiny"))


def test_a_value_of_an_unusual_type_is_not_passed_over(refused: Any) -> None:
    with refused("epochs: 9: input should be a valid integer"):
        settings({"profile": "tiny", "epochs": np.int64(9)})
    with refused("models: "):
        settings({"profile": "tiny", "models": {"vgg16"}})


def test_a_name_of_the_notebook_without_a_value_is_named(refused: Any) -> None:
    with refused("trial: has no value"):
        settings({"profile": "tiny", "model": "resnet34"}, "model", "trial")


def test_unknown_name_is_refused(refused: Any) -> None:
    with refused("lerning_rate", "'learning_rate'"):
        settings({"profile": "tiny", "lerning_rate": 0.1})


def test_impossible_value_is_refused(refused: Any) -> None:
    with refused("epochs", "0"):
        settings({"profile": "tiny", "epochs": 0})


def test_what_a_kernel_holds_is_no_parameter() -> None:
    namespace: dict[str, Any] = {
        "profile": "tiny",
        "In": ["", "profile = 'tiny'"],
        "Out": {},
        "_i1": "profile = 'tiny'",
        "__name__": "__main__",
        "_": "",
        "exit": object(),
        "settings": settings,
        "Path": Path,
        "pytest": pytest,
    }
    assert settings(namespace)[0] == load_params(params_file("tiny"))


def test_environment_replaces_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "tiny")
    params, paths = settings({"profile": "tiny"})
    assert params == load_params(params_file("tiny"))
    assert paths.root.name == "tiny"
    settings({"profile": "tiny", "model": "resnet34", "trial": 1}, "model", "trial")


def test_environment_does_not_touch_an_injected_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "tiny")
    assert settings({"profile": "tiny", "epochs": 2})[0].profile == "tiny-epochs-2"


def test_empty_environment_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "")
    assert settings({"profile": "tiny"})[0].profile == "tiny"


@pytest.mark.parametrize("through", ["cell", "environment"])
def test_profile_without_a_file_is_refused(through: str, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise a slip of the pen would start the paper's 30 training runs of 200 epochs.
    if through == "environment":
        monkeypatch.setenv("MANET_PROFILE", "smok")
    with refused("smok"):
        settings({"profile": "smok" if through == "cell" else "tiny"})


@pytest.mark.parametrize("profile", ["", "../smoke", "a b", None, 3])
def test_profile_that_is_no_name_is_refused(profile: object, refused: Any, output: Path) -> None:
    with refused("profile"):
        settings({"profile": profile, "epochs": 2})
    assert not output.exists()


@pytest.mark.parametrize("model", ["resnet51", "", 3])
def test_model_is_checked(model: object, refused: Any) -> None:
    with refused("model", repr(model), "resnet50_ma"):
        settings({"profile": "tiny", "model": model, "trial": 1}, "model", "trial")


@pytest.mark.parametrize("trial", [0, 2, -1, "1", None])
def test_trial_is_checked(trial: object, refused: Any) -> None:
    with refused("trial", repr(trial), "1"):
        settings({"profile": "tiny", "model": "resnet50", "trial": trial}, "model", "trial")


def test_trials_of_the_published_setting() -> None:
    for trial in (1, 2, 3):
        settings({"profile": "paper", "model": "vgg16", "trial": trial}, "model", "trial")


def test_names_of_the_notebook_are_no_parameters() -> None:
    params, _ = settings({"profile": "tiny", "model": "resnet50", "trial": 1}, "model", "trial")
    assert params == load_params(params_file("tiny"))


def test_table_of_settings_shows_what_the_steps_read() -> None:
    params = load_params(params_file("tiny"))
    text = used(params, "store", "manifest").data
    for name in {*READ_BY["store"], *READ_BY["manifest"], "profile"}:
        value = getattr(params, name)
        assert f"| `{name}` | {f'`{value}`' if value != '' else ''} |" in text
    assert text.count("`seed`") == 1
    assert "`epochs`" not in text


def test_a_view_of_the_audit_has_training_runs_of_its_own(output: Path, refused: Callable[..., Any]) -> None:
    given = {"profile": "phantoms", "model": "resnet34", "trial": 1, "audit_view": "whole"}
    own, paths = settings(dict(given), "model", "trial", "audit_view")
    assert own == load_params(params_file("phantoms"), view="whole")
    assert paths.classifier("resnet34", 1) != RunPaths.of("phantoms").classifier("resnet34", 1)
    assert paths.store == RunPaths.of("phantoms").store
    with refused("audit_view: 'shape'", "whole"):
        settings(given | {"audit_view": "shape"}, "model", "trial", "audit_view")
