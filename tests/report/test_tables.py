from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from manet_lib.params import CLASSES, MODELS, Params, UserError, validate
from manet_lib.paths import RunPaths, done_of, log_of
from manet_lib.report import classification, data, results, segmentation, tables
from manet_lib.workflow.records import Step

NAMES = (
    "table1_distribution",
    "table2_test_accuracy",
    "table3_cost",
    "table4_report_resnet50_ma",
    "table5_confusion_resnet50_ma",
    "segmentation_iou",
)
PUBLISHED = Params(profile="paper", data_source="manifest", composition="paper", published=True)
OWN = Params(profile="mine", data_source="manifest")
PHANTOM = Params(profile="tiny")


def _manifest(counts: dict[str, dict[str, int]]) -> pd.DataFrame:
    rows = [(side, label) for side, part in counts.items() for label, count in part.items() for _ in range(count)]
    return pd.DataFrame(rows, columns=["split", "label"])


def _papers_manifest() -> pd.DataFrame:
    printed = tables.published("table1_distribution").set_index("set").drop(index="total").astype(int)
    return _manifest(printed.to_dict("index"))


@pytest.fixture
def outdated() -> list[str]:
    """Modules of which an earlier version made the results."""
    return []


@pytest.fixture
def trained(paths: RunPaths, outdated: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that a model was trained: so many of 680 test images right, and a log of two epochs."""

    def make(model: str, trial: int, hits: int, count: int = 680, done: bool = True) -> None:
        labels = np.array([CLASSES[number % 5] for number in range(count)])
        wrong = np.array([CLASSES[(number + 1) % 5] for number in range(count)])
        test = pd.DataFrame({"label": labels, "predicted": np.where(np.arange(count) < hits, labels, wrong)})
        validation = pd.DataFrame({"label": ["tb"] * 9, "predicted": ["vp"] * 9})
        table = pd.concat([validation.assign(split="val"), test.assign(split="test")], ignore_index=True)
        folder = paths.classifier(model, trial)
        folder.mkdir(parents=True)
        table.assign(image_id=table.index).to_csv(paths.predictions(model, trial), index=False)
        pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.5, 0.7]}).to_csv(log_of(folder), index=False)
        if done:
            done_of(folder).write_text("done")
        paths.manifest.parent.mkdir(exist_ok=True)
        table.assign(image_id=table.index, patient="").to_csv(paths.manifest, index=False)

    def fault(step: Step, known: object = None) -> str | None:
        return None if done_of(step.folder).is_file() else "not run"

    monkeypatch.setattr(Step, "fault", fault)
    record = {"seconds": 1.5, "device": "cpu", "precision": "bf16", "code": {}}
    monkeypatch.setattr(results, "read_done", lambda folder: record if done_of(folder).is_file() else None)
    monkeypatch.setattr(Step, "outdated_code", lambda step: outdated)
    return make


class TestPublished:
    @pytest.mark.parametrize("name", NAMES)
    def test_cells_are_text_and_whole(self, name: str) -> None:
        table = tables.published(name)
        assert table.map(lambda cell: isinstance(cell, str)).all(axis=None)

    def test_table_1_adds_up(self) -> None:
        table = tables.published("table1_distribution").set_index("set").astype(int)
        assert (table.loc[["train", "val", "test"]].sum() == table.loc["total"]).all()
        assert table.sum(axis=1).tolist() == [5433, 679, 680, 6792]

    def test_tables_2_and_3_have_the_ten_models_in_order(self) -> None:
        for name in ("table2_test_accuracy", "table3_cost"):
            assert tables.published(name)["model"].tolist() == list(MODELS)

    def test_headline_numbers(self) -> None:
        # Abstract and section 4.2.
        table = tables.published("table2_test_accuracy").set_index("model")
        assert table.loc["resnet50_ma"].tolist() == ["96.47", "95.44", "97.06", "96.32"]
        cost = tables.published("table3_cost").set_index("model")
        assert cost.loc["vgg16", ["params_m", "flops_m"]].tolist() == ["134.29", "80208.35"]

    def test_time_increases_follow_from_the_times(self) -> None:
        cost = tables.published("table3_cost").set_index("model")
        minutes = {
            name: int(hours) * 60 + int(rest)
            for name, (hours, rest) in cost["running_time"].str.extract(r"(\d+)h(\d+)m").iterrows()
        }
        for name, printed in cost["time_increase_pct"].items():
            base = str(name).partition("_")[0]
            computed = f"{100 * (minutes[name] / minutes[base] - 1):.2f}"
            assert (printed == "") == (name == base)
            assert printed in ("", computed)


class TestErrata:
    def test_known_slips(self) -> None:
        lines = results.errata()
        assert len(lines) == 3
        text = "\n".join(lines)
        # (95.29 + 93.82 + 96.18) / 3 = 95.097; 635/680 = 93.382; the mean of 36, 38 and 17 pairs = 92.52.
        assert re.search(r"ResNet34\(CBAM\).*95\.10.*94\.92", text)
        assert re.search(r"VGG16 .*93\.37.*635/680.*93\.38", text)
        assert re.search(r"92\.50.*92\.52.*91\.90", text)
        assert all(len(line.splitlines()) == 1 for line in lines)


class TestDistribution:
    def test_reproduces_table_1(self) -> None:
        table = data.distribution(_papers_manifest(), PUBLISHED).set_index("Set")
        for label in CLASSES:
            title = tables.class_title(label)
            assert table[title].astype(str).tolist() == table[f"{title}, paper"].tolist()
        assert table["All"].tolist() == [5433, 679, 680, 6792]
        assert table.index.tolist() == ["Training", "Validation", "Test", "Total"]

    def test_class_missing_from_a_set_counts_zero(self) -> None:
        manifest = _manifest({"train": {"normal": 3, "tb": 1}, "val": {"normal": 1}, "test": {"tb": 2}})
        table = data.distribution(manifest, OWN).set_index("Set")
        assert table["TB"].tolist() == [1, 0, 2, 3]
        assert table["BP"].tolist() == [0, 0, 0, 0]

    def test_own_classes(self) -> None:
        params = Params(profile="x", data_source="manifest", classes=["sick", "healthy"])
        table = data.distribution(_manifest({"train": {"healthy": 2, "sick": 1}}), params)
        assert table.columns.tolist() == ["Set", "sick", "healthy", "All"]


class TestAccuracy:
    def test_reproduces_a_row_of_table_2(self, trained: Any, paths: RunPaths) -> None:
        for trial, hits in ((1, 656), (2, 649), (3, 660)):
            trained("resnet50_ma", trial, hits)
        table = results.test_accuracy(PUBLISHED, paths).set_index("Model")
        row = table.loc["ResNet50(MA)"]
        assert row[["Trial 1", "Trial 2", "Trial 3", "Average (%)"]].tolist() == [
            "96.47",
            "95.44",
            "97.06",
            "96.32",
        ]
        assert row["Paper, average (%)"] == "96.32"
        low, high = (float(bound) for bound in row["95% interval"].split(" to "))
        one_trial = binomtest(655, 680).proportion_ci(method="wilson")
        assert low <= 100 * one_trial.low  # three trials on the same images are no 2040 images
        assert high >= 100 * one_trial.high - 0.5

    def test_missing_runs_are_left_blank(self, trained: Any, paths: RunPaths) -> None:
        trained("resnet34", 2, 612)
        trained("resnet50", 1, 340, done=False)  # was interrupted
        table = results.test_accuracy(OWN, paths).set_index("Model")
        assert len(table) == 10
        assert table.loc["ResNet34", ["Trial 1", "Trial 2", "Average (%)"]].tolist() == ["–", "90.00", "90.00"]
        assert set(table.loc["ResNet50"]) == {"–"}
        assert tables.trained_models(OWN, paths) == [("resnet34", 2)]

    def test_best_run_is_the_first_of_the_best(self, trained: Any, paths: RunPaths) -> None:
        assert results.best_run(OWN, paths) is None
        trained("resnet50", 2, 650)
        trained("resnet34_ma", 3, 660)
        trained("vgg16", 1, 660)
        assert results.best_run(OWN, paths) == ("resnet34_ma", 3)
        confusion = classification.confusion_of(OWN, paths, "vgg16", 1)
        assert (np.trace(confusion), confusion.to_numpy().sum()) == (660, 680)  # test images alone

    def test_logs_and_steps(self, trained: Any, paths: RunPaths) -> None:
        trained("resnet34", 1, 600)
        assert list(tables.logs(OWN, paths)) == [("resnet34", 1)]
        row = {"Step": "resnet34-1", "Seconds": 1.5, "Device": "cpu", "Precision": "bf16"}
        assert results.steps_table(OWN, paths).to_dict("records") == [row]

    def test_results_of_older_code_are_said_to_be(self, trained: Any, outdated: Any, paths: RunPaths) -> None:
        outdated.append("manet_lib.models.vgg")
        trained("vgg16", 1, 600)
        assert results.steps_table(OWN, paths)["Changed since"].tolist() == ["manet_lib.models.vgg"]

    def test_printed_numbers_stand_beside_results_at_their_size_alone(self, trained: Any, paths: RunPaths) -> None:
        trained("resnet50_ma", 1, 600)
        smaller = PUBLISHED.model_copy(update={"image_size": 224})
        assert "Paper, average (%)" in results.test_accuracy(PUBLISHED, paths)
        assert "Paper, average (%)" not in results.test_accuracy(smaller, paths)
        assert tables.data_note(smaller) == "the paper's data at 224 pixels instead of 512"
        confusion = classification.confusion_of(smaller, paths, "resnet50_ma", 1)
        assert not any("paper" in column for column in results.report_table(confusion, smaller))


class TestReport:
    confusion = tables.published("table5_confusion_resnet50_ma").set_index("actual").astype(int)

    def test_reproduces_table_4(self) -> None:
        table = results.report_table(self.confusion, PUBLISHED)
        printed = tables.published("table4_report_resnet50_ma")
        for name, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1-score")):
            assert table[title].tolist() == printed[name].tolist()
        assert table["F1-score of ResNet50(MA), paper"].tolist() == table["F1-score"].tolist()
        assert table["Class"].tolist() == ["Normal", "COVID-19", "TB", "BP", "VP", "Weighted average"]

    def test_table_5_keeps_its_counts(self) -> None:
        table = results.confusion_table(self.confusion).set_index("Actual")
        assert table.loc["TB", "Normal"] == 8
        assert table.loc["Normal", "TB"] == 3
        # Bacterial and viral pneumonia are never confused.
        assert table.loc["BP", "VP"] == table.loc["VP", "BP"] == 0

    def test_own_classes(self) -> None:
        confusion = pd.DataFrame([[3, 1], [0, 4]], index=["sick", "well"], columns=["sick", "well"])
        params = Params(profile="x", data_source="manifest", classes=["sick", "well"])
        assert results.report_table(confusion, params)["Class"].tolist() == ["sick", "well", "Weighted average"]


def test_segmentation_scores() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["normal", "tb"], [30, 10])
    iou = pd.DataFrame({"label": labels, "iou": rng.uniform(0.85, 0.98, 40)})
    manifest = pd.DataFrame({"label": ["normal"] * 50 + ["tb"] * 20 + ["bp"] * 9})
    manifest["seg_split"] = ["train"] * 45 + ["test"] * 5 + ["train"] * 20 + [""] * 9
    table = segmentation.segmentation_scores(iou, manifest, OWN).set_index("Class")
    assert table.index.tolist() == ["Normal", "TB", "All images"]
    assert table["Training pairs"].tolist() == [45, 20, 65]
    assert table["Test pairs"].tolist() == [30, 10, 40]
    means = [iou["iou"][labels == "normal"].mean(), iou["iou"][labels == "tb"].mean(), iou["iou"].mean()]
    assert table["Test IoU (%)"].tolist() == [f"{100 * mean:.2f}" for mean in means]
    for mean, interval in zip(means, table["95% interval"], strict=True):
        low, high = map(float, interval.split(" to "))
        assert low < 100 * mean < high
    papers = segmentation.segmentation_scores(iou, manifest, PUBLISHED).set_index("Class")["Paper (%)"]
    assert papers.tolist() == ["93.49", "93.14", "92.50"]


def _all_tables(params: Params, paths: RunPaths) -> list[pd.DataFrame]:
    iou = pd.DataFrame({"label": ["normal"] * 3, "iou": [0.9, 0.8, 0.7]})
    manifest = _papers_manifest().assign(seg_split="train")
    return [
        data.distribution(manifest, params),
        segmentation.segmentation_scores(iou, manifest, params),
        results.test_accuracy(params, paths),
        results.report_table(TestReport.confusion, params),
    ]


class TestPrintedNumbersStandOnlyBesideThePapersData:
    def _has(self, table: pd.DataFrame) -> bool:
        return any("paper" in str(name).lower() for name in table)

    def test_with_it(self, paths: RunPaths) -> None:
        assert all(self._has(table) for table in _all_tables(PUBLISHED, paths))

    @pytest.mark.parametrize("params", [OWN, PHANTOM], ids=["own", "phantom"])
    def test_without_it(self, params: Params, paths: RunPaths) -> None:
        assert not any(self._has(table) for table in _all_tables(params, paths))

    @pytest.mark.parametrize(
        "values",
        [{}, {"data_source": "manifest", "classes": ["sick", "well"]}, {"data_source": "public"}],
        ids=["phantoms", "other classes", "another composition"],
    )
    def test_never_beside_other_data(self, values: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="published: true, but only composition: paper is the paper's data"):
            validate(values | {"profile": "x", "published": True}, "x")


class TestWriting:
    table = pd.DataFrame({"Class": ["Normal", "COVID-19"], "Share (%)": ["97.06", "–"], "Support": [171, 51]})

    @contextmanager
    def _written(self, paths: RunPaths, table: pd.DataFrame, caption: str) -> Iterator[dict[str, str]]:
        shown = tables.write_table(table, paths, "table9", caption)
        texts = {ending: (paths.figures / f"table9.{ending}").read_text() for ending in ("csv", "md", "tex")}
        assert shown == texts["md"]
        yield texts

    def test_three_files(self, paths: RunPaths) -> None:
        with self._written(paths, self.table, "Table 9. Test of 5% (synthetic phantoms).") as texts:
            back = pd.read_csv(paths.figures / "table9.csv", dtype={"Share (%)": str})
            pd.testing.assert_frame_equal(back, self.table)
            lines = texts["md"].splitlines()
            assert lines[0] == "**Table 9. Test of 5% (synthetic phantoms).**"
            assert lines[2:] == [
                "| Class | Share (%) | Support |",
                "| --- | --- | ---: |",
                "| Normal | 97.06 | 171 |",
                "| COVID-19 | – | 51 |",
            ]
            assert r"\caption{Table 9. Test of 5\% (synthetic phantoms).}" in texts["tex"]
            assert r"Class & Share (\%) & Support \\" in texts["tex"]
            assert r"COVID-19 & -- & 51 \\" in texts["tex"]
        assert sorted(path.name for path in paths.figures.iterdir()) == ["table9.csv", "table9.md", "table9.tex"]

    @pytest.mark.parametrize("sign", list("%_&#$"))
    def test_latex_signs_are_escaped(self, paths: RunPaths, sign: str) -> None:
        # Class names of a reader's own data may hold any of them.
        table = pd.DataFrame({f"a{sign}b": [f"c{sign}d"]})
        with self._written(paths, table, f"e{sign}f") as texts:
            body = [
                line for line in texts["tex"].splitlines() if re.search(rf"[ace]\\?{re.escape(sign)}[bdf]", line)
            ]
            assert len(body) == 3
            assert all(re.search(rf"[ace]\\{re.escape(sign)}[bdf]", line) for line in body)

    def test_markdown_bar_in_a_cell_is_escaped(self, paths: RunPaths) -> None:
        with self._written(paths, pd.DataFrame({"x": ["a|b"]}), "Table.") as texts:
            assert re.search(r"(?<!\\)\|b", texts["md"]) is None

    def test_same_table_gives_the_same_bytes(self, paths: RunPaths, tmp_path: Path) -> None:
        contents = []
        for _ in range(2):
            tables.write_table(self.table, paths, "table9", "Table 9.")
            contents.append([path.read_bytes() for path in sorted(paths.figures.iterdir())])
        assert contents[0] == contents[1]
