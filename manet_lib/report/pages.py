"""Numbers and tables in README, docs and notebooks that come from records: ``python -m manet_lib.report.pages``.

A value stands between ``<!-- = EXPRESSION -->`` and ``<!-- / -->``, in a sentence or on lines of its own. The
expression is Jinja2's; :mod:`manet_lib.report.page_values` says what it may name. A test holds pages and records
together.
"""

import json
import re
import sys
from pathlib import Path

import jinja2

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.report.page_values import VALUES
from manet_lib.workflow.records import write_text

_VALUE = re.compile(r"<!-- = (.+?) -->.*?<!-- / -->", flags=re.DOTALL)


def pages() -> list[Path]:
    """The pages that may hold such values."""
    root = project_root()
    return [root / "README.md", *sorted(root.glob("docs/*.md")), *sorted(root.glob("notebooks/*.ipynb"))]


def rendered(text: str, name: str = "a page") -> str:
    """Markdown with all its values as the records have them.

    Raises:
        UserError: an expression cannot be evaluated; names the page and the expression.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)

    def value(match: re.Match[str]) -> str:
        try:
            found = str(environment.compile_expression(match[1], undefined_to_none=False)(**VALUES))
        except (jinja2.TemplateError, LookupError, TypeError, ValueError, OSError) as error:
            raise UserError(f"{name}: <!-- = {match[1]} -->: {error}") from error
        inside = f"\n\n{found}\n" if "\n" in found else found
        return f"<!-- = {match[1]} -->{inside}<!-- / -->"

    return _VALUE.sub(value, text)


def renewed(page: Path) -> str:
    """The whole text of a page, Markdown or notebook, with all its values as the records have them."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return rendered(text, page.name)
    book = json.loads(text)
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = rendered("".join(cell["source"]), page.name).splitlines(keepends=True)
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    try:
        for page in pages():
            write_text(page, renewed(page))
    except UserError as error:
        sys.exit(str(error))
