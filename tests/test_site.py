"""The site as a reader opens it, from the disk and in a browser; and JupyterLab, in which all cells are run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
from browser import Browser, chromium, wait
from bs4 import BeautifulSoup

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.report.sliders import frames

ROOT = project_root()
SITE = ROOT / "site"
LACKS = [name for name in ("sphinx", "myst_nb", "sphinx_book_theme") if importlib.util.find_spec(name) is None]
needs_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
needs_extra = pytest.mark.skipif(bool(LACKS), reason="not installed: pip install -e '.[site]'")


@pytest.fixture(scope="module")
def pages() -> dict[Path, BeautifulSoup]:
    """The built site: every page, parsed."""
    done = subprocess.run([sys.executable, ROOT / "docs/build.py"], capture_output=True, text=True)
    if "npm could not fetch MathJax" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(SITE.rglob("*.html"))
        if path != SITE / "index.html"  # leads on to README.html
        and SITE / "_static" not in path.parents  # templates of the theme, which nobody opens
    }


@pytest.fixture(scope="module")
def chromium_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def browser(chromium_of_all: Browser) -> Browser:
    """A tab of its own for each test."""
    chromium_of_all.fresh_tab()
    return chromium_of_all


def _target(page: Path, link: str) -> tuple[Path, str]:
    path, _, fragment = unquote(link).partition("#")
    return (page.parent / path.partition("?")[0]).resolve() if path else page, fragment


@pytest.mark.slow
@needs_extra
class TestPages:
    def test_the_first_page_is_the_readme(self, pages):
        first = BeautifulSoup((SITE / "index.html").read_text(encoding="utf-8"), "html.parser")
        assert SITE / first.a["href"] in pages
        assert first.meta.find_next("meta")["content"] == f"0; url={first.a['href']}"

    def test_every_notebook_and_page_of_docs_is_there(self, pages):
        built = {path.relative_to(SITE).with_suffix("").as_posix() for path in pages}
        lessons = [
            path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
        ]
        sources = [*lessons, *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in sources} <= built

    def test_the_menu_leads_to_all_notebooks_exercises_and_guides(self, pages):
        menu = pages[SITE / "README.html"].select("nav.bd-links a, .bd-sidebar-primary a")
        links = {link["href"] for link in menu}
        notebooks = {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")}
        others = {"notebooks/exercises/README", "notebooks/solutions/README", "docs/glossary", "CONTRIBUTING"}
        assert notebooks | {f"{name}.html" for name in others} <= links

    def test_exercises_lead_to_their_solutions(self, pages):
        exercises = [path for path in pages if path.parent.name == "exercises" and path.stem != "README"]
        assert len(exercises) == len(list((ROOT / "notebooks/exercises").glob("*.ipynb")))
        for path in exercises:
            links = {_target(path, link["href"])[0] for link in pages[path].select("article a[href]")}
            assert SITE / "notebooks/solutions" / path.name in links, path.name

    def test_nothing_is_taken_from_another_host(self, pages):
        attributes = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
        found = [
            (path.name, node[attribute])
            for path, page in pages.items()
            for name, attribute in attributes.items()
            for node in page.find_all(name)
            if re.match(r"(https?:)?//", node.get(attribute, ""))
        ]
        assert found == []
        for sheet in SITE.rglob("*.css"):
            assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet

    def test_links_lead_to_pages_and_places_that_exist(self, pages):
        places = {
            path.resolve(): {node[key] for key in ("id", "name") for node in page.find_all(attrs={key: True})}
            for path, page in pages.items()
        }
        broken = []
        for path, page in pages.items():
            for link in page.find_all("a", href=True):
                if not re.match(r"[a-z]+:", link["href"]):
                    target, fragment = _target(path, link["href"])
                    known = places.get(target, set())
                    if not target.exists() or (fragment and target in places and fragment not in known):
                        broken.append((path.relative_to(SITE).as_posix(), link["href"]))
        assert broken == []

    def test_pictures_say_what_they_show(self, pages):
        silent = [
            (path.relative_to(SITE).as_posix(), image.get("src", "")[-40:])
            for path, page in pages.items()
            for image in page.find_all("img")
            if not image.get("alt", "").strip() or re.search(r"\.(png|svg|jpe?g)$", image["alt"])
        ]
        assert silent == []

    def test_from_a_figure_to_the_code_behind_it(self, pages):
        page = pages[SITE / "notebooks/01_data.html"]
        grid = next(node for node in page.select("p.behind a") if node.get_text() == "picture_grid")
        api, place = _target(SITE / "notebooks/01_data.html", grid["href"])
        source = pages[api].find(id=place).find("a", class_="viewcode-link") or pages[api].find(
            id=place
        ).find_next("a", href=re.compile("_modules"))
        code, _ = _target(api, source["href"])
        assert "def picture_grid(" in pages[code].get_text()

    def test_all_that_draws_is_linked(self, pages):
        unlinked = [
            (path.name, code.get_text())
            for path, page in pages.items()
            for code in page.select("p.behind code")
            if code.find_parent("a") is None
        ]
        assert unlinked == []


_OVERFLOW = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth"
_MISSING = "[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.src.slice(-60))"


_VIOLATIONS = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).then(
    found => found.violations.map(one => [one.id, one.nodes.length, one.nodes[0].target.join(" ")]))"""
