"""The derivative of the backward, which a gradient penalty or a Hessian takes: right, or refused."""

from __future__ import annotations

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import largest_entry
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.transforms import OF_TORCH, autograd_subject
from nn_from_scratch.verify.contracts.validity import is_hand_written, nodes_of_functions
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.guarded import GuardedSubject
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects.autograd import AutogradRun, AutogradSubject
from nn_from_scratch.verify.subjects.backward_call import backward_subject, differentiate_all

_ONCE = "mark the backward with torch.autograd.function.once_differentiable, so that it raises"


@contract(order=240, elsewhere=True, torch_limits=True)
def second_order(collector: ComparisonCollector) -> list[CheckResult]:
    """The backward has the right derivative itself (as a gradient penalty takes it), or refuses to be differentiated.

    The map (x, v) -> VJP(x; v) is taken as a subject of its own, whose gradients are those of a double backward. At
    level "quick" only where a part of the backward was written by hand.
    """
    plain = autograd_subject(collector.subject)
    if plain is None:
        reason = f"a subject of the form {collector.subject.form!r} leaves no graph that could be differentiated again"
        return collector.not_applicable(reason)
    if collector.context.level == "quick" and not is_hand_written(collector.subject):
        return collector.not_applicable(OF_TORCH)
    base = collector.base
    backward = backward_subject(plain, base.cotangents)
    try:
        run = backward.run({})
        gradients = run.outputs
        if not any(bool(gradient.any()) for gradient in gradients.values()):
            return collector.not_applicable("the gradient is zero at the given inputs")
        if not any(gradient.requires_grad for gradient in run.raw.values()):
            collector.limit(
                "the backward computes where autograd does not see it (NumPy, no_grad, detach), so that there is no "
                f"second derivative, and beside other terms it is zero without a word; {_ONCE}"
            )
            return collector.close("")
        differentiate_all(run, backward)
    except SubjectError as error:
        return collector.not_applicable(f"second derivative refused: {error}")
    results = check_gradient(_guarded(collector.subject, backward), collector.context)
    if any(result.verdict is Verdict.WRONG for result in results) and not _is_right_once(collector):
        return collector.not_applicable("the first derivative is wrong already")
    saved = _saved_constants(plain)
    for result in results:
        if result.verdict is Verdict.CORRECT:
            collector.agreed()
            collector.margin = max(collector.margin, result.margin or 0.0)
        elif result.verdict is Verdict.WRONG and _is_plain(result, run, collector.context):
            found = {"check": collector.check, "verdict": Verdict.FRAGILE, "reason": _reason(result, saved)}
            collector.results[result.tensor] = result.with_fields(**found, diagnosis=None, snippet=None)
        else:
            collector.details[f"second derivative by {result.tensor}"] = result.reason
    return collector.close("the second derivative could not be decided")


def _guarded(subject: Subject, other: Subject) -> Subject:
    return subject.around(other) if isinstance(subject, GuardedSubject) else other


def _is_right_once(collector: ComparisonCollector) -> bool:
    results = check_gradient(collector.subject, collector.context)
    return not any(result.verdict is Verdict.WRONG for result in results)


def _is_plain(result: CheckResult, run: AutogradRun, context: CheckContext) -> bool:
    """Whether a second derivative is off by more than terms that cancel leave over: a term that is missing is large."""
    found = run.backward(context.cotangents(run.outputs, "second order"))
    mismatch, gradient = result.mismatch, found.get(result.tensor or "")
    if mismatch is None or gradient is None:
        return True
    # In units of the operand: what the backward itself would change by, if the operand grew by all of its size.
    first = max(largest_entry(y) for y in run.outputs.values()) / max(
        largest_entry(run.leaves[result.tensor or ""]), 1.0
    )
    least = constants.PLAIN_SECOND_ORDER * max(largest_entry(gradient), first)
    return not abs(mismatch.analytic - mismatch.numeric) <= least


def _reason(result: CheckResult, saved: str) -> str:
    analytic = result.mismatch.analytic if result.mismatch is not None else result.details.get("analytic")
    where = f"the second derivative by {result.tensor} is silently wrong (the derivative of the backward)"
    if saved:
        why = f"the backward uses {saved}, which autograd takes for a constant; save the inputs and compute it again"
    elif analytic == 0:
        why = f"the backward treats {result.tensor} as a constant, by .detach(), .data, no_grad or NumPy; remove that"
    else:
        why = "a part of the backward is not seen by autograd, or has a wrong derivative; use what autograd records"
    return f"{where}: {why}, or {_ONCE}"


def _saved_constants(subject: AutogradSubject) -> str:
    """What the Functions of a pass saved that is neither an input nor an output, in words; "" if there is nothing."""
    run = subject.run({})
    known = {leaf.data_ptr() for leaf in run.leaves.values()} | {y.data_ptr() for y in run.raw.values()}
    shapes = []
    for node in nodes_of_functions(run.raw.values()):
        try:
            kept = node.saved_tensors
        except RuntimeError:  # they were freed, or changed in place
            continue
        for tensor in kept:
            if tensor is None or tensor.requires_grad or not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            if tensor.data_ptr() not in known:
                shapes.append(str(list(tensor.shape)))
    if not shapes:
        return ""
    return f"what its forward computed and saved (of shape {', '.join(dict.fromkeys(shapes))})"
