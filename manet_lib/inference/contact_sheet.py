"""A page that shows all pictures of ``manet predict --pictures``: one file, sortable, asking no other host."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from manet_lib.workflow.records import write_text

_MADE_BY = "<!-- written by manet predict -->"
_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!DOCTYPE html>
{{ made_by | safe }}
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Predictions</title><style>
:root { color-scheme: light dark }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem }
div { overflow-x: auto }
table { border-collapse: collapse }
td, th { padding: .4rem .7rem; border-bottom: 1px solid #8888; text-align: left }
th button { font: inherit; font-weight: 600; border: 0; padding: 0; background: none; color: inherit }
img { width: 22rem; max-width: 45vw } td.number { text-align: right; font-variant-numeric: tabular-nums }
td.image { overflow-wrap: anywhere; min-width: 8rem } td.warning { min-width: 14rem }
tr.warned { background: #d9902433 }
</style></head><body>
<h1>Predictions</h1><p>{{ note[:1] | upper }}{{ note[1:] }}. Choose a column's title to sort by it.
Each picture shows the image as the networks receive it, the lungs that were found and the heat map of the
predicted class.
Rows with a warning are coloured: the image is unusual, and its prediction may mean nothing.</p>
<div tabindex="0"><table><thead><tr><th>Picture</th>
{% for title in titles %}<th><button type="button">{{ title }}</button></th>{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr{% if row.warnings %} class="warned"{% endif %}><td>
{% if row.picture %}<a href="{{ row.link }}"><img src="{{ row.link }}" loading="lazy"
alt="{{ row.image }}: {{ row.label }}"></a>{% endif %}</td>
<td class="image">{{ row.image }}</td><td>{{ row.label or "skipped" }}</td>
<td class="warning">{{ row.warnings or row.fault }}</td>
{% for value in row.numbers %}<td class="number">{{ value }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody></table></div><script>
document.querySelectorAll("th button").forEach((button, place) => button.addEventListener("click", () => {
  const body = document.querySelector("tbody");
  const down = button.dataset.down = button.dataset.down === "1" ? "" : "1";
  const cell = row => row.children[place + 1].textContent;
  const order = (a, b) => cell(a).localeCompare(cell(b), undefined, {numeric: true});
  [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)).forEach(row => body.append(row));
}));
</script></body></html>
"""
)


def write_contact_sheet(folder: Path, rows: Iterable[tuple[str, dict[str, Any]]], classes: Sequence[str]) -> None:
    """Write ``index.html`` into the folder of the pictures.

    Args:
        folder: of the pictures.
        rows: name of each image's picture ("" if it has none), and its row of the CSV.
        classes: whose probabilities are shown.
    """
    shown = []
    for picture, row in rows:
        values = [""] * (len(classes) + 2)
        if row["label"]:
            values = [f"{row[f'p_{name}']:.2f}" for name in classes]
            values += [f"{row['lung_area']:.2f}", f"{row['distance']:.1f}"]
        parts = {"picture": picture, "link": quote(picture), "numbers": values}
        shown.append(row | parts | {"warnings": row.get("warnings", "")})
    titles = ["Image", "Label", "Warnings", *classes, "Lung area", "Distance"]
    note = shown[0]["note"] if shown else ""
    write_text(folder / "index.html", _PAGE.render(made_by=_MADE_BY, titles=titles, rows=shown, note=note) + "\n")


def is_contact_sheet(path: Path) -> bool:
    """Whether a file is one of these pages."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return _MADE_BY in file.read(200)
