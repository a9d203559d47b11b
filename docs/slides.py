"""The 90-minute lecture of notebook 00 as slides: ``make slides`` writes ``slides/index.html``, for any browser.

The plan stands in 00_overview: minutes, topic and sections of the notebooks. The slides are these sections, with
the outputs that the notebooks hold; nothing is executed. A cell is a slide, code of more than a few lines is left
out, and S opens the speaker's view. The method of 00 comes first, and what to remember of each notebook last.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path

import nbformat
from build import ROOT, mathjax, npm_package
from nbconvert import SlidesExporter
from traitlets.config import Config

from manet_lib.params import UserError

NOTEBOOKS, OUTPUT = ROOT / "notebooks", ROOT / "slides"
REVEAL = ("reveal.js", "5.2.1", "359b575dd51bbda32f89b2fd4c7dc46ad7389a805572158916c29252f7a27333")
LONGEST = 14
"""Lines of code that a slide shows."""
SHORT, SHORTEST = 400, 200
"""Characters of a text that has room for code and output below it, and of one that has room for a picture."""
SHORTEST_CODE = 6
"""Lines of code that have room for a picture below them."""
IMPORTS = re.compile(r"((import |from ).*\n*)+")
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| (\d\d), ([^|]+) \|$", flags=re.MULTILINE)


def plan() -> list[tuple[int, str, str, str]]:
    """Minutes, topic, number of the notebook and sections (in Markdown) of each part of the lecture."""
    text = "\n".join(cell.source for cell in notebook("00").cells if cell.cell_type == "markdown")
    lecture = text[text.index("## A lecture of") :]
    return [(int(minutes), topic, number, where) for minutes, topic, number, where in ROW.findall(lecture)]


def sections(book: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """The cells of each section of a notebook, by title; a Markdown cell with several headings is divided."""
    found: dict[str, list[nbformat.NotebookNode]] = {}
    title = "Overview"
    for cell in book.cells:
        parts = re.split(r"^(?=## )", cell.source, flags=re.MULTILINE) if cell.cell_type == "markdown" else [None]
        for part in parts:
            if part is None:
                found.setdefault(title, []).append(cell)
            elif part.strip():
                title = match[1] if (match := re.match(r"## (.+)", part)) else title
                found.setdefault(title, []).append(nbformat.v4.new_markdown_cell(part))
    return found


def chosen(there: list[str], where: str) -> list[str]:
    """Which sections a row of the plan names: single ones, or all from one *to* another."""
    names: list[str] = []
    since = ""
    for name, goes_on in re.findall(r"\*([^*]+)\*( to )?", where):
        first, last = there.index(since or name), there.index(name)
        names += there[first : last + 1] if not goes_on else []
        since = name if goes_on else ""
    return names


def is_long(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell's code stays off the slide: it is long, or does no more than draw what is shown."""
    draws = "save_figure(" in cell.source or "show_table(" in cell.source
    return cell.cell_type == "code" and (draws or cell.source.count("\n") >= LONGEST)


