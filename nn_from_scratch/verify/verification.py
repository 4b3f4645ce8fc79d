"""`check`: every check over one subject, each within its time, and a report over all of them."""

from __future__ import annotations

import contextlib
import platform
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from nn_from_scratch.errors import ArgumentError, NNFromScratchError, ShapeError, SubjectError
from nn_from_scratch.verify import constants
from nn_from_scratch.verify.arguments import asked_checks, require_arguments, seconds_of
from nn_from_scratch.verify.context import CheckContext, Level, TimeLimitReached
from nn_from_scratch.verify.contracts import CONTRACTS, ELSEWHERE
from nn_from_scratch.verify.deadlines import LimitedThread, prepare, threads_for
from nn_from_scratch.verify.derivative.complexstep import COMPLEX_STEP, check_complex_step
from nn_from_scratch.verify.derivative.gradients import GRADIENT, check_gradient
from nn_from_scratch.verify.guarded import GuardedSubject
from nn_from_scratch.verify.protocol import Subject, SubjectOptions
from nn_from_scratch.verify.randomness import RandomStates, random_sources
from nn_from_scratch.verify.reports import Fragile, Report
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.settings import Settings, warnings_only_where
from nn_from_scratch.verify.snippets import Call, snippet
from nn_from_scratch.verify.subjects import as_subject
from nn_from_scratch.verify.subjects.recognition import plain_name
from nn_from_scratch.verify.subjects.surrogate import surrogate_note, with_surrogate

_Check = Callable[[Subject, CheckContext], "CheckResult | list[CheckResult]"]

_FIRST = "reference_value"
_OTHER_OPTIONS = ("batch", "reference", "surrogate")  # of single checks, and not numbers
REPORT_IT = "please report it to the authors of nn_from_scratch, with the traceback among this result's details"


def _checks() -> dict[str, _Check]:
    """The checks by name, in the order in which they run: the value before the gradient, then the contract."""
    contracts: dict[str, _Check] = dict(CONTRACTS)
    first = {_FIRST: contracts.pop(_FIRST)} if _FIRST in contracts else {}
    return {**first, GRADIENT: check_gradient, COMPLEX_STEP: check_complex_step, **contracts}


def check_names() -> tuple[str, ...]:
    """The names of all checks, in the order in which they run."""
    return tuple(_checks())


def check_descriptions() -> dict[str, str]:
    """What each check asks, in a sentence, by the check's name; in the order in which they run."""
    return {name: (function.__doc__ or "").strip().partition("\n")[0] for name, function in _checks().items()}