ONE_OF_EACH_KIND = (
    *("README", "notebooks/04_classification", "notebooks/exercises/04_classification", "docs/findings"),
    *("docs/studies", "docs/gallery", "api/manet_lib.models.mask_attention", "search"),
    "_modules/manet_lib/models/mask_attention",
)


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, fetched by npm as MathJax is; its rules for WCAG 2.1 are applied to pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    import build

    sha256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
    try:
        return (build.npm_package("axe-core", "4.14.1", sha256) / "axe.min.js").read_text(encoding="utf-8")
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@needs_extra
@needs_browser
class TestInTheBrowser:
    @pytest.mark.timeout(1800)
    @pytest.mark.parametrize("generated", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
    def test_every_page_opens_from_the_disk_wide_and_narrow(self, pages, browser, generated):
        found = {}
        for path in pages:
            if (path.relative_to(SITE).parts[0] in ("api", "_modules")) != generated:
                continue
            browser.size(1280)
            browser.open(path.as_uri())
            faults = {"console": browser.faults, "missing": browser.ask(_MISSING)}
            faults["wide"] = max(0, browser.ask(_OVERFLOW))
            browser.size(390)
            faults["narrow"] = max(0, browser.ask(_OVERFLOW))
            faults["requests"] = [one for one in browser.requests if not re.match("(file|data|blob):", one)]
            if any(faults.values()):
                found[path.relative_to(SITE).as_posix()] = faults
        assert found == {}

    @pytest.mark.parametrize("page", ONE_OF_EACH_KIND)
    def test_pages_meet_wcag_aa(self, pages, browser, axe, page):
        browser.open((SITE / f"{page}.html").as_uri())
        browser.ask(f"{axe}; 0")
        for mode in ("light", "dark"):
            browser.ask(f"document.documentElement.dataset.theme = '{mode}'; 0")
            assert browser.ask(_VIOLATIONS) == [], mode

    def test_the_keyboard_reaches_the_text_past_the_menu(self, pages, browser):
        browser.open((SITE / "docs/findings.html").as_uri())
        for key in ("Tab", "Enter", "Tab"):
            for kind in ("rawKeyDown", "keyUp"):
                code = {"Tab": 9, "Enter": 13}[key]
                browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        assert browser.ask("document.querySelector('main').contains(document.activeElement)")

    def test_formulas_are_set(self, pages, browser):
        browser.open((SITE / "notebooks/04_classification.html").as_uri())
        wait(lambda: browser.ask("document.querySelectorAll('mjx-container svg').length"), 30, "formulas")
        assert browser.ask("document.querySelectorAll('mjx-merror, [data-mjx-error]').length") == 0

    @pytest.mark.parametrize(
        ("word", "page"),
        [
            ("Grad-CAM", "05_attention_maps"),
            ("clean_mask", "postprocess"),
            ("confounder_strength", "manet_lib.params"),
            ("generalises", "docs/claims"),
        ],
    )
    def test_search_finds(self, pages, browser, word, page):
        browser.open((SITE / "search.html").as_uri() + f"?q={word}")
        links = "[...document.querySelectorAll('#search-results li a')].map(one => one.href)"
        wait(lambda: any(page in link for link in browser.ask(links)), 30, f"{word} in the search")
        assert browser.faults == []


_SHOWN = (
    "[...document.querySelector('.frames').querySelectorAll('img')]"
    ".filter(one => one.checkVisibility()).map(one => one.alt)"
)


@needs_browser
def test_sliders_choose_the_picture(tmp_path, browser):
    pictures = [np.full((4, 4), level, np.uint8) for level in range(6)]
    page = tmp_path / "page.html"
    page.write_text(frames(pictures, {"image": ["a", "b"], "network": ["x", "y", "z"]}, "grey").html)
    browser.open(page.as_uri())
    seen = "[...document.images].filter(one => one.checkVisibility()).map(one => one.alt)"
    assert browser.ask(seen) == ["grey (image: a, network: x)"]
    for slider, place in enumerate((1, 2)):
        browser.ask(
            f"(s => {{ s.value = {place}; s.dispatchEvent(new Event('input')); }})"
            f"(document.querySelectorAll('input')[{slider}])"
        )
    assert browser.ask(seen) == ["grey (image: b, network: z)"]
    assert browser.ask("[...document.querySelectorAll('output')].map(one => one.textContent)") == ["b", "z"]
    assert browser.faults == []
    assert browser.requests == [page.as_uri()] or all(
        one.startswith(("file:", "data:")) for one in browser.requests
    )


def _without_outputs(name: str, last: str = "") -> nbformat.NotebookNode:
    """A notebook of the project that was never executed, up to the first code cell that holds ``last``."""
    notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    if last:
        end = next(cell for cell in code if last in cell.source)
        notebook.cells = notebook.cells[: notebook.cells.index(end) + 1]
    return notebook


@contextmanager
def _lab(tmp_path: Path, notebook: nbformat.NotebookNode) -> Iterator[tuple[str, Path]]:
    """A JupyterLab on a notebook, under the tiny profile: its address and the notebook's file."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    copy = folder / "opened.ipynb"
    nbformat.write(notebook, copy)
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("RUNTIME", "CONFIG", "DATA")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"MANET_PROFILE": "tiny", "MANET_OUTPUT": str(tmp_path / "output"), "PYTHONPATH": path}
    call = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--port=0",
        f"--notebook-dir={folder}",
    ]
    server = subprocess.Popen(
        call, env=os.environ | places | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        runtime = tmp_path / "RUNTIME"
        wait(lambda: list(runtime.glob("jpserver-*.json")), 120, "JupyterLab")
        told = json.loads(next(runtime.glob("jpserver-*.json")).read_text())
        yield f"{told['url']}lab/tree/{copy.name}?token={told['token']}", copy
    finally:
        server.terminate()
        server.wait(60)


def _code_cells(file: Path) -> list[nbformat.NotebookNode]:
    """Of a notebook; none while it is being written."""
    try:
        return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    except ValueError:
        return []


def _run_all(browser: Browser, address: str, copy: Path) -> list[nbformat.NotebookNode]:
    """Choose *Run All Cells* from JupyterLab's menu, save when all were run, and return the outputs as saved."""
    browser.size(1280, 2000)
    browser.open(address)
    item = "[...document.querySelectorAll('.lm-MenuBar-item')].find(one => one.textContent === 'Run')"
    wait(lambda: browser.ask(f"!!({item})"), 120, "JupyterLab's menu")
    started = "document.body.innerText.includes('(ipykernel) | Idle')"  # in the status bar; before, no cell runs
    wait(lambda: browser.ask(started), 120, "the kernel")
    browser.click(item)
    run_all = "document.querySelector('.lm-Menu-item[data-command=\"runmenu:run-all\"]')"
    wait(lambda: browser.ask(f"!!({run_all})"), 30, "the entry Run All Cells")
    browser.click(run_all)
    count = len(_code_cells(copy))

    def done() -> bool:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, modifiers=2, key="s", windowsVirtualKeyCode=83)
        time.sleep(2)
        executed = _code_cells(copy)
        return len(executed) == count and all(cell.execution_count for cell in executed)

    wait(done, 300, "all cells")
    return [output for cell in _code_cells(copy) for output in cell.outputs]


