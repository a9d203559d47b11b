"""Build the site: ``python docs/build.py`` (or ``make site``) writes ``site/``; open ``site/index.html``.

The pages are laid out in ``.cache/site`` as they lie in the repository, so that a link that works there works in
the site: README, docs, notebooks as committed (nothing is executed), recorded tables, and a page for each module.
Nothing is fetched but MathJax, once, and the site fetches nothing when it is read.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from os.path import relpath
from pathlib import Path

import nbformat
import pandas as pd

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.report.claims import Claim, claims
from manet_lib.report.evidence import evidence_table
from manet_lib.report.studies import study_table
from manet_lib.report.tables import to_markdown
from manet_lib.studies.plan import load_study

ROOT = project_root()
WORK, SITE = ROOT / ".cache/site", ROOT / "site"
PAGES = WORK / "pages"
MATHJAX = "3.2.2"
MATHJAX_SHA256 = "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"

COPIED = ("docs", "notebooks", "figures/recorded", "benchmarks/results", "params", "manet_lib/report/published")
SKIPPED = shutil.ignore_patterns(
    "__pycache__",
    "*.pdf",
    "*.svg",
    "*.tex",
    ".*",
    "conf.py",
    "build.py",
    "licences.py",
    "report_pdf.py",
    "slides.py",
    "_templates",
)
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
PAGE = (".md", ".ipynb")
LESSONS = ("exercises", "solutions")
GUIDES = ("using", "teaching", "glossary", "style", "data", "large_runs", "licences")
RESULTS = (
    "report",
    "findings",
    "claims",
    "studies",
    "measured",
    "errata",
    "departures",
    "limitations",
    "claim_checklist",
)


def npm_package(name: str, version: str, sha256: str, cache: Path = ROOT / ".cache") -> Path:
    """The folder of an npm package, fetched if it is not in ``cache`` yet.

    Args:
        name: of the package.
        version: of the package.
        sha256: of its archive.
        cache: folder that keeps it.

    Raises:
        UserError: npm is missing, gets nothing, or what it gets is another archive.
    """
    folder = cache / f"{name}-{version}"
    archive = cache / f"{name}-{version}.tgz"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        by_hand = f"put its archive at {relpath(archive, ROOT)}"
        try:
            call = ["npm", "pack", "--silent", f"{name}@{version}"]
            subprocess.run(call, cwd=cache, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"npm could not fetch {name} {version} ({type(error).__name__}); {by_hand}") from error
    if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
        raise UserError(f"{relpath(archive, ROOT)} is not {name} {version}; delete it and build again")
    if not (folder / "package").is_dir():
        with tarfile.open(archive) as packed:
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
            packed.extractall(folder, **safe)
    return folder / "package"


def mathjax(cache: Path = ROOT / ".cache") -> Path:
    """MathJax's one file; see :func:`npm_package`."""
    return npm_package("mathjax", MATHJAX, MATHJAX_SHA256, cache) / "es5" / "tex-svg.js"


def relinked(text: str, page: str) -> str:
    """The text of a page with its links to the library's code led to the API, and those to folders to their lists.

    Args:
        text: Markdown.
        page: its place in the repository.
    """
    folder = (ROOT / page).parent

    def place(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[1]
        name = target.relative_to(ROOT)
        if name.parts[0] == "manet_lib" and (target.is_dir() or target.suffix == ".py"):
            name = Path("api") / (".".join(name.with_suffix("").parts) + ".rst")
        elif target.is_dir():
            name = name / "README.md"
        return relpath(ROOT / name, folder)

    return LINK.sub(place, text)


def called(cells: list[nbformat.NotebookNode]) -> list[dict[str, None]]:
    """For each cell of a notebook, what it calls of this library, by full names; nothing for text."""
    imported: dict[str, str] = {}
    found = []
    for cell in cells:
        names: dict[str, None] = {}
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.M))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manet_lib"):
                    imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.M))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported:
                    names[imported[node.func.id]] = None
        found.append(names)
    return found


def _shows(cell: nbformat.NotebookNode) -> bool:
    return any({"image/png", "text/markdown"} & set(output.get("data", ())) for output in cell.get("outputs", ()))


