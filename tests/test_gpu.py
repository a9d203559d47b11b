"""What must hold on a GPU as on the processor; ``MANET_DEVICE=cpu`` rehearses it where there is none."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from manet_lib.models import create_model, model_names
from manet_lib.params import Params
from manet_lib.paths import RunPaths, project_root
from manet_lib.training import loop
from manet_lib.training.classification import read_predictions, train_classifier

CHOSEN = os.environ.get("MANET_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CHOSEN == "cuda" and not torch.cuda.is_available(), reason="MANET_DEVICE=cpu rehearses it"),
]
EVERY = pytest.mark.parametrize("name", model_names())


@pytest.fixture
def batch():
    """Four images and masks of 96 pixels with targets, on the device."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 1, 96, 96, generator=generator) * 2 - 1
    mask = torch.zeros(4, 1, 96, 96)
    mask[:, :, 20:80, 10:60] = 1
    return image.to(CHOSEN), mask.to(CHOSEN), torch.arange(4, device=CHOSEN)


def network(name, **options):
    torch.manual_seed(0)
    return create_model(name, **options)


@EVERY
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_in_every_precision_has_finite_gradients(name, precision, batch):
    if precision == "fp16" and CHOSEN == "cpu":
        pytest.skip("fp16 is for GPUs")
    image, mask, target = batch
    model = network(name).to(CHOSEN)
    scaler = torch.amp.GradScaler(CHOSEN, init_scale=2.0**8, enabled=precision == "fp16")
    with loop.autocast(Params(profile="x", precision=precision), torch.device(CHOSEN)):
        loss = F.cross_entropy(model(image, mask).float(), target)
    scaler.scale(loss).backward()
    assert loss.isfinite()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


@EVERY
def test_logits_are_those_of_the_processor(name, batch):
    image, mask, _ = batch
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model = network(name).eval()
    with torch.no_grad():
        expected = model(image.cpu(), mask.cpu())
        found = model.to(CHOSEN)(image, mask).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@EVERY
def test_channels_last_changes_rounding_only(name, batch):
    image, mask, _ = batch
    model = network(name).eval().to(CHOSEN)
    with torch.no_grad():
        expected = model(image, mask)
        found = model.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last), mask)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(CHOSEN == "cpu", reason="compiles for minutes and gains nothing there")
@EVERY
def test_compiled_networks_say_the_same(name, batch):
    image, mask, _ = batch
    model = network(name).eval().to(CHOSEN)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(image, mask), model(image, mask), rtol=1e-3, atol=1e-3)


def test_a_training_that_was_ended_goes_on(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.copy_to(tmp_path, monkeypatch)
    params = run.params.model_copy(update={"accelerator": CHOSEN, "epochs": 3, "models": ["resnet34_ma"]})
    whole = RunPaths(run.paths.root, run.paths.figures, "undisturbed")
    train_classifier(params, whole, "resnet34_ma", 1)
    record, ended = loop._record, []

    def stop(training, history, *more):
        record(training, history, *more)
        if len(history) == 2 and not ended:
            ended.append(True)
            loop._save(training, history)
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_record", stop)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(params, run.paths, "resnet34_ma", 1)
    train_classifier(params, run.paths, "resnet34_ma", 1)
    found, expected = (read_predictions(paths, "resnet34_ma", 1) for paths in (run.paths, whole))
    columns = [name for name in expected if name.startswith("p_")]
    assert (found[columns] - expected[columns]).abs().max().max() < 1e-2


def test_two_ranks_on_one_device_find_the_gradient_of_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    subprocess.run([*command, CHOSEN], check=True, cwd=project_root(), timeout=300, capture_output=True)


TWO = """
import sys
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from manet_lib.models import create_model

dist.init_process_group("gloo")
device, rank = sys.argv[1], dist.get_rank()
torch.manual_seed(0)
model = create_model("resnet34_ma").to(device).eval()  # batch norm would see other batches on each rank
image, mask = torch.rand(4, 1, 64, 64, device=device), torch.ones(4, 1, 64, 64, device=device)
target = torch.arange(4, device=device)
F.cross_entropy(model(image, mask), target).backward()
alone = [value.grad.clone() for value in model.parameters()]
model.zero_grad()
shared = DistributedDataParallel(model)
F.cross_entropy(shared(image[rank::2], mask[rank::2]), target[rank::2]).backward()
for value, expected in zip(model.parameters(), alone):
    torch.testing.assert_close(value.grad, expected, rtol=1e-2, atol=1e-4)
dist.destroy_process_group()
"""
