"""What is said of unlike films, from a record that is written down here."""

from pathlib import Path

import pandas as pd
import pytest

from manet_lib.report import unlike


def test_the_best_score_and_its_hardest_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"maximum probability": (0.5, 0.6), "Mahalanobis, stage 1": (1.0, 0.7), "energy": (0.9, 0.75)}
    rows = [
        (run, kind, score, area)
        for run in ("mine", "other")
        for score, areas in values.items()
        for kind, area in zip(("noise", "source east"), areas if run == "mine" else (0.1, 0.1), strict=True)
    ]
    file = tmp_path / "unlike.csv"
    pd.DataFrame(rows, columns=["run", "kind", "score", "auroc"]).to_csv(file, index=False)
    monkeypatch.setattr(unlike, "recorded_unlike", lambda: file)
    assert unlike.unlike_in_words("mine") == (
        "Run mine, mean AUROC over 2 kinds: highest for Mahalanobis, stage 1 (0.85), 0.55 for the maximum "
        "probability. Hardest for the best of them: source east (0.70)."
    )
