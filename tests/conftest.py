"""Fixtures that several tests share. Every run is written below the test's own temporary folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from torch import nn

from manet_lib.data.manifest import build_manifest
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.store import build_store
from manet_lib.models import create_model
from manet_lib.params import Params, UserError, load_params
from manet_lib.paths import RunPaths, project_root
from manet_lib.training.segmentation import predict_raw_masks, train_segmenter
from manet_lib.workflow.graph import nodes
from manet_lib.workflow.records import write_json

_PROFILE: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("usual", **_PROFILE, max_examples=60)
settings.register_profile("long", **_PROFILE, max_examples=3000)  # pytest --hypothesis-profile=long
settings.load_profile("usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first, so that none is left for one worker at the end."""
    longest = {name: place for place, name in enumerate(("test_slurm.py", "test_site.py", "test_workflow.py"))}
    items.sort(key=lambda item: (longest.get(item.path.name, len(longest)), not item.get_closest_marker("slow")))


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "output"
    monkeypatch.setenv("MANET_OUTPUT", str(folder))
    monkeypatch.delenv("MANET_PROFILE", raising=False)
    return folder


@pytest.fixture
def refused() -> Callable[..., Any]:
    """Expects a UserError of one line that holds all the given parts."""

    @contextmanager
    def check(*parts: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
        with pytest.raises(UserError) as caught:
            yield caught
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        for part in parts:
            assert part in message, message

    return check


def write_images(
    folder: Path, each: int = 4, masked: int = 2, labels: tuple[str, ...] = ("healthy", "sick")
) -> Path:
    """Write a folder of images of some classes, the first ones of each with a lung mask, and their index.csv."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for label in labels:
        for number in range(each):
            name = f"{label}{number}.png"
            Image.fromarray(rng.integers(0, 256, (40, 48), dtype=np.uint8)).save(folder / name)
            mask = f"mask_{name}" if number < masked else ""
            if mask:
                drawn = np.zeros((40, 48), np.uint8)
                drawn[5 : 20 + number, 8:30] = 255
                Image.fromarray(drawn).save(folder / mask)
            rows.append((name, label, mask))
    pd.DataFrame(rows, columns=["path", "label", "mask_path"]).to_csv(folder / "index.csv", index=False)
    return folder


@pytest.fixture
def own_images(tmp_path: Path) -> Callable[..., Path]:
    """``write_images`` into a folder of this test."""
    return partial(write_images, tmp_path / "own")


@pytest.fixture
def own_params() -> Callable[..., Params]:
    """Parameters of a run on a folder from ``own_images``."""

    def make(folder: Path, **changes: Any) -> Params:
        values: dict[str, Any] = {
            "profile": "own",
            "data_source": "manifest",
            "data_dir": str(folder),
            "classes": ["healthy", "sick"],
            "image_size": 32,
            "models": ["resnet34"],
        }
        return Params(**(values | changes))

    return make


@pytest.fixture
def paths(output: Path) -> RunPaths:
    return RunPaths(output / "runs" / "test", output / "figures" / "test")


@pytest.fixture(scope="session")
def params_files() -> list[Path]:
    return sorted((project_root() / "params").glob("*.yaml"))


@dataclass(frozen=True)
class Run:
    """A small run on phantoms: store, manifest, stage 1 and clean masks are done."""

    params: Params
    paths: RunPaths

    def copy_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
        """A copy of its own below the test's output folder."""
        output = tmp_path / "copied"
        monkeypatch.setenv("MANET_OUTPUT", str(output))
        copy = RunPaths.of(self.params.profile)
        shutil.copytree(self.paths.root, copy.root)
        return Run(self.params, copy)

    def with_parameters(self, **changes: Any) -> Params:
        """Other parameters, with the steps that are done made to look as if they had been run with them."""
        for done in self.paths.root.rglob("done.json"):
            record = json.loads(done.read_text())
            record["parameters"] |= {
                name: value for name, value in changes.items() if name in record["parameters"]
            }
            done.write_text(json.dumps(record))
        return self.params.model_copy(update=changes)


def executed(params: Params, paths: RunPaths, *names: str) -> None:
    """Make some notebooks of a run look as if they had been executed; their steps are done."""
    paths.figures.mkdir(parents=True, exist_ok=True)
    for name in names:
        node = nodes(params, paths)[name]
        write_json(paths.node_record(name), node.shown(params) | node.results())
        paths.executed(name).write_text("{}")


def _prepared(root: Path, **changes: Any) -> Run:
    params = load_params(project_root() / "params" / "tiny.yaml", **changes)
    paths = RunPaths(root / "runs", root / "figures")
    build_store(params, paths)
    build_manifest(params, paths)
    train_segmenter(params, paths)
    predict_raw_masks(params, paths)
    clean_masks(params, paths)
    return Run(params, paths)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of ``params/tiny.yaml`` up to the clean masks; to be copied, not written to."""
    return _prepared(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def smallest_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same at 32 pixels and on one thread, for training runs that are killed and repeated."""
    return _prepared(tmp_path_factory.mktemp("smallest"), image_size=32, threads=1)


def _lungs(batch, height, width):
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    masks = [
        (y / (0.95 - 0.15 * shift)) ** 2 + ((x.abs() - 0.48) / (0.36 + 0.04 * shift)) ** 2 < 1
        for shift in torch.linspace(0, 1, batch)
    ]
    return torch.stack(masks)[:, None].float()


def _images(name, batch=2, seed=0):
    # at 96 pixels Inception v3 ends in one single place, at 128 in 2×2
    side = 128 if name.startswith("inception") else 96
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, side, side, generator=generator) * 2 - 1, _lungs(batch, side, side)


def _settle(model, name):
    """Give batch norms weights and statistics as after some training, so that evaluation mode means something."""
    torch.manual_seed(1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        norm.momentum = None  # statistics of this batch alone
    with torch.no_grad():
        model.train()(*_images(name, 6))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@pytest.fixture(scope="session")
def images():
    """``images(name, batch=2, seed=0)``: images of noise in [-1, 1] and masks of two lungs, each (B, 1, H, W).

    What lies outside the lungs is not blank, so that a model that ignores the mask shows. As small as model
    ``name`` allows.
    """
    return _images


@pytest.fixture(scope="session")
def classifier():
    """``classifier(name, **options)``: a network in evaluation mode; plain and MA share their weights' storage.

    Whoever changes weights or modes takes a deep copy.
    """
    plain = {}

    def get(name, **options):
        base = name.removesuffix("_ma")
        if base not in plain:
            torch.manual_seed(0)
            plain[base] = _settle(create_model(base), base)
        if name == base:
            return plain[base]
        with torch.device("meta"):
            model = create_model(name, **options)
        model.load_state_dict(plain[base].state_dict(), assign=True)
        return model.eval()

    return get
