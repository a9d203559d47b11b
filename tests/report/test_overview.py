"""The map of the project: every claim has a place, verdicts are the recorded ones, and minutes add up."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest

from manet_lib.paths import DEFAULT_PROFILE, RunPaths, project_root
from manet_lib.report import overview
from manet_lib.report.claims import claims


def test_every_claim_stands_on_the_map_with_a_notebook_that_exists_and_its_recorded_verdict() -> None:
    table = overview.claims_map().set_index("Claim")
    assert list(table.index) == [claim.claim for claim in claims()]
    for notebook, _ in overview.PLACES.values():
        assert (project_root() / "notebooks" / f"{notebook}.ipynb").is_file(), notebook
    for profile, title in (("phantoms", "Phantoms"), ("cxr_sample", "Real films")):
        said = pd.read_csv(RunPaths.of(profile).recorded / "claims.csv").set_index("Claim")["Verdict"]
        for claim, verdict in table[title].items():
            assert said[claim].startswith(verdict)
            assert verdict


def test_every_notebook_that_computes_has_its_minutes() -> None:
    recorded = pd.read_csv(overview.recorded_minutes())
    notebooks = (project_root() / "notebooks").glob("*.ipynb")
    assert set(recorded["notebook"]) == {path.stem for path in notebooks if "settings(" in path.read_text("utf-8")}
    assert set(recorded.loc[recorded["run"] != DEFAULT_PROFILE, "notebook"]) <= {"12_another_task"}
    assert (recorded["together"] >= recorded["minutes"]).all()
    assert recorded["device"].ne("unknown").all()


def test_all_trainings_count_and_not_the_longest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    for name, seconds in {"01_data": 60, "04_classification-a-1": 600, "04_classification-b-1": 300}.items():
        book = nbformat.v4.new_notebook(metadata={"papermill": {"duration": seconds}})
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.syspath_prepend(str(project_root() / "benchmarks"))
    import notebook_minutes

    table = notebook_minutes.measured(tmp_path).set_index("notebook")
    assert table.loc["04_classification", ["minutes", "executions", "together"]].tolist() == [10.0, 2, 15.0]
    other = table.iloc[:1].assign(run="pieces").rename({"01_data": "12_another_task"})
    table = pd.concat([table.assign(run=DEFAULT_PROFILE), other])
    table.reset_index().to_csv(tmp_path / "minutes.csv", index=False)
    monkeypatch.setattr(overview, "recorded_minutes", lambda: tmp_path / "minutes.csv")
    words = overview.minutes_in_words()
    assert words.startswith("The default run took 16 minutes")
    assert "12_another_task is no part of it" in words
    assert "04_classification runs 2 times, 15 minutes in all" in words
