"""The same logits from every way to compute them, and training steps that train."""

import copy
import shutil

import pytest
import torch
from torch.nn import functional as F

from manet_lib.models import create_model, model_names

every_model = pytest.mark.parametrize("name", model_names())


def error(logits, expected):
    """Largest difference, in units of the spread of the expected logits."""
    return ((logits.float() - expected).abs().max() / expected.std()).item()


@every_model
def test_channels_last_changes_rounding_only(classifier, images, name):
    image, mask = images(name)
    model = classifier(name)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = twin(image.to(memory_format=torch.channels_last), mask)
        # sums in another order; drawn weights pass rounding on more than trained ones do
        assert error(logits, model(image, mask)) < 2e-3


@every_model
def test_bf16_errs_as_weights_rounded_to_bf16_do(classifier, images, name):
    # Networks with drawn weights magnify small errors, each by its own factor. What rounding the weights alone
    # does to the logits is a yardstick of that factor; autocast rounds the features, too.
    image, mask = images(name)
    model = classifier(name)
    rounded = {key: value.bfloat16().float() for key, value in model.named_parameters()}
    with torch.no_grad():
        expected = model(image, mask)
        yardstick = error(torch.func.functional_call(model, rounded, (image, mask)), expected)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(image, mask)
    assert logits.dtype == torch.bfloat16
    assert 0 < error(logits, expected) < 6 * yardstick


@every_model
def test_the_same_call_gives_the_same_bits(classifier, images, name):
    image, mask = images(name)
    copies = image.clone(), mask.clone()
    with torch.no_grad():
        first, second = (classifier(name)(image, mask) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(image, copies[0])  # products in place never reach the caller's tensors
    assert torch.equal(mask, copies[1])


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.exhaustive, needs_compiler])]
)
def test_compiled_networks_give_the_same_logits(classifier, images, backend):
    name = "resnet34_ma"
    image, mask = images(name)
    compiled = torch.compile(classifier(name), backend=backend)
    with torch.no_grad():
        assert error(compiled(image, mask), classifier(name)(image, mask)) < 1e-3
    torch.compiler.reset()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "vgg" in name else name for name in model_names()]
)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_training_step_reaches_every_parameter(images, name, bf16):
    torch.manual_seed(0)
    model = create_model(name).train()
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    head = list(model.parameters())[-1].detach().clone()
    image, mask = images(name, 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(model(image, mask).float(), torch.tensor([0, 2, 4]))
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert loss.isfinite()
    assert [key for key, value in model.state_dict().items() if not value.isfinite().all()] == []
    assert [key for key, value in model.named_parameters() if not value.grad.any()] == []
    assert [key for key, value in model.named_buffers() if torch.equal(value, buffers[key])] == []
    assert not torch.equal(list(model.parameters())[-1], head)
