from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from nn_from_scratch import SGD, Adam, Conv2d, Sequential
from nn_from_scratch.denoise.checkpoints import load_checkpoint, save_checkpoint
from nn_from_scratch.denoise.data import PairSet
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import TrainingProgress, TrainingSettings
from nn_from_scratch.denoise.training import make_optimizer, train
from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import CheckpointError


@pytest.fixture
def model() -> Module:
    return report_model(generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(model: Module, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, model, progress=TrainingProgress(step=3), information={"settings": {"lr": 0.5}})
    return path


def rewrite(
    path: Path,
    *,
    tensors: Callable[[dict[str, Tensor]], None] = lambda tensors: None,
    metadata: Callable[[dict[str, str]], None] = lambda metadata: None,
) -> None:
    """Change what a checkpoint holds, in the way of a program that writes safetensors but not checkpoints."""
    content = path.read_bytes()
    held = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    tensors(held)
    metadata(header)
    path.write_bytes(save(held, metadata=header))


def refuses(path: Path, model: Module, message: str) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        load_checkpoint(path, model)
    assert repr(str(path)) in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_saved_comes_back(model: Module, saved: Path) -> None:
    other = report_model(generator=torch.Generator().manual_seed(1))
    checkpoint = load_checkpoint(saved, other)
    checkpoint.restore(other)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert checkpoint.progress == TrainingProgress(step=3)
    assert checkpoint.information == {"settings": {"lr": 0.5}}


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_state_of_the_optimizer_comes_back(model: Module, tiny_pairs: PairSet, tmp_path: Path, kind: str) -> None:
    settings = TrainingSettings(epochs=1, batch_size=5, optimizer=kind, lr=0.01, momentum=0.9 if kind == "sgd" else 0)
    optimizer = make_optimizer(model, settings)
    train(model, optimizer, tiny_pairs, settings=settings)
    save_checkpoint(tmp_path / "a", model, optimizer=optimizer)
    other = make_optimizer(model, settings)
    load_checkpoint(tmp_path / "a", model).restore(model, other)
    before, after = optimizer.state_dict(), other.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_state_of_another_optimizer_is_refused(model: Module, tiny_pairs: PairSet, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, batch_size=5)
    optimizer = SGD(model, lr=0.1, momentum=0.5)
    train(model, optimizer, tiny_pairs, settings=settings)
    save_checkpoint(tmp_path / "a", model, optimizer=optimizer)
    checkpoint = load_checkpoint(tmp_path / "a", model)
    with pytest.raises(CheckpointError, match=r"the optimizer's state does not fit Adam\(lr=0.001"):
        checkpoint.restore(model, Adam(model))


def test_a_missing_file_is_refused(model: Module, tmp_path: Path) -> None:
    refuses(tmp_path / "none", model, "does not exist")


def test_a_folder_is_refused(model: Module, tmp_path: Path) -> None:
    refuses(tmp_path, model, "cannot be read")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 3000, -1])
def test_a_truncated_file_is_refused(model: Module, saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    refuses(saved, model, "it is truncated or something else")


def test_another_kind_of_file_is_refused(model: Module, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    refuses(tmp_path / "model.pt", model, "it is truncated or something else")


def test_safetensors_of_another_program_are_refused(model: Module, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(save({"weight": torch.zeros(3)}))
    refuses(tmp_path / "a", model, "has the format None, but 'nn_from_scratch checkpoint 2' is expected")


def test_another_architecture_is_refused(model: Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", Sequential(Conv2d(3, 3, 3, padding=1)))
    message = "is of another architecture: it holds Sequential(Conv2d(3, 3, 3, padding=1)), but Sequential(Conv2d(3, 16"
    refuses(tmp_path / "a", model, message)


def test_another_dtype_is_refused(model: Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", report_model(dtype=torch.float64))
    message = (
        "has the parameter '0.weight' as torch.float64 of shape (16, 3, 4, 4), but torch.float32 of shape "
        "(16, 3, 4, 4) is expected"
    )
    refuses(tmp_path / "a", model, message)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(model: Module, tmp_path: Path, value: float) -> None:
    broken = report_model()
    broken.parameters()["2.bias"][1] = value
    save_checkpoint(tmp_path / "a", broken)
    refuses(tmp_path / "a", model, "has values in 'model.2.bias' that are not finite")


def test_a_flipped_bit_is_noticed(model: Module, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    refuses(saved, model, "is damaged: its content does not have the checksum that was saved")


@pytest.mark.parametrize(
    ("key", "text"), [("information", '{"noise": "another"}'), ("progress", "null"), ("architecture", "Sequential()")]
)
def test_a_changed_header_is_noticed(model: Module, saved: Path, key: str, text: str) -> None:
    rewrite(saved, metadata=lambda metadata: metadata.update({key: text}))
    refuses(saved, model, "is damaged: its content does not have the checksum that was saved")


def test_missing_and_additional_parameters_are_named(model: Module, saved: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        tensors["model.9.bias"] = tensors.pop("model.2.bias")

    from nn_from_scratch.denoise import checkpoints

    rewrite(saved, tensors=rename, metadata=lambda held: None)
    held = load(saved.read_bytes())

    def sign(metadata: dict[str, str]) -> None:
        metadata["sha256"] = checkpoints._digest(held, metadata)

    rewrite(saved, metadata=sign)
    refuses(saved, model, "has other parameters than the model: missing 2.bias; unexpected 9.bias")


@pytest.mark.parametrize("key", ["information", "progress"])
@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_json_is_refused(model: Module, saved: Path, key: str, text: str) -> None:
    rewrite(saved, metadata=lambda metadata: metadata.update({key: text}))
    refuses(saved, model, "is damaged")


def test_a_full_disk_leaves_the_old_checkpoint(model: Module, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = (
        f"checkpoint {str(saved)!r} cannot be written: No space left on device; the one that was there is unharmed"
    )
    with pytest.raises(CheckpointError, match=re.escape(message)):
        save_checkpoint(saved, report_model())
    monkeypatch.undo()
    assert torch.equal(load_checkpoint(saved, model).model["0.weight"], model.state_dict()["0.weight"])
    assert list(saved.parent.iterdir()) == [saved]
