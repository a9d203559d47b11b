import os
import pickle

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from manet_lib.models import create_model
from manet_lib.models.pretrained import convert_first_layer
from manet_lib.params import UserError

RESNET34 = torchvision.models.resnet34


def save(state, path):
    state = {name: value.contiguous() for name, value in state.items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def published_resnet34(tmp_path_factory):
    torch.manual_seed(2)
    model = RESNET34(weights=None)
    folder = tmp_path_factory.mktemp("weights")
    for suffix in (".pth", ".safetensors"):
        save(model.state_dict(), folder / f"resnet34{suffix}")
    return model.eval(), folder


def refusal(name, path, **options):
    with pytest.raises(UserError) as caught:
        create_model(name, pretrained=path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def same_but_head(model, state, first, head):
    for name, value in model.state_dict().items():
        if name != first and not name.startswith(head):
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["resnet34", "resnet34_ma"])
def test_a_torchvision_file_loads_whole_but_for_the_head(published_resnet34, name, suffix):
    reference, folder = published_resnet34
    torch.manual_seed(9)
    drawn = create_model(name).fc
    torch.manual_seed(9)
    model = create_model(name, pretrained=folder / f"resnet34{suffix}")
    same_but_head(model, reference.state_dict(), "conv1.weight", "fc.")
    # 1000 classes do not fit five: the head keeps what was drawn for it
    assert torch.equal(model.fc.weight, drawn.weight)
    assert torch.equal(model.fc.bias, drawn.bias)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_grey_image_keeps_its_response_when_three_channels_become_one(published_resnet34, images, suffix):
    reference, folder = published_resnet34
    model = create_model("resnet34", pretrained=str(folder / f"resnet34{suffix}")).eval()
    image, mask = images("resnet34")
    with torch.no_grad():
        expected = reference.conv1(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.conv1(image), expected, rtol=1e-5, atol=1e-5)
        model.fc = reference.fc
        torch.testing.assert_close(
            model(image, mask), reference(image.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3
        )


def test_three_channels_stay_as_they_are(published_resnet34):
    reference, folder = published_resnet34
    model = create_model("resnet34", 1000, in_channels=3, pretrained=folder / "resnet34.pth")
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_first_layers_convert_to_any_number_of_channels(channels):
    weight = torch.randn(8, 3, 5, 5)
    image = torch.randn(2, 1, 12, 12)
    old = nn.functional.conv2d(image.expand(-1, 3, -1, -1), weight)
    new = nn.functional.conv2d(image.expand(-1, channels, -1, -1), convert_first_layer(weight, channels))
    torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)


def test_a_head_of_the_right_size_is_loaded(tmp_path):
    reference = RESNET34(weights=None, num_classes=5)
    path = save(reference.state_dict(), tmp_path / "five.pth")
    assert torch.equal(create_model("resnet34_ma", pretrained=path).fc.weight, reference.fc.weight)


def test_cbam_keeps_its_drawn_weights_beside_the_loaded_ones(published_resnet34):
    reference, folder = published_resnet34
    torch.manual_seed(4)
    drawn = create_model("resnet34_cbam").state_dict()
    torch.manual_seed(4)
    loaded = create_model("resnet34_cbam", pretrained=folder / "resnet34.pth").state_dict()
    assert all(torch.equal(loaded[name], drawn[name]) for name in drawn if ".cbam." in name)
    assert torch.equal(loaded["layer4.2.conv2.weight"], reference.layer4[2].conv2.weight)


def test_the_auxiliary_head_of_inception_is_ignored(tmp_path):
    reference = torchvision.models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    assert any(name.startswith("AuxLogits") for name in reference.state_dict())
    path = save(reference.state_dict(), tmp_path / "inception.pth")
    model = create_model("inceptionv3_ma", pretrained=path)
    same_but_head(model, reference.state_dict(), "Conv2d_1a_3x3.conv.weight", "fc.")


@pytest.mark.slow  # a file of 550 MB
def test_vgg_keeps_all_of_its_head_but_the_last_layer(tmp_path):
    reference = torchvision.models.vgg16_bn(weights=None)
    path = save(reference.state_dict(), tmp_path / "vgg.pth")
    model = create_model("vgg16_ma", pretrained=path)
    path.unlink()
    same_but_head(model, reference.state_dict(), "features.0.weight", "classifier.6")
    assert model.classifier[6].out_features == 5


@pytest.mark.parametrize("name", ["resnet50", "resnet50_ma", "inceptionv3", "vgg16"])
def test_another_architecture_is_refused(published_resnet34, name):
    with torch.device("meta"):  # refused before any weight is copied
        assert "another architecture" in refusal(name, published_resnet34[1] / "resnet34.pth")


def test_a_smaller_network_of_the_same_family_is_refused(tmp_path):
    path = save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    assert "another architecture" in refusal("resnet34", path)


def test_one_missing_parameter_is_named(tmp_path, published_resnet34):
    state = dict(published_resnet34[0].state_dict())
    del state["layer3.1.bn2.running_var"]
    assert "layer3.1.bn2.running_var" in refusal("resnet34_ma", save(state, tmp_path / "short.pth"))


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {0: torch.zeros(3)}, {"fc.weight": 1.0}])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    refusal("resnet34", path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_and_broken_files_are_refused(tmp_path, suffix):
    refusal("resnet34", tmp_path / f"absent{suffix}")
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"not weights\n" * 20)
    refusal("resnet34", broken)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def plain_pickle(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("writer", [torch.save, plain_pickle])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, writer):
    path = tmp_path / "trap.pth"
    writer({"conv1.weight": Trap(tmp_path / "sprung")}, path)
    refusal("resnet34", path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap itself works
