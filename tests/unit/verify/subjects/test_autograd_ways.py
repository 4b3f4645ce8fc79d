"""Right modules and functions in ways of their own: recomputed, reentrant, marked, normalized, in other modes."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.subjects.torch_module import own_copy

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.linear, self.reentrant = linear(), reentrant

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.linear, x, use_reentrant=self.reentrant)


class Recomputes(torch.autograd.Function):
    """The net runs again in the backward, with parameters that were handed over."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, net: nn.Module, x: Tensor, *parameters: Tensor) -> Any:
        ctx.net = net
        ctx.save_for_backward(x, *parameters)
        with torch.no_grad():
            return net(x)

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        x, *parameters = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return (None, *torch.autograd.grad(ctx.net(x), [x, *parameters], g))


class SideEffect(Recomputes):
    """The parameters' gradients are left in their `grad`."""

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        x, *parameters = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            torch.autograd.backward(ctx.net(x), g)
        assert x.grad is not None
        return (None, x.grad, *[None] * len(parameters))


class WrongSideEffect(SideEffect):
    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return SideEffect.backward(ctx, *(2 * part for part in g))


class Around(nn.Module):
    def __init__(self, function: type[Recomputes]) -> None:
        super().__init__()
        self.net, self.function = nn.Sequential(linear(), nn.Tanh()), function

    def forward(self, x: Tensor) -> Any:
        x = x if x.requires_grad or not torch.is_grad_enabled() else x.requires_grad_()
        return self.function.apply(self.net, x, *self.net.parameters())


def weight_normalized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(linear())


MODULES: list[Callable[[], nn.Module]] = [
    lambda: Checkpointed(reentrant=False),
    lambda: Checkpointed(reentrant=True),
    lambda: Around(Recomputes),
    lambda: Around(SideEffect),
    weight_normalized,
    lambda: nn.utils.parametrizations.weight_norm(linear()),
]


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.filterwarnings("ignore")
def test_a_right_module_is_right_in_its_own_way(make: Callable[[], nn.Module]) -> None:
    module = make()
    kept = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    report = check(module, X)
    assert report.verdict is Verdict.CORRECT, str(report)
    assert len([r for r in report.results if r.check == "gradient"]) == 1 + len(kept)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, kept[name]) and parameter.requires_grad and parameter.grad is None


def test_a_gradient_that_is_left_in_grad_is_looked_at() -> None:
    found = {r.tensor: r.verdict for r in check(Around(WrongSideEffect), X, checks="gradient").results}
    assert found["net.0.weight"] is found["net.0.bias"] is Verdict.WRONG, found


class Statistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        mean = x.mean(1)
        ctx.mark_non_differentiable(mean)
        ctx.save_for_backward(x)
        return x**2, mean

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * g[0]


@pytest.mark.parametrize("subject", [Statistics, lambda x: torch.native_layer_norm(x, [4], None, None, 1e-5)])
def test_outputs_that_carry_no_gradient_are_left_out_and_named(subject: Any) -> None:
    report = check(subject, X)
    assert report.passed, str(report)
    assert any("not looked at: y1" in note for note in report.notes)


def test_an_output_that_was_detached_on_the_way_is_not_taken_for_a_statistic() -> None:
    report = check(lambda x: (x.sin(), x.cos().detach()), X, checks="gradient")
    assert report.verdict is Verdict.WRONG


def test_a_marked_output_inside_of_a_function_is_left_out_too() -> None:
    assert check(lambda x: Statistics.apply(x), X).passed


def test_a_function_none_of_whose_outputs_carries_a_gradient_is_looked_at() -> None:
    assert not check(lambda x: x.detach() ** 2, X.clone().requires_grad_(), checks="gradient").passed


def test_a_module_that_four_threads_check_is_seen_as_it_is_by_all() -> None:
    module = linear()
    module.bias.requires_grad_(False)
    weight = module.weight.detach().clone()
    expected = module(X).detach()
    verdicts: list[Verdict] = []
    seen: list[bool] = []

    def verify() -> None:
        verdicts.append(check(module, X, checks="gradient").verdict)
        seen.append(torch.equal(module(X), expected))

    threads = [threading.Thread(target=verify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [Verdict.CORRECT] * 4 and seen == [True] * 4
    assert torch.equal(module.weight, weight) and module.weight.requires_grad and not module.bias.requires_grad


def test_a_module_that_cannot_be_copied_is_used_itself_and_restored() -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.lock = linear(), threading.Lock()

        def forward(self, x: Tensor) -> Any:
            return self.linear(x)

    module = Alone()
    assert own_copy(module) is None
    weight, bias = module.linear.weight, module.linear.bias
    assert check(module, X, checks="gradient").passed
    assert module.linear.weight is weight and module.linear.bias is bias


def test_a_captured_tensor_keeps_its_gradient() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    w.grad = torch.full((4,), 7.0, dtype=torch.float64)
    kept = w.grad
    assert check(lambda x: x * w, X).passed
    assert w.grad is kept and torch.equal(kept, torch.full((4,), 7.0, dtype=torch.float64))


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autograd.detect_anomaly(check_nan=True),
        lambda: default_dtype(torch.float64),
        lambda: default_dtype(torch.bfloat16),
    ],
)
def test_a_right_module_is_right_in_another_mode(mode: Callable[[], Any]) -> None:
    module, x = linear(), X.clone()
    with mode():
        report = check(module, x)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    "x", [X.T, torch.randn(2, 3, 4, generator=GENERATOR, dtype=torch.float64).permute(2, 0, 1)], ids=["T", "permuted"]
)
def test_a_right_function_is_right_for_inputs_in_another_layout(x: Tensor) -> None:
    assert check(torch.tanh, x).passed


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_is_frozen_and_leaves_no_output_to_differentiate_is_a_limit() -> None:
    report = check(Checkpointed(reentrant=True), X, checks=["gradient", "frozen_slots"])
    limits = [r.reason for r in report.results if r.verdict is Verdict.LIMIT]
    assert report.passed and "with x frozen: no output of Checkpointed requires grad, so that" in str(limits), limits


def test_an_input_that_the_forward_refuses_to_differentiate_is_held_constant_and_named() -> None:
    report = check(torch.nn.SoftMarginLoss(), X, X.sign())
    assert report.passed, str(report)
    assert any("target is held constant: the forward refuses to be differentiated by it" in n for n in report.notes)


def test_a_refused_input_that_was_asked_for_is_an_error() -> None:
    with pytest.raises(SubjectError, match="not differentiable with respect to argument 'target'"):
        check(torch.nn.SoftMarginLoss(), X, X.sign(), differentiable=["input", "target"])
