"""The same backward in float32, bfloat16 and float16, against itself in float64 on the same rounded inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import (
    Pass,
    draw_cotangents,
    gradients_of,
    is_finite,
    largest_entry,
    rounding_noise,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=220, elsewhere=True)
def low_precision(collector: ComparisonCollector) -> list[CheckResult]:
    """In each low dtype the gradient is that of float64 on the same rounded inputs, up to what rounding explains.

    The bound is measured, in the largest entry of each tensor: how far one rounding of the inputs and the
    cotangent to that dtype moves the float64 gradient, plus one rounding of the gradient itself; times how
    much more than that the subject's forward loses in the same dtype; times a share of the context's factor.
    """
    subject = collector.subject
    if not subject.traits.dtypes:
        return collector.not_applicable(f"this {subject.form} has one dtype")
    start = starting_values(subject)
    if not collector.differentiable:
        return collector.not_applicable("no input and no parameter is a real floating-point tensor")
    skipped: dict[str, str] = {}
    remarks: dict[str, str] = {}
    for name in constants.LOW_DTYPES:
        dtype: torch.dtype = getattr(torch, name)
        lost = [n for n, x in start.items() if x.is_floating_point() and _underflows(x, dtype)]
        if lost:
            skipped[name] = f"{', '.join(lost)} underflows"
            continue
        rounded = _cast(start, dtype)
        exact = _cast(rounded, torch.float64)
        try:
            wide = subject.run(exact).outputs
        except SubjectError as error:
            return collector.not_applicable(f"there is no float64 to compare with: {error}")
        if any(y.is_floating_point() and y.dtype != torch.float64 for y in wide.values()):
            return collector.not_applicable("the forward does not compute in float64 on float64 inputs")
        drawn = draw_cotangents(wide, collector.context, "low_precision", name)
        cotangents = _cast(_cast(drawn, dtype), torch.float64)
        try:
            narrow = subject.forward(rounded)
        except SubjectError as error:
            if subject.traits.devices or dtype != torch.bfloat16:  # which NumPy's arrays do not have
                collector.limit(f"in {name} the forward does not run: {error}")
            else:
                skipped[name] = f"the forward does not run: {error}"
            continue
        if narrow.keys() & cotangents and all(narrow[n].dtype == torch.float64 for n in narrow.keys() & cotangents):
            remarks[name] = "computes in float64 whatever its inputs are"
        right = _pass(subject, exact, cotangents)
        if not is_finite(right.outputs) or not is_finite(right.gradients):
            skipped[name] = "the float64 value or gradient is not finite"
            continue
        try:
            low = _pass(subject, rounded, cotangents)
        except SubjectError as error:
            collector.limit(f"in {name} {error}")
            continue
        why = _compare(collector, dtype, right, low)
        if why:
            skipped[name] = why
    if skipped:
        collector.details["not run"] = skipped
    if remarks:
        collector.details["dtypes"] = remarks
    return collector.close(f"no low dtype could be run ({'; '.join(f'{n}: {why}' for n, why in skipped.items())})")


def _underflows(x: Tensor, dtype: torch.dtype) -> bool:
    return 0 < largest_entry(x) < torch.finfo(dtype).tiny


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def _pass(subject: Subject, values: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> Pass:
    run = subject.run(values)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    cast = {name: c.to(outputs[name].dtype) for name, c in cotangents.items()}
    return Pass(values=values, cotangents=cotangents, outputs=outputs, gradients=gradients_of(run, cast))


def _compare(collector: ComparisonCollector, dtype: torch.dtype, right: Pass, low: Pass) -> str | None:
    """Compare the gradients in a low dtype with those in float64; why not, if the forward has lost its value there."""
    info = torch.finfo(dtype)
    name = str(dtype).removeprefix("torch.")
    # The larger of two estimates: rounding the inputs to the low dtype, and what rounding does inside in float64.
    finest = torch.finfo(torch.float64).eps
    noise, fine = (rounding_noise(collector.subject, right, collector.context, eps=e) for e in (info.eps, finest))
    for key, level in fine.items():
        noise[key] = max(noise.get(key, 0.0), level * info.eps / finest)

    def explained(key: str, tensor: Tensor) -> float:
        return noise.get(key, 0.0) + info.eps * largest_entry(tensor) + info.tiny * info.eps

    loss = 1.0
    for output, y in right.outputs.items():
        if output not in right.cotangents or not y.numel():
            continue
        level = largest_entry(low.outputs[output].double() - y)
        if not math.isfinite(level):
            return f"the value of {output} overflows"
        if _underflows(y, dtype):
            return f"the value of {output} underflows"
        loss = max(loss, level / explained(f"output {output}", y))
    if loss > constants.MOST_FORWARD_LOSS:
        return f"the forward value is off by {loss:.0f} times what rounding explains"
    for operand, gradient in right.gradients.items():
        found = low.gradients[operand]
        if gradient is None or found is None:
            if gradient is not found:
                there = "missing" if found is None else "there"
                collector.wrong(f"in {name} the gradient is {there}, unlike float64", operand)
            continue
        if largest_entry(gradient) > constants.RANGE_SHARE * info.max:
            continue  # it does not fit, and says so by being infinite
        allowed = constants.ROUNDING_SHARE * collector.context.factor * loss * explained(operand, gradient)
        when = f"the {name} gradient differs from the float64 one on the same rounded inputs"
        collector.tensor(operand, found.double(), gradient, allowed, when=when)
    return None
