"""Every fault that `torch.autograd.gradcheck` passes in its slow mode is found here, by the check that is named.

The list is the head of the verification's specification: each fault is planted, gradcheck is shown to pass
it, and right backward passes are shown not to be reported as wrong by any check.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.derivative.complexstep import check_complex_step
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw, function


@dataclass(frozen=True)
class Planted:
    """A fault, the inputs at which gradcheck passes it, and the check that finds it."""

    name: str
    check: str
    make: Callable[[], Callable[..., Any]]
    shape: tuple[int, ...] = (4, 5)
    scale: float = 1.0


def softmax_without_tails() -> Callable[..., Any]:
    def vjp(g: Tensor, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        dx = y * (g - (g * y).sum(-1, keepdim=True))
        return torch.where(y < 1e-6, torch.zeros_like(dx), dx)

    return function(lambda x: x.softmax(-1), vjp)


def in_place_forward() -> Callable[..., Any]:
    class InPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            x.detach().abs_()  # of no consequence here, and noticed by no one but the owner of x
            ctx.save_for_backward(x.clone())
            return x.square()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            x: Tensor = ctx.saved_tensors[0]
            return 2 * g * x

    return InPlace.apply


def contiguous_cotangent(g: Tensor, x: Tensor) -> Tensor:
    # What a kernel does that takes the pointer and forgets the strides.
    raw = g.as_strided(g.shape, x.contiguous().stride()) if g.untyped_storage().size() >= 8 * g.numel() else g
    return 2 * x * raw


def static_buffer() -> Callable[..., Any]:
    buffer = torch.empty(4, 5, dtype=torch.float64)

    def vjp(g: Tensor, x: Tensor) -> Tensor:
        return buffer.copy_(2 * x * g) if g.shape == buffer.shape else 2 * x * g

    return function(torch.square, vjp)


def global_state() -> Callable[..., Any]:
    remembered: dict[str, Tensor] = {}

    def forward(x: Tensor) -> Tensor:
        remembered["x"] = x.detach()
        return x.square()

    return function(forward, lambda g, x: 2 * remembered["x"] * g)


def detached_output() -> Callable[..., Any]:
    return lambda x: (x.sin(), x.cos().detach())


def captured_weight() -> Callable[..., Any]:
    weight = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()
    scale = function(torch.mul, lambda g, x, w: (g * w, torch.zeros_like(w)))
    return lambda x: scale(x, weight)


def wrong_in_float32(g: Tensor, x: Tensor) -> Tensor:
    return g * x.cos() * (1.01 if x.dtype == torch.float32 else 1.0)


def two_dimensional_layer_norm(g: Tensor, x: Tensor) -> Tensor:
    # Of the last axis in the forward, of axis 1 here.
    deviation = (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    y = (x - x.mean(1, keepdim=True)) / deviation
    return (g - g.mean(1, keepdim=True) - y * (g * y).mean(1, keepdim=True)) / deviation


def product_by_division(g: Tensor, x: Tensor) -> Tensor:
    return (g * x.prod(-1)).unsqueeze(-1) / x


def every_tie(g: Tensor, x: Tensor) -> Tensor:
    return g.unsqueeze(-1) * (x == x.amax(-1, keepdim=True))


def modified_cotangent(g: Tensor, x: Tensor) -> Tensor:
    return g.mul_(2 * x)


def mean_without_n(g: Tensor, x: Tensor) -> Tensor:
    return g * 2 * x / x.shape[1]


def layer_norm(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


PLANTED = [
    Planted("small gradients are zero", "gradient", lambda: function(lambda x: 5e-6 * x.sin(), lambda g, x: 0 * x)),
    Planted(
        "small gradients have the wrong sign", "gradient", lambda: function(lambda x: 4e-6 * x, lambda g, x: -4e-6 * g)
    ),
    Planted("0.09 % too large", "gradient", lambda: function(torch.sin, lambda g, x: g * x.cos() * 1.0009)),
    Planted("softmax without its tails", "gradient", softmax_without_tails, scale=10.0),
    Planted(
        "one part in 10^9 too large", "complex_step", lambda: function(torch.sin, lambda g, x: g * x.cos() * (1 + 1e-9))
    ),
    Planted("forward modifies its input", "unmodified", in_place_forward),
    Planted("backward modifies the cotangent", "unmodified", lambda: function(torch.square, modified_cotangent)),
    Planted("contiguous cotangent assumed", "cotangent_layouts", lambda: function(torch.square, contiguous_cotangent)),
    Planted("static buffer", "no_aliasing", static_buffer),
    Planted("static buffer, one tensor used twice", "tensor_used_twice", static_buffer),
    Planted("state in a global", "two_forwards", global_state),
    Planted("one of two outputs detached", "gradient", detached_output),
    Planted("captured weight without gradient", "gradient", captured_weight),
    Planted("wrong in float32 only", "low_precision", lambda: function(torch.sin, wrong_in_float32)),
    Planted(
        "1/N is missing", "other_shapes", lambda: function(lambda x: x.square().mean(), mean_without_n), shape=(1, 5)
    ),
    Planted("layer norm of two dimensions", "other_shapes", lambda: function(layer_norm, two_dimensional_layer_norm)),
    Planted("product by division", "special_values", lambda: function(lambda x: x.prod(-1), product_by_division)),
    Planted("max counts ties twice", "special_values", lambda: function(lambda x: x.amax(-1), every_tie)),
]


def inputs(planted: Planted) -> Tensor:
    return (draw(*planted.shape, seed=7) * planted.scale).requires_grad_()


# Checks that look at other inputs than the given ones.
ELSEWHERE = {"cotangent_layouts", "low_precision", "other_shapes", "special_values"}
CHECKS = {"gradient": check_gradient, "complex_step": check_complex_step, **CONTRACTS}


def verdicts(check: str, subject: Callable[..., Any], x: Tensor) -> list[CheckResult]:
    return CHECKS[check](as_subject(subject, x), CheckContext(seed=1))


def is_found(results: list[CheckResult]) -> bool:
    """Whether such results fail a test by default."""
    return any(result.verdict in (Verdict.WRONG, Verdict.FRAGILE) for result in results)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_gradcheck_passes_it(planted: Planted) -> None:
    assert torch.autograd.gradcheck(planted.make(), (inputs(planted),), fast_mode=False)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_it_is_found(planted: Planted) -> None:
    found = verdicts(planted.check, planted.make(), inputs(planted))
    assert is_found(found), [str(result) for result in found]
    other = Verdict.WRONG if planted.check in ELSEWHERE else Verdict.FRAGILE
    assert other not in {result.verdict for result in found}


NOT_RIGHT = (Verdict.WRONG, Verdict.FRAGILE, Verdict.UNDECIDED)
RIGHT: dict[str, Callable[[], Callable[..., Any]]] = {
    "square": lambda: function(torch.square, lambda g, x: 2 * x * g),
    "mean": lambda: function(lambda x: x.square().mean(), lambda g, x: g * 2 * x / x.numel()),
    "layer norm": lambda: layer_norm,
    "product": lambda: lambda x: x.prod(-1),
    "max": lambda: lambda x: x.amax(-1),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", RIGHT)
def test_the_right_one_is_not_reported_as_wrong(name: str, check: str) -> None:
    found = verdicts(check, RIGHT[name](), draw(4, 5, seed=7).requires_grad_())
    assert [str(result) for result in found if result.verdict in NOT_RIGHT] == []
