"""Activations: where they have kinks, at the ends of the range, misuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, DtypeError

PAIRS: list[tuple[nn.Layer, Callable[[Tensor], Tensor]]] = [
    (nn.ReLU(), F.relu),
    (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
    (nn.LeakyReLU(-0.5), lambda x: F.leaky_relu(x, -0.5)),
    (nn.Tanh(), torch.tanh),
    (nn.SiLU(), F.silu),
    (nn.GELU(), F.gelu),
    (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (nn.Sigmoid(), torch.sigmoid),
]


@pytest.mark.parametrize(
    ("layer", "reference"), PAIRS, ids=lambda pair: repr(pair) if isinstance(pair, nn.Layer) else ""
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_derivatives_at_zero_and_far_out_are_torchs(
    layer: nn.Layer, reference: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 8.0, -8.0, 40.0, -40.0, 1e4, -1e4, torch.nan], dtype=dtype)
    leaf = x.clone().requires_grad_()
    expected = reference(leaf)
    expected.backward(torch.ones_like(x))
    y = layer(x)
    rtol, atol = (1e-5, 1e-6) if dtype == torch.float32 else (1e-12, 1e-14)
    torch.testing.assert_close(y, expected.detach(), equal_nan=True, rtol=rtol, atol=atol)
    found = nn.backward(y)
    assert isinstance(found, Tensor) and leaf.grad is not None
    nan = leaf.grad.isnan() | x.isnan()  # at nan itself, any derivative is as good as another
    torch.testing.assert_close(found[~nan], leaf.grad[~nan], rtol=rtol, atol=atol)


def test_an_infinite_cotangent_stays_where_the_derivative_is_zero() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, -1.0, 1.0])
    g = torch.tensor([torch.inf, -torch.inf, torch.inf, torch.nan, torch.nan])
    found = nn.backward(nn.ReLU()(x), g)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, torch.inf, 0.0, torch.nan]), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_sigmoids_derivative_keeps_its_digits_where_it_is_flat(dtype: torch.dtype) -> None:
    layer, x = nn.Sigmoid(), torch.linspace(-20, 20, 401, dtype=dtype)
    y = layer(x)
    (record,) = layer._records.values()
    slope = layer.input_vjp(torch.ones_like(y), record).double()
    exact = y.double() * (1 - y.double())
    assert ((slope - exact).abs() <= 4 * torch.finfo(dtype).eps * exact).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.GELU("erf"), "approximate is 'erf', but 'none' or 'tanh' is expected"),
        (lambda: nn.LeakyReLU(float("nan")), "negative_slope is nan, but a finite number is expected"),
        (lambda: nn.LeakyReLU("steep"), "negative_slope is 'steep', but a finite number is expected"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], nn.Layer], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.LeakyReLU(), nn.GELU(), nn.MaxPool2d(1), nn.L1(), nn.Huber()], ids=repr
)
def test_complex_inputs_are_refused_where_numbers_are_compared(layer: nn.Layer) -> None:
    x = torch.ones(1, 1, 2, 2, dtype=torch.complex64)
    inputs = (x, x) if isinstance(layer, nn.L1 | nn.Huber) else (x,)
    with pytest.raises(DtypeError, match="has dtype torch.complex64, but only real numbers can be compared"):
        layer(*inputs)


def test_options_are_shown() -> None:
    assert [repr(layer) for layer in (nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.GELU(), nn.GELU("tanh"))] == [
        "LeakyReLU()",
        "LeakyReLU(negative_slope=0.2)",
        "GELU()",
        "GELU(approximate='tanh')",
    ]