def notebook_page(notebook: nbformat.NotebookNode, page: str) -> nbformat.NotebookNode:
    """A notebook as a page: its links led on, and below each figure and table the code behind it.

    Below an exercise stands the link to its solution.
    """
    cells = []
    for cell, names in zip(notebook.cells, called(notebook.cells), strict=True):
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, page)
        behind = [f"{{py:obj}}`~{name}`" for name in names if not name.startswith("manet_lib.notebook.")]
        if behind and _shows(cell):
            cells.append(nbformat.v4.new_markdown_cell("{.behind}\nThe code: " + ", ".join(behind)))
    if "/exercises/" in page:
        solution = f"[The solution](../solutions/{Path(page).name}), for when the checks are satisfied."
        cells.append(nbformat.v4.new_markdown_cell(solution))
    notebook.cells = cells
    return notebook


def titled(text: str, name: str) -> str:
    """A page that has no heading gets one: its caption, or its name."""
    if re.search(r"^# ", text, flags=re.M):
        return text
    caption = re.match(r"\*\*(.+?)\*\*\n", text)
    return f"# {caption[1]}\n{text[caption.end() :]}" if caption else f"# {name}\n\n{text}"


def folder_page(folder: Path, name: str) -> str:
    """What lies in a folder: its tables as pages, the rest to be taken."""
    inside = sorted(path for path in folder.iterdir() if path.name != "README.md")
    pages = [path.stem for path in inside if path.suffix in PAGE]
    pages += [f"{path.name}/README" for path in inside if path.is_dir()]
    others = [f"- [{path.name}]({path.name})" for path in inside if path.is_file() and path.suffix not in PAGE]
    return f"# {name}\n\n{toctree(pages)}\n" + "\n".join(others) + "\n"


def toctree(pages: list[str], caption: str = "", *, hidden: bool = False) -> str:
    """The directive that gives pages their place in the menu."""
    options = [f":caption: {caption}"] if caption else []
    options += [":hidden:"] if hidden else [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""]) if pages else ""


def claims_page(stated: list[Claim], evidence: pd.DataFrame) -> str:
    """Every claim with the margin that decides it and why, and what each kind of evidence says."""
    intro = "# The paper's claims\n\nWhat would decide each, written down before the runs were looked at.\n"
    parts = [intro]
    for claim in stated:
        said = evidence.set_index("Claim").loc[claim.claim].rename("Verdict").rename_axis("Evidence").reset_index()
        parts += [
            f"## {claim.claim[0].upper()}{claim.claim[1:]}\n",
            f"In the paper: {claim.where}. Supported where the whole 95% interval lies {claim.side} "
            f"{claim.margin:g}: {claim.why}.\n",
            to_markdown(said[said["Verdict"] != "–"]),
        ]
    return "\n".join(parts)


def gallery_page() -> str:
    """Every recorded figure with the notebook that draws it and the caption that stands below it."""
    parts = ["# Gallery\n\nThe recorded figures of the default run; each leads to its notebook.\n"]
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(file, as_version=4).cells
        title, shown = cells[0].source.splitlines()[0].removeprefix("# "), []
        for cell, after in pairwise(cells):
            caption = after.source.split("\n\n")[0] if after.source.startswith("**") else ""
            caption = re.sub(r"\]\((?=\d\d_)", "](../notebooks/", caption)
            said = match[1].rstrip(".") if (match := re.match(r"\*\*(.+?)\*\*", caption)) else title
            names = re.findall(r'save_figure\(.*?paths, "(\w+)", params', cell.source, flags=re.DOTALL)
            pictures = [f"figures/recorded/phantoms/{name}.png" for name in names]
            shown += [
                f"[![{said}](../{picture})](../notebooks/{file.name})\n\n{caption}\n"
                for picture in pictures
                if (ROOT / picture).is_file()
            ]
        if shown:
            parts += [f"## {title}\n\nFrom [{file.stem}](../notebooks/{file.name}).\n", *shown]
    return "\n".join(parts)


