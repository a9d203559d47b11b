"""The map of the project: every claim has a place, verdicts are the recorded ones, and minutes add up."""

from __future__ import annotations

import pandas as pd

from manet_lib.paths import DEFAULT_PROFILE, project_root
from manet_lib.report import overview
from manet_lib.report.claims import claims


def test_every_claim_stands_on_the_map_with_a_notebook_that_exists() -> None:
    table = overview.claims_map().set_index("Claim")
    assert list(table.index) == [claim.claim for claim in claims()]
    for notebook, _ in overview.PLACES.values():
        assert (project_root() / "notebooks" / f"{notebook}.ipynb").is_file(), notebook


def test_every_notebook_that_computes_has_its_minutes() -> None:
    recorded = pd.read_csv(overview.recorded_results("notebook_minutes.csv"))
    notebooks = (project_root() / "notebooks").glob("*.ipynb")
    assert set(recorded["notebook"]) == {path.stem for path in notebooks if "settings(" in path.read_text("utf-8")}
    assert set(recorded.loc[recorded["run"] != DEFAULT_PROFILE, "notebook"]) <= {"12_another_task"}
    assert (recorded["together"] >= recorded["minutes"]).all()
    assert recorded["device"].ne("unknown").all()
