"""Models to torch.nn and back: every layer of the catalogue that torch has, whole Sequentials, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils.prune import l1_unstructured

import nn_from_scratch as nn
from nn_from_scratch.engine import layers
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import build, draw_inputs

JOINING = (nn.Add, nn.Concat)
CASES = [
    pytest.param(spec, case, id=f"{spec.name}-{case.name}")
    for spec in LAYERS
    for case in spec.cases
    if spec.name in vars(layers)["__all__"] and spec.subject not in JOINING
]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_a_layer_goes_over_and_comes_back(spec: Spec, case: Case) -> None:
    ours = build(spec, case)
    theirs = nn.to_torch(nn.Sequential(ours))
    back = nn.from_torch(theirs)
    assert isinstance(back, nn.Sequential) and type(back[0]) is type(ours)
    assert repr(back[0]) == repr(ours)
    assert back[0].training == ours.training == theirs[0].training  # type: ignore[index]  # a Sequential
    assert list(back.state_dict()) == list(theirs.state_dict())
    for name, tensor in back.state_dict().items():
        mine = nn.Sequential(ours).state_dict()[name]
        assert torch.equal(tensor, mine) and tensor.dtype == mine.dtype and tensor.data_ptr() != mine.data_ptr()
    inputs = draw_inputs(case)
    torch.manual_seed(1)  # of dropout
    expected = theirs(*inputs).detach()
    if not isinstance(ours, nn.Dropout):
        torch.testing.assert_close(ours(*inputs), expected, rtol=1e-12, atol=1e-13)
    torch.manual_seed(1)
    torch.testing.assert_close(back(*inputs), expected, rtol=1e-12, atol=1e-13)


def model() -> nn.Sequential:
    shared = nn.Linear(8, 8)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.GELU("tanh")),
        nn.AvgPool2d(2),
        nn.Flatten(),
        shared,
        nn.Tanh(),
        shared,
        nn.LogSoftmax(-1),
    )


def test_a_whole_model_has_the_same_names_values_and_gradients() -> None:
    ours, x = model(), torch.randn(3, 1, 4, 4)
    theirs = nn.to_torch(ours)
    y = ours(x)
    g = torch.randn(y.shape)
    nn.backward(y, g)
    theirs(x).backward(g)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert list(gradients) == list(ours.parameters())
    for name, p in ours.parameters().items():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_a_layer_in_two_places_is_one_on_the_other_side() -> None:
    theirs = nn.to_torch(model())
    assert isinstance(theirs, torch.nn.Sequential) and theirs[3] is theirs[5]
    back = nn.from_torch(theirs)
    assert isinstance(back, nn.Sequential) and back[3] is back[5]


def test_what_has_no_counterpart_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Add\(\) has no counterpart in torch.nn; a Sequential of the layers"):
        nn.to_torch(nn.Sequential(nn.Add()))
    with pytest.raises(ArgumentError, match=r"Softsign\(\) has no counterpart here; a torch.nn.Sequential of"):
        nn.from_torch(torch.nn.Sequential(torch.nn.Softsign()))


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (torch.nn.ReLU(inplace=True), r"ReLU\(inplace=True\) has inplace = True, but only False is here too"),
        (torch.nn.Conv2d(1, 1, 3, padding="same"), "has no counterpart here: padding is 'same', but an integer"),
        (torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "has padding_mode = 'reflect', but only 'zeros'"),
        (torch.nn.MaxPool2d(2, return_indices=True), "has return_indices = True, but only False is here too"),
        (torch.nn.Upsample(scale_factor=2, recompute_scale_factor=True), "has recompute_scale_factor = True, but only"),
        (torch.nn.Upsample(scale_factor=2, mode="bicubic"), "mode is 'bicubic', but 'nearest' or 'bilinear'"),
        (torch.nn.Softmax(), "dim is None, but an integer is expected"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_options_that_are_not_here_are_refused(theirs: torch.nn.Module, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        nn.from_torch(theirs)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda module, x, y: 2 * y),
        lambda layer: layer.register_forward_pre_hook(lambda module, x: None),
        lambda layer: layer.register_full_backward_hook(lambda module, g, h: None),
        lambda layer: setattr(layer, "forward", lambda x: x),
        torch.nn.utils.parametrizations.weight_norm,
        lambda layer: l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_what_would_be_lost_on_the_way_is_refused(change: Callable[[torch.nn.Linear], object]) -> None:
    layer = torch.nn.Linear(3, 2)
    change(layer)
    with pytest.raises(ArgumentError, match="which would be lost"):
        nn.from_torch(torch.nn.Sequential(layer))


def test_the_models_are_independent() -> None:
    ours = nn.Linear(2, 2)
    theirs = nn.to_torch(ours)
    before = ours.weight.clone()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1)
    assert isinstance(ours.weight, Tensor) and torch.equal(ours.weight, before)
