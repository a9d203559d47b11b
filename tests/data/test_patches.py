"""Patches of three photographs: known masks, classes and grounds; nothing tells the class but the texture."""

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image

from manet_lib.data.patches import MATERIALS, SIDE, draw_patch, photograph, write_patches


@pytest.mark.parametrize("material", MATERIALS)
def test_photographs_are_installed_and_equally_bright(material):
    shipped = getattr(skimage.data, material)()
    ours = photograph(material)
    assert ours.shape == (512, 512)
    assert ours.mean() == pytest.approx(120)
    assert ours.std() == pytest.approx(40)
    assert np.corrcoef(shipped.ravel(), ours.ravel())[0, 1] == pytest.approx(1)


def test_inside_is_the_square_of_the_photograph_and_outside_is_not():
    picture, patch, ground = draw_patch("gravel", 9, turn=0)
    assert ground in ("brick", "grass")
    assert 0.1 < patch.mean() < 0.6
    square = photograph("gravel")[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    usual = patch & (picture > 0) & (picture < 255) & (square > 0) & (square < 255)
    lighter = picture[usual] - square[usual]
    assert np.ptp(lighter) <= 1.01  # one change of brightness, cut to whole numbers
    assert np.corrcoef(picture[~patch], square[~patch])[0, 1] < 0.5


def test_brightness_does_not_tell_the_class():
    means = {label: [draw_patch(label, n, 0)[0].mean() for n in range(40)] for label in MATERIALS}
    spread = np.std([np.mean(one) for one in means.values()])
    assert spread < np.mean([np.std(one) for one in means.values()])


def test_a_folder_as_anyones_own(tmp_path):
    csv = write_patches(tmp_path, squares=10, turns=2)
    table = pd.read_csv(csv)
    assert table["label"].value_counts().to_dict() == dict.fromkeys(MATERIALS, 20)
    assert (table.groupby("patient").size() == 2).all()
    assert (table["source"] != table["label"]).all()
    usual = table.groupby("label")["source"].agg(lambda ground: ground.value_counts(normalize=True).max())
    assert usual.between(0.5, 1).all()
    for row in table.itertuples():
        mask = np.asarray(Image.open(tmp_path / row.mask_path))
        assert set(np.unique(mask)) == {0, 255}
        assert Image.open(tmp_path / row.path).size == (SIDE, SIDE)


def test_what_is_there_stays(tmp_path):
    csv = write_patches(tmp_path, squares=1, turns=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert write_patches(tmp_path, squares=2) == csv
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_the_same_seed_draws_the_same():
    first, again, other = (draw_patch("brick", 3, 1, seed)[0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