def _scrolled(browser: Browser) -> Iterator[None]:
    """Scroll through the notebook: JupyterLab draws only cells that are near the window."""
    outer = "document.querySelector('.jp-NotebookPanel .jp-WindowedPanel-outer')"
    for share in np.linspace(0, 1, 11):
        browser.ask(f"{outer}.scrollTo(0, {share} * {outer}.scrollHeight)")
        yield


@pytest.mark.slow
@needs_browser
def test_all_cells_run_in_jupyterlab_and_show_their_figures(tmp_path, browser):
    with _lab(tmp_path, _without_outputs("01_data")) as (address, copy):
        outputs = _run_all(browser, address, copy)
        shown = (
            "[...document.querySelectorAll('.jp-OutputArea-output img')]"
            ".filter(one => one.naturalWidth > 100).length"
        )
        assert max(browser.ask(shown) for _ in _scrolled(browser)) >= 1
    assert [one for one in outputs if one.output_type == "error"] == []
    pictures = [one for one in outputs if "image/png" in one.get("data", {})]
    assert len(pictures) >= 2
    assert all(one.metadata.get("image/png", {}).get("alt") for one in pictures)


@pytest.mark.slow
@pytest.mark.exhaustive
@needs_browser
def test_a_slider_moves_in_jupyterlab(tmp_path, browser):
    notebook = _without_outputs("10_shortcut_audit", last="frames(")  # so far it needs nothing of a run
    with _lab(tmp_path, notebook) as (address, copy):
        outputs = _run_all(browser, address, copy)
        assert [one for one in outputs if one.output_type == "error"] == []
        slider = "document.querySelector('.jp-OutputArea-output .frames input')"
        assert any(browser.ask(f"!!{slider}") for _ in _scrolled(browser))
        browser.ask(f"{slider}.scrollIntoView()")
        places = [_SHOWN, "document.querySelector('.frames output').textContent"]
        first = [browser.ask(place) for place in places]
        browser.ask(f"{slider}.focus()")
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="End", code="End", windowsVirtualKeyCode=35)
        last = [browser.ask(place) for place in places]
    assert [len(first[0]), first[1], len(last[0]), last[1]] == [1, "0.5", 1, "1"]
    assert first[0] != last[0]
    assert "strength: 1)" in last[0][0]


@needs_extra
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["03_postprocessing", "04_classification", "10_shortcut_audit", "11_your_own_xray"]
)
def test_a_slider_moves_in_the_site(pages, browser, name):
    browser.open((SITE / f"notebooks/{name}.html").as_uri())
    first = browser.ask(_SHOWN)
    browser.ask("document.querySelector('.frames input').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="End", code="End", windowsVirtualKeyCode=35)
    last = browser.ask(_SHOWN)
    assert (len(first), len(last)) == (1, 1)
    assert first != last
    assert browser.faults == []
