"""Both stages as ONNX graphs, checked with ONNX Runtime before anybody relies on them.

The folder gets ``segmenter.onnx`` (image float (N, 1, S, S) in [0, 1]; lung logits (N, 1, S, S) and features
(N, F)), ``classifier.onnx`` (image float (N, 1, S, S) in [-1, 1] and mask (N, 1, S, S); logits (N, classes)) and
``manet.json``, the header of ``manet.safetensors``. Between the two, masks are cleaned and images segmented as
:meth:`manet_lib.inference.networks.Networks.run` does, which is no network's work.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from manet_lib.inference.networks import Networks
from manet_lib.inference.outputs import check_folder
from manet_lib.models.features import image_features
from manet_lib.params import UserError
from manet_lib.workflow.records import write_json, writing

TOLERANCE = 1e-3
"""Largest difference of ONNX Runtime from double precision, over the largest value."""
EXPORTED = ("segmenter.onnx", "classifier.onnx", "manet.json")
"""Files of an export."""
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class _Lungs(nn.Module):
    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image_features(self.segmenter, image)


def export_onnx(networks: Networks, folder: Path) -> float:
    """Write both stages as ONNX, and what is to be known of them.

    Args:
        networks: both stages, with their usage.
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        The largest difference of ONNX Runtime's results from those in double precision, over the largest value.

    Raises:
        UserError: a package is missing, a file cannot be written, or ONNX Runtime computes something else.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed; `pip install {' '.join(missing)}`, or take the extra `export`"
        )
    size = networks.params.image_size
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, size, size, generator=draw)
    mask = (torch.rand(2, 1, size, size, generator=draw) > 0.5).float()
    parts: dict[str, tuple[nn.Module, dict[str, Tensor], list[str]]] = {
        "segmenter": (_Lungs(networks.segmenter).eval(), {"image": image}, ["lungs", "features"]),
        "classifier": (networks.classifier, {"image": 2 * image - 1, "mask": mask}, ["logits"]),
    }
    errors = []
    check_folder(folder, "OUTPUT")
    with writing(folder), TemporaryDirectory(dir=folder, prefix=".export-") as place:  # all are checked first
        for name, (network, inputs, outputs) in parts.items():
            graph = Path(place) / f"{name}.onnx"
            _write(network, inputs, outputs, graph)
            errors.append(_error(network, inputs, graph))
            if not errors[-1] <= TOLERANCE:  # nor NaN
                raise UserError(
                    f"{name}.onnx: ONNX Runtime is off by {errors[-1]:.1e} of the largest value; not kept; "
                    "export to NAME.safetensors instead"
                )
        write_json(Path(place) / "manet.json", networks.header)
        for name in ("manet.json", *(f"{part}.onnx" for part in parts)):
            (Path(place) / name).replace(folder / name)
    return max(errors)


def _write(network: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=1024)
    with torch.no_grad():
        exported = torch.export.export(
            network, tuple(inputs.values()), dynamic_shapes={name: {0: batch} for name in inputs}
        )
        program = torch.onnx.export(exported, dynamo=True, verbose=False, output_names=outputs)
    assert program is not None
    program.save(path)


def _error(network: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given: dict[str, Any] = {name: value[:1].numpy() for name, value in inputs.items()}
    found = [torch.from_numpy(value) for value in session.run(None, given)]
    with torch.no_grad():
        exact = network.double()(*(value[:1].double() for value in inputs.values()))
    network.float()
    pairs = zip(found, [exact] if isinstance(exact, Tensor) else exact, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
