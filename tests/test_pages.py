"""README and docs: their tables are the records', their links lead somewhere, and they name what exists."""

import re

import pytest

from manet_lib.paths import project_root
from manet_lib.report.readme import BLOCKS, pages, renewed

PAGES = {str(page.relative_to(project_root())): page for page in pages()}


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_records(name):
    text = PAGES[name].read_text(encoding="utf-8")
    assert renewed(text, name) == text, "run `python -m manet_lib.report.readme`"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name):
    for named in re.findall(
        r"`((?:params|tests|benchmarks|notebooks|manet_lib)/[\w/.-]+)`", PAGES[name].read_text()
    ):
        assert (project_root() / named).exists() or "FILE" in named or named == "params/mine.yaml", named


def test_a_changed_record_changes_the_page(monkeypatch):
    monkeypatch.setitem(BLOCKS, "one", lambda: "| new |\n")
    page = "before\n<!-- one -->\n\n| old |\n\n<!-- /one -->\nafter\n"
    expected = "before\n<!-- one -->\n\n| new |\n\n<!-- /one -->\nafter\n"
    assert renewed(page) == expected
    assert renewed(expected) == expected


def test_an_unknown_table_is_refused(refused):
    with refused("README.md", "nothing", "reach-maps"):
        renewed("<!-- nothing -->\n<!-- /nothing -->", "README.md")
