"""Arguments of a wrong type or value, to constructors and calls: a typed error in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from nn_from_scratch import SGD, Adam, BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU, Sequential, Softmax, backward
from nn_from_scratch.engine.layers import AvgPool2d, Flatten, GroupNorm, LayerNorm
from nn_from_scratch.engine.optimizers import RMSprop, SequentialLR, StepLR
from nn_from_scratch.errors import (
    ArgumentError,
    DeviceError,
    DtypeError,
    NNFromScratchError,
    OptionTypeError,
    StateDictError,
)
from nn_from_scratch.parity.exchange import from_torch


def model() -> Sequential:
    return Sequential(Linear(2, 2))


SWITCHES: list[tuple[Callable[..., object], str]] = [
    (partial(Conv2d, 1, 1, 1), "bias"),
    (partial(Linear, 1, 1), "bias"),
    (partial(MaxPool2d, 2), "ceil_mode"),
    (partial(AvgPool2d, 2), "count_include_pad"),
    (partial(BatchNorm2d, 2), "affine"),
    (partial(BatchNorm2d, 2), "track_running_stats"),
    (partial(GroupNorm, 1, 2), "affine"),
    (partial(LayerNorm, 2), "elementwise_affine"),
    (partial(LayerNorm, 2), "bias"),
    (lambda **options: SGD(model(), lr=0.1, momentum=0.9, **options), "nesterov"),
    (lambda **options: RMSprop(model(), **options), "centered"),
]


@pytest.mark.parametrize(("make", "name"), SWITCHES)
@pytest.mark.parametrize("value", ["no", 1, None, torch.ones(3), np.array([1, 2])], ids=lambda v: type(v).__name__)
def test_a_switch_is_true_or_false(make: Callable[..., object], name: str, value: object) -> None:
    with pytest.raises(OptionTypeError, match=f"^{name} is a value of the type .*, but True or False is expected$"):
        make(**{name: value})


MADE = [partial(Conv2d, 1, 1, 1), partial(Linear, 1, 1), partial(BatchNorm2d, 2), partial(LayerNorm, 2)]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.func.__name__)
@pytest.mark.parametrize("device", ["a", "", b"cpu", [1], 1.5, True, -1, 2**70, "cpu:x", torch.float32])
def test_a_device_that_is_none_is_named(make: Callable[..., object], device: object) -> None:
    with pytest.raises(DeviceError, match="^device is [^\n]*is expected$"):
        make(device=device)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.func.__name__)
@pytest.mark.parametrize("dtype", ["float32", 32, [], int, torch.ones(2), torch.int64])
def test_a_dtype_that_is_none_is_named(make: Callable[..., object], dtype: object) -> None:
    with pytest.raises(DtypeError, match="^dtype is .*, but parameters need a floating-point dtype$"):
        make(dtype=dtype)


@pytest.mark.parametrize("make", MADE[:2], ids=lambda make: make.func.__name__)
@pytest.mark.parametrize("generator", [3, "a", np.random.default_rng(0)], ids=lambda g: type(g).__name__)
def test_a_generator_is_one_of_torch(make: Callable[..., object], generator: object) -> None:
    with pytest.raises(OptionTypeError, match=r"^generator is a .*, but a torch.Generator is expected$"):
        make(generator=generator)


@pytest.mark.parametrize(
    "make", [partial(Conv2d, 2**70, 1, 1), partial(Conv2d, 1, 1, 2**70), partial(Linear, 2**40, 2**40)]
)
def test_more_entries_than_can_be_counted_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError, match="no memory holds so many entries"):
        make()


REFUSED: dict[str, tuple[type[NNFromScratchError], Callable[[], object]]] = {
    "betas": (ArgumentError, lambda: Adam(model(), betas=0.9)),  # type: ignore[arg-type]
    "one beta": (ArgumentError, lambda: Adam(model(), betas=(0.9,))),  # type: ignore[arg-type]
    "algorithm": (ArgumentError, lambda: Conv2d(1, 1, 1, algorithm=["native"])),  # type: ignore[arg-type]
    "axis": (ArgumentError, lambda: Flatten("x")),  # type: ignore[arg-type]
    "schedules": (ArgumentError, lambda: SequentialLR(SGD(model(), lr=1), 3, milestones=[])),  # type: ignore[arg-type]
    "milestones": (ArgumentError, lambda: SequentialLR(SGD(model(), lr=1), [], milestones=3)),  # type: ignore[arg-type]
    "state": (StateDictError, lambda: model().load_state_dict([1])),  # type: ignore[arg-type]
    "entry": (StateDictError, lambda: model().load_state_dict({"0.weight": 1, "0.bias": 2})),  # type: ignore[dict-item]
    "optimizer state": (StateDictError, lambda: Adam(model()).load_state_dict(None)),  # type: ignore[arg-type]
    "schedule state": (StateDictError, lambda: StepLR(Adam(model()), 2).load_state_dict(3)),  # type: ignore[arg-type]
    "place": (OptionTypeError, lambda: model()["0"]),  # type: ignore[call-overload]
    "to device": (DeviceError, lambda: model().to("nowhere")),
    "to dtype": (DtypeError, lambda: model().to(dtype="float32")),  # type: ignore[arg-type]
    "from_torch": (ArgumentError, lambda: from_torch(3)),  # type: ignore[arg-type]
    "backward": (DtypeError, lambda: backward([1.0])),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_arguments_of_a_wrong_type_are_one_sentence(name: str) -> None:
    kind, call = REFUSED[name]
    with pytest.raises(kind, match="^[^\n]+ is [^\n]*(expected|known ones|need)"):
        call()


def tensors() -> dict[str, torch.Tensor]:
    return {
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "sparse": torch.eye(3).to_sparse(),
        "compressed": torch.eye(3).to_sparse_csr(),
        "eight bits": torch.ones(3).to(torch.float8_e4m3fn),
        "half a complex": torch.ones(3).to(torch.complex32),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }


@pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR", "ignore:.*quantize", "ignore:ComplexHalf"
)
@pytest.mark.parametrize(
    "kind", ["nested", "jagged", "sparse", "compressed", "eight bits", "half a complex", "quantized"]
)
@pytest.mark.parametrize("make", [ReLU, partial(Softmax, -1), partial(Linear, 3, 2)])
def test_a_tensor_that_no_layer_computes_with_is_refused(make: Callable[[], Any], kind: str) -> None:
    with pytest.raises(DtypeError, match=r"^input 0 of \w+.* (dense one is expected|has dtype)"):
        make()(tensors()[kind])


@pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR", "ignore:.*quantize", "ignore:ComplexHalf"
)
@pytest.mark.parametrize("kind", ["nested", "jagged", "sparse"])
def test_a_cotangent_that_is_not_dense_is_refused(kind: str) -> None:
    layer = ReLU()
    layer(torch.ones(3))
    with pytest.raises(DtypeError, match="gradwrtoutput of ReLU.* is sparse, nested or opaque"):
        layer.backward(tensors()[kind])
