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
    sanity_means,
    sanity_table,
)

OWN = Params(profile="mine", data_source="manifest", models=["resnet50", "resnet50_ma"])
IMAGES = [f"image{number}" for number in range(8)]


def scored(model: str, share: list[float], trial: int = 1, **more: object) -> pd.DataFrame:
    table = pd.DataFrame({"model": model, "trial": trial, "image_id": IMAGES, "label": "tb"})
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
        parts.append(scored(model, [0.3] * 8, control="mismatched mask"))
        parts.append(scored(model, [0.4] * 8, control="that mask"))
    return pd.concat(parts)


@pytest.fixture(autouse=True)
def manifest(paths: RunPaths) -> None:
    paths.manifest.parent.mkdir(parents=True)
    pd.DataFrame({"image_id": IMAGES, "patient": ""}).to_csv(paths.manifest, index=False)


def test_models_stand_above_maps_that_know_nothing(scores: pd.DataFrame, controls: pd.DataFrame) -> None:
    table = attention_table(scores, controls, OWN).set_index("Map")
    assert table.index.tolist() == ["ResNet50", "ResNet50(MA)", "a blob in the middle", "no preference"]
    assert table["lungs, share of the map (%)"].tolist() == ["22.9", "55.0", "25.0", "20.0"]
    assert table["lungs, covered (%)"].tolist() == ["50.0", "50.0", "50.0", "–"]
    assert table["Maps of zeros"].tolist() == ["1", "0", "–", "–"]
    assert not [name for name in table if "lesion" in name]  # real radiographs have none


def test_pairs_are_on_images_that_both_have(scores: pd.DataFrame, paths: RunPaths) -> None:
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
    assert table["Mismatched mask: in that mask"].tolist() == ["40.0", "40.0"]
    assert table["Mismatched mask: in the region"].tolist() == ["30.0", "30.0"]
    assert table.loc["ResNet50(MA)", "Trained minus untrained"].startswith("+5.0 (")
    assert table.loc["ResNet50(MA)", "Trained minus mismatched mask"].startswith("+25.0 (")


def test_a_row_of_controls_is_over_the_images_that_all_its_columns_have(
    scores: pd.DataFrame, controls: pd.DataFrame, paths: RunPaths
) -> None:
    fresh = (controls["model"] == "resnet50") & (controls["control"] == "untrained")
    controls.loc[fresh, "lung_share"] = [np.nan, np.nan, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    controls["empty"] = controls["lung_share"].isna()
    row = control_table(scores, controls, OWN, paths).iloc[0]
    assert row["Images"] == 5  # two maps of zeros untrained, a third one trained
    assert row["Maps of zeros: trained, untrained, mismatched mask"] == "1, 2, 0"
    assert row["Trained"] == "26.0"
    difference = float(row["Trained minus untrained"].split()[0])
    assert difference == pytest.approx(float(row["Trained"]) - float(row["Untrained"]))


def test_faithfulness_is_less_a_random_order(paths: RunPaths) -> None:
    table = pd.DataFrame({"model": "resnet50", "trial": 1, "image_id": IMAGES, "label": "tb", "road": 0.2})
    table = table.assign(deletion=0.3, deletion_chance=0.4, insertion=0.6, insertion_chance=0.5)
    row = faithfulness_table(table, OWN, paths).iloc[0]
    assert row["Deletion minus random"] == "-10.0 (-10.0 to -10.0)"
    assert row["Insertion minus random"] == "+10.0 (+10.0 to +10.0)"
    assert row["ROAD"] == "+20.0 (+20.0 to +20.0)"
    assert row["Images"] == 8


@pytest.fixture
def sanity() -> pd.DataFrame:
    """Maps of the plain network lose their likeness; with MA they keep it, and different images are alike."""
    rows = []
    for model, stages in (("resnet50", [0.1, 0.8, 0.1]), ("resnet50_ma", [0.4, 0.9, 0.7])):
        for number, image in enumerate(IMAGES):
            own = [(stage, value + 0.01 * number * (stage + 1)) for stage, value in enumerate(stages)]
            rows += [(model, 1, image, stage, value) for stage, value in own]
    return pd.DataFrame(rows, columns=["model", "trial", "image_id", "stages", "similarity"])


def test_likeness_is_told_from_that_of_different_images_image_by_image(
    sanity: pd.DataFrame, paths: RunPaths
) -> None:
    assert len(sanity_means(sanity)) == 6
    sanity.loc[sanity.index[-1], "similarity"] = np.nan
    plain, ma = sanity_table(sanity, paths).to_dict("records")
    assert plain["Different images"] == "0.14"
    assert plain["After 1"] == "0.87"
    left = np.arange(8) * 0.02
    half = 2.365 * left.std(ddof=1) / np.sqrt(8)  # t with seven degrees of freedom
    assert plain["After 2 minus different images"].startswith(f"{left.mean():+.2f} ({left.mean() - half:+.2f}")
    assert (plain["Uniform maps, left out"], ma["Uniform maps, left out"]) == ("0", "1")
    assert ma["Significantly above different images after"] == "1, 2"


def test_what_is_significant_does_not_depend_on_rounding(sanity: pd.DataFrame, paths: RunPaths) -> None:
    own = sanity[sanity["model"] == "resnet50"].assign(similarity=0.5)
    small = 0.001 + 0.001 * np.arange(8) / 7
    own.loc[own["stages"] == 2, "similarity"] += small
    (row,) = sanity_table(own, paths).to_dict("records")
    assert row["After 2 minus different images"] == "+0.00 (+0.00 to +0.00)"
    assert row["Significantly above different images after"] == "2"


def test_measures_of_maps_of_zeros_are_left_open(scores: pd.DataFrame, controls: pd.DataFrame) -> None:
    nothing = scores.assign(lung_share=np.nan)
    table = attention_table(nothing, controls, OWN).set_index("Map")
    assert table.loc["ResNet50", "lungs, share of the map (%)"] == "–"
