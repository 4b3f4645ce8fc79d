"""Forward mode: the tangents that a subject gives under dual numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad

from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import draw_cotangents
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.transforms import PlainFunction, attempted, plain_function
from nn_from_scratch.verify.derivative.linearization import flatten, magnitude, working_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=242, torch_limits=True)
def forward_mode(collector: ComparisonCollector) -> list[CheckResult]:
    """The tangent of forward mode is the derivative that the backward and finite differences give: <v, Ju> = <J'v, u>.

    One tensor is moved at a time. A tangent is wrong only where differences of the forward contradict it plainly. At
    level "quick" only where a part of the backward was written by hand.
    """
    function = plain_function(collector)
    if isinstance(function, str):
        return collector.not_applicable(function)
    collector.elsewhere = not function.is_hand_written  # what PyTorch's own formulas give is a limit
    values, _ = working_values(collector.subject)
    run = collector.subject.run(values)
    cotangents = draw_cotangents(run.outputs, collector.context, "forward mode")
    if not cotangents:
        return collector.not_applicable("no output is a real floating-point tensor")
    gradients = collector.filled(run.backward(cotangents))
    for operand in function.operands:
        x = values[operand.name]
        u = collector.context.signed(x.shape, "tangent", operand.name, dtype=x.dtype, device=x.device) * magnitude(x)
        tangents, refused = attempted(partial(_tangents, function, values, operand.name, u))
        if refused:
            if not collector.compared:
                return collector.not_applicable(f"no forward mode: {refused}")
            collector.limit(f"no forward mode by {operand.name}: {refused}")
            continue
        collector.agreed()
        _compare(collector, function, values, operand.name, u, cotangents, gradients[operand.name], tangents)
    return collector.close("no tensor has a tangent")


def _tangents(function: PlainFunction, values: Mapping[str, Tensor], name: str, u: Tensor) -> dict[str, Tensor]:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(values[name].clone(), u.clone())  # type: ignore[no-untyped-call]
        outputs = function({**values, name: dual})
        unpacked = {o: forward_ad.unpack_dual(y) for o, y in outputs.items()}  # type: ignore[no-untyped-call]
        return {
            output: torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent.clone()
            for output, dual in unpacked.items()
        }


def _compare(
    collector: ComparisonCollector,
    function: PlainFunction,
    values: Mapping[str, Tensor],
    name: str,
    u: Tensor,
    cotangents: Mapping[str, Tensor],
    gradient: Tensor,
    tangents: Mapping[str, Tensor],
) -> None:
    for output, v in cotangents.items():
        if tangents[output].shape != v.shape:
            shapes = f"{list(tangents[output].shape)}, which should be {list(v.shape)}"
            collector.wrong(f"in forward mode the tangent of {output} by {name} has the shape {shapes}", name)
            return
    forward = _product(cotangents, tangents)
    terms = (gradient * u).double()
    reverse, size = float(terms.sum()), float(terms.abs().sum())
    size = max(size, sum(float((v * tangents[output]).abs().sum()) for output, v in cotangents.items()))
    apart = abs(forward - reverse)
    allowed = constants.PLAIN_DIFFERENCE * size + torch.finfo(gradient.dtype).tiny
    if apart <= allowed:
        collector.margin = max(collector.margin, apart / allowed)
        return
    slopes = [_slope(collector, values, name, u, cotangents, step) for step in constants.PLAIN_STEPS]
    slope = min(slopes, key=lambda s: abs(s - reverse))
    # The backward is confirmed by the forward, and the tangent is not: else the gradient check has more to say.
    if not math.isfinite(slope) or abs(slope - reverse) > constants.SHARE_OF_TANGENT * abs(forward - slope):
        collector.details[f"forward mode by {name}"] = f"{forward:.9g}, backward {reverse:.9g}, differences {slope:.9g}"
        return
    collector.wrong(
        f"the tangent of forward mode by {name} is wrong: along a random direction it gives {forward:.9g}, where the "
        f"backward gives {reverse:.9g} and differences of the forward {slope:.9g}{_named(forward, reverse)}",
        name,
    )


def _product(cotangents: Mapping[str, Tensor], tangents: Mapping[str, Tensor]) -> float:
    return sum(float((v * tangents[output]).double().sum()) for output, v in cotangents.items())


def _slope(
    collector: ComparisonCollector,
    values: Mapping[str, Tensor],
    name: str,
    u: Tensor,
    cotangents: Mapping[str, Tensor],
    step: float,
) -> float:
    ahead, behind = (collector.subject.forward({**values, name: values[name] + h * u}) for h in (step, -step))
    apart = flatten({o: ahead[o] for o in cotangents}) - flatten({o: behind[o] for o in cotangents})
    return float(torch.dot(flatten(cotangents), apart)) / (2 * step)


def _named(forward: float, reverse: float) -> str:
    if forward == 0:
        return " (its tangent is left out)"
    factor = forward / reverse if reverse else math.nan
    if abs(factor + 1) < constants.NAMED_DIFFERENCE:
        return " (the sign is wrong)"
    for named in constants.NAMED_FACTORS:
        if abs(factor / named - 1) < constants.NAMED_DIFFERENCE:
            return f" (it is {named:g} times what it should be)"
    return ""
