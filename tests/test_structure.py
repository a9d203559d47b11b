"""The rules that hold the house together: imports go one way, files agree, notebooks are clean."""

import ast
import importlib.metadata
import json
import re
import symtable
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from manet_lib.params import Params
from manet_lib.paths import DEFAULT_PROFILE, project_root

ROOT = project_root()
LIBRARY = ROOT / "manet_lib"
MODULES = sorted(LIBRARY.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# From top to bottom; a module imports only from its own layer or those below.
LAYERS = [
    ["cli", "inference.external", "workflow.estimates", "workflow.reproduce"],
    ["notebook", "workflow.execute"],
    ["workflow.graph"],
    ["teaching"],
    ["report"],
    ["studies"],
    ["inference"],
    ["attention"],
    ["training"],
    ["evaluation"],
    ["models"],
    ["data"],
    ["workflow.edited"],
    ["workflow.steps"],
    ["workflow.records"],
    ["workflow.digests"],
    ["data.listing", "data.seeds", "workflow"],
    ["paths"],
    ["params"],
]
OWN_PROFILE = {"12_another_task": "patches"}
"""Notebooks that work on other images than the default run's."""
MACHINE = re.compile(rf"/(home|root|Users|tmp)/|site-packages|{re.escape(str(ROOT))}/")
ONE_PLACE = {
    "albumentations": "data/augment.py",
    "pytorch_grad_cam": "attention/maps.py attention/probes.py",
    "segmentation_models_pytorch": "models/resunet.py",
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "manet_lib":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_form_of_import_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from manet_lib import report, paths\nfrom manet_lib.data import store\nimport manet_lib.models.vgg"
    )
    expected = ["manet_lib.report", "manet_lib.paths", "manet_lib.data", "manet_lib.models.vgg"]
    assert list(imported(path)) == expected


def layer_of(module):
    """The number of a module's layer; one that is named itself stands apart from its package."""
    places = {name: number for number, names in enumerate(LAYERS) for name in names}
    parts = module.split(".")[1:]
    return next(places[name] for name in (".".join(parts[:2]), parts[0]) if name in places)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_go_down_only(path):
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if own == "manet_lib.__init__":
        return
    for module in imported(path):
        if module.startswith("manet_lib."):
            assert layer_of(module) >= layer_of(own), f"{own} imports {module} from above"


@pytest.mark.parametrize("package", ONE_PLACE)
def test_sharp_edges_are_imported_in_one_package(package):
    users = [
        path.relative_to(LIBRARY).as_posix()
        for path in MODULES
        if package in {m.split(".")[0] for m in imported(path)}
    ]
    assert users == ONE_PLACE[package].split()


CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "py-opencv",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}


def test_conda_and_pip_name_the_same_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = conda.pop()["pip"]
    assert pip.pop() == "--editable ."
    wanted = [re.match(r"([\w-]+)(.*)", one).groups() for one in project["dependencies"]]
    by_conda = [CONDA_NAMES.get(name, name) + bounds for name, bounds in wanted if name + bounds not in pip]
    assert sorted(conda) == sorted([*by_conda, f"python{project['requires-python']}", "pip", "make"])
    assert {*pip} <= {*project["dependencies"]}


def test_what_is_pinned_installs_on_every_supported_python():
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {name.lower().replace("_", "-") for name in pinned}
    refused = [
        f"{one.name} {one.version}: {one.metadata['Requires-Python']}"
        for one in importlib.metadata.distributions()
        if one.name.lower().replace("_", "-") in names
        and not SpecifierSet(one.metadata["Requires-Python"] or "").contains(f"{lowest}.0")
    ]
    assert refused == []


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name in extras for one in extras[name])]
    for requirement in (one for one in wanted if not one.startswith("manet-companion[")):
        assert re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower().replace("_", "-") in pinned


DRAWS = re.compile(r"\b(\w+_figure|picture_grid|heat_map_grid|accuracy_curves)\(|\bfigure = |\bplt\.")


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_after_the_settings_gives_a_parameter_a_value(path):
    """Otherwise the settings cell, when it runs again, would take that for an edit of the run."""
    sources = ["".join(cell["source"]) for cell in code_cells(path)]
    first = next((number for number, source in enumerate(sources) if "settings(globals()" in source), len(sources))
    for source in sources[first + 1 :]:
        symbols = symtable.symtable(source, "cell", "exec").get_symbols()
        assert not {one.get_name() for one in symbols if one.is_assigned()} & {*Params.model_fields}, source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebooks:
    def test_first_code_cell_holds_the_parameters(self, path):
        if path.stem == "00_overview":
            pytest.skip("it reads what is recorded, and no run")
        first = code_cells(path)[0]
        assert first["metadata"]["tags"] == ["parameters"]
        assert f'profile = "{OWN_PROFILE.get(path.stem, DEFAULT_PROFILE)}"' in "".join(first["source"])

    def test_outputs_are_stored_and_clean(self, path):
        cells = code_cells(path)
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert outputs, "run `make notebooks`"
        assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
        for cell in cells:
            if "nbval-check-output" in cell["metadata"].get("tags", []):
                assert cell["outputs"], "a checked cell without stored output would pass silently"

    def test_every_cell_that_draws_shows_its_picture(self, path):
        drawing = [cell for cell in code_cells(path) if DRAWS.search("".join(cell["source"]))]
        silent = [
            cell["source"][-1]
            for cell in drawing
            if not any("image/png" in output.get("data", {}) for output in cell["outputs"])
        ]
        assert silent == [], "cells without a picture, by their last line"

    def test_every_picture_says_what_it_shows(self, path):
        outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
        silent = [
            output["data"].get("text/plain")
            for output in outputs
            if "image/png" in output.get("data", {})
            and not output.get("metadata", {}).get("image/png", {}).get("alt")
        ]
        assert silent == [], "give them words with manet_lib.report.style.described, then `make notebooks`"

    def test_no_injected_cell_no_path_of_a_machine_and_small(self, path):
        text = path.read_text()
        assert "injected-parameters" not in text
        assert not MACHINE.search(text)
        assert path.stat().st_size < 1_000_000


def test_the_package_speaks_of_no_machine():
    for path in [*MODULES, *Path(ROOT / "params").glob("*.yaml"), ROOT / "Snakefile", ROOT / "Makefile"]:
        assert not MACHINE.search(path.read_text(encoding="utf-8")), path
