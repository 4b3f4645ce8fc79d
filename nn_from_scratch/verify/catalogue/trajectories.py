"""The path of an optimizer beside that of its reference, within what rounding explains.

Each entry p of the parameters is pulled towards a target that is drawn anew in every step: its gradient is c (p - a_t).
The bound is measured as in `references`: the reference runs in float64 with every parameter and every gradient rounded
in every step; how far that path leaves the exact one by then, plus a rounding, is what is allowed, times the factor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import CheckContext, CheckResult, Report
from nn_from_scratch.verify.catalogue.entries import Case, OptimizerSpec, Shape
from nn_from_scratch.verify.catalogue.precision import dtype_of, rounding_of
from nn_from_scratch.verify.catalogue.trials import Trial
from nn_from_scratch.verify.comparison import compare
from nn_from_scratch.verify.verification import machine

__all__ = ["compare_trajectories"]

_SHAPES: tuple[Shape, ...] = ((3, 4), (3,))
_PATHS = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class _Problem:
    """Where the parameters start, how steep it is for each entry, and the targets of all steps."""

    start: list[Tensor]
    slopes: list[Tensor]
    targets: list[list[Tensor]]

    def cast(self, dtype: torch.dtype, device: str) -> _Problem:
        def moved(tensors: list[Tensor]) -> list[Tensor]:
            return [x.to(device=device, dtype=dtype) for x in tensors]

        targets = [moved(step) for step in self.targets]
        return _Problem(start=moved(self.start), slopes=moved(self.slopes), targets=targets)


def compare_trajectories(
    trial: Trial, spec: OptimizerSpec, *, seed: int = 0, level: str = "quick", factor: float = 10.0, **options: Any
) -> Report:
    """Hold every parameter against the reference's after every step.

    Args:
        trial: says case, dtype and device; the reference runs on the CPU.
        spec: its entry.
        seed: of the problem and of the roundings.
        level: noted in the report.
        factor: how many times what rounding explains is allowed.
        options: of the verifier alone; one test runs over subjects and optimizers with the same ones.

    Raises:
        SubjectError: the optimizer raises.
    """
    began = time.monotonic()
    context = CheckContext(seed=seed, factor=factor)
    dtype = dtype_of(trial.dtype)
    eps = rounding_of(trial.dtype)
    problem = _drawn(trial.case, spec.steps, context).cast(dtype, "cpu")
    exact = problem.cast(torch.float64, "cpu")
    results: dict[int, CheckResult] = {}
    margins = [0.0] * len(problem.start)
    moved = [0.0] * len(problem.start)
    paths = [
        _path(list, spec.reference, trial.case, problem),
        _path(list, spec.reference, trial.case, exact),
        *(_path(list, spec.reference, trial.case, exact, eps=eps, noise=(context, path)) for path in range(_PATHS)),
    ]
    found = _guarded(_path(spec.hold, spec.optimizer, trial.case, problem.cast(dtype, trial.device)), spec.name)
    for step, (mine, right, precise, *rounded) in enumerate(zip(found, *paths, strict=True)):
        for place, expected in enumerate(right):
            for other in rounded:
                moved[place] = max(moved[place], float((other[place] - precise[place]).abs().max()))
            allowed = factor * (moved[place] + eps * float(expected.abs().max()))
            comparison = compare(mine[place], expected, allowed)
            margins[place] = max(margins[place], comparison.margin)
            if comparison.mismatch is not None and place not in results:
                results[place] = CheckResult.wrong(
                    trial.check,
                    f"parameter {place}",
                    reason=f"leaves the path of the reference in step {step + 1}",
                    mismatch=comparison.mismatch,
                    margin=comparison.margin,
                )
    return Report(
        subject=trial.subject,
        form="optimizer",
        results=tuple(
            results.get(place, CheckResult.correct(trial.check, f"parameter {place}", margin=margin))
            for place, margin in enumerate(margins)
        ),
        environment={**machine(), "dtype": trial.dtype, "device": trial.device},
        seed=seed,
        level=level,
        seconds=time.monotonic() - began,
    )


def _drawn(case: Case, steps: int, context: CheckContext) -> _Problem:
    shapes = case.shapes or _SHAPES
    return _Problem(
        start=[context.signed(shape, "start", place) for place, shape in enumerate(shapes)],
        slopes=[context.signed(shape, "slope", place).abs() for place, shape in enumerate(shapes)],
        targets=[
            [context.signed(shape, "target", place, step) for place, shape in enumerate(shapes)]
            for step in range(steps)
        ],
    )


def _path(
    hold: Any,
    optimizer: Any,
    case: Case,
    problem: _Problem,
    *,
    eps: float = 0.0,
    noise: tuple[CheckContext, int] | None = None,
) -> Iterator[Sequence[Tensor]]:
    """The parameters after each step."""
    parameters = [x.clone() for x in problem.start]
    taken = optimizer(hold(parameters), *case.arguments, **case.options)
    for step, targets in enumerate(problem.targets):
        for place, (p, c, a) in enumerate(zip(parameters, problem.slopes, targets, strict=True)):
            gradient = c * (p - a)
            if noise is not None:
                context, path = noise
                draw = context.generator("rounding", path, step, place)
                for tensor in (p, gradient):
                    tensor.mul_(1 + eps * (2 * torch.rand(p.shape, generator=draw, dtype=torch.float64) - 1))
            p.grad = gradient
        taken.step()
        yield [p.detach().clone() for p in parameters]


def _guarded(path: Iterator[Sequence[Tensor]], name: str) -> Iterator[Sequence[Tensor]]:
    try:
        yield from path
    except Exception as error:
        raise SubjectError(f"{name} raised {type(error).__name__}: {error}") from error
