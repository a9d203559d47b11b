"""Tables in README.md and docs/ that are made from records: ``python -m manet_lib.report.readme`` renews them.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; a test holds pages and records together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from manet_lib.artifacts import write_text
from manet_lib.params import MODELS, UserError
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, project_root, recorded_seeds
from manet_lib.report.agreement import recorded, title, tolerances
from manet_lib.report.audit import adults_table, recorded_answers, splits_table, views_table
from manet_lib.report.claims import claims
from manet_lib.report.reach import gains_over_trainings, maps_table, printed_gains, recorded_maps, split_gains
from manet_lib.report.tables import errata, model_title, to_markdown
from manet_lib.report.unlike import unlike_table


def _maps() -> str:
    table = recorded_maps().query("masks == 'phantoms' and padding == 'counted'")
    return to_markdown(maps_table(table))


def _gains() -> str:
    return to_markdown(printed_gains(split_gains()[0]).drop(columns="Settings"))


def _seeds() -> str:
    return to_markdown(printed_gains(split_gains()[1]))


def _over_trainings() -> str:
    return to_markdown(gains_over_trainings())


def _controls() -> str:
    return to_markdown(printed_gains(split_gains()[2]))


def _tolerances() -> str:
    record = recorded(RunPaths.of(DEFAULT_PROFILE))
    if record is None:
        return "Nothing has been recorded yet.\n"
    known = tolerances(record["repeats"])
    rows = []
    for key, value in record["measured"].items():
        expected = f"± {known[key]:.1f}" if key in known else "–"
        rows.append({"Number": title(key), "Recorded": f"{value:.1f}", "Expect yours within": expected})
    return to_markdown(pd.DataFrame(rows))


def _default_seeds() -> str:
    """Accuracy of the default run's networks over its recorded training runs: mean and standard deviation."""
    if not recorded_seeds().is_file():
        return "Not recorded.\n"
    table = pd.read_csv(recorded_seeds())
    values = table.groupby("key")["value"]
    shown = (values.mean().map("{:.1f}".format) + " ± " + values.std().map("{:.1f}".format)).to_dict()
    kinds = {
        "Segmented (%)": "accuracy",
        "Whole (%)": "whole_as_trained",
        "Whole, without markers (%)": "whole_without",
        "Whole, markers swapped (%)": "whole_swapped",
    }
    models = [key.partition(" ")[2] for key in shown if key.startswith("accuracy ")]
    rows = [
        {"Model": model_title(model)} | {title: shown[f"{kind} {model}"] for title, kind in kinds.items()}
        for model in sorted(models, key=MODELS.index)
    ]
    return to_markdown(pd.DataFrame(rows))


def _claims() -> str:
    """The claims with what each recorded run says of them."""
    rows = []
    for profile, title_ in CLAIMS_OF.items():
        file = RunPaths.of(profile).recorded / "claims.csv"
        if file.is_file():
            table = pd.read_csv(file).set_index("Claim")
            shown = table["Verdict"] + [
                f": {text}" if text != "–" else "" for text in table["Measured (95% interval)"]
            ]
            rows.append(shown.rename(title_))
    claimed = pd.Series({claim.claim: claim.where for claim in claims()}, name="In the paper")
    return to_markdown(pd.concat([claimed, *rows], axis=1).rename_axis("Claim").reset_index())


def _errata() -> str:
    return "".join(f"- {line}.\n" for line in errata())


def _views(name: str) -> str:
    answers = recorded_answers(name)
    return to_markdown(views_table(answers)) if len(answers) else "Not recorded.\n"


def _splits() -> str:
    return to_markdown(splits_table(*(recorded_answers(f"cxr_{split}") for split in ("image", "patient"))))


def _adults() -> str:
    return to_markdown(adults_table(recorded_answers("cxr_image"), ["kermany"]))


def _unlike(run: str) -> str:
    return to_markdown(unlike_table(run))


CLAIMS_OF = {DEFAULT_PROFILE: "Phantoms (`make reproduce`)", "cxr_sample": "Real films (`cxr_sample`)"}
"""The recorded runs whose verdicts stand in the README."""

BLOCKS: dict[str, Callable[[], str]] = {
    "reach-maps": _maps,
    "reach-gains": _gains,
    "reach-controls": _controls,
    "reach-seeds": _seeds,
    "reach-over-trainings": _over_trainings,
    "seeds": _default_seeds,
    "tolerances": _tolerances,
    "claims": _claims,
    "errata": _errata,
    "views-phantoms": partial(_views, "phantoms"),
    "views-cxr-image": partial(_views, "cxr_image"),
    "views-cxr-patient": partial(_views, "cxr_patient"),
    "splits-cxr": _splits,
    "adults-cxr": _adults,
    "unlike-phantoms": partial(_unlike, "phantoms"),
    "unlike-cxr": partial(_unlike, "shortcuts_cxr_image"),
}
"""What each name stands for."""


def pages() -> list[Path]:
    """The pages that may hold such tables."""
    return [project_root() / "README.md", *sorted((project_root() / "docs").glob("*.md"))]


def renewed(text: str, name: str = "a page") -> str:
    """A page with all its tables as the records have them.

    Raises:
        UserError: the page names a table that does not exist.
    """

    def block(match: re.Match[str]) -> str:
        if match[1] not in BLOCKS:
            raise UserError(f"{name}: <!-- {match[1]} --> is no known table; expected one of {', '.join(BLOCKS)}")
        return f"<!-- {match[1]} -->\n\n{BLOCKS[match[1]]()}\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", block, text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in pages():
        write_text(page, renewed(page.read_text(encoding="utf-8"), page.name))
