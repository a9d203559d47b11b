"""Licences and release dates of all that an installation holds: ``python docs/licences.py`` writes licences.md.

Packages are followed from this project's own requirements and extras to theirs, as they are installed here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
from packaging.requirements import Requirement

from manet_lib.report.tables import to_markdown
from manet_lib.workflow.records import write_text

PROJECT = "manet-companion"
PAGE = Path(__file__).with_name("licences.md")
COPYLEFT = re.compile(r"GPL|General Public", re.IGNORECASE)


_ABOUT = (
    "`python docs/licences.py` writes this page. Licences are as the packages state them. Known vulnerabilities "
    "were not looked up, as that needs a network; `pip install pip-audit` and `pip-audit -r constraints.txt` name "
    "those of the pinned versions."
)


def required(name: str, extras: set[str]) -> Iterator[str]:
    """Names of the packages that a package needs here, with some of its extras."""
    for line in distribution(name).requires or ():
        need = Requirement(line)
        wanted = [{"extra": extra} for extra in ("", *sorted(extras))]
        if need.marker is None or any(need.marker.evaluate(environment) for environment in wanted):
            yield need.name
            if need.extras:
                yield from required(need.name, set(need.extras))


def followed(start: list[str]) -> set[str]:
    """These packages and all that they need, as far as they are installed."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found or name == PROJECT:
            continue
        try:
            needed = list(required(name, set()))
        except PackageNotFoundError:
            continue
        found.add(name)
        todo += needed
    return found


def licence_of(package: Distribution) -> str:
    """The licence that a package states: an SPDX expression, else its classifiers, else a short text."""
    said = package.metadata
    if said.get("License-Expression"):
        return said["License-Expression"]
    trove = [line.split(" :: ")[-1] for line in said.get_all("Classifier") or () if line.startswith("License ::")]
    trove = [name for name in trove if name != "OSI Approved"]
    text = " ".join((said.get("License") or "").split())
    return ", ".join(trove) or (text if 0 < len(text) < 60 else "see its files")


def table() -> pd.DataFrame:
    """One row for each package: its version, licence, and whether a run needs it or an extra only."""
    base = followed(list(required(PROJECT, set())))
    extras = set(distribution(PROJECT).metadata.get_all("Provides-Extra") or ())
    rows = []
    for name in sorted(followed(list(required(PROJECT, extras)))):
        package = distribution(name)
        rows.append((name, package.version, licence_of(package), "a run" if name in base else "an extra"))
    return pd.DataFrame(rows, columns=["Package", "Version", "Licence", "Needed by"])


def main() -> None:
    """Write the page."""
    found = table()
    copyleft = found[found["Licence"].str.contains(COPYLEFT)]
    said = "; ".join(f"{row.Package} ({row.Licence}; needed by {row[4]})" for row in copyleft.itertuples())
    when = f"on {datetime.now(UTC).date()}, with Python {sys.version_info.major}.{sys.version_info.minor}"
    head = f"The table lists the {len(found)} packages of an installation with all extras {when}; {_ABOUT}"
    under = f"These packages are under a GPL, LGPL or AGPL: {said or 'none'}."
    text = f"# Licences\n\n{head}\n\n{under}\n\n{to_markdown(found)}"
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
