"""A wheel in a folder of its own, as somebody without the repository has it: it imports, computes, has types."""

import os
import subprocess
import sys
import zipfile

import pytest

from manet_lib.paths import project_root

pytestmark = pytest.mark.slow

USE = """
import importlib, pkgutil
import torch
import manet_lib
for module in pkgutil.walk_packages(manet_lib.__path__, "manet_lib."):
    importlib.import_module(module.name)
from manet_lib.data.phantom import draw_phantom
from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool, attend, mask_maps
from manet_lib.report.claims import claims
from manet_lib.report.tables import published

image = draw_phantom("tb", 1, size=64)
mask = torch.from_numpy(image.lungs)[None, None].float()
(lung_map,) = mask_maps(mask, [MaskPool(3, 2, 1)])
assert attend(torch.ones(1, 4, 32, 32), lung_map).shape == (1, 4, 32, 32)
assert create_model("resnet34_ma").eval()(mask, mask).shape == (1, 5)
assert len(claims()) == 12 and len(published("table3_cost")) == 10
print(manet_lib.__file__)
"""
TYPED = """
from pathlib import Path

from manet_lib.params import Params
from manet_lib.inference.predict import MANet, Prediction

def sure(image: Path, weights: Path) -> float:
    answer: Prediction = MANet.from_file(weights).predict(image)
    return max(answer.probabilities.values())

params = Params(profile="mine", image_size=64)
size: int = params.image_size
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with nothing but the installed package, and the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    copied = ("manet_lib", "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in copied:  # setuptools would leave its build folder in the checkout
        subprocess.run(["cp", "-r", project_root() / name, source], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *options, "-w", folder, source], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site", wheel


def run(site, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANET_")}
    environment |= {"PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_is_used_from_anywhere(installed, tmp_path):
    site, _ = installed
    assert run(site, sys.executable, "-c", USE, cwd=tmp_path).strip().startswith(str(site))


def test_a_wheel_holds_the_library_and_nothing_else(installed):
    with zipfile.ZipFile(installed[1]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"manet_lib"}
    assert "manet_lib/py.typed" in names
    assert "manet_lib/report/published/claims.yaml" in names
    assert not [name for name in names if name.endswith((".ipynb", ".pyc"))]


def test_types_are_seen_by_those_who_use_it(installed, tmp_path):
    (tmp_path / "use.py").write_text(TYPED)
    heavy = (
        "torch torchvision numpy cv2 PIL matplotlib albumentations segmentation_models_pytorch pytorch_grad_cam"
    )
    others = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in heavy.split())
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n" + others)
    run(installed[0], sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "use.py", cwd=tmp_path)


def test_outside_of_the_project_the_command_says_what_it_needs(installed, tmp_path):
    command = [sys.executable, "-m", "manet_lib.cli", "predict", ".", "--run", "runs/phantoms"]
    environment = os.environ | {"PYTHONPATH": str(installed[0])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
