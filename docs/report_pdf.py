"""The replication report as a PDF: ``make report`` writes ``report.pdf``; its figures are drawn from records."""

from __future__ import annotations

import re
import tempfile
from importlib.metadata import version
from pathlib import Path

import weasyprint
from markdown_it import MarkdownIt

from manet_lib.paths import RunPaths, project_root
from manet_lib.report.pages import rendered
from manet_lib.report.studies import study_figure
from manet_lib.report.style import save_figure

PAGE = project_root() / "docs" / "report.md"
STYLE = """
@page { size: A4; margin: 22mm 20mm }
@page { @bottom-center { content: counter(page) " / " counter(pages); font-size: 8pt } }
body { font: 10pt/1.4 "DejaVu Serif", serif; hyphens: auto }
h1 { font-size: 17pt; line-height: 1.2 } h2 { font-size: 13pt; margin-top: 1.4em } h3 { font-size: 11pt }
h1, h2, h3 { font-family: "DejaVu Sans", sans-serif; break-after: avoid }
table { border-collapse: collapse; width: 100%; font: 7pt/1.3 "DejaVu Sans", sans-serif; margin: 0.8em 0 }
th, td { border-bottom: 0.4pt solid #999; padding: 1.5pt 3pt; text-align: left; vertical-align: top }
table { hyphens: none } h3 + table td:first-child { width: 30% }
tr { break-inside: avoid } img { width: 100% } figure { margin: 1em 0; break-inside: avoid }
figcaption { font-size: 8.5pt } .by { font-size: 9pt } a { color: inherit; text-decoration: none }
"""


def _figure(match: re.Match[str]) -> str:
    """A picture with its words as a caption."""
    return f"<figure>{match[1]}<figcaption>{match[2]}.</figcaption></figure>"


def html() -> str:
    """The report with its values and with vector figures in place of the recorded pixels."""
    text = re.sub(r"<!--.*?-->", "", rendered(PAGE.read_text(encoding="utf-8"), PAGE.name), flags=re.DOTALL)
    body = MarkdownIt("commonmark").enable("table").render(text)
    body = re.sub(r'<a href="(?!http)([^"#]+)[^"]*">(.+?)</a>', r"\2 (docs/\1)", body)  # pages of the repository
    body = re.sub(r'<p>(<img [^>]*alt="([^"]+)"[^>]*>)</p>', _figure, body)
    by = f'<p class="by">The MANet companion authors, version {version("manet-companion")} of the companion</p>'
    body = body.replace("</h1>", f"</h1>{by}", 1)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{STYLE}</style><body>{body}</body></html>'


def build(output: Path) -> int:
    """Write the PDF and return its number of pages."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = RunPaths(Path(folder), Path(folder))

        def vector(match: re.Match[str]) -> str:
            study = match[1]
            save_figure(study_figure(study), drawn, study, 150)
            return f'src="{(Path(folder) / f"{study}.svg").as_uri()}"'

        page = re.sub(r'src="[^"]*/study_(\w+)\.png"', vector, html())
        document = weasyprint.HTML(string=page, base_url=str(PAGE.parent)).render()
        document.write_pdf(output)
    return len(document.pages)


if __name__ == "__main__":
    print(f"report.pdf, {build(project_root() / 'report.pdf')} pages")
