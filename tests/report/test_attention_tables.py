"""Tables of heat maps from scores that are written down here, so that each cell can be counted."""

import numpy as np
import pandas as pd
import pytest

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.attention import (
    attention_pairs,
    attention_table,
    control_table,
    faithfulness_table,
    repeats_in_words,
    sanity_in_words,
    sanity_means,
)

OWN = Params(profile="mine", data_source="manifest", models=["resnet50", "resnet50_ma"])
FILMS = [f"film{number}" for number in range(8)]


def scored(model: str, share: list[float], trial: int = 1, **more: object) -> pd.DataFrame:
    table = pd.DataFrame({"model": model, "trial": trial, "image_id": FILMS, "label": "tb"})
    table = table.assign(empty=np.isnan(share), heat=0.3, lung_share=share, lung_covered=0.5, lung_pointing=1.0)
    return table.assign(lung_precision=0.6, lung_area=0.2, **more)


@pytest.fixture
def scores() -> pd.DataFrame:
    plain = [0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, float("nan")]
    return pd.concat([scored("resnet50", plain), scored("resnet50_ma", [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9])])


@pytest.fixture
def controls() -> pd.DataFrame:
    parts = [scored("", [0.25] * 8, 0, control="centre blob")]
    for model, fresh in (("resnet50", 0.2), ("resnet50_ma", 0.5)):
        parts.append(scored(model, [fresh] * 8, control="untrained"))
        parts.append(scored(model, [0.3] * 8, control="another film's mask"))
        parts.append(scored(model, [0.4] * 8, control="that mask"))
    return pd.concat(parts)


@pytest.fixture(autouse=True)
def manifest(paths: RunPaths) -> None:
    paths.manifest.parent.mkdir(parents=True)
    pd.DataFrame({"image_id": FILMS, "patient": ""}).to_csv(paths.manifest, index=False)


def test_models_stand_above_maps_that_know_nothing(scores: pd.DataFrame, controls: pd.DataFrame) -> None:
    table = attention_table(scores, controls, OWN).set_index("Map")
    assert table.index.tolist() == ["ResNet50", "ResNet50(MA)", "a blob in the middle", "no preference"]
    assert table["lungs, share of the map (%)"].tolist() == ["22.9", "55.0", "25.0", "20.0"]
    assert table["lungs, covered (%)"].tolist() == ["50.0", "50.0", "50.0", "–"]
    assert table["Maps of zeros"].tolist() == ["1", "0", "–", "–"]
    assert not [name for name in table if "lesion" in name]  # real films have none


def test_pairs_are_on_films_that_both_have(scores: pd.DataFrame, paths: RunPaths) -> None:
    (row,) = attention_pairs(scores, OWN, paths).to_dict("records")
    gains = np.array([0.4, 0.3, 0.2, 0.1, 0.4, 0.3, 0.2])
    shown = row["lungs, share of the map"]
    assert shown.startswith(f"{100 * gains.mean():+.1f} (")
    low, high = (float(part) for part in shown.split("(")[1].rstrip(")").split(" to "))
    half = 2.447 * 100 * gains.std(ddof=1) / np.sqrt(7)  # t with six degrees of freedom
    assert high - low == pytest.approx(2 * half, abs=0.2)


def test_trials_that_one_of_them_lacks_are_left_out(scores: pd.DataFrame, paths: RunPaths) -> None:
    more = pd.concat([scores, scored("resnet50", [0.9] * 8, trial=2)])
    pd.testing.assert_frame_equal(attention_pairs(more, OWN, paths), attention_pairs(scores, OWN, paths))


def test_only_what_an_untrained_network_lacks_is_learnt(
    scores: pd.DataFrame, controls: pd.DataFrame, paths: RunPaths
) -> None:
    table = control_table(scores, controls, OWN, paths).set_index("Model")
    assert table["Untrained"].tolist() == ["20.0", "50.0"]
    assert table["Another film's mask: in that mask"].tolist() == ["40.0", "40.0"]
    assert table["Another film's mask: in the lungs"].tolist() == ["30.0", "30.0"]
    assert table.loc["ResNet50(MA)", "Trained less untrained"].startswith("+5.0 (")


def test_faithfulness_is_less_a_random_order(paths: RunPaths) -> None:
    table = pd.DataFrame({"model": "resnet50", "trial": 1, "image_id": FILMS, "label": "tb", "road": 0.2})
    table = table.assign(deletion=0.3, deletion_chance=0.4, insertion=0.6, insertion_chance=0.5)
    row = faithfulness_table(table, OWN, paths).iloc[0]
    assert row["Deletion less random"] == "-10.0 (-10.0 to -10.0)"
    assert row["Insertion less random"] == "+10.0 (+10.0 to +10.0)"
    assert row["ROAD"] == "+20.0 (+20.0 to +20.0)"
    assert row["Films"] == 8


def test_sanity_is_said_in_words() -> None:
    rows = [("resnet50", stage, value) for stage, value in enumerate([0.3, 0.8, 0.1])]
    rows += [("resnet50_ma", stage, value) for stage, value in enumerate([0.3, 0.9, 0.6])]
    table = pd.DataFrame(rows, columns=["model", "stages", "similarity"])
    assert sanity_means(table)["similarity"].tolist() == [0.3, 0.8, 0.1, 0.3, 0.9, 0.6]
    plain, ma = sanity_in_words(table).split(" ResNet50(MA): ")
    assert plain.endswith("is 0.10, no more than that of maps of different films (0.30).")
    assert ma.endswith("is 0.60, more than that of maps of different films (0.30).")


def test_maps_of_two_trials_are_compared_where_there_are_two() -> None:
    assert repeats_in_words({"vgg16": [0.2, 0.6], "vgg16_ma": [0.9]}).endswith("VGG16 0.40, VGG16(MA) 0.90.")
    assert "trained once" in repeats_in_words({})
