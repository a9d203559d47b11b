"""One file that says all that is needed to use the networks, and stays true to the run that it is from."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import SafetensorError, safe_open
from scipy.special import log_softmax
from scipy.stats import binomtest

from manet_lib.data.manifest import read_manifest
from manet_lib.data.store import Store
from manet_lib.inference import release
from manet_lib.inference.networks import Networks, read_header
from manet_lib.inference.predict import MANet
from manet_lib.inference.release import networks_of, released
from manet_lib.params import UserError
from manet_lib.paths import done_of
from manet_lib.training.classification import read_predictions, train_classifier
from manet_lib.workflow.records import read_done, write_json

MODEL = "resnet34_ma"


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("release"), patch)
    train_classifier(run.params, run.paths, MODEL, 1)
    return run


@pytest.fixture(scope="module")
def file(run):
    return released(run.paths.root, MODEL, 1)


def images_of(run, side):
    store = Store.open(run.paths.store)
    table = read_predictions(run.paths, MODEL, 1, side)
    rows = store.index.reset_index().set_index("image_id").loc[table["image_id"], "index"]
    return store.images[rows.to_numpy()], table


def test_the_file_alone_predictions_as_the_run_does(run, file, tmp_path):
    elsewhere = tmp_path / "elsewhere.safetensors"
    elsewhere.write_bytes(file.read_bytes())
    images, table = images_of(run, "test")
    predictions = MANet.from_file(elsewhere).classify(images)
    np.testing.assert_array_equal(
        predictions.probabilities, MANet.from_run(run.paths.root, MODEL).classify(images).probabilities
    )
    bare = MANet.bare(run.paths.root, MODEL).classify(images)
    assert predictions.labels == bare.labels == table["predicted"].tolist()
    np.testing.assert_array_equal(predictions.masks, bare.masks)
    assert np.isnan(bare.distances).all()


def test_everybody_may_read_the_file_who_may_read_others(file, tmp_path):
    (tmp_path / "other").touch()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_network_that_is_not_trained_is_refused_with_those_that_are(run, refused):
    with refused("resnet50 is not trained in tiny, trial 1", "there are resnet34_ma"):
        MANet.from_run(run.paths.root, "resnet50")


def test_probabilities_are_those_of_the_run_at_the_temperature_of_the_validation_images(run, file):
    temperature = Networks.load(file).usage.temperature
    images, table = images_of(run, "val")
    trained = np.log(table.filter(like="p_").to_numpy(float))
    predictions = MANet.from_file(file).classify(images)
    expected = np.exp(log_softmax(trained / temperature, axis=1))
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-3)
    place = [run.params.classes.index(label) for label in table["label"]]
    losses = [
        -log_softmax(trained / t, axis=1)[np.arange(len(place)), place].mean()
        for t in (temperature / 1.2, temperature, temperature * 1.2)
    ]
    assert losses[1] == min(losses) or not 0.06 < temperature < 19


def test_the_header_says_how_the_test_images_went(run, file):
    header = read_header(file)
    images, table = images_of(run, "test")
    right = table["label"] == table["predicted"]
    mean, low, high = header["results"]["test accuracy"]
    assert mean == pytest.approx(right.mean(), abs=1e-4)
    bounds = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx(bounds, abs=0.15)
    assert low <= mean <= high
    far = MANet.from_file(file).classify(images).distances > Networks.load(file).usage.farthest
    assert header["results"]["called out of distribution"] == pytest.approx(far.mean(), abs=1e-4)
    assert header["settings"]["classes"] == run.params.classes
    assert header["data"]["images"]["test"] == len(table)
    with safe_open(file, framework="pt") as opened:
        assert json.loads(opened.metadata()["settings"])["image_size"] == run.params.image_size


def test_the_model_card_has_a_head_that_is_read_and_the_numbers_of_the_header(file):
    card = file.with_name("README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    accuracy = read_header(file)["results"]["test accuracy"]
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == accuracy[0]
    assert f"{accuracy[0]:.1%}" in card
    assert "no diagnosis" in card
    assert "drawn by a computer" in card
    assert not re.search(r"[{}]", card)


def test_it_is_made_again_when_the_weights_are_others_and_only_then(run, file):
    before = file.stat().st_mtime_ns
    assert released(run.paths.root, MODEL, 1) == file
    assert file.stat().st_mtime_ns == before
    folder = run.paths.classifier(MODEL, 1)
    done = read_done(folder)
    changed = json.loads(json.dumps(done))
    changed["outputs"]["weights.safetensors"]["sha256"] = "0" * 64
    write_json(done_of(folder), changed)
    try:
        released(run.paths.root, MODEL, 1)
        assert file.stat().st_mtime_ns > before
    finally:
        write_json(done_of(folder), done)


@pytest.mark.parametrize("view", ["photograph", "flipped", "inverted", "blank"])
def test_what_is_no_image_like_these_gets_a_warning(run, file, view):
    from skimage.data import camera
    from skimage.transform import resize

    image = Store.open(run.paths.store).images[0]
    size = image.shape[0]
    others = {
        "photograph": (255 * resize(camera(), image.shape)).astype(np.uint8),
        "flipped": image[::-1],
        "inverted": 255 - image,
        "blank": np.zeros((size, size), np.uint8),
    }
    answer = MANet.from_file(file).classify(np.ascontiguousarray(others[view])[None])
    assert answer.warnings[0]


def test_what_cannot_be_used_is_named(run, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.safetensors: no such file; `manet export"):
        MANet.from_file(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(UserError, match=r"text\.safetensors: cannot be read"):
        MANet.from_file(tmp_path / "text.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors: holds no networks of both stages"):
        MANet.from_file(run.paths.segmentation / "weights.safetensors")
    with pytest.raises(UserError, match="vgg16 is not trained"):
        released(run.paths.root, "vgg16", 1)


def test_an_image_without_lungs_does_not_widen_the_limits(run, file, monkeypatch):
    networks = Networks.load(file)
    manifest = read_manifest(run.paths)
    train = Store.open(run.paths.store).images[manifest.index[manifest["split"] == "train"]]
    plain = release._usage(networks, run.paths, {}).limits
    original = Networks.run

    def without_lungs(self, images):
        found = original(self, images)
        for number, image in enumerate(images):
            if (image == train[0]).all():
                found.masks[number] = 0
        return found

    monkeypatch.setattr(Networks, "run", without_lungs)
    limits = release._usage(networks, run.paths, {}).limits
    assert all(low > 0 for low, _ in limits.values())
    assert all(limits[name][0] >= plain[name][0] for name in limits)


def test_a_full_disk_is_one_line(file, tmp_path, monkeypatch, refused):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("manet_lib.inference.networks.save_file", full)
    with refused("new.safetensors: cannot be written: ", "No space left"):
        Networks.load(file).save(tmp_path / "new.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_run_may_be_called_anything(run, tmp_path, monkeypatch):
    (tmp_path / "run copy.v2").symlink_to(run.paths.root)
    monkeypatch.chdir(run.paths.root)
    for folder in (Path("."), tmp_path / "run copy.v2"):
        assert networks_of(folder, MODEL, 1).params.models == [MODEL]
