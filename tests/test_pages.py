"""README and docs: their tables are the records', their links lead somewhere, and they name what exists."""

import json
import re

import pandas as pd
import pytest

from manet_lib.paths import project_root
from manet_lib.report.page_values import VALUES
from manet_lib.report.pages import pages, rendered, renewed
from manet_lib.report.recorded import WITHOUT_IMAGES
from manet_lib.report.tables import model_title

PAGES = {str(page.relative_to(project_root())): page for page in pages()}


@pytest.mark.parametrize("name", PAGES)
def test_values_are_those_of_the_records(name):
    assert renewed(PAGES[name]) == PAGES[name].read_text(encoding="utf-8"), (
        "run `python -m manet_lib.report.pages`"
    )


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".md")])
def test_no_value_ends_the_paragraph_that_it_stands_in(name):
    """In CommonMark a line that begins with a comment is a block of HTML."""
    text = PAGES[name].read_text(encoding="utf-8")
    assert re.findall(r"^ *<!-- = .+? -->.+", text, flags=re.MULTILINE) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for target in re.findall(r"\]\(([^)#\s\\]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name):
    for named in re.findall(
        r"`((?:params|tests|benchmarks|notebooks|manet_lib)/[\w/.-]+)`", PAGES[name].read_text()
    ):
        assert (project_root() / named).exists() or "FILE" in named or named == "params/mine.yaml", named


@pytest.mark.parametrize("name", PAGES)
def test_no_value_is_missing(name):
    assert not re.search(r"-->[^<]*\bnan\b[^<]*<!-- / -->", PAGES[name].read_text(encoding="utf-8"))


def test_a_changed_record_changes_the_page(monkeypatch):
    monkeypatch.setitem(VALUES, "one", lambda: "| new |\n")
    monkeypatch.setitem(VALUES, "share", lambda: {"a b": 95.66})
    page = """before
<!-- = one() -->

| old |

<!-- / -->
it is <!-- = share()["a b"] | round(1) -->1<!-- / -->% after
"""
    expected = page.replace("old", "new").replace("-->1<", "-->95.7<")
    assert rendered(page) == expected
    assert rendered(expected) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("nothing()", 'measured()["accuracy nothing"] | round(1)', "1 +", "reach_maps("),
        'other_effect("segmented_resnet34", "64 px", "MA − plain", "jump")',
        'other_effect("segmented_resnet34", "65 px", "MA − plain", "jumps")',
        'effect("segmented_resnet34", "64 px", "swapped", "MA − plain")',
        'thumbnails("x")',
        'most_frequent("external", "nowhere", "outside")',
        'over_seeds("accuracy resnet34", "accuracy nothing")',
        'runs("external", "nowhere")',
        'discordant("external", "nowhere", "whole MA − whole plain")',
        'miscalibration("external", "outside", "nowhere")',
        'final_losses("external", "nowhere")',
        'change("external", "nowhere", "whole MA", "outside", "outside, matched")',
        'between("confounders", "swapped", "MA − plain", "strength 1", "nowhere")',
        'cell("attention", "nothing", "Images")',
    ],
)
def test_an_expression_without_a_value_is_refused(refused, expression):
    with refused("README.md", expression):
        rendered(f"<!-- = {expression} --><!-- / -->", "README.md")


@pytest.mark.parametrize("profile", ["phantoms", "cxr_sample"])
def test_page_record_and_tables_of_a_recorded_run_say_the_same(profile):
    folder = project_root() / "figures/recorded" / profile
    measured = json.loads((folder / "record.json").read_text())["measured"]
    table2 = pd.read_csv(folder / "table2.csv").set_index("Model")
    for key, value in measured.items():
        kind, _, model = key.partition(" ")
        if kind == "accuracy":
            assert f"{table2.loc[model_title(model), 'Average (%)']:.2f}" == f"{value:.2f}", key
    found = pd.read_csv(folder / "claims.csv").set_index("Claim")
    gained = {key.removeprefix("gain "): value for key, value in measured.items() if key.startswith("gain ")}
    gains = {model.removesuffix("_ma"): value for model, value in gained.items()}
    (network,) = {name for name in gains if "cbam" not in name}
    gain = next(row for name, row in found.iterrows() if f"accuracy of {model_title(network)}" in name)
    assert gain["Measured (95% interval)"].startswith(f"{gains[network]:.2f} (")


def test_no_recorded_picture_shows_a_real_image():
    pictures = (project_root() / "figures/recorded/cxr_sample").glob("*.p*")
    assert {picture.stem for picture in pictures if picture.suffix in (".png", ".pdf")} <= WITHOUT_IMAGES
