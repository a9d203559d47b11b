"""Checkpoints at the end of an epoch, and final weights that say where they come from."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from manet_lib.params import UserError
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.parameters import default_of
from manet_lib.workflow.records import atomic_path, changed_modules

_KEPT = 2


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of an epoch atomically and remove all but the last two.

    The file ends in the SHA-256 of what comes before it.

    Args:
        folder: of this training's checkpoints.
        epoch: number of finished epochs.
        state: tensors and plain values; no random state, as randomness does not depend on history.
    """
    with atomic_path(folder / f"epoch-{epoch:04d}.pt") as temporary, _disk_faults():
        torch.save(state, temporary)
        digest = bytes.fromhex(sha256_of(temporary))
        with temporary.open("ab") as file:
            file.write(digest)
    for old in sorted(folder.glob("epoch-*.pt"))[:-_KEPT]:
        old.unlink()


@contextmanager
def _disk_faults() -> Iterator[None]:
    """Turn what torch and safetensors raise when a write fails into the OSError that it was."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(f"{' '.join(str(error).split())[:160]}; is the disk full?") from error


def load_checkpoint(folder: Path, key: dict[str, Any], old_code: str = "rerun") -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; a damaged one is named and passed over.

    If its parameters, inputs or code differ, this is printed, no checkpoint is read, and training starts anew.
    With ``old_code: keep``, a checkpoint of another version of the code is used.

    Args:
        folder: of this training's checkpoints.
        key: what the training depends on; see :meth:`manet_lib.workflow.records.Step.key`.
        old_code: `rerun` or `keep`.

    Returns:
        The state, or None where there is no checkpoint to go on from.
    """
    for path in sorted(folder.glob("epoch-*.pt"), reverse=True):
        try:
            _check_digest(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            theirs = _key_of(state)
        except Exception as error:  # torch, pickle and zip each have their own
            reason = (" ".join(str(error).split()) or type(error).__name__)[:120]
            print(f"checkpoint {path.name}: damaged, going back to the checkpoint before it ({reason})")
            continue
        changed = changed_modules(theirs, key)
        difference = _difference(theirs["parameters"], key["parameters"])
        if difference or theirs["inputs"] != key["inputs"]:
            said = difference or "its input files have changed"
            print(f"checkpoint {path.name}: of another setting: {said}; starting anew")
            return None
        if changed:
            end = "going on" if old_code == "keep" else "starting anew"
            print(f"checkpoint {path.name}: written by an earlier version of {', '.join(changed)}; {end}")
        return state if old_code == "keep" or not changed else None
    return None


def _key_of(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the training of a checkpoint depends on; an error where the checkpoint lacks a part."""
    key = json.loads(state["key"])
    if not all(isinstance(key[part], dict) for part in ("parameters", "inputs", "code")):
        raise ValueError("its key lacks a part")
    return key


def _check_digest(path: Path) -> None:
    """Compare the SHA-256 at the end of a checkpoint with its contents, as torch.load checks none."""
    digest, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as file:
        while left > 0:
            block = file.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block)
        if file.read() != digest.digest():
            raise ValueError("its checksum does not fit")


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which parameters differ; one that did not exist yet had its default."""
    pairs = {name: [one.get(name, default_of(name)) for one in (old, new)] for name in sorted({*old, *new})}
    return "; ".join(f"{name} was {was!r} and is {now!r}" for name, (was, now) in pairs.items() if was != now)


def save_weights(path: Path, model: nn.Module, facts: dict[str, Any]) -> None:
    """Write final weights as safetensors, with parameters, metrics and data hashes in the header."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    header = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    with atomic_path(path) as temporary, _disk_faults():
        save_file(state, temporary, metadata=header)


def load_weights(path: Path, model: nn.Module) -> dict[str, str]:
    """Load final weights into a model of the same architecture; returns the header.

    Raises:
        UserError: the file is missing or belongs to another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"{path.parent.name}/{path.name}: not trained yet; train the run first") from None
    except Exception as error:  # safetensors has its own
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path.parent.name}/{path.name}: cannot be loaded: {reason}; remove it and train again"
        ) from None
    return header
