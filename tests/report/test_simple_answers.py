"""Where the source decides the class, the source alone is always right, and dealt out at random it is not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from manet_lib.params import load_params
from manet_lib.paths import params_file
from manet_lib.report.simple_answers import simple_answers, source_by_chance

PARAMS = load_params(params_file("tiny"))
LABELS = ["normal", "covid19", "tb"]


def _films(sources: list[str]) -> pd.DataFrame:
    split = ["train"] * 60 + ["test"] * 30
    return pd.DataFrame({"label": LABELS * 30, "source": sources * 30, "split": split})


def _pictures(bright: bool) -> np.ndarray:
    values = np.array([40, 120, 200] * 30 if bright else [100] * 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 10, (90, 8, 8))
    return (values[:, None, None] + noise).astype(np.uint8)


def _right(table: pd.DataFrame, word: str) -> int:
    return int(table.loc[table["Known"].str.contains(word), "Right"].iloc[0])


def test_a_source_that_is_the_class_is_always_right() -> None:
    masks = np.ones((90, 8, 8), np.uint8)
    table = simple_answers(_films(["a", "b", "c"]), _pictures(bright=False), masks, PARAMS)
    assert _right(table, "source") == 30
    assert _right(table, "nothing") == 10
    assert _right(table, "grey") < 20
    assert table["Share (%)"].tolist()[:2] == ["33", "100"]
    assert set(table["Test films"]) == {30}


def test_grey_values_that_are_the_class_are_always_right() -> None:
    table = simple_answers(_films(["a"] * 3), _pictures(bright=True), np.ones((90, 8, 8), np.uint8), PARAMS)
    assert _right(table, "grey") == 30
    assert not table["Known"].str.contains("source").any(), "one source for all films tells nothing"


def test_grey_values_need_all_masks() -> None:
    masks = np.ones((90, 8, 8), np.uint8)
    masks[5] = 0
    table = simple_answers(_films(["a", "b", "c"]), _pictures(bright=True), masks, PARAMS)
    assert not table["Known"].str.contains("grey").any()


def test_dealt_out_at_random_a_source_is_worth_chance() -> None:
    low, high = source_by_chance(_films(["a", "b", "c"]), PARAMS)
    assert 0 <= low <= 1 / 3 <= high < 0.75
    assert (low, high) == source_by_chance(_films(["a", "b", "c"]), PARAMS)
