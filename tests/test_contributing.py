"""CONTRIBUTING.md: what its examples add to the package is there and does what it should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm

from manet_lib.paths import project_root

PAGE = project_root() / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HARBOUR = [f"harbour/{label}/P{number:03d}_1.png" for label in ("normal", "tb") for number in range(6)]

USE = """
import json, sys
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.sources.public import SOURCES
from manet_lib.data.store import build_store
from manet_lib.models import create_model
from manet_lib.models.cost import measure_cost
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report import claims
from manet_lib.report.style import alternative_text
from manet_lib.report.cost import count_table
from manet_lib.report.style import save_figure
from manet_lib.report.lung_area import lung_area_figure
from manet_lib.report.tables import model_title

images, out = map(Path, sys.argv[1:])
torch.manual_seed(0)
model, plain = create_model("small_ma", num_classes=3), create_model("small", num_classes=3)
image, mask, target = torch.randn(6, 1, 32, 32), torch.zeros(6, 1, 32, 32), torch.arange(6) % 3
mask[..., 8:24, 8:24] = 1
before = {name: value.clone() for name, value in model.state_dict().items()}
optimiser = torch.optim.SGD(model.parameters(), 0.01)
first = F.cross_entropy(model(image, mask), target)
first.backward()
optimiser.step()
second = F.cross_entropy(model(image, mask), target)
moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
rows = [(name, *measure_cost(create_model(name)), 0, 0) for name in ("resnet50", "small", "small_ma")]
columns = ["model", "params", "flops", "pooled_mask_elements", "fvcore_params", "fvcore_flops"]
table = count_table(pd.DataFrame(rows, columns=columns))
said = {
    "loss": [first.item(), second.item()],
    "moved": moved,
    "parameters": [name for name, _ in model.named_parameters()],
    "same names": plain.state_dict().keys() == model.state_dict().keys(),
    "dark": model.eval()(image, torch.zeros_like(mask)).tolist(),
    "bias": model.fc.bias.tolist(),
    "titles": [model_title(name) for name in ("small_ma", "resnet50_ma")],
    "counted": table[["Model", "Params (M)", "Params, paper"]].values.tolist(),
    "expected": sum(value.numel() for value in create_model("small").parameters()) / 1e6,
}

paths = RunPaths(out / "runs" / "public", out / "figures" / "public")
public = Params(
    profile="public", data_source="public", data_dir=str(images), download=False, image_size=32, batch_size=8,
    models=["small", "small_ma"],
)
build_store(public, paths)
build_manifest(public, paths)
manifest = read_manifest(paths)
said["harbour"] = manifest.loc[manifest["source"] == "harbour", ["path", "label", "patient"]].values.tolist()
said["sides"] = sorted(set(manifest["split"]))

masks = np.zeros((20, 10, 10), np.uint8)
masks[:, :5] = 1
drawn = lung_area_figure(masks, ["tb", "vp"] * 10, ["tb", "vp"])
for dpi in (50, 100):
    save_figure(drawn, paths, f"lung_area_{dpi}", dpi)
said["alt"] = alternative_text(drawn)

predictions = RunPaths(out / "runs" / "predictions", out / "figures" / "predictions")
claims.trained_models = lambda *_: [("resnet50_ma", 1)]
own = Params(profile="predictions", data_source="manifest", trials=1)
said["claims"] = claims.claims_table(own, predictions).set_index("Claim").T.to_dict()
without = own.model_copy(update={"classes": ["tb", "vp"]})
said["missing"] = claims.claims_table(without, predictions)["Verdict"].iloc[-1]
print(json.dumps(said))
"""


def blocks() -> Iterator[tuple[str, str, str]]:
    """Language, file and text of the code blocks of the page, in order."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        head, _, rest = text.partition("\n")
        mark = "--- " if language == "diff" else "# "
        assert head.startswith(mark), f"a block without the name of its file: {head}"
        yield language, head.removeprefix(mark), rest


def apply(root: Path) -> None:
    """Do to a copy of the project what the page says."""
    for language, name, text in blocks():
        file = root / name
        if language == "diff":
            old = "".join(f"{line[1:]}\n" for line in text.splitlines() if not line.startswith("+"))
            new = "".join(f"{line[1:]}\n" for line in text.splitlines() if not line.startswith("-"))
            before = file.read_text(encoding="utf-8")
            assert before.count(old) == 1, f"{name} has no single place like\n{old}"
            file.write_text(before.replace(old, new), encoding="utf-8")
        elif language == "yaml":
            file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
        else:
            assert not file.exists(), f"{name} is there already"
            file.write_text(text, encoding="utf-8")


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(grey).save(path)  # one that is byte for byte another's would be left out


