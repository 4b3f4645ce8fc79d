import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import altered, draw, function


def only(subject: object, x: Tensor, **options: Any) -> CheckResult:
    """The result of the gradient check of a function of one tensor."""
    (result,) = check_gradient(as_subject(subject, x), CheckContext(**options))
    return result


@pytest.mark.parametrize("epsilon", [0.0009, 1e-6, 1e-8])
def test_a_small_factor_is_seen(epsilon: float) -> None:
    result = only(altered(torch.tanh, lambda g: g * (1 + epsilon)), draw(50))
    assert result.verdict is Verdict.WRONG
    assert result.mismatch is not None and result.mismatch.count == 50


@pytest.mark.parametrize("fault", [lambda g: torch.where(g.abs() < 1e-5, 0.0, g), lambda g: g.abs()])
def test_tiny_entries_beside_large_ones_are_seen(fault: Callable[[Tensor], Tensor]) -> None:
    x = torch.logspace(-10, 0, 64, dtype=torch.float64)
    assert only(altered(torch.square, fault), x).verdict is Verdict.WRONG


def test_one_wrong_entry_in_a_hundred_thousand_is_found_by_its_index() -> None:
    at = torch.arange(100_000) == 777
    result = only(altered(torch.sin, lambda g: torch.where(at, 3 * g, g)), draw(100_000), options={"entry_seconds": 60})
    assert result.verdict is Verdict.WRONG
    assert result.mismatch is not None and result.mismatch.index == (777,)
    assert result.mismatch.counted == "at least"


def test_a_whole_numerical_gradient_counts_the_entries_exactly() -> None:
    at = torch.arange(40).reshape(5, 8) % 8 == 3
    result = only(altered(torch.exp, lambda g: torch.where(at, -g, g)), draw(5, 8))
    assert result.mismatch is not None
    assert (result.mismatch.count, result.mismatch.total, result.mismatch.counted) == (5, 40, "all")


def test_the_fault_has_a_name() -> None:
    result = only(altered(torch.sin, lambda g: -g), draw(20))
    assert "sign" in (result.diagnosis or "")


def test_each_tensor_gets_a_result_of_its_own() -> None:
    x, w, b = draw(4, 3), draw(2, 3, seed=1), draw(2, seed=2)
    results = check_gradient(as_subject(F.linear, x, w, b, names=["input", "weight", "bias"]), CheckContext())
    assert [result.tensor for result in results] == ["input", "weight", "bias"]
    assert all(result.verdict is Verdict.CORRECT for result in results)


def test_a_further_tensor_changes_no_other_tensors_result() -> None:
    x, w, b = draw(4, 3), draw(2, 3, seed=1), draw(2, seed=2)
    few = as_subject(lambda x, w: x @ w.T, x, w, names=["x", "w"])
    more = as_subject(lambda x, w, b: x @ w.T + 0 * b, x, w, b, names=["x", "w", "b"])
    first = {r.tensor: r.details["analytic"] for r in check_gradient(few, CheckContext())}
    second = {r.tensor: r.details["analytic"] for r in check_gradient(more, CheckContext())}
    assert first["x"] == second["x"]
    assert first["w"] == second["w"]


def relu_with(value: float) -> Callable[..., Any]:
    return function(torch.relu, lambda g, x: g * torch.where(x == 0, value, (x > 0).to(x.dtype)))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("every", [1, 7])
def test_at_a_kink_any_value_between_the_slopes_is_right_and_the_convention_is_stated(value: float, every: int) -> None:
    x = torch.where(torch.arange(60) % every == 0, 0.0, draw(60))
    result = only(relu_with(value), x)
    assert result.verdict is Verdict.CORRECT
    assert "between the one-sided derivatives" in (result.reason or "")


@pytest.mark.parametrize("value", [3.0, -1.0])
@pytest.mark.parametrize("every", [1, 7])
def test_at_a_kink_a_value_outside_of_the_slopes_is_wrong(value: float, every: int) -> None:
    x = torch.where(torch.arange(60) % every == 0, 0.0, draw(60))
    result = only(relu_with(value), x)
    assert result.verdict is Verdict.WRONG
    assert result.mismatch is not None and result.mismatch.index is not None
    assert result.mismatch.index[0] % every == 0