def belongs_to(before: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> bool:
    """Whether a cell goes onto the slide of the one before: a caption, more code, or what a text introduces."""
    if cell.cell_type == "markdown":
        return shows(before) and cell.source.startswith("**") and len(cell.source) < SHORT
    if before.cell_type == "code":
        return not before.outputs and not (shows(cell) and before.source.count("\n") > SHORTEST_CODE)
    return len(before.source) < (SHORTEST if shows(cell) else SHORT)


def shows(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell has a picture or a table below it."""
    kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
    return bool({"image/png", "text/html", "text/markdown"} & set(kinds))


def spoken(text: str) -> str:
    """Markdown for a slide: pictures embedded, without links to pages and what is for a reader alone."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\.(?:ipynb|md)\)", r"\1", text)
    text = re.sub(r"\n\n\*\*You need\*\*.*", "", text)
    text = re.sub(r"\]\((\.\./[^)]+\.png)\)", lambda match: f"]({_embedded(NOTEBOOKS / match[1])})", text)
    return re.sub(r" ?\b(?:Change|Move through|The next cells?) [^.:]*[.:](?=\s|$)", "", text)


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def notebook(number: str) -> nbformat.NotebookNode:
    """The notebook of this number."""
    (file,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return nbformat.read(file, as_version=4)


def opening(title: str) -> nbformat.NotebookNode:
    """The first slide of a part of the lecture."""
    return nbformat.v4.new_markdown_cell(f"# {title}", metadata={"slideshow": {"slide_type": "slide"}})


def summaries(numbers: list[str]) -> list[nbformat.NotebookNode]:
    """A slide with the summary of each notebook, under its title."""
    cells = [opening("What to remember")]
    for number in numbers:
        book = notebook(number)
        title = book.cells[0].source.splitlines()[0].removeprefix("# ").partition(" ")[2]
        text = sections(book)["Summary"][0].source.replace("## Summary", f"## To remember: {title}")
        metadata = {"slideshow": {"slide_type": "subslide"}}
        cells.append(nbformat.v4.new_markdown_cell(spoken(text), metadata=metadata))
    return cells


def part(title: str, number: str, where: str) -> list[nbformat.NotebookNode]:
    """A title and the cells of some sections of a notebook, each with the kind of slide that it is.

    Raises:
        UserError: a cell has not been executed.
    """
    parts, cells = sections(notebook(number)), [opening(title)]
    for cell in [cell for name in chosen(list(parts), where) for cell in parts[name]]:
        if cell.cell_type == "code" and cell.execution_count is None:
            raise UserError(f"notebook {number}: cell {cell.id} is not executed; run `make notebooks`")
        if cell.cell_type == "code" and not cell.outputs and (is_long(cell) or IMPORTS.fullmatch(cell.source)):
            continue
        if cell.cell_type == "markdown":
            cell.source = spoken(cell.source)
        if cell.cell_type == "code":  # what only says that nothing was to be done
            cell.outputs = [one for one in cell.outputs if "was done already" not in one.get("text", "")]
        cell.metadata["slideshow"] = {"slide_type": "-" if belongs_to(cells[-1], cell) else "subslide"}
        cell.metadata["tags"] = ["long"] if is_long(cell) else []
        cells.append(cell)
    return cells


def lecture() -> nbformat.NotebookNode:
    """One notebook with the cells of the lecture, each with the kind of slide that it is."""
    cells = part("MANet, in two stages", "00", "*Overview* to *The method in one figure*")
    for minutes, topic, number, where in plan():
        cells += part(f"{topic[0].upper()}{topic[1:]}\n\n{minutes} minutes, notebook {number}", number, where)
    cells += summaries(list(dict.fromkeys(number for _, _, number, _ in plan())))
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["title"] = "MANet, a lecture"
    return book


def build(output: Path = OUTPUT) -> None:
    """Write the slides and all that they need beside them."""
    settings = Config()
    settings.TagRemovePreprocessor.enabled = True
    settings.TagRemovePreprocessor.remove_input_tags = {"long"}
    exporter = SlidesExporter(
        config=settings, template_name="lecture", extra_template_basedirs=[str(ROOT / "docs" / "_templates")]
    )
    exporter.reveal_url_prefix, exporter.embed_images = "reveal", True
    page, _ = exporter.from_notebook_node(lecture(), {"metadata": {"path": str(NOTEBOOKS)}})
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    package = npm_package(*REVEAL)
    for name in ("dist", "plugin/notes"):
        shutil.copytree(package / name, output / "reveal" / name)
    for sheet in output.rglob("*.css"):  # fonts from another host
        sheet.write_text(
            re.sub(r"@import url\([^)]*//[^)]*\);", "", sheet.read_text(encoding="utf-8")), encoding="utf-8"
        )
    shutil.copy(mathjax(), output)
    page = page.replace("<details>", "<details open>")  # large tables, which notebooks fold
    (output / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    try:
        build()
    except UserError as error:
        sys.exit(str(error))
    print("open slides/index.html")
