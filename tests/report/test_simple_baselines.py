"""If the source decides the class, the source alone is always correct; assigned at random it is not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from manet_lib.params import load_params
from manet_lib.paths import params_file
from manet_lib.report.data import simple_baselines

PARAMS = load_params(params_file("tiny"))
LABELS = ["normal", "covid19", "tb"]


def _images(sources: list[str]) -> pd.DataFrame:
    split = ["train"] * 60 + ["test"] * 30
    return pd.DataFrame({"label": LABELS * 30, "source": sources * 30, "split": split})


def _pixels(bright: bool) -> np.ndarray:
    values = np.array([40, 120, 200] * 30 if bright else [100] * 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 10, (90, 8, 8))
    return (values[:, None, None] + noise).astype(np.uint8)


def _correct(table: pd.DataFrame, word: str) -> float:
    return float(table.loc[table["Known"].str.contains(word), "Correct"].iloc[0])


def test_a_source_that_is_the_class_is_always_correct_and_a_random_one_is_worth_chance() -> None:
    table = simple_baselines(
        _images(["a", "b", "c"]), _pixels(bright=False), np.ones((90, 8, 8), np.uint8), PARAMS
    )
    assert _correct(table, "the source") == 30
    assert _correct(table, "nothing") == 10
    assert _correct(table, "grey") < 20
    assert 5 <= _correct(table, "shuffled") <= 15
    assert table["Accuracy (%)"].tolist()[:2] == ["33", "100"]
    assert set(table["Test images"]) == {30}


def test_grey_values_that_are_the_class_are_always_correct() -> None:
    table = simple_baselines(_images(["a"] * 3), _pixels(bright=True), np.ones((90, 8, 8), np.uint8), PARAMS)
    assert _correct(table, "grey") == 30
    assert not table["Known"].str.contains("source").any(), "one source for all images says nothing"


def test_grey_values_need_all_masks() -> None:
    masks = np.ones((90, 8, 8), np.uint8)
    masks[5] = 0
    table = simple_baselines(_images(["a", "b", "c"]), _pixels(bright=True), masks, PARAMS)
    assert not table["Known"].str.contains("grey").any()
