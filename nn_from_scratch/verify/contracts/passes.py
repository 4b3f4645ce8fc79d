"""Several forward and backward passes: equal ones agree, and nothing of one leaks into another."""

from __future__ import annotations

import math

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import (
    baseline_pass,
    changed_values,
    cloned,
    gradients_of,
    largest_entry,
    rounding,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import starting_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=20)
def determinism(collector: ComparisonCollector) -> list[CheckResult]:
    """Passes with the same values and cotangents give the same outputs and gradients.

    The tolerance is rounding in another order, as measured on the subject; the option `nondeterminism`
    (relative to the largest entry of a gradient) replaces it. A forward that differs is undecided: a random
    draw is not wrong, but no gradient can be verified through it.
    """
    subject = collector.subject
    values = starting_values(subject)
    first = subject.forward(values)
    for _ in range(constants.EQUAL_PASSES - 1):
        for name, y in subject.forward(values).items():
            if y.shape != first[name].shape:
                return collector.undecided(f"nondeterministic: {name} has another shape in the next pass")
            same = (y == first[name]) | ((y != y) & (first[name] != first[name]))
            numbers = y.is_floating_point() or y.is_complex()
            moved = 0.0 if bool(same.all()) else largest_entry(y - first[name]) if numbers else math.inf
            # Sums may be taken in another order each time.
            if not moved <= constants.MOST_ROUNDINGS * rounding(first[name]):
                reason = f"nondeterministic: two identical forward passes differ by up to {moved:.2g} in {name}"
                return collector.undecided(reason)
    base = baseline_pass(subject, collector.context)
    if not base.cotangents or not collector.differentiable:
        return collector.not_applicable("no real floating-point tensor goes in or comes out")
    tolerance = collector.context.option("nondeterminism", None)
    right = collector.filled(base.gradients)
    levels: dict[str, float] = {}

    def allowed(name: str) -> float:
        if tolerance is None:
            # What rounding was measured to do includes the nondeterminism itself, so it is bounded.
            return min(base.allowed(name), constants.MOST_ROUNDINGS * rounding(right[name]))
        return float(tolerance) * largest_entry(right[name])

    for _ in range(constants.EQUAL_PASSES - 1):
        again = collector.filled(gradients_of(subject.run(base.values), base.cotangents))
        collector.gradients(again, right, allowed=allowed, when="between two identical passes")
        for name, gradient in again.items():
            if gradient.shape == right[name].shape and gradient.numel():
                moved = largest_entry((gradient - right[name]).nan_to_num())
                levels[name] = max(levels.get(name, 0.0), moved)
    collector.details["largest difference between passes"] = levels
    collector.details["tolerance"] = (
        f"rounding as measured, at most {constants.MOST_ROUNDINGS:g} roundings of the largest entry"
        if tolerance is None
        else f"{tolerance:g} of the largest entry"
    )
    return collector.close("the subject returned no gradient")


@contract(order=100)
def two_forwards(collector: ComparisonCollector) -> list[CheckResult]:
    """Two forward passes, then both backwards in either order: each gradient is that of its own pass.

    Likewise with a forward without gradient recording (an evaluation) between a forward and its backward.
    """
    subject = collector.subject
    if not subject.traits.several_pending:
        return collector.not_applicable(f"a subject of the form {subject.form!r} remembers one forward pass")
    base = collector.base
    values = changed_values(subject, collector.context, base.values)
    if values is None:
        return collector.not_applicable("no other inputs were found at which the forward is finite")
    second = baseline_pass(subject, collector.context, "second", values=values)

    def allowed(name: str) -> float:
        return max(base.allowed(name), second.allowed(name))

    for order, text in (
        ((0, 1), "first backward first"),
        ((1, 0), "second backward first"),
        ((0,), "first backward only"),
    ):
        one = subject.run(base.values)
        two = subject.run(values, beside=one)
        for which in order:
            name, run, alone = (("first", one, base), ("second", two, second))[which]
            when = f"of the {name} of two forward passes ({text}) from that of the same pass alone"
            collector.gradients(gradients_of(run, alone.cotangents), alone.gradients, allowed=allowed, when=when)
    one = subject.run(base.values)
    subject.forward(values)
    when = "when a forward without recording comes before the backward"
    collector.gradients(gradients_of(one, base.cotangents), base.gradients, allowed=allowed, when=when)
    return collector.close("no gradient was returned")


