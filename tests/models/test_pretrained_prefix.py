"""State dicts as training scripts save them: of a DataParallel model, or inside a checkpoint."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from manet_lib.models import create_model
from manet_lib.params import UserError


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(2)
    return torchvision.models.resnet34(weights=None).state_dict()


def parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


def loads_whole(path, state, name="resnet34"):
    loaded = create_model(name, pretrained=path).state_dict()
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))
    for key, value in loaded.items():
        if key != "conv1.weight" and not key.startswith("fc."):
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", ["resnet34", "resnet34_ma"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_prefix_of_data_parallel_is_taken_off(state, tmp_path, name, suffix):
    path = tmp_path / f"parallel{suffix}"
    save_file(parallel(state), path) if suffix == ".safetensors" else torch.save(parallel(state), path)
    loads_whole(path, state, name)


@pytest.mark.parametrize("prefixed", [False, True], ids=["plain", "with prefix"])
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_around_a_state_dict_is_opened(state, tmp_path, key, prefixed):
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    inside = parallel(state) if prefixed else state
    torch.save({"epoch": 3, "arch": "resnet34", "optimizer": optimizer, key: inside}, tmp_path / "checkpoint.pth")
    loads_whole(tmp_path / "checkpoint.pth", state)


def test_a_head_of_the_right_size_is_loaded_from_under_the_prefix(tmp_path):
    five = torchvision.models.resnet34(weights=None, num_classes=5).state_dict()
    torch.save({"state_dict": parallel(five)}, tmp_path / "five.pth")
    assert torch.equal(create_model("resnet34", pretrained=tmp_path / "five.pth").fc.weight, five["fc.weight"])


def mixed(state):
    """The prefix before some names only."""
    return {f"module.{name}" if name.startswith("layer4") else name: value for name, value in state.items()}


def short(state):
    return {name: value for name, value in parallel(state).items() if "layer3.1.bn2.running_var" not in name}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        pytest.param(mixed, "another architecture", id="prefix before some names"),
        pytest.param(short, "layer3.1.bn2.running_var", id="one parameter missing under the prefix"),
        pytest.param(lambda state: {"model": {"epoch": 3}}, "no state dict", id="checkpoint without tensors"),
        pytest.param(lambda state: {"model": {}}, "other.pth", id="checkpoint that is empty"),
        pytest.param(lambda state: {"optimizer": {"state": {}}}, "no state dict", id="optimizer alone"),
        pytest.param(lambda state: {}, "other.pth", id="nothing"),
    ],
)
def test_what_does_not_fit_is_still_refused(state, tmp_path, change, part):
    torch.save(change(state), tmp_path / "other.pth")
    with pytest.raises(UserError) as caught:
        create_model("resnet34", pretrained=tmp_path / "other.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert "pretrained: other.pth" in str(caught.value)
    assert part in str(caught.value)
