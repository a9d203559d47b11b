from __future__ import annotations

from pathlib import Path

import pytest

import manet_lib
from manet_lib.params import UserError
from manet_lib.paths import (
    RunPaths,
    expand,
    output_root,
    params_file,
    project_root,
    reproduce_command,
    sample_dir,
)

PROPERTIES = [name for name, value in vars(RunPaths).items() if isinstance(value, property)]


def test_project_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(manet_lib.__file__).resolve().parents[1]
    for folder in (tmp_path, checkout, checkout / "notebooks", Path("/")):
        monkeypatch.chdir(folder)
        assert project_root() == checkout
        assert params_file("tiny").is_file()


def test_installed_package_takes_the_checkout_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: object
) -> None:
    # As after a plain `pip install .`: the package lies elsewhere, the reader works inside a checkout.
    monkeypatch.setattr("manet_lib.paths.__file__", str(tmp_path / "site-packages" / "manet_lib" / "paths.py"))
    inside = tmp_path / "checkout" / "notebooks"
    inside.mkdir(parents=True)
    (tmp_path / "checkout" / "params").mkdir()
    monkeypatch.chdir(inside)
    assert project_root() == tmp_path / "checkout"
    monkeypatch.chdir(tmp_path)
    with refused(tmp_path.name, "not inside the project"):
        project_root()


def test_output_goes_to_the_project_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANET_OUTPUT", "elsewhere")
    assert output_root() == tmp_path / "elsewhere"
    assert RunPaths.of("tiny").root == tmp_path / "elsewhere" / "runs" / "tiny"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("MANET_OUTPUT")
        else:
            monkeypatch.setenv("MANET_OUTPUT", unset)
        assert RunPaths.of("tiny").figures == project_root() / "figures" / "tiny"


def test_sample_images_are_beside_the_checkout_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MANET_CXR_DIR", raising=False)
    assert sample_dir().resolve() == project_root().parent / "shared" / "cxr"
    assert expand("${MANET_CXR_DIR}/images").resolve() == sample_dir().resolve() / "images"
    monkeypatch.setenv("MANET_CXR_DIR", str(tmp_path))
    assert sample_dir() == tmp_path
    assert expand("${MANET_CXR_DIR}") == tmp_path


def test_folders_of_a_parameter_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGES", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert expand("$IMAGES/a") == tmp_path / "a"
    assert expand("~/images") == tmp_path / "me" / "images"
    assert expand("data/paper") == project_root() / "data" / "paper"


def test_no_two_names_are_one_file() -> None:
    paths = RunPaths.of("x")
    names = [getattr(paths, name) for name in PROPERTIES]
    names += [paths.classifier(model, trial) for model in ("vgg16", "vgg16_ma") for trial in (1, 2, 11)]
    assert len(set(names)) == len(names)
    for name in set(names) - {paths.recorded}:
        assert name.is_relative_to(paths.root)
        assert name != paths.root
    assert paths.recorded == project_root() / "figures" / "recorded" / "x"


def test_profiles_share_no_folder() -> None:
    one, two = RunPaths.of("one"), RunPaths.of("two")
    assert not one.root.is_relative_to(two.root)
    assert one.figures != two.figures


def test_folders_of_users_and_of_the_sample_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MANET_CXR_DIR", str(tmp_path))
    assert expand("${MANET_CXR_DIR}/a") == expand("$MANET_CXR_DIR/a") == tmp_path / "a"
    assert expand("$MANET_CXR_DIRECTORY/a") == project_root() / "$MANET_CXR_DIRECTORY/a"
    assert expand("~nosuchuser/a") == project_root() / "~nosuchuser/a"


def test_a_command_in_a_message_does_not_hide_it_outside_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    def outside() -> Path:
        raise UserError("not inside the project")

    monkeypatch.delenv("MANET_OUTPUT", raising=False)
    monkeypatch.setattr("manet_lib.paths.project_root", outside)
    assert reproduce_command("tiny") == "make reproduce PARAMS=params/tiny.yaml"
