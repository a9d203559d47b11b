"""Which cells of a table are told from 0 by their interval, and what that says, in sentences."""

from __future__ import annotations

import pandas as pd


def bounds(cell: str) -> tuple[float, float] | None:
    """The interval in a cell such as ``+4.9 (-4.8 to +14.5)`` or ``-4.8 to +14.5``; None where there is none."""
    low, word, high = cell.rpartition("(")[2].rstrip(")").partition(" to ")
    return (float(low), float(high)) if word else None


def side(cell: str) -> int:
    """-1 or 1 where the interval in a cell lies below or above 0, 0 where it holds 0 or there is none."""
    found = bounds(cell)
    return 0 if found is None else int(found[0] > 0) - int(found[1] < 0)


def faithfulness_in_words(table: pd.DataFrame) -> str:
    """Which differences are told from 0, and whether they speak for the map or against it, in sentences.

    Args:
        table: from :func:`manet_lib.report.attention.faithfulness_table`; a map that shows what matters has a
            deletion below 0, an insertion and a ROAD above.
    """
    parts: dict[int, list[str]] = {1: [], -1: []}
    names = [column for column in table if column not in ("Model", "Films")]
    for row in table.to_dict("records"):
        for name in names:
            wanted = -1 if name.startswith("Deletion") else 1
            parts.get(wanted * side(row[name]), []).append(f"{row['Model']}, {name}")
    told = sum(map(len, parts.values()))
    said = [f"Of the {len(table) * len(names)} differences {told} are told from 0 by their interval."]
    if parts[1]:
        said.append(f"For the map: {'; '.join(parts[1])}.")
    if parts[-1]:
        said.append(f"Against it, the map does worse than chance: {'; '.join(parts[-1])}.")
    return " ".join(said)


def learnt_in_words(table: pd.DataFrame) -> str:
    """What the maps have by construction, what training has added, and what hangs on the mask, as a list.

    Args:
        table: from :func:`manet_lib.report.attention.control_table`.
    """
    verdicts = {1: "training has added to it", -1: "training has taken from it", 0: "no change is told from 0"}
    masks = {1: "less than with its own", -1: "more than with its own", 0: "not told from that with its own"}
    return "\n".join(
        f"- {row['Model']}, {row['Region']}: {row['Untrained']}% of the map before any training and "
        f"{row['Trained']}% after it: {verdicts[side(row['Trained less untrained'])]}. With another film's mask "
        f"{row[_OTHER]}%: {masks[side(row[_OTHERS])]}."
        if row["Films"]
        else f"- {row['Model']}, {row['Region']}: no film has a map in all columns, so nothing can be said."
        for row in table.to_dict("records")
    )


_OTHER = "Another film's mask: in the region"
_OTHERS = "Trained less another film's mask"


def pairs_in_words(table: pd.DataFrame) -> str:
    """Which scores of the maps differ from the plain network's beyond their interval, a sentence for each network.

    Args:
        table: from :func:`manet_lib.report.attention.attention_pairs`.
    """
    said = []
    for row in table.to_dict("records"):
        model = row.pop("Less plain")
        above, below = ([name for name, cell in row.items() if side(cell) == way] for way in (1, -1))
        said.append(
            f"{model}: above the plain network in {'; '.join(above) or 'none'}. "
            f"Below it in {'; '.join(below) or 'none'}."
        )
    return " ".join(said)


def sources_in_words(table: pd.DataFrame, least: int = 5) -> str:
    """Where a class is recognised most unequally from source to source, a sentence for each network.

    Args:
        table: from :func:`manet_lib.report.audit.sources_table`.
        least: films that a source must have in a class to be compared.
    """
    if table.empty:
        return "Nothing to compare: each class has one source, or no network of this run sees the lungs alone."
    said = []
    rows = table.assign(share=table["Accuracy (%)"].str.split().str[0].astype(float))
    for model, part in rows[rows["Films"].astype(int) >= least].groupby("Model", sort=False):
        pairs = [one.loc[[one["share"].idxmax(), one["share"].idxmin()]] for _, one in part.groupby("Class")]
        pairs = [pair for pair in pairs if pair["Source"].nunique() > 1]
        if not pairs:
            continue
        high, low = max(pairs, key=lambda pair: pair["share"].iloc[0] - pair["share"].iloc[1]).to_dict("records")
        best, worst = (f"{one['share']:.0f}% of {one['Films']} films from {one['Source']}" for one in (high, low))
        above, below = bounds(high["Accuracy (%)"]), bounds(low["Accuracy (%)"])
        apart = above is not None and below is not None and above[0] > below[1]
        verdict = "apart" if apart else "overlapping"
        said.append(f"{model} is most unequal in {high['Class']}: {best}, {worst}; intervals {verdict}.")
    few = int((table["Films"].astype(int) < least).sum())
    return f"{' '.join(said)} Left out: {few} of {len(table)} rows, of fewer than {least} films.".strip()


def networks_in_words(table: pd.DataFrame) -> str:
    """Whether each network with attention, as trained in this run, is better than the plain one on its test films.

    Args:
        table: from :func:`manet_lib.report.comparison.paired_table`.
    """
    verdicts = {1: "better than the plain one", -1: "worse than the plain one", 0: "not told from the plain one"}
    said = [
        f"As trained here, {row['Model']} is {verdicts[side(row['95% interval'])]} "
        f"({row['Less plain (points)']} points, {row['95% interval']})."
        for row in table.to_dict("records")
    ]
    return " ".join(said) or "No network with attention is trained beside its plain one."


def times_in_words(times: pd.DataFrame) -> str:
    """Which increases of the running time are told from none by their interval, in a sentence.

    Args:
        times: from :func:`manet_lib.report.cost.time_table`.
    """
    verdicts = {1: "slower", -1: "faster", 0: "not told from equal"}
    said = [
        f"{row['Model']}: {float(row['Increase (%)']):+.1f}%, {verdicts[side(row['95% interval'])]}"
        for row in times.to_dict("records")
        if bounds(row["95% interval"])
    ]
    if not said:
        return "No network with attention was timed beside its plain one."
    return f"Beside the plain network, {'; '.join(said)}."