def collections(data: Path) -> None:
    """A few images of each public collection in its layout, and Harbour's."""
    for number in range(4):
        image(data / f"MontgomerySet/CXR_png/MCUCXR_{number:04d}_{number % 2}.png")
        image(data / f"ChinaSet_AllFiles/CXR_png/CHNCXR_{number:04d}_{number % 2}.png")
        image(data / f"chest_xray/train/NORMAL/IM-{number:04d}-0001.jpeg")
        for kind in ("bacteria", "virus"):
            image(data / f"chest_xray/train/PNEUMONIA/person{number}_{kind}_1.jpeg")
    side = {"ManualMask/leftMask": 0, "ManualMask/rightMask": 20}
    for folder, left in side.items():
        for number in range(4):
            drawn = np.zeros((40, 40), np.uint8)
            drawn[:, left : left + 10] = 255
            file = data / f"MontgomerySet/{folder}/MCUCXR_{number:04d}_{number % 2}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(file)
    rows = []
    for number in range(6):
        image(data / f"covid/images/{number}.png")
        rows.append((f"p{number}", "COVID-19", "PA", "X-ray", "images", f"{number}.png"))
    columns = ["patientid", "finding", "view", "modality", "folder", "filename"]
    (data / "covid/metadata.csv").write_text(pd.DataFrame(rows, columns=columns).to_csv(index=False))
    for name in HARBOUR:
        image(data / name)


def predictions(folder: Path) -> None:
    """Test predictions of ResNet50(MA) in which 30 of 40 COVID-19 images are found."""
    labels = ["covid19"] * 40 + ["bp"] * 20 + ["vp"] * 20
    guesses = ["covid19"] * 30 + ["bp"] * 50
    names = [f"image{number:03d}" for number in range(80)]
    table = pd.DataFrame({"image_id": names, "split": "test", "label": labels, "predicted": guesses})
    training = folder / "classification" / "resnet50_ma-1"
    training.mkdir(parents=True)
    table.sample(frac=1, random_state=0).to_csv(training / "predictions.csv", index=False)
    (folder / "manifest").mkdir()
    table.assign(patient="").to_csv(folder / "manifest" / "manifest.csv", index=False)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with everything that the page adds."""
    root = tmp_path_factory.mktemp("grown")
    for name in ("manet_lib", "params"):
        shutil.copytree(project_root() / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks").mkdir()
    shutil.copy(project_root() / "pyproject.toml", root)
    apply(root)
    return root


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def said(grown: Path, out: Path) -> dict[str, Any]:
    """What is seen when all of it is used."""
    collections(out / "images")
    predictions(out / "runs" / "predictions")
    environment = os.environ | {"PYTHONPATH": str(grown), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", USE, out / "images", out]
    done = subprocess.run(command, cwd=grown, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_added_is_clean(grown: Path) -> None:
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(["ruff", *command, "manet_lib"], cwd=grown, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_added_has_types(grown: Path, tmp_path: Path) -> None:
    known = project_root() / ".mypy_cache"
    if known.is_dir():  # of `make test`; mypy checks by digests what of it is current
        shutil.copytree(known, tmp_path / "cache")
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(command, cwd=grown, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_added_network_learns_and_sees_nothing_outside_its_mask(said: dict[str, Any]) -> None:
    first, second = said["loss"]
    assert second < first
    assert said["moved"] == said["parameters"]
    assert said["same names"]
    np.testing.assert_allclose(said["dark"], [said["bias"]] * 6, atol=1e-6)


def test_the_added_network_is_named_and_counted_beside_the_papers(said: dict[str, Any]) -> None:
    assert said["titles"] == ["small(MA)", "ResNet50(MA)"]
    counted = {model: cells for model, *cells in said["counted"]}
    assert counted["small"] == counted["small(MA)"] == [f"{said['expected']:.2f}", "–"]
    assert counted["ResNet50"][0] == counted["ResNet50"][1]


def test_images_of_the_added_source_are_in_the_manifest(said: dict[str, Any]) -> None:
    expected = [[name, name.split("/")[1], f"harbour_{Path(name).stem[:4]}"] for name in HARBOUR]
    assert sorted(said["harbour"]) == sorted(expected)
    assert said["sides"] == ["test", "train", "val"]


def test_the_added_figure_is_drawn(said: dict[str, Any], out: Path) -> None:
    folder = out / "figures" / "public"
    small, large = (Image.open(folder / f"lung_area_{dpi}.png").convert("L") for dpi in (50, 100))
    assert large.size[0] == pytest.approx(2 * small.size[0], abs=4)
    assert large.size == (pytest.approx(400, abs=30), pytest.approx(250, abs=30))
    assert 0.01 < (np.asarray(large) < 128).mean() < 0.3
    assert all((folder / f"lung_area_100.{ending}").stat().st_size > 1000 for ending in ("pdf", "svg"))
    assert "lung area" in said["alt"]


def test_the_added_claim_gets_a_verdict(said: dict[str, Any]) -> None:
    found = said["claims"]["ResNet50(MA) finds 96% of the COVID-19 images, to within five points"]
    assert found["Verdict"] == "not supported on these images"
    share, low, high = (float(one) for one in re.findall(r"[\d.]+", found["Measured (95% interval)"])[:3])
    assert share == 75.0
    deviate = norm.ppf(0.975)  # 30 of 40: Wilson's interval, which a bootstrap of images stays near
    centre = (0.75 + deviate**2 / 80) / (1 + deviate**2 / 40)
    half = deviate * np.sqrt(0.75 * 0.25 / 40 + deviate**2 / 6400) / (1 + deviate**2 / 40)
    assert low == pytest.approx(100 * (centre - half), abs=1.5)
    assert high == pytest.approx(100 * (centre + half), abs=1.5)
    assert said["missing"].startswith("undecided: needs ResNet50(MA) trained on images of covid19")
    assert len(said["claims"]) == 12
