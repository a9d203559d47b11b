"""The networks as one graph: torch.export and ONNX, with any number of images."""

import copy

import pytest
import torch

from manet_lib.models import model_names

pytestmark = pytest.mark.slow
every_model = pytest.mark.parametrize("name", model_names())


def graph(model, image, mask):
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(model, (image, mask), dynamic_shapes={"image": {0: batch}, "mask": {0: batch}})


@every_model
def test_exported_graphs_take_any_batch(classifier, films, name):
    with torch.no_grad():
        exported = graph(classifier(name), *films(name, 2)).module()
        for batch in (1, 3):
            image, mask = films(name, batch, seed=batch)
            expected = classifier(name)(image, mask)
            torch.testing.assert_close(exported(image, mask), expected, rtol=1e-4, atol=1e-4)


@every_model
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_runtime_gives_the_same_logits(classifier, films, name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / f"{name}.onnx"
    with torch.no_grad():
        program = torch.onnx.export(graph(classifier(name), *films(name, 2)), dynamo=True, verbose=False)
    program.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["image", "mask"]
    for batch in (1, 3):
        image, mask = films(name, batch, seed=batch)
        (logits,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
        with torch.no_grad():
            exact = copy.deepcopy(classifier(name)).double()(image.double(), mask.double())
            rounding = (classifier(name)(image, mask) - exact).abs().max().item()
        # noise through drawn weights loses digits in single precision wherever it is computed
        allowed = max(1e-4 * max(1, exact.abs().max().item()), 3 * rounding)
        assert abs(logits - exact.numpy()).max() < allowed
        assert rounding < 1e-3, "a network that loses more digits proves nothing"
    for file in tmp_path.iterdir():
        file.unlink()  # VGG16 weighs half a gigabyte
