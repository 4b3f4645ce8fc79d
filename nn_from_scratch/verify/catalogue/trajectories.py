"""The path of an optimizer beside that of its reference, within what rounding explains.

Each entry p of the parameters is pulled towards a target that is drawn anew in every step: its gradient is c (p - a_t).
The bound is measured as in `references`: the reference runs in float64 with every parameter and every gradient rounded
in every step; how far that path leaves the exact one by then, plus a rounding, is what is allowed, times the factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import CheckContext, CheckResult
from nn_from_scratch.verify.catalogue.cases import Case, OptimizerSpec, Shape
from nn_from_scratch.verify.catalogue.rounding import dtype_of, largest, perturbed, rounding_of
from nn_from_scratch.verify.catalogue.trials import Trial
from nn_from_scratch.verify.comparison import compare

# A matrix and a vector, as a layer has them.
_SHAPES: tuple[Shape, ...] = ((3, 4), (3,))
# Rounded paths. Each adds up the roundings of all steps: eight widen no bound of the engine's optimizers more than 1.7
# times, which the factor covers.
_PATHS = 2


# Where each parameter starts, how steep it is for each entry, and its targets in all steps, along a first axis.
_Problem = Sequence[Sequence[Tensor]]


def compare_trajectories(
    trial: Trial, spec: OptimizerSpec, *, seed: int = 0, factor: float = CheckContext.factor, **options: Any
) -> list[CheckResult]:
    """Compare every parameter with the reference's after every step; gives a result for each.

    Args:
        trial: says case, dtype and device; the reference runs on the CPU.
        seed: of the problem and of the roundings.
        factor: how many times what rounding explains is allowed.
        options: of the verifier alone; one test runs over subjects and optimizers with the same ones.

    Raises:
        SubjectError: the optimizer raises.
    """
    context = CheckContext(seed=seed, factor=factor)
    dtype, eps = dtype_of(trial.dtype), rounding_of(trial.dtype)
    problem = _cast(_drawn(trial.case.shapes or _SHAPES, spec.steps, context), dtype)
    exact = _cast(problem, torch.float64)

    def rounded(path: int) -> Callable[..., Tensor]:
        return lambda x, *names: perturbed(x, eps, context.generator("rounding", path, *names))

    references = [
        _path(list, spec.reference, trial.case, problem),
        _path(list, spec.reference, trial.case, exact),
        *(_path(list, spec.reference, trial.case, exact, rounded(path)) for path in range(_PATHS)),
    ]
    found = _guarded(_path(spec.hold, spec.optimizer, trial.case, _cast(problem, dtype, trial.device)), spec.name)
    wrong: dict[int, CheckResult] = {}
    margins, moved = ([0.0] * len(problem[0]) for _ in range(2))
    for step, (ours, right, precise, *others) in enumerate(zip(found, *references, strict=True)):
        for place, expected in enumerate(right):
            moved[place] = max(moved[place], *(largest(other[place] - precise[place]) for other in others))
            comparison = compare(ours[place], expected, factor * (moved[place] + eps * largest(expected)))
            margins[place] = max(margins[place], comparison.margin)
            if comparison.mismatch is not None and place not in wrong:
                wrong[place] = CheckResult.wrong(
                    trial.check,
                    f"parameter {place}",
                    reason=f"leaves the path of the reference in step {step + 1}",
                    mismatch=comparison.mismatch,
                    margin=comparison.margin,
                )
    return [
        wrong.get(place, CheckResult.correct(trial.check, f"parameter {place}", margin=margin))
        for place, margin in enumerate(margins)
    ]


def _drawn(shapes: Sequence[Shape], steps: int, context: CheckContext) -> _Problem:
    return [
        [context.signed(shape, "start", place) for place, shape in enumerate(shapes)],
        [context.signed(shape, "slope", place).abs() for place, shape in enumerate(shapes)],
        [context.signed((steps, *shape), "target", place) for place, shape in enumerate(shapes)],
    ]


def _cast(problem: _Problem, dtype: torch.dtype, device: str = "cpu") -> _Problem:
    return [[x.to(device=device, dtype=dtype) for x in tensors] for tensors in problem]


def _path(
    hold: Any, optimizer: Any, case: Case, problem: _Problem, rounded: Callable[..., Tensor] = lambda x, *names: x
) -> Iterator[Sequence[Tensor]]:
    """The parameters after each step."""
    start, slopes, targets = problem
    parameters = [x.clone() for x in start]
    taken = optimizer(hold(parameters), *case.arguments, **case.options)
    for step in range(len(targets[0])):
        for place, (p, c, a) in enumerate(zip(parameters, slopes, targets, strict=True)):
            gradient = c * (p - a[step])
            p.grad = rounded(gradient, "gradient", step, place)
            p.copy_(rounded(p, "parameter", step, place))
        taken.step()
        yield [p.detach().clone() for p in parameters]


def _guarded(path: Iterator[Sequence[Tensor]], name: str) -> Iterator[Sequence[Tensor]]:
    try:
        yield from path
    except Exception as error:
        raise SubjectError(f"{name} raised {type(error).__name__}: {error}") from error
