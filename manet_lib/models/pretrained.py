"""Loading torchvision checkpoints into the classifiers, three input channels turned into one."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from manet_lib.params import UserError


def convert_first_layer(weight: Tensor, in_channels: int) -> Tensor:
    """Turn the weight of a first convolution (O, C, k, k) into (O, in_channels, k, k).

    The channels are summed, then divided among the new ones: a grey image given to the new layer has the response
    that its copy in every channel had in the old one.
    """
    if weight.shape[1] == in_channels:
        return weight
    return weight.sum(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels


def _unwrapped(state: object) -> object:
    """A state dict out of a checkpoint around it, without the prefix that DataParallel gives."""
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if isinstance(state, dict) and state and all(str(name).startswith("module.") for name in state):
        return {str(name).removeprefix("module."): value for name, value in state.items()}
    return state


def _unusable(value: Tensor) -> str:
    """Why a tensor cannot be a parameter or buffer, or nothing."""
    if value.is_nested or value.layout is not torch.strided:
        return "is sparse or nested"
    if value.device.type == "meta":
        return "has no values (device meta)"
    if value.is_quantized or value.is_complex() or value.dtype is torch.bool:
        return f"is of {str(value.dtype).removeprefix('torch.')}"
    return "" if value.float().isfinite().all() else "has values that are not finite"


def load_torchvision_weights(model: nn.Module, path: Path) -> None:
    """Load a torchvision state dict of the same architecture into a classifier.

    A checkpoint around it (``state_dict`` or ``model``) and the prefix ``module.`` are removed. The first
    convolution is converted; the last linear layer is kept as it is in the model where the number of classes
    differs; an auxiliary head in the file is ignored. Parameters that only the model has (CBAM's) keep their
    drawn values.

    Args:
        model: from :func:`manet_lib.models.create_model`.
        path: a `.pth` file, read with ``weights_only=True``, or a `.safetensors` file.

    Raises:
        UserError: the file cannot be read, or belongs to another architecture.
    """
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # torch, pickle, zip and safetensors each have their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"pretrained: {path.name}: cannot be read as a state dict: {reason}; save a state dict with torch.save"
        ) from None
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"pretrained: {path.name}: is no state dict; expected parameter names and tensors")
    for name, value in state.items():
        fault = _unusable(value)
        if fault:
            raise UserError(f"pretrained: {path.name}: {name!r} {fault}; expected finite numbers")
    own = model.state_dict()
    first = next(iter(own))
    state = {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}
    if first in state and state[first].ndim == 4 and state[first].shape[1]:  # else it does not fit, see below
        state[first] = convert_first_layer(state[first].float(), own[first].shape[1])
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "cbam" not in name]
    for name in (f"{last[-1]}.weight", f"{last[-1]}.bias"):
        if name in state and state[name].shape != own[name].shape:
            del state[name]
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    allowed = {f"{last[-1]}.weight", f"{last[-1]}.bias"}
    absent = [name for name in own.keys() - state.keys() if name not in allowed and ".cbam." not in name]
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if wrong or absent:
        raise UserError(
            f"pretrained: {path.name}: belongs to another architecture: {len(absent)} parameters are missing and "
            f"{len(wrong)} do not fit, {sorted(wrong + absent)[0]!r} among them; "
            "give a file of the same architecture"
        )
    model.load_state_dict(state, strict=False)
