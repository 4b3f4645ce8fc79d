"""Modules: names, repr, state dictionaries, moving, misuse."""

from __future__ import annotations

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.errors import ArgumentError, DeviceError, DtypeError, ShapeError, StateDictError

LISTING_3 = """\
Sequential(Conv2d(3, 16, 4, stride=2, padding=1),
  ReLU(),
  Conv2d(16, 32, 4, stride=2),
  ReLU(),
  TransposeConv2d(32, 16, 4, stride=2),
  ReLU(),
  TransposeConv2d(16, 3, 4, stride=2, padding=1),
  Sigmoid())"""


def test_the_reports_model_prints_as_its_listing() -> None:
    assert repr(report_model()) == LISTING_3


def test_a_repr_can_be_read_back() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Flatten(0)), nn.ReLU())
    assert repr(eval(repr(model), vars(nn) | {name: getattr(nn, name) for name in dir(nn)})) == repr(model)


def test_a_sequential_can_be_indexed_sliced_iterated_and_measured() -> None:
    first, second, third = nn.ReLU(), nn.Sigmoid(), nn.Flatten()
    model = nn.Sequential(first, second, third)
    assert len(model) == 3 and list(model) == [first, second, third] and model.modules() == (first, second, third)
    assert model[-1] is third
    assert isinstance(model[:2], nn.Sequential) and list(model[:2]) == [first, second]


def test_parameters_have_the_names_of_torch() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1, bias=False)))
    assert list(model.parameters()) == ["0.weight", "0.bias", "2.0.weight"]


def test_a_container_of_ones_own_finds_its_modules() -> None:
    class Net(nn.Container):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 2)
            self.blocks = [nn.ReLU(), nn.Linear(2, 2, bias=False)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[1](self.blocks[0](self.head(x)))

    net = Net()
    assert list(net.parameters()) == ["head.weight", "head.bias", "blocks.1.weight"]
    nn.backward(net(torch.randn(3, 2)))
    assert all(parameter.grad is not None for parameter in net.parameters().values())


def test_state_dict_round_trip() -> None:
    first, second = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.parameters()["0.weight"], first.parameters()["0.weight"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "missing weight, bias; unexpected none"),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "more": torch.zeros(1)},
            "missing none; unexpected more",
        ),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(4)},
            r"state\['bias'\] is torch.float32 of shape \(4,\), but the parameter is torch.float32 of shape \(3,\)",
        ),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3).double()}, r"state\['bias'\] is torch.float64"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_and_changes_nothing(
    state: dict[str, torch.Tensor], message: str
) -> None:
    layer = nn.Linear(2, 3)
    before = {name: parameter.clone() for name, parameter in layer.parameters().items()}
    with pytest.raises(StateDictError, match=message):
        layer.load_state_dict(state)
    assert all(torch.equal(parameter, before[name]) for name, parameter in layer.parameters().items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so there is nothing to refuse")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="device is 'cuda', but CUDA is not available here; 'cpu' is"):
        nn.Linear(2, 3).cuda()


def test_an_integer_dtype_for_parameters_is_refused() -> None:
    with pytest.raises(DtypeError, match="dtype is torch.int64, but parameters need"):
        nn.Linear(2, 3).to(dtype=torch.int64)
    with pytest.raises(DtypeError, match="dtype is torch.int64, but parameters need"):
        nn.Linear(2, 3, dtype=torch.int64)


def test_inputs_of_the_wrong_kind_are_refused() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(DtypeError, match=r"input 0 of Linear\(2, 3\) is a list, but a torch.Tensor is expected"):
        layer([1.0, 2.0])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DtypeError, match="has dtype torch.int64, which has no gradient"):
        layer(torch.ones(2, dtype=torch.int64))
    with pytest.raises(DtypeError, match="has dtype torch.float64, but torch.float32 is expected here"):
        layer(torch.ones(2, dtype=torch.float64))
    with pytest.raises(DeviceError, match="lies on meta, but cpu is expected here"):
        layer(torch.ones(2, device="meta"))
    with pytest.raises(ShapeError, match=r"has shape \(3,\), but its last axis must have 2 entries"):
        layer(torch.ones(3))


def test_a_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"ReLU\(\) takes 1 input, not 0"):
        nn.ReLU()()
    with pytest.raises(ArgumentError, match=r"MSE\(\) takes 2 inputs, not 1"):
        nn.MSE()(torch.ones(2))
    with pytest.raises(ArgumentError, match=r"ReLU\(\) takes 1 input, not 2"):
        nn.ReLU()(torch.ones(2), torch.ones(2))
    with pytest.raises(ArgumentError, match="Sequential.* takes 1 input, not 2"):
        nn.Sequential(nn.ReLU())(torch.ones(2), torch.ones(2))


def test_cotangents_of_the_wrong_kind_are_refused() -> None:
    y = nn.ReLU()(torch.ones(2))
    with pytest.raises(DtypeError, match="gradwrtoutput is a int, but a torch.Tensor is expected"):
        nn.backward(y, 1)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DtypeError, match="gradwrtoutput of ReLU.* has dtype torch.float64"):
        nn.backward(y, torch.ones(2, dtype=torch.float64))
    with pytest.raises(DeviceError, match="gradwrtoutput of ReLU.* lies on meta, but the output lies on cpu"):
        nn.backward(y, torch.ones(2, device="meta"))


def test_only_modules_go_into_a_sequential() -> None:
    with pytest.raises(ArgumentError, match="argument 1 of Sequential is 'relu', but a Module is expected"):
        nn.Sequential(nn.ReLU(), "relu")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "in_features is 0, but a positive integer is expected"),
        (
            lambda: nn.Linear(3, 2.5),  # type: ignore[arg-type]  # on purpose
            "out_features is 2.5, but a positive integer is expected",
        ),
        (lambda: nn.Flatten()(torch.ones(3)), r"has shape \(3,\), which has no axes 1 to -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ArgumentError, match=message):
        make()


def test_an_unfinished_layer_says_what_to_write() -> None:
    class Unfinished(nn.Layer):
        parameter_names = ("weight",)

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.ones(2)

    layer = Unfinished()
    with pytest.raises(TypeError, match="Unfinished defines no forward"):
        layer(torch.ones(2))
    layer.forward = lambda x: x + 1
    with pytest.raises(TypeError, match="Unfinished has parameters .* but defines no parameter_vjps"):
        nn.backward(layer(torch.ones(2)))
    layer.parameter_vjps = lambda g, record: {"weight": g}  # type: ignore[method-assign]  # and another
    with pytest.raises(TypeError, match="Unfinished defines no input_vjp"):
        nn.backward(layer(torch.ones(2)))
