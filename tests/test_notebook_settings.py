from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manet_lib.notebook import settings, used
from manet_lib.params import READ_BY, load_params
from manet_lib.paths import RunPaths, params_file


def test_profile_alone_is_its_file(output: Path) -> None:
    params, paths = settings({"profile": "smoke"})
    assert params == load_params(params_file("smoke"))
    assert paths == RunPaths.of("smoke")
    assert paths.root == output / "runs" / "smoke"
    assert load_params(paths.settings) == params


def test_injected_names_overlay_the_file() -> None:
    params, _ = settings({"profile": "smoke", "epochs": 2, "models": ["vgg16"]})
    expected = load_params(params_file("smoke")).model_dump() | {"epochs": 2, "models": ["vgg16"]}
    assert params.model_dump() == expected


def test_whole_file_may_be_injected_for_a_profile_of_the_readers() -> None:
    params, paths = settings({"profile": "mine", "epochs": 2})
    assert (params.profile, params.epochs, paths.root.name) == ("mine", 2, "mine")


def test_unknown_name_is_refused(refused: Any) -> None:
    with refused("lerning_rate", "'learning_rate'"):
        settings({"profile": "smoke", "lerning_rate": 0.1})


def test_impossible_value_is_refused(refused: Any) -> None:
    with refused("epochs", "0"):
        settings({"profile": "smoke", "epochs": 0})


def test_what_a_kernel_holds_is_no_parameter() -> None:
    namespace: dict[str, Any] = {
        "profile": "smoke",
        "In": ["", "profile = 'smoke'"],
        "Out": {},
        "_i1": "profile = 'smoke'",
        "__name__": "__main__",
        "_": "",
        "exit": object(),
        "settings": settings,
        "Path": Path,
        "pytest": pytest,
    }
    assert settings(namespace)[0] == load_params(params_file("smoke"))


def test_environment_replaces_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "tiny")
    params, paths = settings({"profile": "smoke"})
    assert params == load_params(params_file("tiny"))
    assert paths.root.name == "tiny"
    settings({"profile": "smoke", "model": "resnet34", "trial": 1}, "model", "trial")


def test_environment_does_not_touch_an_injected_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "tiny")
    assert settings({"profile": "smoke", "epochs": 2})[0].profile == "smoke"


def test_empty_environment_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PROFILE", "")
    assert settings({"profile": "smoke"})[0].profile == "smoke"


@pytest.mark.parametrize("through", ["cell", "environment"])
def test_profile_without_a_file_is_refused(through: str, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise a slip of the pen would start the paper's 30 trainings of 200 epochs.
    if through == "environment":
        monkeypatch.setenv("MANET_PROFILE", "smok")
    with refused("smok"):
        settings({"profile": "smok" if through == "cell" else "smoke"})


@pytest.mark.parametrize("profile", ["", "../smoke", "a b", None, 3])
def test_profile_that_is_no_name_is_refused(profile: object, refused: Any, output: Path) -> None:
    with refused("profile"):
        settings({"profile": profile, "epochs": 2})
    assert not output.exists()


@pytest.mark.parametrize("model", ["resnet51", "", 3])
def test_model_is_checked(model: object, refused: Any) -> None:
    with refused("model", repr(model), "resnet50_ma"):
        settings({"profile": "smoke", "model": model, "trial": 1}, "model", "trial")


@pytest.mark.parametrize("trial", [0, 2, -1, "1", None])
def test_trial_is_checked(trial: object, refused: Any) -> None:
    with refused("trial", repr(trial), "1"):
        settings({"profile": "smoke", "model": "resnet50", "trial": trial}, "model", "trial")


def test_trials_of_the_published_setting() -> None:
    for trial in (1, 2, 3):
        settings({"profile": "paper", "model": "vgg16", "trial": trial}, "model", "trial")


def test_names_of_the_notebook_are_no_parameters() -> None:
    params, _ = settings({"profile": "smoke", "model": "resnet50", "trial": 1}, "model", "trial")
    assert params == load_params(params_file("smoke"))


def test_table_of_settings_shows_what_the_steps_read() -> None:
    params = load_params(params_file("smoke"))
    text = used(params, "store", "manifest").data
    for name in {*READ_BY["store"], *READ_BY["manifest"], "profile"}:
        value = getattr(params, name)
        assert f"| `{name}` | {f'`{value}`' if value != '' else ''} |" in text
    assert text.count("`seed`") == 1
    assert "`epochs`" not in text