@contract(order=110)
def backward_twice(collector: ComparisonCollector) -> list[CheckResult]:
    """Several backwards after one forward, with two cotangents in turn, each as after a forward of its own."""
    subject = collector.subject
    if not subject.traits.backward_twice:
        return collector.not_applicable(f"a subject of the form {subject.form!r} may use up what the forward left")
    base = collector.base
    other = collector.other_cotangents()
    first = (base.cotangents, base.gradients)
    second = (other, collector.vjp(other))
    run = subject.run(base.values)
    for turn, (cotangents, right) in enumerate((first, second, first), start=1):
        when = f"in backward {turn} of 3 after one forward"
        collector.gradients(gradients_of(run, cotangents), right, when=when)
    return collector.close("no gradient was returned")


@contract(order=120)
def accumulation(collector: ComparisonCollector) -> list[CheckResult]:
    """A backward that leaves gradients in fields adds to what is there: `+=`, not `=`."""
    subject = collector.subject
    how = subject.traits.parameter_gradients
    if how == "returned":
        return collector.not_applicable("the gradients are returned")
    if how == "overwrites":
        return collector.not_applicable("this layer overwrites its gradients, every one")
    base = collector.base
    parameters = [operand for operand in collector.differentiable if operand.role == "parameter"]
    if not parameters:
        return collector.not_applicable("the subject has no parameters")
    alone = collector.filled(base.gradients)
    held: dict[str, Tensor] = {}
    for operand in parameters:
        x = operand.value
        drawn = collector.context.signed(x.shape, "accumulation", operand.name, dtype=x.dtype, device=x.device)
        # As large as the gradient, so that the sum keeps its digits.
        held[operand.name] = drawn * (largest_entry(alone[operand.name]) or 1.0)
    cotangents = {name: c.clone() for name, c in base.cotangents.items()}
    onto = cloned(subject.run(base.values).backward_onto(cotangents, cloned(held)))
    for name, start in held.items():
        total = onto[name]
        if total is None:
            collector.wrong(f"the gradient that {name} held before the backward is gone after it", name)
            continue
        when = "gradient held before + gradient of this backward is not what the parameter holds after it"
        collector.tensor(name, total, start + alone[name], base.allowed(name), when=when)
    return collector.close("no parameter has a gradient")


@contract(order=130)
def tensor_used_twice(collector: ComparisonCollector) -> list[CheckResult]:
    """One tensor goes through the subject twice, and one backward goes through both uses: the gradients add up."""
    subject = collector.subject
    if not subject.traits.several_pending:
        return collector.not_applicable(f"a subject of the form {subject.form!r} remembers one forward pass")
    if subject.form == "pair":
        return collector.not_applicable("nothing sums the gradients of several calls of a pair")
    base = collector.base
    other = collector.other_cotangents()
    second = collector.filled(collector.vjp(other))
    expected = {name: gradient + second[name] for name, gradient in collector.filled(base.gradients).items()}
    one = subject.run(base.values)
    try:
        two = subject.run({}, beside=one)
    except SubjectError as error:
        raise SubjectError(f"a second forward on the same tensors fails: {error}") from error
    cotangents = [{name: c.clone() for name, c in given.items()} for given in (base.cotangents, other)]
    found = cloned(subject.backward_together([one, two], cotangents))
    when = "from the sum over both uses of the same tensors"
    collector.gradients(found, expected, times=constants.COMBINED, when=when)
    return collector.close("no gradient was returned")