def check(
    subject: object,
    *inputs: object,
    checks: str | Collection[str] | None = None,
    level: Level = "quick",
    seed: int = 0,
    time_limit: float | None = constants.TIME_LIMIT,
    factor: float = constants.FACTOR,
    fragile: Fragile = "fail",
    strict: bool = False,
    on_check: Callable[[str], None] | None = None,
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
        fragile: Whether a gradient that is right at the given inputs and silently wrong elsewhere, at an input shown to
            be valid, is a failure ("fail") or is only reported ("report").
        strict: Whether a limit, such as an empty batch at which the backward raises, is a failure too.
        on_check: Called with the name of each check before it runs.
        options: What else is to be said of the subject: `keywords=`, `parameters=`, `mapping=`, `names=`,
            `differentiable=`, `cache=`, `form=`, `name=` (see `protocol.SubjectOptions`); and options of single checks,
            such as `reference=`, `batch=`, `resolution=` or `entry_seconds=`. `surrogate=` is a function of the same
            inputs, on tensors, for a backward that is meant as its derivative (a straight-through estimator).

    Returns:
        The report; its `passed` is True only if something was verified, nothing failed and nothing is undecided.

    Raises:
        ArgumentError: If an argument has a value that makes no sense.
        SubjectError: If the subject is in none of the known forms, or its forward raises.
    """
    began = time.monotonic()
    selected = _selected(checks)
    require_arguments(
        level=level,
        fragile=fragile,
        options=options,
        known={*constants.NUMBERS_OF_CHECKS, *_OTHER_OPTIONS, *(field.name for field in fields(SubjectOptions))},
        seed=seed,
        time_limit=time_limit,
        factor=factor,
        strict=strict,
        on_check=on_check,
    )
    seed, factor, time_limit = int(seed), float(factor), seconds_of(time_limit)  # NumPy's numbers are none of JSON's
    options = {name: value for name, value in options.items() if value is not None}
    of_subject = {field.name: options.pop(field.name) for field in fields(SubjectOptions) if field.name in options}
    context = CheckContext(seed=seed, level=level, factor=factor, options=options)
    given = {name: value for name, value in {**of_subject, **options}.items() if value is not None}
    call = Call(subject=subject, inputs=inputs, arguments=given)
    prepare()
    device = torch.get_default_device()
    placed = contextlib.nullcontext() if device.type == "cpu" else device
    # What somebody looks for in anomaly mode is not in the verifier's own passes, some of which hand over NaN.
    with (
        threads_for(inputs),
        torch.autograd.set_detect_anomaly(False),
        contextlib.closing(Settings()) as settings,
        contextlib.closing(LimitedThread()) as thread,
        contextlib.closing(RandomStates(random_sources(subject, (inputs, of_subject.get("keywords"))))) as random,
    ):
        surrogate = options.get("surrogate")

        def recognized() -> tuple[Subject, Subject]:
            with placed:
                found = as_subject(subject, *inputs, **of_subject)
                if surrogate is None:
                    return found, found
                return found, with_surrogate(found, surrogate, inputs, of_subject.get("keywords"))

        try:
            plain, differentiated = thread.run(recognized, limit=time_limit)
        except TimeLimitReached:
            raise SubjectError("the subject's forward did not return in time.") from None
        except NNFromScratchError:
            raise
        except Exception as error:  # the verifier's own: it is reported as that, and never reaches the user
            return Report(
                subject=str(of_subject.get("name") or plain_name(subject)),
                form="not recognized",
                results=(_own_error("recognition", error),),
                environment=machine(),
                seed=seed,
                level=level,
                seconds=time.monotonic() - began,
            )
        settings.restore()
        ready = GuardedSubject(plain, context, random.drawn(), placed=placed)
        # Where differences of values are what a gradient is compared with, the surrogate gives the values.
        compared = GuardedSubject(differentiated, context, ready.random, placed=placed)
        results: list[CheckResult] = []
        for name, function in selected.items():
            if on_check is not None:
                on_check(name)
            by_values = name in (GRADIENT, COMPLEX_STEP) or name in ELSEWHERE
            called = compared if by_values else ready
            with warnings_only_where(called.at_given_values):
                results += _results_of(name, function, called, context, thread, time_limit)
            settings.restore()
        for place, result in enumerate(results):
            if result.verdict in (Verdict.WRONG, Verdict.FRAGILE) and result.snippet is None:
                with contextlib.suppress(Exception):  # a finding without a snippet is better than none
                    results[place] = result.with_fields(snippet=snippet(call, result, context))
        settings.restore(ended=True)
        conventions = [f"{r.label}: {r.reason}" for r in results if r.verdict is Verdict.CORRECT and r.reason]
        return Report(
            subject=ready.name,
            form=ready.form,
            results=tuple(results),
            environment=environment(ready),
            seed=seed,
            level=level,
            seconds=time.monotonic() - began,
            notes=(
                *ready.notes,
                *_declared(surrogate),
                *_left_out(ready, given),
                *_drawn(ready),
                *settings.notes(),
                *conventions,
            ),
            fragile=fragile,
            strict=strict,
        )


def _results_of(
    name: str,
    function: _Check,
    subject: GuardedSubject,
    context: CheckContext,
    thread: LimitedThread,
    limit: float | None,
) -> list[CheckResult]:
    began = time.monotonic()
    timed = replace(context, deadline=None if limit is None else began + limit, random=bool(subject.random))

    def run() -> CheckResult | list[CheckResult]:
        subject.context = timed  # here and not before: a call that is late still looks at its own deadline
        subject.draw = 0
        with contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
            found = function(subject, timed)
            while name == GRADIENT and subject.random and _all_correct(found) and subject.draw < constants.DRAWS - 1:
                subject.draw += 1
                found = function(subject, timed)
        return found

    try:
        found = thread.run(run, limit=limit)
    except TimeLimitReached as late:
        # Other inputs than the given ones may take any time, which says nothing about the gradient.
        late_result = CheckResult.not_applicable if name in ELSEWHERE else CheckResult.undecided
        found = late_result(name, str(late), details={"time_limit": limit})
    except SubjectError as error:
        found = CheckResult.wrong(name, reason=str(error))
    except ShapeError as error:
        found = _own_error(name, error)
    except ArgumentError:
        raise  # an option of this check that makes no sense
    except Exception as error:  # the verifier's own: it says nothing of the subject
        found = _own_error(name, error)
    except BaseException:
        subject.context = replace(timed, deadline=began)  # Ctrl-C: what still runs ends at its next safe point
        raise
    results = [found] if isinstance(found, CheckResult) else list(found)
    if len(results) == 1 and not results[0].seconds:
        results = [results[0].with_fields(seconds=time.monotonic() - began)]
    return results


def _all_correct(found: CheckResult | list[CheckResult]) -> bool:
    return all(r.verdict is Verdict.CORRECT for r in ([found] if isinstance(found, CheckResult) else found))


def _own_error(name: str, error: Exception) -> CheckResult:
    """The result of a check that raised: nothing is known of the subject then."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    reason = (
        f"an error of the verifier, not of the subject: {type(error).__name__}: {text} ({Path(where.filename).name}, "
        f"line {where.lineno}); {REPORT_IT}"
    )
    lines = "".join(traceback.format_exception(error))
    return CheckResult.undecided(name, reason, details={"traceback": lines})


