"""Notebook 00: which notebook examines which claim, what was found, and how long each takes."""

import pandas as pd

from manet_lib.paths import recorded_results
from manet_lib.report.claims import claims
from manet_lib.report.evidence import KINDS, evidence_table

PLACES = {
    "gain": ("06_results", "Table 2"),
    "accuracy": ("06_results", "Table 2"),
    "pneumonias": ("06_results", "Table 5"),
    "jumps": ("06_results", "Fig. 10"),
    "in_lungs": ("05_attention_maps", "Fig. 9"),
    "time": ("07_cost", "Table 3"),
    "size": ("07_cost", "Table 3"),
    "iou": ("02_segmentation", "section 4.1"),
    "generalisation": ("10_shortcut_audit", "section 4.3"),
}
"""Notebook, and table or figure, in which each quantity of a claim is measured."""


def claims_map(folder: str = "", numbers: bool = False) -> pd.DataFrame:
    """Every claim of the paper with the notebook that examines it and the verdict of each kind of evidence.

    Args:
        folder: of the notebooks, as the page that shows the table sees it.
        numbers: whether effects, intervals and numbers of pairs follow the verdicts.
    """
    rows = []
    for claim in claims():
        notebook, shown = PLACES[claim.quantity]
        rows.append((claim.claim, f"[{notebook}]({folder}{notebook}.ipynb)", shown))
    table, evidence = pd.DataFrame(rows, columns=["Claim", "Notebook", "In the paper"]), evidence_table()
    for title in KINDS.values():
        table[title] = evidence[title] if numbers else [said.partition(":")[0] for said in evidence[title]]
    return table


def minutes_table() -> pd.DataFrame:
    """Minutes that each notebook took to compute, the first time."""
    table = pd.read_csv(recorded_results("notebook_minutes.csv"))
    table["Notebook"] = [f"[{name}]({name}.ipynb)" for name in table["notebook"]]
    return table.rename(columns={"minutes": "Minutes"})[["Notebook", "Minutes"]]