def studies_page() -> str:
    """Every study: its question, what was written down to decide it, its arms, and what is recorded."""
    parts = ["# Studies\n\nMany training runs each, compared in pairs; the files were written before the runs.\n"]
    for file in sorted((ROOT / "params" / "studies").glob("*.yaml")):
        study, table = load_study(file.stem), study_table(file.stem)
        conditions, arms = ", ".join(study.conditions), ", ".join(study.arms)
        parts += [
            f"## {study.question}\n\nStudy `{file.stem}` ([file](../params/studies/{file.name})).\n",
            f"**Decided by.** {study.decision}\n",
            f"**Design.** Conditions: {conditions}. Arms: {arms}. {study.pairs} pairs are planned; the margin in "
            f"percentage points is {study.margin:g}.\n",
            to_markdown(table) if len(table) else "No training runs are recorded yet.\n",
        ]
    return "\n".join(parts)


def lay_out() -> None:
    """Write the sources of all pages to ``PAGES``."""
    PAGES.mkdir(parents=True)
    for name in COPIED:
        shutil.copytree(ROOT / name, PAGES / name, ignore=SKIPPED)
    for file in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / file, PAGES)
    shutil.copy(mathjax(), PAGES / "docs/_static")
    for name in ("figures", "benchmarks"):
        for folder in sorted(path for path in (PAGES / name).rglob("*") if path.is_dir()):
            text = folder_page(folder, folder.relative_to(PAGES).as_posix())
            (folder / "README.md").write_text(text, encoding="utf-8")
    for name in LESSONS:
        text = folder_page(PAGES / "notebooks" / name, name.capitalize())
        (PAGES / "notebooks" / name / "README.md").write_text(text, encoding="utf-8")
    (PAGES / "docs/claims.md").write_text(claims_page(claims(), evidence_table()), encoding="utf-8")
    for name, page in (("studies", studies_page()), ("gallery", gallery_page())):
        (PAGES / f"docs/{name}.md").write_text(page, encoding="utf-8")
    (PAGES / "api").mkdir()
    (PAGES / "api/index.rst").write_text(_API, encoding="utf-8")
    for page in sorted(PAGES.rglob("*.md")):
        name = page.relative_to(PAGES).as_posix()
        page.write_text(titled(relinked(page.read_text(encoding="utf-8"), name), page.stem), encoding="utf-8")
    for page in sorted(PAGES.rglob("*.ipynb")):
        name = page.relative_to(PAGES).as_posix()
        nbformat.write(notebook_page(nbformat.read(page, as_version=4), name), page)
    with (PAGES / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("\n" + menu())


_API = """The library
===========

Every module with its public functions and classes; *[source]* beside each leads to its code.

.. autosummary::
   :toctree:
   :recursive:

   manet_lib
"""


def menu() -> str:
    """The menu of the site, for the end of its first page."""
    notebooks = sorted(f"notebooks/{path.stem}" for path in (PAGES / "notebooks").glob("*.ipynb"))
    pages = {path.stem for path in (PAGES / "docs").glob("*.md")}
    results = [name for name in RESULTS if name in pages]
    guides = [name for name in GUIDES if name in pages] + sorted(pages.difference(GUIDES, RESULTS))
    groups = {
        "Notebooks": notebooks,
        "To practise": [f"notebooks/{name}/README" for name in LESSONS],
        "Results": [f"docs/{name}" for name in results] + ["figures/recorded/README", "benchmarks/results/README"],
        "Guides": [f"docs/{name}" for name in guides],
        "Code": ["api/index", "CONTRIBUTING", "CHANGELOG"],
    }
    return "\n".join(toctree(listed, caption, hidden=True) for caption, listed in groups.items())


_INDEX = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>MANet companion</title>
<meta http-equiv="refresh" content="0; url=README.html"></head><body><a href="README.html">MANet companion</a>
</body></html>
"""


def build() -> None:
    """Lay the pages out and build them; a warning of Sphinx is an error."""
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(WORK, ignore_errors=True)
    lay_out()
    options = ["-q", "-W", "--keep-going", "-j", "2", "-c", str(ROOT / "docs"), "-d", str(WORK / "doctrees")]
    if sphinx([*options, str(PAGES), str(WORK / "html")]):
        raise UserError("Sphinx found faults in the pages, named above; mend them and build again")
    shutil.rmtree(SITE, ignore_errors=True)
    (WORK / "html").rename(SITE)
    (SITE / "index.html").write_text(_INDEX, encoding="utf-8")
    print(f"open {relpath(SITE / 'index.html')}")


if __name__ == "__main__":
    try:
        build()
    except UserError as error:
        sys.exit(str(error))
