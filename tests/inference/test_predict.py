import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manet_lib.data.store import Store
from manet_lib.inference.predict import MANet
from manet_lib.params import UserError
from manet_lib.training.classification import read_predictions, train_classifier
from manet_lib.workflow.records import save_settings


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("predict"), patch)
        train_classifier(run.params, run.paths, "resnet34_ma", 1)
        save_settings(run.params, run.paths)
    return run, MANet.bare(run.paths.root, "resnet34_ma", 1)


def test_both_stages_together_say_what_the_run_said(trained):
    run, manet = trained
    images = Store.open(run.paths.store)
    table = read_predictions(run.paths, "resnet34_ma", 1).set_index("image_id")
    masks = np.load(run.paths.clean_masks)
    for row in np.flatnonzero(images.index["image_id"].isin(table.index))[:3]:
        name = images.index["image_id"][row]
        answer = manet.predict(images.images[row])
        np.testing.assert_array_equal(answer.lung_mask, masks[row].astype(bool))
        expected = table.loc[name].filter(like="p_").to_numpy(float)
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-4)
        assert answer.label == table.loc[name, "predicted"]


def test_a_path_a_picture_and_an_array_give_the_same(trained, tmp_path):
    run, manet = trained
    image = run.paths.phantoms / pd.read_csv(run.paths.phantoms / "index.csv")["path"][0]
    picture = Image.open(image)
    predictions = [manet.predict(given) for given in (image, str(image), picture, np.asarray(picture))]
    for answer in predictions[1:]:
        assert answer.probabilities == predictions[0].probabilities
    assert predictions[0].heat_map.shape == predictions[0].lung_mask.shape == (picture.height, picture.width)
    assert predictions[0].heat_map.min() >= 0
    assert predictions[0].heat_map.max() <= 1
    assert sum(predictions[0].probabilities.values()) == pytest.approx(1)


def test_networks_keep_the_parameters_that_they_were_made_with(trained):
    run, manet = trained
    save_settings(run.params.model_copy(update={"image_size": 128, "normalisation": "divide"}), run.paths)
    again = MANet.bare(run.paths.root, "resnet34_ma", 1)
    image = Store.open(run.paths.store).images[0]
    assert again.networks.params.image_size == 64
    assert again.predict(image).probabilities == manet.predict(image).probabilities


def test_deep_images_are_stretched_whether_file_picture_or_array(trained, tmp_path):
    _, manet = trained
    deep = (np.linspace(0, 1, 80 * 64).reshape(80, 64) * 4000 + 100).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    predictions = [manet.predict(one) for one in (tmp_path / "deep.png", Image.open(tmp_path / "deep.png"), deep)]
    assert predictions[0].probabilities == predictions[1].probabilities == predictions[2].probabilities


def test_what_is_missing_is_named(trained, tmp_path):
    run, manet = trained
    said = "resnet50 is not trained in tiny, trial 1; there are resnet34"
    with pytest.raises(UserError, match=re.escape(said)):
        MANet.from_run(run.paths.root, "resnet50", 1)
    with pytest.raises(ValueError, match=r"shape \(3, 4, 5\); expected \(H, W\)"):
        manet.predict(np.zeros((3, 4, 5)))
    with pytest.raises(UserError, match=r"nowhere\.png"):
        manet.predict(tmp_path / "nowhere.png")
