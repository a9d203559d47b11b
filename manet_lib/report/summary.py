"""Say where the tables and figures of a run are: ``python -m manet_lib.report.summary params/smoke.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from manet_lib.params import load_params
from manet_lib.paths import RunPaths, output_root


def main(params_file: str) -> None:
    """Print the folders of a run and what is in them."""
    paths = RunPaths.of(load_params(params_file).profile)
    root = output_root()
    made = sorted({path.stem for path in paths.figures.glob("*.*") if not path.name.startswith(".")})
    print(f"\nTables and figures: {paths.figures.relative_to(root)}/ ({', '.join(made)})")
    print(f"Executed notebooks: {(paths.root / 'notebooks').relative_to(root)}/")
    table = paths.figures / "table2.md"
    print(f"\n{table.read_text(encoding='utf-8')}" if table.is_file() else "")


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
