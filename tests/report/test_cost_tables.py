"""Table 3 as it is printed: the counts beside a current counter's, and the measured times."""

from __future__ import annotations

import pandas as pd
import pytest

from manet_lib.models import create_model, model_names
from manet_lib.models.cost import measure_cost
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report import cost
from manet_lib.report.tables import published
from manet_lib.training import cost as measuring
from manet_lib.training.cost import counts as measured_counts
from manet_lib.training.cost import fvcore_cost

POOLED_AT_512 = {"resnet34_ma": 226_816, "resnet50_ma": 154_368, "vgg16_ma": 807_168, "inceptionv3_ma": 260_980}
PRINTED = published("table3_cost").set_index("model")


def overlooked(name: str, side: int) -> int:
    """What Table 3's rule counts for an image of side × side and fvcore does not, with paper and pencil."""
    base, _, kind = name.partition("_")
    # an average of k elements: fvcore counts k, Table 3 one more per channel
    count = {"resnet34": 512, "resnet50": 2048, "inceptionv3": 2048, "vgg16": 0}[base]
    if base == "vgg16":
        for half, channels in enumerate((2 * 64, 2 * 128, 3 * 256, 3 * 512, 3 * 512)):
            count += channels * (side >> half) ** 2  # biases of the convolutions
        last = side // 32
        # averages to 7×7 from k elements each, rounded down; fvcore counts what goes in
        count += 512 * (7 * 7 * ((last // 7) ** 2 + 1) - last**2)
    if kind == "cbam":  # the channel squeeze of each block is an average, too
        count += (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512) * (1 if base == "resnet34" else 4)
    if kind == "ma":
        assert side == 512 or (base != "inceptionv3" and side % 32 == 0)
        count += POOLED_AT_512[name] * side**2 // 512**2
    return count


@pytest.mark.parametrize("name", ["resnet34", "resnet34_ma", "resnet50_cbam", "vgg16", "inceptionv3"])
def test_fvcore_counts_all_but_biases_averages_and_pooled_masks(name: str) -> None:
    flops = measure_cost(create_model(name), 128).flops
    assert flops - fvcore_cost(name, 128)[1] == overlooked(name, 128)


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    """The table of counts, by name of the model."""
    return cost.count_table(measured_counts()).set_axis(list(model_names()))


@pytest.mark.slow  # fvcore computes what it counts, VGG16 at 512×512 included
class TestCounts:
    def test_all_twenty_cells_are_as_printed(self, counts: pd.DataFrame) -> None:
        for title, key in (("Params", "params_m"), ("FLOPs", "flops_m")):
            assert counts[f"{title} (M)"].to_dict() == PRINTED[key].to_dict()
            assert counts[f"{title}, paper"].to_dict() == PRINTED[key].to_dict()

    def test_titles_and_pooled_elements_are_the_models(self, counts: pd.DataFrame) -> None:
        assert counts.loc[["resnet34_ma", "inceptionv3"], "Model"].tolist() == ["ResNet34(MA)", "Inceptionv3"]
        pooled = counts["Pooled mask elements"]
        assert pooled[pooled > 0].to_dict() == POOLED_AT_512

    def test_the_printed_flops_less_those_of_fvcore_are_what_it_overlooks(self, counts: pd.DataFrame) -> None:
        for name in model_names():
            difference = float(PRINTED.loc[name, "flops_m"]) - float(counts.loc[name, "FLOPs by fvcore (M)"])
            # both are rounded to two digits
            assert difference == pytest.approx(overlooked(name, 512) / 1e6, abs=0.0101), name


@pytest.fixture
def times(paths: RunPaths) -> pd.DataFrame:
    """The table of times of five rounds written by hand, by title of the model."""
    plain = [0.5, 0.1, 0.3, 0.2, 0.4]
    seconds = {
        "resnet34": plain,
        "resnet34_ma": [1.1 * second for second in plain],
        "resnet34_cbam": [1.0, 0.14, 0.48, 0.3, 0.48],  # 2, 1.4, 1.6, 1.5 and 1.2 times
        "vgg16_ma": [2.0] * 5,
    }
    paths.cost.mkdir(parents=True)
    pd.DataFrame(seconds).to_csv(paths.cost / "seconds.csv", index=False)
    return cost.time_table(Params(profile="test"), paths).set_index("Model")


def test_times_are_median_and_quartiles_in_milliseconds(times: pd.DataFrame) -> None:
    assert times.loc["ResNet34", ["Median step (ms)", "Quartiles (ms)"]].tolist() == ["300", "200 to 400"]
    assert times.loc["ResNet34(MA)", ["Median step (ms)", "Quartiles (ms)"]].tolist() == ["330", "220 to 440"]
    assert times.loc["VGG16(MA)", ["Median step (ms)", "Quartiles (ms)"]].tolist() == ["2000", "2000 to 2000"]


def test_increases_are_over_the_plain_model_round_by_round(times: pd.DataFrame) -> None:
    assert times.loc["ResNet34(MA)", ["Increase (%)", "95% interval"]].tolist() == ["10.00", "10.00 to 10.00"]
    # the medians of the columns, 0.48 and 0.3, would say 60
    cbam = times.loc["ResNet34(CBAM)"]
    assert cbam[["Increase (%)", "95% interval"]].tolist() == ["50.00", "20.00 to 100.00"]


def test_models_without_their_plain_one_have_no_increase(times: pd.DataFrame) -> None:
    for title in ("ResNet34", "VGG16(MA)"):
        assert times.loc[title, ["Increase (%)", "95% interval"]].tolist() == ["–", "–"]


def test_increases_stand_beside_the_papers_where_the_data_is_so(times: pd.DataFrame, paths: RunPaths) -> None:
    assert "Increase, paper (%)" not in times
    published = Params(profile="test", data_source="manifest", composition="paper", published=True)
    table = cost.time_table(published, paths)
    assert "Increase, paper (%)" not in table, "the paper's batch was divided among four devices"
    table = cost.time_table(published.model_copy(update={"devices": 4}), paths)
    assert table["Increase, paper (%)"].tolist() == ["–", "21.55", "40.52", "5.78"]
    for name, value in (("image_size", 224), ("batch_size", 32)):
        other = published.model_copy(update={"devices": 4, name: value})
        assert "Increase, paper (%)" not in cost.time_table(other, paths)


def test_only_the_models_of_the_run_are_timed_once(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "counts", lambda: pd.DataFrame({"model": ["counted elsewhere"]}))
    models = ["resnet34", "resnet50_ma", "resnet34_ma"]
    params = Params(profile="test", models=models, image_size=32, batch_size=2, cost_repeats=2, accelerator="cpu")
    assert measuring.measure(params, paths)
    assert not measuring.measure(params, paths), "done is done"
    seconds = pd.read_csv(paths.cost / "seconds.csv")
    assert sorted(seconds.columns) == sorted(models)
    assert len(seconds) == 2
    assert (seconds > 0).all(axis=None)
    assert len(cost.time_table(params, paths)) == 3