def _selected(checks: str | Collection[str] | None) -> dict[str, _Check]:
    known = _checks()
    asked = asked_checks(checks, known)
    if asked is None:
        return known
    wanted = {entry for entry in asked if not entry.startswith("-")}
    unwanted = {entry[1:] for entry in asked if entry.startswith("-")}
    chosen = {key: f for key, f in known.items() if (not wanted or key in wanted) and key not in unwanted}
    if not chosen:
        raise ArgumentError(f"checks={checks!r} selects no check; it should leave at least one.")
    return chosen


def _left_out(subject: Subject, options: Mapping[str, object]) -> list[str]:
    """Notes for the tensors whose gradients are not looked at, so that none is taken for checked."""
    asked = any(operand.required for operand in subject.operands if operand.role == "input")
    why: dict[str, list[str]] = {}
    for operand in subject.operands:
        if operand.differentiable or not (operand.value.is_floating_point() or operand.value.is_complex()):
            continue
        if operand.role == "parameter":
            reason = "not differentiable, as it was given"
        elif "differentiable" in options:
            reason = "not among differentiable="
        elif not asked:
            reason = "the backward gives none"
        else:
            reason = "other inputs require grad, and these do not"
        why.setdefault(reason, []).append(operand.name)
    return [f"no gradient is looked at for {', '.join(names)}: {reason}" for reason, names in why.items()]


def _declared(surrogate: object) -> list[str]:
    return [] if surrogate is None else [surrogate_note(surrogate)]


def _drawn(subject: GuardedSubject) -> list[str]:
    """A note for the random numbers that a subject draws, as they are what everything is said for."""
    if not subject.random:
        return []
    names = ", ".join(source.name for source in subject.random)
    return [f"draws random numbers ({names}): every forward is given the same ones, and every backward others"]


def environment(subject: Subject) -> dict[str, str]:
    """Where a subject was checked: versions, platform, threads, and its dtypes and devices."""
    dtypes = sorted({str(operand.value.dtype).removeprefix("torch.") for operand in subject.operands})
    devices = sorted({str(operand.value.device) for operand in subject.operands})
    return {**machine(), "dtype": ", ".join(dtypes), "device": ", ".join(devices)}


def machine() -> dict[str, str]:
    """Versions, platform and threads."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
