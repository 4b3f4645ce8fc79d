"""A recorded computation run again as a program gives what the computation gives, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.capture.interpreted import interpreted_program
from nn_from_scratch.engine.capture.program import compile_program, list_instructions
from nn_from_scratch.engine.capture.recording import record
from nn_from_scratch.engine.capture.written import written_program
from nn_from_scratch.errors import CaptureError
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import build, draw_inputs

Computation = Callable[..., Tensor]

CASES = [
    pytest.param(spec, case, id=f"{spec.name}-{place}")
    for spec in LAYERS
    if isinstance(spec.subject, type) and issubclass(spec.subject, nn.Layer)
    for place, case in enumerate(spec.cases)
    # Cross entropy looks whether its target holds classes, and the average over all batches at how many there were.
    if spec.name != "CrossEntropy" and case.options.get("momentum", 0.1) is not None
]


def program_of(computation: Computation, *inputs: Tensor) -> Computation:
    result, calls = record(lambda: computation(*inputs))
    return compile_program(calls, inputs, result)


def agree(computation: Computation, *draws: tuple[Tensor, ...]) -> None:
    """A program recorded with the first inputs gives what the computation gives, for all of them and over again."""
    result, calls = record(lambda: computation(*draws[0]))
    listing = list_instructions(calls, draws[0], result)
    programs = [program for program in (written_program(listing), interpreted_program(listing)) if program is not None]
    for inputs in (*draws, *draws):
        with torch.no_grad():
            expected = computation(*[x.clone() for x in inputs])
            for program in programs:
                assert torch.equal(program(*inputs), expected) or bool(expected.isnan().any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("spec", "case"), CASES)
def test_forward_and_backward_of_every_layer(spec: Spec, case: Case, dtype: torch.dtype) -> None:
    layer = build(spec, case, dtype=dtype)
    fixed = {place: x for place, x in enumerate(draw_inputs(case, dtype=dtype)) if not x.is_floating_point()}

    def computation(*given: Tensor) -> Tensor:
        rest = iter(given)
        inputs = [fixed[place] if place in fixed else next(rest) for place in range(len(case.shapes))]
        generator = getattr(layer, "generator", None)
        if generator is not None:  # so that the masks are the same
            generator.manual_seed(3)
        y = layer(*inputs)
        g = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        found = nn.backward(y, g)
        gradients = found if isinstance(found, tuple) else (found,)
        parts = [y, *gradients, *[p.grad for p in layer.parameters().values()]]
        for parameter in layer.parameters().values():
            parameter.grad = None
        layer.clear_saved_tensors()
        return torch.cat([part.flatten() for part in parts if part is not None])

    def drawn(seed: int) -> tuple[Tensor, ...]:
        return tuple(x for x in draw_inputs(case, seed=seed, dtype=dtype) if x.is_floating_point())

    if getattr(layer, "generator", None) is not None:
        program = program_of(computation, *drawn(0))  # draws on from where the recording left the generator
        layer.generator.manual_seed(3)
        again = program(*drawn(1))
        assert torch.equal(again, computation(*drawn(1)))
    else:
        agree(computation, drawn(0), drawn(1))


def test_what_an_elementwise_operator_is_the_last_to_read_is_written_over() -> None:
    def computation(x: Tensor) -> Tensor:
        a = x.exp()
        b = a.sin()
        c = b * a  # the last to read both
        return c.cos().sum()

    agree(computation, (torch.linspace(-1, 1, 7),), (torch.linspace(-2, 1, 7),))


def test_what_an_operator_reads_twice_is_written_over_if_both_times_are_the_same() -> None:
    def square(x: Tensor) -> Tensor:
        a = x.exp()
        return (a * a).sum()

    def turned(x: Tensor) -> Tensor:
        a = x.exp().view(3, 3)
        return (a * a.t()).sum(dim=0)

    for computation, places in ((square, 1), (turned, 2)):
        x = torch.linspace(-1, 1, 9)
        result, calls = record(lambda: computation(x))  # noqa: B023  # called at once
        assert list_instructions(calls, [x], result).kept_bytes == places * 64
        agree(computation, (x,), (x.cos(),))


def test_what_is_read_again_is_not_written_over() -> None:
    def computation(x: Tensor) -> Tensor:
        a = x.exp()
        view = a[1:3]
        b = a.sin()
        c = (b + a).relu()
        return (c.sum() + view.sum()) * b.sum()

    agree(computation, (torch.linspace(-1, 1, 7),), (torch.linspace(-2, 1, 7),))


def test_views_into_the_middle_of_what_was_computed_are_where_they_were() -> None:
    def computation(x: Tensor) -> Tensor:
        padding = x.new_zeros(5).add_(1)
        y = (x * 2).as_strided((2, 2), (3, 1), 1)
        return torch.cat([y.flatten().mul_(3), padding, x.exp().as_strided((3,), (2,), 2)])

    agree(computation, (torch.linspace(-1, 1, 7),), (torch.linspace(-2, 1, 7),))


def test_operators_in_place_on_what_the_computation_made() -> None:
    def computation(x: Tensor) -> Tensor:
        y = x.new_empty(2, 7)
        y[0].copy_(x)
        y[1].copy_(x).mul_(2)
        parts = list(y.unbind())
        torch._foreach_add_(parts, [x, x])
        return torch.stack(parts).sum(dim=0)

    agree(computation, (torch.linspace(-1, 1, 7),), (torch.linspace(-2, 1, 7),))


def test_results_that_are_several_tensors() -> None:
    def computation(x: Tensor) -> Tensor:
        values, places = x.reshape(3, 4).max(dim=1)
        return values + places

    agree(computation, (torch.randn(12),), (torch.randn(12),))


def test_a_tensor_from_outside_is_read_and_written_where_it_is() -> None:
    weight = torch.ones(3)

    def computation(x: Tensor) -> Tensor:
        weight.sub_(x, alpha=0.5)
        return (weight * x).sum()

    program = program_of(computation, torch.ones(3))
    assert weight.tolist() == [0.5, 0.5, 0.5]
    assert float(program(torch.full((3,), 2.0))) == -3.0
    assert weight.tolist() == [-0.5, -0.5, -0.5]
    weight.fill_(10.0)
    assert float(program(torch.ones(3))) == 28.5


def test_what_nobody_needs_is_left_out_and_what_never_changes_is_kept() -> None:
    def computation(x: Tensor) -> Tensor:
        x.exp().log()
        half = torch.ones((), dtype=x.dtype) / 2
        return (x * half).sum()

    x = torch.ones(3)
    result, calls = record(lambda: computation(x))
    names = [str(call.function) for call in calls]
    assert "aten.exp.default" in names and "aten.div.Tensor" in names
    program = compile_program(calls, (x,), result)
    counted: list[Any] = []

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            counted.append(function)
            return function(*arguments, **(options or {}))

    with Counter():
        program(x)
    assert [str(function).split(".")[1] for function in counted] == ["mul", "sum", "clone"]


def test_a_random_number_is_drawn_anew() -> None:
    def computation(x: Tensor) -> Tensor:
        return x + torch.rand(x.shape)

    program = program_of(computation, torch.zeros(50))
    assert not torch.equal(program(torch.zeros(50)), program(torch.zeros(50)))


def test_the_result_is_a_new_tensor_each_time() -> None:
    program = program_of(lambda x: x.exp(), torch.zeros(3))
    one = program(torch.zeros(3))
    program(torch.ones(3))
    assert one.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("computation", "operator"),
    [
        (lambda x: x * float(x.sum()), "aten._local_scalar_dense.default"),
        (lambda x: x[x > 0], "aten.index.Tensor"),
        (lambda x: x if bool((x > 0).all()) else -x, "aten._local_scalar_dense.default"),
    ],
)
def test_a_look_at_a_value_is_refused(computation: Computation, operator: str) -> None:
    with pytest.raises(CaptureError, match=f"the step asks for {operator}, whose result decides"):
        program_of(computation, torch.ones(3))


def test_a_result_that_does_not_fill_its_memory_has_no_place_and_others_have() -> None:
    def computation(x: Tensor) -> Tensor:
        spread = torch.empty_strided((3, 3), (6, 2))
        spread.copy_(x.exp().view(3, 3))
        twice = torch.full((3,), 2.0).expand(3, 3).exp()  # as its input, three entries in memory
        return (spread * twice).sum(dim=0)

    x = torch.linspace(-1, 1, 9)
    result, calls = record(lambda: computation(x))
    assert list_instructions(calls, [x], result).kept_bytes >= 64
    agree(computation, (x,), (x.cos(),))
