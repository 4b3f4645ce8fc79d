"""`check`: every check over one subject, each within its time, and a report over all of them."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.context import CheckContext, Level, TimeLimitReached
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.deadlines import Worker, threads_for
from nn_from_scratch.verify.derivative.complexstep import COMPLEX_STEP, check_complex_step
from nn_from_scratch.verify.derivative.gradients import GRADIENT, check_gradient
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.reproduce import Call, snippet
from nn_from_scratch.verify.results import CheckResult, Report, Verdict
from nn_from_scratch.verify.subjects import as_subject

__all__ = ["CheckFunction", "check", "check_names", "environment", "machine", "verify_subject"]

CheckFunction = Callable[[Subject, CheckContext], "CheckResult | list[CheckResult]"]

_FIRST = "reference_value"
_TIME_LIMIT = 60.0


def _checks() -> dict[str, CheckFunction]:
    """The checks by name, in the order in which they run: the value before the gradient, then the contract."""
    contracts: dict[str, CheckFunction] = dict(CONTRACTS)
    first = {_FIRST: contracts.pop(_FIRST)} if _FIRST in contracts else {}
    return {**first, GRADIENT: check_gradient, COMPLEX_STEP: check_complex_step, **contracts}


def check_names() -> tuple[str, ...]:
    """The names of all checks, in the order in which they run."""
    return tuple(_checks())


def check(
    subject: object,
    *inputs: object,
    checks: str | Collection[str] | None = None,
    level: Level = "quick",
    seed: int = 0,
    time_limit: float | None = _TIME_LIMIT,
    factor: float = 10.0,
    keywords: Mapping[str, object] | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    mapping: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    differentiable: Collection[str] | None = None,
    cache: bool | None = None,
    form: str | None = None,
    name: str | None = None,
    **options: Any,
) -> Report:
    """Check a hand-written backward against its own forward, and against what a backward must keep.

    Args:
        subject: An engine module, a `torch.nn.Module`, a `torch.autograd.Function` or any callable that autograd
            differentiates, a pair `(forward, backward)` on tensors or arrays, or a layer object; or a `Subject`.
        inputs: What to call it with; tensors or arrays of any shape, and anything else that it takes.
        checks: Which checks to run, by name (`check_names()`); a name with a minus in front leaves that check out.
            All by default.
        level: "quick", or "full" for more directions and larger whole gradients.
        seed: Determines every draw.
        time_limit: Seconds that a single check may take; None for no limit.
        factor: A difference is wrong above this many error estimates.
        keywords: Further arguments of the subject, by name.
        parameters: For a callable: tensors that it captures, beside those that are found.
        mapping: For a layer object: where the gradient of each parameter is, by dotted path.
        names: What to call the inputs.
        differentiable: The inputs whose gradients are checked; by default those that require grad, or all
            floating-point ones where none does.
        cache: For a pair: whether the forward returns `(y, cache)`.
        form: Which form the subject has, where it could be taken for several.
        name: What to call the subject.
        options: Options of single checks, such as `reference=`, `resolution=` or `entry_seconds=`.

    Returns:
        The report. `report.passed` is True only if something was checked and everything that was is correct.

    Raises:
        ArgumentError: If an argument has a value that makes no sense.
        SubjectError: If the subject is in none of the known forms, or its forward raises.
    """
    began = time.monotonic()
    selected = _selected(checks)
    if level not in get_args(Level):
        raise ArgumentError(f"level={level!r} should be one of {', '.join(get_args(Level))}.")
    if time_limit is not None and not time_limit > 0:
        raise ArgumentError(f"time_limit={time_limit!r} should be a positive number of seconds, or None.")
    if not factor > 0:
        raise ArgumentError(f"factor={factor!r} should be positive.")
    context = CheckContext(seed=seed, level=level, factor=factor, options=options)

    def adapted() -> Subject:
        return as_subject(
            subject,
            *inputs,
            keywords=keywords,
            parameters=parameters,
            mapping=mapping,
            names=names,
            differentiable=differentiable,
            cache=cache,
            form=form,
            name=name,
        )

    with threads_for(inputs), contextlib.closing(Worker()) as worker:
        ready = _within(worker, adapted, time_limit, SubjectError("the subject's forward did not return in time."))
        given = {
            "keywords": keywords,
            "parameters": parameters,
            "mapping": mapping,
            "names": names,
            "differentiable": differentiable,
            "cache": cache,
            "form": form,
            "name": name,
            **options,
        }
        arguments = {key: value for key, value in given.items() if value is not None}
        call = Call(subject=subject, inputs=inputs, arguments=arguments)
        return _verified(ready, selected, context, worker, time_limit, began, call)


def verify_subject(
    subject: Subject,
    *,
    checks: str | Collection[str] | None = None,
    context: CheckContext | None = None,
    time_limit: float | None = _TIME_LIMIT,
) -> Report:
    """As `check`, for something that already follows the protocol.

    Args:
        subject: The subject.
        checks: As in `check`.
        context: Seed, level, factor and options.
        time_limit: As in `check`.

    Returns:
        The report.
    """
    worker = Worker()
    try:
        chosen = context or CheckContext()
        return _verified(subject, _selected(checks), chosen, worker, time_limit, time.monotonic(), None)
    finally:
        worker.close()


def _verified(
    subject: Subject,
    selected: Mapping[str, CheckFunction],
    context: CheckContext,
    worker: Worker,
    time_limit: float | None,
    began: float,
    call: Call | None,
) -> Report:
    results: list[CheckResult] = []
    for check_name, function in selected.items():
        results += _run_one(subject, check_name, function, context, worker, time_limit)
    if call is not None:
        results = [_reproducible(result, call, context) for result in results]
    return Report(
        subject=subject.name,
        form=subject.form,
        results=tuple(results),
        environment=environment(subject),
        seed=context.seed,
        level=context.level,
        seconds=time.monotonic() - began,
        notes=(*subject.notes, *_left_out(subject, call), *_conventions(results)),
    )


def _run_one(
    subject: Subject,
    check_name: str,
    function: CheckFunction,
    context: CheckContext,
    worker: Worker,
    time_limit: float | None,
) -> list[CheckResult]:
    began = time.monotonic()
    deadline = None if time_limit is None else began + time_limit
    timed = replace(context, deadline=deadline)
    try:
        found = _within(worker, lambda: function(subject, timed), time_limit, None)
    except TimeLimitReached:
        reason = f"it did not return within the time limit of {time_limit:g} s"
        found = CheckResult.undecided(check_name, reason, details={"time_limit": time_limit})
    except SubjectError as error:
        found = CheckResult.wrong(check_name, reason=str(error))
    results = [found] if isinstance(found, CheckResult) else list(found)
    seconds = time.monotonic() - began
    if len(results) == 1 and not results[0].seconds:
        results = [results[0].with_fields(seconds=seconds)]
    return results


def _within(worker: Worker, task: Callable[[], Any], limit: float | None, late: Exception | None) -> Any:
    if limit is None:
        return task()
    try:
        return worker.run(task, limit=limit)
    except TimeLimitReached:
        if late is None:
            raise
        raise late from None


def _selected(checks: str | Collection[str] | None) -> dict[str, CheckFunction]:
    known = _checks()
    if checks is None:
        return known
    asked = [part.strip() for part in checks.split(",")] if isinstance(checks, str) else list(checks)
    for entry in asked:
        if entry.removeprefix("-") not in known:
            raise ArgumentError(f"checks={entry!r} should be among {', '.join(known)}, or one of them after a minus.")
    wanted = {entry for entry in asked if not entry.startswith("-")}
    unwanted = {entry[1:] for entry in asked if entry.startswith("-")}
    chosen = {key: f for key, f in known.items() if (not wanted or key in wanted) and key not in unwanted}
    if not chosen:
        raise ArgumentError(f"checks={checks!r} selects no check; it should leave at least one.")
    return chosen


def _reproducible(result: CheckResult, call: Call, context: CheckContext) -> CheckResult:
    if result.verdict is not Verdict.WRONG or result.snippet is not None:
        return result
    return result.with_fields(snippet=snippet(call, result, context))


def _conventions(results: Sequence[CheckResult]) -> list[str]:
    return [f"{r.label}: {r.reason}" for r in results if r.verdict is Verdict.CORRECT and r.reason]


def _left_out(subject: Subject, call: Call | None) -> list[str]:
    """A note for the inputs that are not looked at because others require grad; nobody may take them for checked."""
    if call is None or "differentiable" in call.arguments:
        return []
    names = [
        slot.name
        for slot in subject.operands
        if slot.role == "input" and slot.value.is_floating_point() and not slot.differentiable
    ]
    if not names:
        return []
    return [f"no gradient is looked at for {', '.join(names)}: other inputs require grad, and these do not"]


def environment(subject: Subject) -> dict[str, str]:
    """Where a subject was checked: versions, platform, threads, and its dtypes and devices."""
    dtypes = sorted({str(slot.value.dtype).removeprefix("torch.") for slot in subject.operands})
    devices = sorted({str(slot.value.device) for slot in subject.operands})
    return {**machine(), "dtype": ", ".join(dtypes), "device": ", ".join(devices)}


def machine() -> dict[str, str]:
    """Versions, platform and threads."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
