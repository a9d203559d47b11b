"""What a lecturer relies on in the overview and the glossary: plans that add up, and sections that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser import Browser, chromium, wait

from manet_lib.params import UserError
from manet_lib.paths import project_root

NOTEBOOKS = project_root() / "notebooks"
GLOSSARY = (project_root() / "docs" / "glossary.md").read_text(encoding="utf-8")


def prose(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def sections(number: str) -> list[str]:
    (notebook,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return re.findall(r"^## (.+)$", prose(notebook), flags=re.MULTILINE)


def overview() -> str:
    return prose(NOTEBOOKS / "00_overview.ipynb")


def test_the_lecture_takes_as_long_as_it_says_and_names_sections_that_are_there() -> None:
    minutes, plan = re.findall(r"## A lecture of (\d+) minutes\n(.*)", overview(), flags=re.DOTALL)[0]
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (\d\d), ([^|]+) \|$", plan, flags=re.MULTILINE)
    others = re.findall(r"\((\d+) minutes\)", plan)
    assert len(others) == 2
    assert sum(int(row[0]) for row in rows) + sum(map(int, others)) == int(minutes)
    for _, number, where in rows:
        named = re.findall(r"\*([^*]+)\*", where)
        assert named, f"notebook {number}: no section is named"
        there = [section for section in sections(number) if section in named]
        assert there == named, f"notebook {number} has no such section, or in another order"


def test_the_course_leaves_no_notebook_out_and_gives_exercises_that_exist() -> None:
    course = (project_root() / "docs" / "teaching.md").read_text(encoding="utf-8")
    sessions = [line.split(" | ") for line in course.splitlines() if re.match(r"\| \d\. ", line)]
    assert len(sessions) == 4
    minutes = re.compile(r"[(](\d+) min[)]")
    taught = {
        number
        for _, at_home, in_class, _, to_take_home in sessions
        for number in re.findall(r"\b\d\d\b", ", ".join([at_home, minutes.sub("", in_class), to_take_home]))
    }
    assert taught == {path.name[:2] for path in NOTEBOOKS.glob("*_*.ipynb")} - {"00"}
    for session, _, in_class, exercises, _ in sessions:
        assert sum(map(int, minutes.findall(in_class))) == 90, session
        for number in re.findall(r"\d\d", exercises):
            assert len(list((NOTEBOOKS / "exercises").glob(f"{number}_*.ipynb"))) == 1, number


def test_every_notebook_has_its_question_on_the_map() -> None:
    questions = re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\) \| .+\? \| .+ \|$", overview(), flags=re.MULTILINE)
    assert questions == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb") if path.stem != "00_overview")


def test_words_stand_once_and_their_sources_are_listed() -> None:
    words = []
    for part in GLOSSARY.split("\n## ")[1:3]:
        found = re.findall(r"^\| (?!word|---)(.+?) \| .+ \|$", part, flags=re.MULTILINE)
        words += found
    assert len(set(words)) == len(words)
    text, listed = GLOSSARY.split("## Sources")
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", GLOSSARY)}
    assert sorted(cited) == [int(number) for number in re.findall(r"^(\d+)\. ", listed, flags=re.MULTILINE)]
    assert re.search(r"\[\d+\]", text)


def test_slides_are_the_sections_of_the_plan_with_their_outputs(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(project_root() / "docs"))
    import slides

    book = slides.lecture()
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in book.cells]
    assert kinds.count("slide") == len(slides.plan()) + 2, "and the method before them, a summary after them"
    assert len(slides.plan()) == 7
    shown = {cell.source for cell in book.cells}
    for _, _, number, where in slides.plan():
        for name in re.findall(r"\*([^*]+)\*", where):
            assert any(source.startswith(f"## {name}\n") for source in shown), (number, name)
    pictures = [
        output
        for cell in book.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 10
    assert slides.chosen(["a", "b", "c", "d"], "*a* to *c* and *d*") == ["a", "b", "c", "d"]


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_every_slide_is_whole_and_asks_no_other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project_root() / "docs"))
    import slides

    try:
        slides.build(tmp_path / "slides")
    except UserError as error:
        pytest.skip(str(error))  # npm is missing
    with Browser(tmp_path / "browser") as browser:
        browser.size(1100, 720)
        browser.open((tmp_path / "slides/index.html").as_uri())
        wait(
            lambda: browser.ask("Reveal.isReady() && !!document.querySelector('mjx-container')"), 60, "the slides"
        )
        places = browser.ask("Reveal.getSlides().map(Reveal.getIndices).map(one => [one.h, one.v || 0])")
        assert len(places) > 50
        cut = []
        for across, down in places:
            browser.ask(f"Reveal.slide({across}, {down})")
            hidden = browser.ask("(one => one.scrollHeight - one.clientHeight)(Reveal.getCurrentSlide())")
            cut += [(across, down, hidden)] if hidden > 2 else []
        assert cut == []
        assert browser.faults == []
        assert [one for one in browser.requests if not re.match("(file|data|blob):", one)] == []