TIES = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 3.0, 3.0]], dtype=torch.float64)


def test_a_tie_that_is_counted_twice_is_wrong() -> None:
    twice = function(lambda x: x.amax(-1), lambda g, x: g[:, None] * (x == x.amax(-1, keepdim=True)))
    assert only(twice, TIES).verdict is Verdict.WRONG


def test_a_tie_may_be_shared_or_given_to_one() -> None:
    assert only(lambda x: x.amax(-1), TIES).verdict is Verdict.CORRECT
    assert only(lambda x: x.max(-1).values, TIES).verdict is Verdict.CORRECT
    assert only(lambda x: x.median(-1).values, TIES).verdict is Verdict.CORRECT


def test_a_value_that_only_one_point_has_wrong_is_found_there() -> None:
    by_division = function(lambda x: x.prod(), lambda g, x: g * x.prod() / x)
    assert only(by_division, draw(5)).verdict is Verdict.CORRECT
    result = only(by_division, torch.tensor([1.0, 0.0, 2.0, 3.0], dtype=torch.float64))
    assert result.verdict is Verdict.WRONG
    assert "1 of 4 entries of the gradient are not finite" in (result.reason or "")


@pytest.mark.parametrize("background", [False, True])
def test_a_deep_relu_network_is_decided(background: bool) -> None:
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for i in range(10):
        layers += [torch.nn.Conv2d(4 if i else 1, 4, 3, padding=1, bias=not background), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers).double()
    x = draw(2, 1, 36, 36)
    if background:
        x[..., :18] = 0
    results = check_gradient(as_subject(network, x), CheckContext())
    assert all(result.verdict is Verdict.CORRECT for result in results)


def test_a_wrong_gradient_in_a_deep_relu_network_is_found() -> None:
    torch.manual_seed(0)
    wrong = altered(torch.relu, lambda g: g * 1.001)
    weights = [draw(20, 20, seed=i) * 0.3 for i in range(6)]

    def network(x: Tensor) -> Tensor:
        for w in weights:
            x = wrong(x @ w)
        return x

    assert only(network, draw(30, 20)).verdict is Verdict.WRONG


def test_a_random_forward_is_nondeterministic_with_its_level() -> None:
    result = only(lambda x: F.dropout(x, 0.5), draw(50))
    assert result.verdict is Verdict.UNDECIDED
    assert "nondeterministic: identical calls differ by" in (result.reason or "")


def test_a_forward_that_rounds_to_float32_inside_is_resolved_as_far_as_it_goes() -> None:
    right = only(lambda x: torch.tanh(x.float()).double(), draw(50))
    assert right.verdict is Verdict.CORRECT
    assert right.resolution is not None and 1e-8 < right.resolution < 1e-3
    wrong = only(altered(lambda x: torch.tanh(x.float()).double(), lambda g: 1.01 * g), draw(50))
    assert wrong.verdict is Verdict.WRONG


def test_a_subject_that_takes_float32_only_is_checked_there_and_says_so() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("this kernel takes float32")
        return torch.sin(x)

    right = only(function(forward, lambda g, x: g * x.cos()), draw(200).float())
    assert right.verdict is Verdict.CORRECT
    assert "takes no float64" in right.details["dtype"]
    assert right.details["dtype_checked"] == "float32"
    wrong = only(function(forward, lambda g, x: 1.001 * g * x.cos()), draw(200).float())
    assert wrong.verdict is Verdict.WRONG


def test_derivatives_that_vanish_are_correct_if_the_backward_says_so() -> None:
    assert only(torch.floor, draw(30)).verdict is Verdict.CORRECT
    x = draw(8, 3, seed=1)
    assert only(lambda bias: F.batch_norm(x + bias, None, None, training=True), draw(3)).verdict is Verdict.CORRECT


