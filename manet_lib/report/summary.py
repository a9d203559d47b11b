"""Say where a run's tables and figures are, and whether it agrees with the recorded one.

``python -m manet_lib.report.summary params/phantoms.yaml``, the last line of `make reproduce`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from manet_lib.params import Params, load_params
from manet_lib.paths import RunPaths, output_root
from manet_lib.report.agreement import exact_table, measured_table, other_settings, recorded, verdict
from manet_lib.report.provenance import write_provenance
from manet_lib.report.tables import to_markdown


def main(params_file: str) -> None:
    """Print the folders of a run and what is in them, Table 2, and the comparison with the recorded run."""
    params = load_params(params_file)
    paths = RunPaths.of(params.profile)
    write_provenance(params, paths)
    root = output_root()
    made = sorted({path.stem for path in paths.figures.glob("*.*") if not path.name.startswith(".")})
    print(f"\nTables and figures: {paths.figures.relative_to(root)}/ ({', '.join(made)})")
    print(f"Executed notebooks: {(paths.root / 'notebooks').relative_to(root)}/")
    table = paths.figures / "table2.md"
    print(f"\n{table.read_text(encoding='utf-8')}" if table.is_file() else "")
    print(agreement(params, paths))


@dataclass(frozen=True)
class Beside:
    """A run beside the recorded one of its profile.

    Attributes:
        said: whether it agrees and what does not, or why it is not compared; a sentence.
        numbers: see :func:`manet_lib.report.agreement.measured_table`; without rows where nothing is compared.
    """

    said: str
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)


def beside_recorded(params: Params, paths: RunPaths) -> Beside:
    """A run beside the recorded one of its profile, if there is one that was made with the same settings."""
    record = recorded(paths)
    if record is None:
        return Beside(
            f"No results of profile {params.profile} come with the project, so there is nothing to compare with."
        )
    changed = other_settings(params, record)
    if changed:
        return Beside(f"Not compared with the recorded run, which has another {', '.join(changed)}.")
    exact, numbers = exact_table(params, paths, record), measured_table(params, paths, record)
    made = record["made"]
    where = f"figures/recorded/{params.profile}/, made on {made['device']} in {' and '.join(made['precision'])}"
    return Beside(f"{verdict(exact, numbers)} ({where})", numbers)


def agreement(params: Params, paths: RunPaths) -> str:
    """Whether a run agrees with the recorded one of its profile, and how far its numbers are from it, as text."""
    found = beside_recorded(params, paths)
    if found.numbers.empty:
        return found.said
    return f"{found.said}\n\n{to_markdown(found.numbers)}\nNotebook 06 says where the tolerances are from."


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
