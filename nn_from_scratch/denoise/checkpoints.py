"""Checkpoints: one safetensors file with the weights, the optimizer's state and, as JSON, all that belongs to them.

One file, because one rename then replaces everything at once: whoever looks, and whenever the power fails, there is
the old state or the new one. The tensors are named `model.<parameter>` and `optimizer.<entry>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.denoise.model import architecture
from nn_from_scratch.denoise.settings import TrainingProgress
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import CheckpointError, StateDictError
from nn_from_scratch.extras import missing
from nn_from_scratch.storage import write_atomically

try:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors
    from safetensors.torch import save as save_tensors
except ModuleNotFoundError:
    raise missing("nn_from_scratch.denoise", "safetensors", "denoise") from None

_FORMAT = "nn_from_scratch checkpoint 2"
_KEYS = {"format", "architecture", "sha256", "progress", "information"}


@dataclass(frozen=True)
class Checkpoint:
    """The verified content of a checkpoint.

    Attributes:
        model: the parameters by name, on the CPU.
        optimizer: the optimizer's `state_dict`; empty if none was saved.
        progress: how far the run had come; None if only a model was saved.
        information: what else was saved with it, JSON values.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    progress: TrainingProgress | None = None
    information: dict[str, Any] = field(default_factory=dict)

    def restore(self, model: Module, optimizer: Optimizer | None = None) -> None:
        """Copy the state into a model of this architecture and, if given, its optimizer.

        Raises:
            CheckpointError: the optimizer's state is of another kind of optimizer.
        """
        model.load_state_dict(self.model)
        if optimizer is not None:
            try:
                optimizer.load_state_dict(self.optimizer)
            except StateDictError as error:
                raise CheckpointError(f"the optimizer's state does not fit {optimizer!r}: {error}") from error


def save_checkpoint(
    path: Path,
    model: Module,
    *,
    optimizer: Optimizer | None = None,
    progress: TrainingProgress | None = None,
    information: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically; an older one at this path survives every failure.

    Args:
        model: its parameters and architecture are saved.
        optimizer: its state is saved too, if given.
        progress: how far the run has come, if it is one.
        information: further JSON values, such as the settings.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if optimizer is not None:
        tensors.update({f"optimizer.{name}": tensor for name, tensor in optimizer.state_dict().items()})
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {
        "format": _FORMAT,
        "architecture": architecture(model),
        "progress": json.dumps(progress and progress.to_json()),
        "information": json.dumps(dict(information or {})),
    }
    metadata["sha256"] = _digest(tensors, metadata)
    try:
        write_atomically(path, save_tensors(tensors, metadata=metadata))
    except OSError as error:
        kept = "; the one that was there is unharmed" if path.exists() else ""
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be written: {error.strerror or error}{kept}") from error


def load_checkpoint(path: Path, model: Module) -> Checkpoint:
    """Read a checkpoint and verify that it is whole and fits the model; the model is not changed.

    Args:
        model: the model that it is meant for.

    Raises:
        CheckpointError: the file is missing, truncated or damaged, was not written by `save_checkpoint`, is of another
            architecture or dtype, or holds values that are not finite.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {str(path)!r} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read: {error.strerror or error}") from error
    return read_checkpoint(content, model, name=repr(str(path)))


def read_checkpoint(content: bytes, model: Module, *, name: str) -> Checkpoint:
    """Verify the content of a checkpoint file, as `load_checkpoint` does; messages call it by this name.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    try:
        tensors = load_tensors(content)
        # The library gives the metadata of files on disk only; the header is a length and that many bytes of JSON.
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {name} is not a whole safetensors file ({error}): it is truncated or something else"
        ) from error
    if metadata.get("format") != _FORMAT or not metadata.keys() >= _KEYS:
        raise CheckpointError(
            f"checkpoint {name} has the format {metadata.get('format')!r}, but {_FORMAT!r} is expected: "
            "it was not written by this project, or by another version of it"
        )
    if metadata["sha256"] != _digest(tensors, metadata):
        raise CheckpointError(f"checkpoint {name} is damaged: its content does not have the checksum that was saved")
    if metadata["architecture"] != architecture(model):
        raise CheckpointError(
            f"checkpoint {name} is of another architecture: it holds {metadata['architecture']}, "
            f"but {architecture(model)} is expected"
        )
    parameters = _part(tensors, "model.")
    _check_parameters(name, parameters, model)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"checkpoint {name} has values in {key!r} that are not finite, so it is of no use")
    try:
        information = json.loads(metadata["information"])
        progress = json.loads(metadata["progress"])
        return Checkpoint(
            model=parameters,
            optimizer=_part(tensors, "optimizer."),
            progress=None if progress is None else TrainingProgress.from_json(progress),
            information=dict(information),
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"checkpoint {name} is damaged: its JSON cannot be read ({error})") from error
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {name} is damaged: {error}") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_parameters(name: str, found: Mapping[str, Tensor], model: Module) -> None:
    expected = model.state_dict()
    if found.keys() != expected.keys():
        missing = ", ".join(expected.keys() - found.keys()) or "none"
        unexpected = ", ".join(found.keys() - expected.keys()) or "none"
        raise CheckpointError(
            f"checkpoint {name} has other parameters than the model: missing {missing}; unexpected {unexpected}"
        )
    for key, tensor in expected.items():
        if found[key].shape != tensor.shape or found[key].dtype != tensor.dtype:
            raise CheckpointError(
                f"checkpoint {name} has the parameter {key!r} as {found[key].dtype} of shape "
                f"{tuple(found[key].shape)}, but {tensor.dtype} of shape {tuple(tensor.shape)} is expected"
            )


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The checksum of everything in a checkpoint but the checksum itself."""
    sha = hashlib.sha256()
    sha.update(json.dumps({key: metadata[key] for key in sorted(metadata) if key != "sha256"}).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
