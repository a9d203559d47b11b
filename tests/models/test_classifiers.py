import pytest
import torch
import torchvision

from manet_lib.models import create_model, model_names
from manet_lib.params import MODELS
from manet_lib.report.tables import published

ATTENDING = tuple(name for name in model_names() if name.endswith("_ma"))
BLIND = tuple(name for name in model_names() if not name.endswith("_ma"))
TORCHVISION = {
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "vgg16": torchvision.models.vgg16_bn,
    "inceptionv3": lambda **sizes: torchvision.models.inception_v3(
        aux_logits=False, transform_input=False, init_weights=False, **sizes
    ),
}


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_models_come_in_the_order_of_table_2():
    rows = list(published("table2_test_accuracy")["model"])
    assert list(model_names())[: len(rows)] == rows
    assert model_names() == MODELS


@pytest.mark.parametrize("name", ["resnet18", "vgg16_cbam", "ResNet34", "", "resnet50_ma "])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown model .*inceptionv3_ma") as caught:
        create_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", model_names())
def test_logits_have_one_row_per_image_and_one_column_per_class(classifier, images, name):
    image, mask = images(name, 3)
    with torch.no_grad():
        for batch, width in ((3, image.shape[3]), (1, image.shape[3] - 13)):
            logits = classifier(name)(image[:batch, ..., :width], mask[:batch, ..., :width])
            assert logits.shape == (batch, 5)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", model_names())
def test_classes_and_channels_can_be_chosen(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=3, in_channels=2).eval()
        logits = model(torch.empty(2, 2, 96, 96), torch.empty(2, 1, 96, 96))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("name", model_names())
def test_images_of_a_batch_do_not_mix_in_evaluation(classifier, images, name):
    image, mask = images(name, 3)
    with torch.no_grad():
        together = classifier(name)(image, mask)
        alone = classifier(name)(image[1:2], mask[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BLIND)
def test_plain_and_cbam_models_ignore_the_mask(classifier, images, name):
    image, mask = images(name)
    with torch.no_grad():
        logits = [classifier(name)(image, given) for given in (mask, 1 - mask, None)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("name", ATTENDING)
def test_mask_attention_uses_the_mask_and_wants_one(classifier, images, name):
    image, mask = images(name)
    with torch.no_grad():
        logits, others = classifier(name)(image, mask), classifier(name)(image, 1 - mask)
    assert (logits - others).abs().max() > 1e-3 * logits.abs().max()
    with pytest.raises(TypeError, match="lung mask"):
        classifier(name)(image)


@pytest.mark.parametrize("base", TORCHVISION)
@pytest.mark.parametrize("suffix", ["", "_ma"])
def test_state_dicts_are_torchvisions_by_name_order_and_shape(base, suffix):
    with torch.device("meta"):
        reference = TORCHVISION[base](weights=None, num_classes=1000)
        model = create_model(base + suffix, num_classes=1000, in_channels=3)
    assert list(shapes(model).items()) == list(shapes(reference).items())


@pytest.mark.parametrize("name", ["resnet34_cbam", "resnet50_cbam"])
def test_cbam_adds_names_and_changes_none(name):
    with torch.device("meta"):
        reference = shapes(TORCHVISION[name.removesuffix("_cbam")](weights=None, num_classes=1000))
        own = shapes(create_model(name, num_classes=1000, in_channels=3))
    assert reference.items() <= own.items()
    assert all(".cbam." in extra for extra in own.keys() - reference.keys())


@pytest.mark.parametrize("base", TORCHVISION)
def test_plain_models_compute_what_torchvision_computes(classifier, images, base):
    ours = classifier(base)
    state = ours.state_dict()
    first = next(iter(state))
    with torch.device("meta"):
        reference = TORCHVISION[base](weights=None, num_classes=5)
    # a grey image in three channels, of which the reference looks at the first only
    state[first] = torch.cat([state[first], torch.zeros_like(state[first]).repeat(1, 2, 1, 1)], dim=1)
    reference.load_state_dict(state, assign=True)
    image, mask = images(base)
    with torch.no_grad():
        expected = reference.eval()(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours(image, mask), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", ["resnet34", "inceptionv3"])
def test_one_state_dict_moves_between_plain_and_attending(base):
    plain, attending = create_model(base), create_model(f"{base}_ma")
    attending.load_state_dict(plain.state_dict(), strict=True)
    other = create_model(base)
    other.load_state_dict(attending.state_dict(), strict=True)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("name", ["resnet34_ma", "resnet34_cbam"])
def test_weights_depend_on_the_seed_alone(name):
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(create_model(name).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize(
    ("name", "first", "std"),
    [
        ("resnet34", "conv1.weight", (2 / (49 * 64)) ** 0.5),  # Kaiming, fan out
        pytest.param("vgg16", "features.0.weight", (2 / (9 * 64)) ** 0.5, marks=pytest.mark.slow),
        ("inceptionv3", "Conv2d_1a_3x3.conv.weight", 0.1),
    ],
)
def test_the_first_layer_is_drawn_as_torchvision_draws_it(name, first, std):
    torch.manual_seed(0)
    weight = create_model(name).state_dict()[first]
    assert weight.shape[1] == 1
    # the spread of n normal numbers is known to 1 / sqrt(2 n)
    assert weight.std().item() == pytest.approx(std, rel=3 / (2 * weight.numel()) ** 0.5)
