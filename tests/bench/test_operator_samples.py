"""The verifier on a part of PyTorch's own list; `python -m tests.bench.operator_samples` takes all of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.bench.operator_samples import Outcome, as_function, compare, read_results, totals
from tests.bench.worker_processes import run_in_processes
from tests.functions import altered, draw

pytestmark = pytest.mark.bench

OPERATORS = [
    "sin",
    "tanh",
    "exp",
    "cumsum",
    "matmul",
    "nn.functional.linear",
    "nn.functional.conv2d",
    "nn.functional.softplus",
    "gather",
    "amax",
    "nn.functional.avg_pool2d",
    "outer",
]


@dataclass
class Sample:
    input: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output_process_fn_grad: Callable[[Any], Any] = lambda value: value


@dataclass
class Operator:
    function: Callable[..., Any]
    samples: tuple[Sample, ...]
    name: str = "own"
    variant_test_name: str = "planted"
    gradcheck_wrapper: Callable[..., Any] = lambda operator, *arguments, **options: operator(*arguments, **options)
    gradcheck_nondet_tol: float = 0.0

    @property
    def op(self) -> Callable[..., Any]:
        return self.function

    def sample_inputs(self, device: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[Sample]:
        yield from self.samples


def leaf(*shape: int) -> Tensor:
    return draw(*shape).requires_grad_()


def test_a_dozen_operators_agree_with_gradcheck(tmp_path: Path) -> None:
    # In a process of its own: the import of PyTorch's list changes flags of torch for good.
    path = tmp_path / "results.jsonl"
    only = [text for name in OPERATORS for text in ("--only", name)]
    program = [sys.executable, "-m", "tests.bench.operator_samples", "--processes", "1", "--dtype", "float64"]
    subprocess.run(
        [*program, "--results", str(path), *only],
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    outcomes = read_results(path)
    assert {outcome.operator for outcome in outcomes} == set(OPERATORS)
    assert [outcome.line() for outcome in outcomes if outcome.kind] == []
    assert "float64: " in totals(outcomes) and "median milliseconds: ours" in totals(outcomes)


def test_a_wrong_operator_is_a_disagreement_by_its_kind() -> None:
    def halved(gradient: Tensor) -> Tensor:
        return gradient / 2

    def dimmed(gradient: Tensor) -> Tensor:
        return gradient * (1 + 1e-5)

    kinds = {}
    for change in (halved, dimmed):
        operator = Operator(altered(torch.sin, change), (Sample(leaf(3, 4)),))
        (outcome,) = compare(operator, "float64", 3)
        kinds[change.__name__] = outcome.kind
        assert "own.planted, float64, sample 0 (3,4): gradient of" in outcome.line()
    assert kinds == {"halved": "wrong, gradcheck fails", "dimmed": "wrong, gradcheck passes"}


def test_what_gradcheck_finds_alone_is_a_disagreement() -> None:
    found = Outcome("own", "float64", 0, verdict="correct", gradient="correct", gradcheck="fails")
    assert found.kind == "correct, gradcheck fails"


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")
def test_gradchecks_own_failure_in_single_precision_is_no_disagreement() -> None:
    single = leaf(3).detach().float().requires_grad_()
    (outcome,) = compare(Operator(torch.sin, (Sample(single),)), "float64", 3)
    assert (outcome.gradcheck, outcome.kind) == ("fails on single precision", "")
    (outcome,) = compare(Operator(lambda x: x.half(), (Sample(leaf(2, 3)),)), "float64", 3)
    assert (outcome.gradcheck, outcome.kind) == ("fails on single precision", "")
    some = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64).requires_grad_()
    (outcome,) = compare(Operator(torch.log, (Sample(some),)), "float64", 3)
    assert (outcome.gradcheck, outcome.kind) == ("fails on NaN", "")


def test_complex_outputs_are_told_apart() -> None:
    (outcome,) = compare(Operator(torch.fft.fft, (Sample(leaf(4)),)), "float64", 3)
    assert outcome.complex
    assert outcome.kind in ("", "undecided (complex)")


def test_a_fault_of_torch_is_told_as_that_and_is_one() -> None:
    outcome = Outcome("native_group_norm", "float64", 0, verdict="wrong", gradient="correct", gradcheck="fails")
    assert outcome.kind == "fault of torch" and "pytorch#183980" in outcome.line()
    x = draw(1, 6, 3).requires_grad_()
    y, mean, deviation = torch.ops.aten.native_group_norm(x, None, None, 1, 6, 3, 2, 1e-5)
    (alone,) = torch.autograd.grad(mean.sum(), x, retain_graph=True, allow_unused=True)
    assert alone is None
    (beside,) = torch.autograd.grad((y, mean, deviation), x, (0 * y, torch.ones_like(mean), 0 * deviation))
    torch.testing.assert_close(beside, torch.full_like(x, 1 / 9))
    a = draw(1).requires_grad_()
    (kept,) = torch.autograd.grad(torch.as_strided_scatter(a, draw(), (), (), 0).sum(), a)
    assert kept.item() == 1


def test_a_slope_in_float32_and_a_draw_without_gradients_are_faults_of_torch() -> None:
    x = draw(20).requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.hardsigmoid(x).sum(), x)
    exact = torch.full_like(slope, 1 / 6)
    assert 1e-9 < float((slope - exact).abs().max()) < 1e-8
    mean, deviation = draw(3).requires_grad_(), (1 + draw(3).abs()).requires_grad_()
    moved = [torch.normal(m, deviation, generator=torch.Generator().manual_seed(0)) for m in (mean, mean + 1)]
    torch.testing.assert_close(moved[1] - moved[0], torch.ones_like(mean))
    for gradient in torch.autograd.grad(torch.normal(mean, deviation).sum(), (mean, deviation)):
        assert not gradient.any()
    for name in ("nn.functional.hardsigmoid", "normal", "normal.number_mean"):
        assert Outcome(name, "float64", 0, verdict="wrong").kind == "fault of torch"


def test_an_entry_that_is_overwritten_keeps_its_gradient_by_a_fault_of_torch() -> None:
    x = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64).requires_grad_()
    index = torch.zeros(1, 1, 1, 2, dtype=torch.int64)
    y = torch.nn.functional.max_unpool2d(x, index, kernel_size=(1, 2))
    assert y.count_nonzero() == 1  # one of the two is all that there is
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [[[[1.0, 1.0]]]]
    assert Outcome("nn.functional.max_unpool2d", "float64", 0, verdict="wrong").kind == "fault of torch"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")
def test_what_the_verifier_does_not_take_is_refused() -> None:
    sparse = draw(3, 3).to_sparse_csr().requires_grad_()
    (outcome,) = compare(Operator(lambda x: x.to_dense(), (Sample(sparse),)), "float64", 3)
    assert outcome.kind == "refused" and "only dense strided tensors" in outcome.problem


def test_samples_are_taken_evenly_and_only_where_something_is_differentiated() -> None:
    samples = [Sample(leaf(1 + size)) for size in range(7)]
    samples.insert(1, Sample(draw(9)))
    outcomes = list(compare(Operator(torch.sin, tuple(samples)), "float64", 3))
    assert [outcome.sample for outcome in outcomes] == [0, 4, 7]
    assert [outcome.kind for outcome in outcomes] == ["", "", ""]


def test_nested_tensors_are_arguments_of_the_function() -> None:
    sample = Sample([leaf(2), leaf(2)], (0,), {"scale": draw(2)})
    operator = Operator(lambda parts, dim, *, scale: (torch.cat(parts, dim), {"sum": sum(parts) * scale}), (sample,))
    function, tensors = as_function(operator, sample)
    assert [t.requires_grad for t in tensors] == [True, True, False]
    joined, total = function(*(2 * t for t in tensors))
    torch.testing.assert_close(joined, 2 * torch.cat(sample.input))
    torch.testing.assert_close(total, 4 * sum(sample.input) * sample.kwargs["scale"])


def test_a_list_that_cannot_make_a_sample_is_a_line() -> None:
    class Broken(Operator):
        def sample_inputs(self, device: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[Sample]:
            raise ValueError("no sample today")

    (outcome,) = compare(Broken(torch.sin, ()), "float64", 3)
    assert outcome.kind == "no sample" and "no sample today" in outcome.line()


def numbers(task: str) -> Iterator[str]:
    yield f"first of {task}"
    if task == "hangs":
        time.sleep(1000)
    if task == "dies":
        os._exit(7)
    yield f"second of {task}"


def test_a_process_that_hangs_or_dies_is_a_result() -> None:
    found = sorted(run_in_processes(numbers, ["hangs", "dies", "ends", "ends too"], 2, 2.0))
    assert found == [
        ("dies", "first of dies"),
        ("dies", "process died: status 7"),
        ("ends", "first of ends"),
        ("ends", "second of ends"),
        ("ends too", "first of ends too"),
        ("ends too", "second of ends too"),
        ("hangs", "first of hangs"),
        ("hangs", "process hung: no end within 2 s"),
    ]
