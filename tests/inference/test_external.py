"""Images from elsewhere: the same predictions as one by one, and every fault named."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manet_lib.data.phantom import write_phantoms
from manet_lib.inference.external import main, predictions, summary
from manet_lib.inference.predict import MANet
from manet_lib.training.classification import train_classifier


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("external"), patch)
    train_classifier(run.params, run.paths, "resnet34_ma", 1)
    return run


@pytest.fixture
def folder(tmp_path):
    write_phantoms(tmp_path / "images", 10, 80, seed=5, confounder_strength=0)
    return tmp_path / "images"


def test_predictions_are_those_of_one_image_at_a_time(trained, folder):
    table = predictions(trained.paths.root, folder, "index.csv", "resnet34_ma", 1)
    networks = MANet.from_run(trained.paths.root, "resnet34_ma", 1)
    assert len(table) == 10
    for row in table.to_dict("records")[::3]:
        alone = networks.predict(folder / row["path"])
        assert row["predicted"] == alone.label
        for name, probability in alone.probabilities.items():
            assert row[f"p_{name}"] == pytest.approx(probability, abs=1e-4)
        assert row["lung_area"] == pytest.approx(alone.lung_mask.mean(), abs=0.02)


def test_images_beyond_the_training_are_counted(trained, folder):
    Image.fromarray(np.full((80, 80), 255, np.uint8)).save(folder / "white.png")
    listing = pd.read_csv(folder / "index.csv")
    listing.loc[len(listing)] = {"path": "white.png", "label": "tb", "source": "", "patient": "w", "mask_path": ""}
    listing.to_csv(folder / "index.csv", index=False)
    table = predictions(trained.paths.root, folder, "index.csv", "resnet34_ma", 1)
    assert table.set_index("path").loc["white.png", "warnings"]
    shown = summary(table, trained.params.classes).set_index("")["External images"]
    assert shown["Images"] == "11"
    assert shown["With a warning"] == f"{100 * (table['warnings'] != '').mean():.0f}%"
    right = (table["label"] == table["predicted"]).mean()
    assert shown["Accuracy"].startswith(f"{right:.2f} (")


def test_the_command_writes_every_image_and_prints_the_summary(trained, folder, tmp_path, capsys):
    output = tmp_path / "predictions.csv"
    main([str(trained.paths.root), str(folder), "--model", "resnet34_ma", "--output", str(output)])
    assert len(pd.read_csv(output)) == 10
    printed = capsys.readouterr().out
    assert "| Accuracy |" in printed
    assert "no diagnosis" in printed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table.assign(label="flu"), ("label", "'flu'", "normal")),
        (lambda table: table.rename(columns={"label": "class"}), ("no column 'label'",)),
        (
            lambda table: table.assign(path="missing_" + table["label"] + table.index.astype(str)),
            ("10 files", "missing_tb"),
        ),
        (lambda table: table.iloc[[0, 1, 1]], ("twice", "images/")),
        (lambda table: table.iloc[:0], ("lists no image",)),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(trained, folder, change, named):
    listing = pd.read_csv(folder / "index.csv")
    change(listing).to_csv(folder / "index.csv", index=False)
    with pytest.raises(SystemExit) as caught:
        main([str(trained.paths.root), str(folder), "--model", "resnet34_ma"])
    assert all(part in str(caught.value) for part in named)
    assert "\n" not in str(caught.value)


def test_a_missing_training_is_named(trained, folder):
    with pytest.raises(SystemExit, match="resnet50_ma is not trained"):
        main([str(trained.paths.root), str(folder)])
