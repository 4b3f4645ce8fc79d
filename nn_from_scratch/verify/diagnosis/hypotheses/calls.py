"""Several calls or several uses: stale records, overwritten accumulation, a missing term."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

__all__ = ["accumulated", "missing_term", "mistaken", "previous_call"]


def previous_call(problem: Problem) -> Iterator[Explanation]:
    """The gradient of the previous call, alone or added to the right one."""
    earlier = problem.context.previous_gradient
    if earlier is None or earlier.shape != problem.analytic.shape or not problem.same_shape:
        return
    before = plain(earlier)
    yield Explanation(
        "stale-record",
        "calls",
        "is that of the previous call: the backward used a stale record",
        2,
        problem.known(before),
    )
    yield Explanation(
        "not-cleared",
        "calls",
        "still contains that of the previous call: it was added to, and should have been cleared",
        3,
        problem.known(problem.numeric + before),
    )


def accumulated(problem: Problem) -> Iterator[Explanation]:
    """What should have been added to a `.grad` that was not empty."""
    initial = problem.context.initial_grad
    if initial is None or not problem.same_shape or initial.shape != problem.numeric.shape:
        return
    start = plain(initial)
    added = problem.numeric - start
    for kind, value, claim in (
        ("overwritten", added, "overwrites what `.grad` held, where it should be added to it"),
        ("accumulated-twice", start + 2 * added, "is added twice to what `.grad` held"),
        ("not-accumulated", start, "is not added to what `.grad` held"),
        ("accumulated-twice", 2 * start + added, "is added to twice what `.grad` held"),
        ("subtracted", start - added, "is subtracted from what `.grad` held, where it should be added"),
        ("only-previous-doubled", 2 * start, "only doubles what `.grad` held"),
    ):
        yield Explanation(kind, "calls", claim, 1.5, problem.known(value), scalable=False)


def missing_term(problem: Problem) -> Iterator[Explanation]:
    """One of the named parts that add up to the gradient is missing, alone, doubled, or of the wrong sign."""
    if not problem.same_shape:
        return
    parts = {
        name: plain(part) for name, part in problem.context.contributions.items() if part.shape == problem.numeric.shape
    }
    g = problem.context.only_cotangent
    if g is not None and g.shape == problem.numeric.shape and not parts and not g.is_complex():
        yield from term_faults(problem, {"a skip connection (the cotangent itself)": plain(g)}, complexity=3.3)
    yield from term_faults(problem, parts)


def term_faults(problem: Problem, parts: Mapping[str, Tensor], *, complexity: float = 3.0) -> Iterator[Explanation]:
    """The faults that one part of a sum can have."""
    for name, part in parts.items():
        for kind, value, claim in (
            ("term-missing", problem.numeric - part, f"lacks the contribution of {name}"),
            ("one-term-only", part, f"has the contribution of {name} alone"),
            ("term-doubled", problem.numeric + part, f"counts the contribution of {name} twice"),
            ("term-sign", problem.numeric - 2 * part, f"has the contribution of {name} with the wrong sign"),
        ):
            yield Explanation(
                kind, "terms", claim, complexity, problem.known(value), scalable=False, details={"term": name}
            )


def mistaken(problem: Problem) -> Iterator[Explanation]:
    """A right gradient in the wrong place: that of another tensor, or of another call."""
    context = problem.context
    others = [(f"that of {name!r}", tensor, "swapped-gradients") for name, tensor in context.numeric_gradients.items()]
    others += [(phrase, tensor, "mistaken") for phrase, tensor in context.known_gradients.items()]
    for phrase, tensor, kind in others:
        if tensor.shape != problem.analytic.shape or phrase == f"that of {context.name!r}":
            continue
        yield Explanation(kind, "calls", f"is {phrase}", 2, problem.known(plain(tensor)), details={"of": phrase})
