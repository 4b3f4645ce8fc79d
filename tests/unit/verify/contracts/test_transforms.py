"""Forward mode, vmap and `torch.func`: silently wrong rules are found; right and absent ones are not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import CheckResult, Verdict
from tests.functions import draw, function

X, W = draw(3, 4), draw(3, 4, seed=1)
TRANSFORMS = ("forward_mode", "vmap", "functional")


class RowSums(torch.autograd.Function):
    """x times the sums of w's rows, with a tangent, and no rule for vmap."""

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return x * w.sum(-1, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g * w.sum(-1, keepdim=True), (g * x).sum(-1, keepdim=True).expand_as(w)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dw: Tensor) -> Tensor:
        x, w = ctx.saved_tensors
        tangent: Tensor = dx * w.sum(-1, keepdim=True) + x * dw.sum(-1, keepdim=True)
        return tangent


class Generated(RowSums):
    """The same, whose rule for vmap torch makes."""

    generate_vmap_rule = True


class Ruled(RowSums):
    """The same with a rule for vmap of its own."""

    @staticmethod
    def vmap(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
        return Ruled.apply(stacked(info, x, axes[0]), stacked(info, w, axes[1])), 0


class OldStyle(torch.autograd.Function):
    """A square whose forward takes the context: no transform of torch.func."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return 2 * g * ctx.saved_tensors[0]


def stacked(info: Any, tensor: Tensor, axis: int | None) -> Tensor:
    """The samples of one input of a vmap along the first dimension."""
    return tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)


def with_tangent(jvp: Callable[[Any, Tensor, Tensor], Tensor]) -> type[RowSums]:
    return type("WithTangent", (RowSums,), {"jvp": staticmethod(jvp)})


def with_rule(rule: Callable[[Any, Any, Tensor, Tensor], Any]) -> type[RowSums]:
    """`rule` gives the samples of both inputs along the first dimension."""

    def vmap(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
        return RowSums.apply(*rule(info, axes, x, w)), 0

    return type("WithRule", (RowSums,), {"vmap": staticmethod(vmap)})


def results(name: str, subject: Any, *inputs: Any, level: Any = "quick") -> list[CheckResult]:
    return list(check(subject, *inputs, checks=name, level=level).results)


def lost(ctx: Any, dx: Tensor, dw: Tensor) -> Tensor:
    tangent: Tensor = dx * ctx.saved_tensors[1].sum(-1, keepdim=True)
    return tangent


def negative(ctx: Any, dx: Tensor, dw: Tensor) -> Tensor:
    tangent: Tensor = -RowSums.jvp(ctx, dx, dw)
    return tangent


def doubled(ctx: Any, dx: Tensor, dw: Tensor) -> Tensor:
    return RowSums.jvp(ctx, dx, 2 * dw)


def exchanged(ctx: Any, dx: Tensor, dw: Tensor) -> Tensor:
    return RowSums.jvp(ctx, dw, dx)


@pytest.mark.parametrize(
    ("jvp", "tensors", "named"),
    [
        (lost, {"w"}, "its tangent is left out"),
        (negative, {"x", "w"}, "the sign is wrong"),
        (doubled, {"w"}, "2 times what it should be"),
        (exchanged, {"x", "w"}, "the tangent of forward mode"),
    ],
)
def test_a_wrong_tangent_is_found_by_this_check_alone(jvp: Any, tensors: set[str], named: str) -> None:
    found = [result for result in check(with_tangent(jvp), X, W).results if result.verdict is Verdict.WRONG]
    assert {(result.check, result.tensor) for result in found} == {("forward_mode", name) for name in tensors}
    assert all(named in (result.reason or "") for result in found)


def test_a_wrong_gradient_is_no_wrong_tangent() -> None:
    class Wrong(RowSums):
        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Any:
            return tuple(-gradient for gradient in RowSums.backward(ctx, g))

    assert all(result.verdict is not Verdict.WRONG for result in results("forward_mode", Wrong, X, W))
    assert check(Wrong, X, W, checks="gradient").failed


def first_sample(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
    w = stacked(info, w, axes[1])
    return stacked(info, x, axes[0]), w[:1].expand_as(w)


def axes_ignored(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
    """As if the samples always lay along the first dimension, cut to the shape that comes out then."""
    x = x if axes[0] is not None else x.expand(info.batch_size, *x.shape)
    w = w if axes[1] is not None else w.expand(info.batch_size, *w.shape)
    return (x, w) if x.shape == w.shape and x.shape[0] == info.batch_size else (x.movedim(-1, 0), w.movedim(-1, 0) * 2)


def reversed_samples(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
    return stacked(info, x, axes[0]).flip(0), stacked(info, w, axes[1])


@pytest.mark.parametrize("rule", [first_sample, axes_ignored, reversed_samples])
def test_a_wrong_rule_for_vmap_is_found_by_this_check_alone(rule: Any) -> None:
    found = [result for result in check(with_rule(rule), X, W).results if result.verdict is Verdict.FRAGILE]
    assert {result.check for result in found} == {"vmap"}
    assert all("under torch.func.vmap over" in (result.reason or "") for result in found)


class SumsOverAll(RowSums):
    """A backward that sums over all that it is given, which a vmapped backward gives more of."""

    @staticmethod
    def vmap(info: Any, axes: Any, x: Tensor, w: Tensor) -> Any:
        return _Stacked.apply(stacked(info, x, axes[0]), stacked(info, w, axes[1])), 0


class _Stacked(torch.autograd.Function):
    forward = RowSums.forward
    setup_context = RowSums.setup_context

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g * w.sum(-1, keepdim=True), (g * x).sum((0, -1), keepdim=True).expand_as(w)


def test_gradients_of_samples_that_mix_are_found() -> None:
    found = [result for result in results("vmap", SumsOverAll, X, W) if result.verdict is Verdict.FRAGILE]
    assert [result.tensor for result in found] == ["w"]
    assert "the gradient differs" in (found[0].reason or "")


class OtherUnderTransforms(Generated):
    """A backward that looks at whether it is recorded, as it is under torch.func."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        dx, dw = RowSums.backward(ctx, g)
        return (2 * dx, dw) if torch.is_grad_enabled() else (dx, dw)


def test_another_gradient_under_torch_func_is_found() -> None:
    found = [r for r in results("functional", OtherUnderTransforms, X, W) if r.verdict is Verdict.FRAGILE]
    assert [result.tensor for result in found] == ["x"]
    assert "torch.func.vjp" in (found[0].reason or "")


@pytest.mark.parametrize("subject", [RowSums, Generated, Ruled])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_right_rules_are_correct(name: str, subject: Any) -> None:
    found = results(name, subject, X, W)
    assert found[0].verdict is Verdict.CORRECT
    assert {result.verdict for result in found[1:]} <= {Verdict.NOT_APPLICABLE}


@pytest.mark.parametrize(
    ("name", "subject", "reason"),
    [
        ("forward_mode", OldStyle, "no forward mode: NotImplementedError"),
        ("functional", OldStyle, "setup_context"),
        ("vmap", (lambda x: x.sin(), lambda x, g: g * x.cos()), "does not call the backward"),
        ("functional", torch.sin, "PyTorch's own"),
        ("vmap", lambda x: OldStyle.apply(nn.functional.dropout(x)), "draws random numbers"),
    ],
)
def test_what_they_do_not_apply_to(name: str, subject: Any, reason: str) -> None:
    (result,) = results(name, subject, X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert reason in (result.reason or "")


def test_a_function_without_a_rule_is_not_limited_by_that() -> None:
    found = results("vmap", OldStyle, X)
    assert [result.verdict for result in found] == [Verdict.CORRECT, Verdict.NOT_APPLICABLE]
    assert "setup_context" in (found[1].reason or "")


@pytest.mark.parametrize(
    "subject",
    [torch.sin, nn.Linear(4, 2).double(), nn.LayerNorm(4).double(), lambda x: x.softmax(-1) @ x.T, torch.cumsum],
)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_level_full_looks_at_pytorchs_own_too(name: str, subject: Any) -> None:
    inputs = (X, 1) if subject is torch.cumsum else (X,)
    assert results(name, subject, *inputs, level="full")[0].verdict is Verdict.CORRECT


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_module_around_a_function_and_its_parameters(name: str) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(draw(3, 4, seed=2))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = Generated.apply(x, self.weight)
            return y.sigmoid()

    assert results(name, Layer(), X)[0].verdict is Verdict.CORRECT


def test_the_helper_function_has_no_rules() -> None:
    subject = function(torch.sin, lambda g, x: g * x.cos())
    assert check(subject, X).passed
