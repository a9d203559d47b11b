"""The files from which the project is cited agree with each other and with the package."""

import json
import tomllib

import pytest
import yaml

from manet_lib.paths import project_root

ROOT = project_root()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
ZENODO = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
RESCIENCE = yaml.safe_load((ROOT / "metadata.yaml").read_text(encoding="utf-8"))
PACKAGE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_title_version_licence_and_authors_agree():
    assert CITATION["title"] == ZENODO["title"]
    assert CITATION["version"] == ZENODO["version"] == PACKAGE["version"]
    assert CITATION["license"] == ZENODO["license"] == "MIT"
    assert (ROOT / PACKAGE["license"]["file"]).read_text(encoding="utf-8").startswith("MIT License")
    names = [author["name"] for author in CITATION["authors"]]
    assert names == [creator["name"] for creator in ZENODO["creators"]]
    assert names == [author["name"] for author in RESCIENCE["authors"]]


def test_the_paper_is_the_same_everywhere():
    paper = CITATION["preferred-citation"]
    (related,) = ZENODO["related_identifiers"]
    assert paper["doi"] == related["identifier"]
    assert paper["title"] in RESCIENCE["title"]
    assert paper["doi"] in (ROOT / "docs/report.md").read_text(encoding="utf-8")
    assert ZENODO["keywords"] == [word.strip() for word in RESCIENCE["keywords"].split(",")]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_call_targets_that_the_makefile_has(path):
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()}
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert command.split()[1] in targets
        elif command.split()[0].startswith("."):
            assert command.split()[0] == ".venv/bin/python" or (ROOT / command.split()[0]).is_file()
