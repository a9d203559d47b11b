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
    sanity_table,
)
from manet_lib.report.told import learnt_in_words

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
    assert table["Another film's mask: in the region"].tolist() == ["30.0", "30.0"]
    assert table.loc["ResNet50(MA)", "Trained less untrained"].startswith("+5.0 (")
    assert table.loc["ResNet50(MA)", "Trained less another film's mask"].startswith("+25.0 (")


def test_a_row_of_controls_is_over_the_films_that_all_its_columns_have(
    scores: pd.DataFrame, controls: pd.DataFrame, paths: RunPaths
) -> None:
    fresh = (controls["model"] == "resnet50") & (controls["control"] == "untrained")
    controls.loc[fresh, "lung_share"] = [np.nan, np.nan, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    controls["empty"] = controls["lung_share"].isna()
    row = control_table(scores, controls, OWN, paths).iloc[0]
    assert row["Films"] == 5  # two maps of zeros untrained, a third one trained
    assert row["Maps of zeros: trained, untrained, other mask"] == "1, 2, 0"
    assert row["Trained"] == "26.0"
    difference = float(row["Trained less untrained"].split()[0])
    assert difference == pytest.approx(float(row["Trained"]) - float(row["Untrained"]))


def test_where_no_film_has_maps_in_all_columns_it_is_said(
    scores: pd.DataFrame, controls: pd.DataFrame, paths: RunPaths
) -> None:
    """Films without lesions have none to score, and a network may say nothing of any film."""
    scores = scores.assign(lesion_share=np.nan, lesion_area=np.nan)
    controls = controls.assign(lesion_share=np.nan, lesion_area=np.nan)
    scores.loc[scores["model"] == "resnet50", "lung_share"] = np.nan
    table = control_table(scores, controls, OWN, paths)
    assert table["Films"].tolist() == [0, 0, 8, 0]
    assert table.loc[table["Films"] == 0, "Trained less untrained"].tolist() == ["–"] * 3
    assert learnt_in_words(table).count("nothing can be said") == 3


def test_maps_without_an_order_are_no_likeness(sanity: pd.DataFrame, paths: RunPaths) -> None:
    sanity.loc[sanity["model"] == "resnet50", "similarity"] = np.nan
    table = sanity_table(sanity, paths)
    assert table.loc[0, ["Different films", "After 1", "In the end less different films"]].tolist() == ["–"] * 3
    assert table.loc[0, "Without an order"] == "24"
    assert sanity_in_words(table).startswith("ResNet50: no map has an order")


def test_lesions_have_controls_of_their_own(scores: pd.DataFrame, controls: pd.DataFrame, paths: RunPaths) -> None:
    scores = scores.assign(lesion_share=0.2, lesion_area=0.1)
    controls = controls.assign(lesion_share=0.1, lesion_area=0.1)
    controls.loc[controls["control"] == "that mask", "lesion_share"] = np.nan
    table = control_table(scores, controls, OWN, paths)
    assert table["Region"].tolist() == ["lungs", "lesions"] * 2
    lesions = table.iloc[1]
    assert lesions["Another film's mask: in that mask"] == "–"
    assert lesions["Trained less untrained"] == "+10.0 (+10.0 to +10.0)"
    words = learnt_in_words(table)
    assert (
        "ResNet50, lesions: 10.0% of the map before any training and 20.0% after it: training has added" in words
    )


def test_faithfulness_is_less_a_random_order(paths: RunPaths) -> None:
    table = pd.DataFrame({"model": "resnet50", "trial": 1, "image_id": FILMS, "label": "tb", "road": 0.2})
    table = table.assign(deletion=0.3, deletion_chance=0.4, insertion=0.6, insertion_chance=0.5)
    row = faithfulness_table(table, OWN, paths).iloc[0]
    assert row["Deletion less random"] == "-10.0 (-10.0 to -10.0)"
    assert row["Insertion less random"] == "+10.0 (+10.0 to +10.0)"
    assert row["ROAD"] == "+20.0 (+20.0 to +20.0)"
    assert row["Films"] == 8


@pytest.fixture
def sanity() -> pd.DataFrame:
    """Maps of the plain network lose their likeness; with MA they keep it, and different films are alike."""
    rows = []
    for model, stages in (("resnet50", [0.1, 0.8, 0.1]), ("resnet50_ma", [0.4, 0.9, 0.7])):
        for number, film in enumerate(FILMS):
            own = [(stage, value + 0.01 * number * (stage + 1)) for stage, value in enumerate(stages)]
            rows += [(model, 1, film, stage, value) for stage, value in own]
    return pd.DataFrame(rows, columns=["model", "trial", "image_id", "stages", "similarity"])


def test_likeness_is_told_from_that_of_different_films_film_by_film(sanity: pd.DataFrame, paths: RunPaths) -> None:
    assert len(sanity_means(sanity)) == 6
    sanity.loc[sanity.index[-1], "similarity"] = np.nan
    plain, ma = sanity_table(sanity, paths).to_dict("records")
    assert plain["Different films"] == "0.14"
    assert plain["After 1"] == "0.87"
    left = np.arange(8) * 0.02
    half = 2.365 * left.std(ddof=1) / np.sqrt(8)  # t with seven degrees of freedom
    assert plain["In the end less different films"].startswith(f"{left.mean():+.2f} ({left.mean() - half:+.2f}")
    assert (plain["Without an order"], ma["Without an order"]) == ("0", "1")
    assert ma["Beyond different films after"] == "1, 2"


def test_a_test_that_is_easy_to_pass_is_called_so(sanity: pd.DataFrame, paths: RunPaths) -> None:
    sanity.loc[(sanity["model"] == "resnet50") & (sanity["stages"] == 2), "similarity"] = [0.1, 0.2] * 4
    plain, ma = sanity_in_words(sanity_table(sanity, paths)).split(" ResNet50(MA): ")
    assert "not told from those of different films (on" in plain
    assert "still more alike than those of different films, which are alike by 0.44 themselves" in ma


def test_maps_of_two_trials_are_compared_where_there_are_two() -> None:
    assert repeats_in_words({"vgg16": [0.2, 0.6], "vgg16_ma": [0.9]}).endswith("VGG16 0.40, VGG16(MA) 0.90.")
    assert "trained once" in repeats_in_words({})
