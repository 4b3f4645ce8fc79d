"""The short ways to operators."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.capture.binding import shortest_way

aten = torch.ops.aten
X = torch.arange(6.0).view(2, 3)
Y = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "result"),
    [
        (aten.add.Tensor, (X, X), {}, Y),
        (aten.add.out, (X, X), {"out": Y}, Y),
        (aten.add_.Tensor, (Y, X), {"alpha": 2}, Y),
        (aten.mul_.Tensor, (Y, X), {}, Y),
        (aten.copy_.default, (Y, X), {}, Y),
        (aten.as_strided.default, (X, [3], [2]), {}, X.as_strided((3,), (2,))),
        (aten.view.default, (X, [6]), {}, X.view(6)),
        (aten.view.dtype, (X, torch.int32), {}, X.view(torch.int32)),
        (aten.sum.dim_IntList, (X, [0]), {}, Y[0]),
    ],
    ids=str,
)
def test_is_torchs_own_function(
    function: torch._ops.OpOverload, arguments: tuple[Any, ...], options: dict[str, Any], result: Tensor
) -> None:
    name = function._overloadpacket.__name__
    before = Y.clone()
    way = shortest_way(function, arguments, options, result)
    assert way in {getattr(torch, name, None), getattr(torch.Tensor, name, None)}
    assert Y.equal(before)  # nothing was computed meanwhile
    Y.zero_()
    expected = function(*arguments, **options).clone()
    Y.zero_()
    assert torch.equal(way(*arguments, **options), expected)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (aten.threshold_backward.default, (X, X, 0)),  # has no binding
        (aten.add.Scalar, (X, 1)),  # torch.add makes a tensor of the number, and asks for another overload
    ],
    ids=str,
)
def test_is_the_operator_itself_where_the_binding_does_something_else(
    function: torch._ops.OpOverload,
    arguments: tuple[Any, ...],
) -> None:
    assert shortest_way(function, arguments, {}, function(*arguments)) is function._op