def test_a_step_function_with_a_slope_in_its_backward_is_wrong() -> None:
    assert only(function(torch.round, lambda g, x: g), 3 * draw(50)).verdict is Verdict.WRONG


# Of the second one, the largest entry's usual step leaves the number of entries that the output has.
@pytest.mark.parametrize("x", [draw(5, 4), torch.tensor([1.0, 0.1, 1e-3, -2.0], dtype=torch.float64)])
def test_an_output_whose_size_depends_on_the_values_is_differentiated_where_it_stays(x: Tensor) -> None:
    assert only(lambda x: x[x > 0].square(), x).verdict is Verdict.CORRECT
    faulty = altered(lambda x: x[x > 0].square(), lambda g: g * 1.0001)
    assert only(faulty, x).verdict is Verdict.WRONG


def test_outputs_that_are_not_finite_are_left_out_and_counted() -> None:
    x = torch.tensor([0.5, 800.0, -1.0, 2.0], dtype=torch.float64)
    result = only(torch.exp, x)
    assert result.verdict is Verdict.CORRECT
    assert result.reason == "1 of 4 outputs are not finite and were left out"
    assert only(torch.exp, x + 900).verdict is Verdict.UNDECIDED


def test_the_edge_of_a_domain_is_undecided_not_wrong() -> None:
    x = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    result = only(torch.sqrt, x)
    assert result.verdict is Verdict.UNDECIDED
    assert "the edge of the domain" in (result.reason or "")


def test_tensors_without_entries_and_integers_do_not_apply() -> None:
    assert only(torch.sin, torch.empty(0, 3)).verdict is Verdict.NOT_APPLICABLE


def test_a_gradient_of_nan_is_wrong() -> None:
    assert only(function(torch.sin, lambda g, x: g * float("nan")), draw(5)).verdict is Verdict.WRONG


def test_a_backward_that_raises_is_wrong_and_its_error_is_quoted() -> None:
    def vjp(g: Tensor, x: Tensor) -> Tensor:
        raise RuntimeError("boom")

    result = only(function(torch.sin, vjp), draw(5))
    assert result.verdict is Verdict.WRONG
    assert "boom" in (result.reason or "")


def test_complex_outputs_are_checked() -> None:
    assert only(lambda x: torch.fft.fft(x), draw(4, 6)).verdict is Verdict.CORRECT
    wrong = altered(lambda x: torch.fft.fft(x), lambda g: 2 * g)
    assert only(wrong, draw(4, 6)).verdict is Verdict.WRONG


@pytest.mark.parametrize("scale", [1e-8, 1.0, 2e4])
def test_steps_follow_the_size_of_the_input(scale: float) -> None:
    for smooth in (torch.sin, F.gelu, lambda x: F.layer_norm(x, (10,)), lambda x: F.softmax(x, -1)):
        assert only(smooth, scale * draw(4, 10)).verdict is Verdict.CORRECT


def test_level_full_uses_more_directions_and_agrees() -> None:
    assert only(F.gelu, draw(30), level="full").verdict is Verdict.CORRECT
    assert only(altered(F.gelu, lambda g: g * (1 + 1e-7)), draw(30), level="full").verdict is Verdict.WRONG


def test_level_full_looks_at_every_entry_of_a_small_tensor() -> None:
    x = torch.logspace(-16, 0, 33, dtype=torch.float64)
    assert only(torch.square, x, level="full").details["entries_checked"] == 33


def test_a_deadline_leaves_the_results_that_are_there() -> None:
    start = draw(4)

    def slow_in_y(x: Tensor, y: Tensor) -> Tensor:
        time.sleep(0.0 if torch.equal(y, start) else 0.7)
        return x.sin() * y.sin()

    subject = as_subject(slow_in_y, start, start)
    first, second = check_gradient(subject, CheckContext(deadline=time.monotonic() + 2))
    assert first.verdict is Verdict.CORRECT
    assert second.verdict is Verdict.UNDECIDED
    assert second.reason == "the time limit of this check was reached"
