"""Engine modules are recognized by what they can do; here a small engine of the test's own."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.subjects import as_subject


class Module:
    """Records by index, `creator` and `input_index` on the output, `backward` that adds to `grad`."""

    def __init__(self, **parameters: Tensor) -> None:
        self.held = parameters
        self.records: dict[int, tuple[Tensor, ...]] = {}
        self.next = 0

    def __call__(self, *xs: Tensor) -> Tensor:
        y = self.value(*xs)
        y.creator, y.input_index = self, self.next  # type: ignore[attr-defined]
        self.records[self.next] = xs
        self.next += 1
        return y

    def backward(self, gradwrtoutput: Tensor) -> Any:
        index = gradwrtoutput.input_index  # type: ignore[attr-defined]
        if index not in self.records:
            raise LookupError(f"no record {index}")
        inputs, parameters = self.vjps(gradwrtoutput, *self.records[index])
        for name, gradient in parameters.items():
            held = self.held[name]
            held.grad = gradient if held.grad is None else held.grad + gradient
        return inputs if len(inputs) > 1 else inputs[0]

    def parameters(self) -> Mapping[str, Tensor]:
        return self.held

    def clear_saved_tensors(self) -> None:
        self.records.clear()

    def to(self, device: Any = None, dtype: Any = None) -> "Module":
        self.held = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self.held.items()}
        return self

    def value(self, *xs: Tensor) -> Tensor:
        raise NotImplementedError

    def vjps(self, g: Tensor, *xs: Tensor) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "records": {}}


class Linear(Module):
    def value(self, *xs: Tensor) -> Tensor:
        return xs[0] @ self.held["weight"].T

    def vjps(self, g: Tensor, *xs: Tensor) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
        return (g @ self.held["weight"],), {"weight": g.T @ xs[0]}


class Squares(Module):
    """A loss of prediction and target."""

    def value(self, *xs: Tensor) -> Tensor:
        return (xs[0] - xs[1]).square().mean()

    def vjps(self, g: Tensor, *xs: Tensor) -> tuple[tuple[Tensor | None, ...], dict[str, Tensor]]:
        e = 2 * g * (xs[0] - xs[1]) / xs[0].numel()
        return (e, -e), {}


class Forgetful(Linear):
    """Remembers one record, whatever the index."""

    def __call__(self, *xs: Tensor) -> Tensor:
        y = super().__call__(*xs)
        self.records = dict.fromkeys(range(self.next), xs)
        return y


def linear(made: type[Module] = Linear) -> Module:
    return made(weight=torch.linspace(-1, 1, 15).reshape(3, 5))


X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("module", "inputs"), [(linear(), (X,)), (Squares(), (X, X + 1))], ids=["linear", "loss of two inputs"]
)
def test_a_right_module_passes_everything(module: Module, inputs: tuple[Tensor, ...]) -> None:
    report = check(module, *inputs)
    assert report.form == "engine module"
    assert report.passed, str(report)


def test_the_module_itself_is_left_alone() -> None:
    module = linear()
    before = copy.deepcopy(module.held["weight"])
    check(module, X)
    assert torch.equal(module.held["weight"], before)
    assert (module.held["weight"].grad, module.records, module.next) == (None, {}, 0)


def test_parameters_take_another_dtype() -> None:
    subject = as_subject(linear(), X)
    run = subject.run({operand.name: operand.value.double() for operand in subject.operands})
    found = run.backward({"y": torch.ones(4, 3, dtype=torch.float64)})
    assert {None if g is None else g.dtype for g in found.values()} == {torch.float64}


def test_two_pending_records_that_are_mixed_up_are_found() -> None:
    report = check(linear(Forgetful), X, checks=["two_forwards"])
    assert report.verdict is Verdict.WRONG
    assert "two forward passes" in str(report)


def test_released_records_are_gone() -> None:
    run = as_subject(linear(), X).run({})
    run.release()
    with pytest.raises(SubjectError, match="LookupError: no record 0"):
        run.backward({"y": torch.ones(4, 3)})


def test_an_output_without_an_index_is_refused() -> None:
    class Unmarked(Linear):
        def __call__(self, *xs: Tensor) -> Tensor:
            return self.value(*xs)

    with pytest.raises(SubjectError, match="the output of Unmarked has input_index None"):
        as_subject(linear(Unmarked), X)
