"""A backward is linear in the cotangent: absent ones count as zero, and infinity and NaN propagate."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import largest_entry, rounding
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.results import CheckResult


@contract(order=50)
def linear_cotangent(collector: ComparisonCollector) -> list[CheckResult]:
    """VJP(a u + b v) = a VJP(u) + b VJP(v), VJP(2^k u) = 2^k VJP(u), and VJP(0) = 0.

    Finds a cotangent that is ignored, clipped, thresholded or used twice.
    """
    base = collector.base
    u, vjp_u = base.cotangents, base.gradients
    v = collector.other_cotangents()
    a, b = constants.COEFFICIENTS
    vjp_v = collector.filled(collector.vjp(v))
    both = collector.vjp({name: a * u[name] + b * v[name] for name in u})
    expected = {name: a * gradient + b * vjp_v[name] for name, gradient in collector.filled(vjp_u).items()}
    when = "from a·VJP(u) + b·VJP(v) for the cotangent a·u + b·v"

    def allowed(name: str) -> float:
        """What another cotangent may do to the rounding inside: it decides what is scaled by which size."""
        further = collector.context.factor * constants.ROUNDINGS_OF_ANOTHER_SCALE * rounding(base.gradients[name])
        return constants.COMBINED * base.allowed(name) + further

    collector.gradients(both, expected, allowed=allowed, when=when)
    for scale in (2.0**constants.SCALE_EXPONENT, 2.0**-constants.SCALE_EXPONENT):
        if any(c.dtype == torch.float16 for c in u.values()):
            break  # its range is too small for that
        scaled = collector.vjp({name: c * scale for name, c in u.items()})
        back = {name: None if g is None else g / scale for name, g in scaled.items()}
        when = f"when the cotangent is scaled by {scale:g} (and scaled back)"
        collector.gradients(back, vjp_u, allowed=allowed, when=when)
    zero = collector.vjp({name: torch.zeros_like(c) for name, c in u.items()})
    when = "from zero for a cotangent of zeros"
    collector.gradients(zero, dict.fromkeys(zero), times=constants.ZERO_SHARE, when=when)
    return collector.close("no cotangent was tried")


@contract(order=60)
def missing_cotangent(collector: ComparisonCollector) -> list[CheckResult]:
    """Where only some outputs are used, the others' cotangents are absent; that is the same as zeros."""
    base = collector.base
    if len(base.cotangents) < 2:
        return collector.not_applicable("the subject has one differentiable output")
    for kept, cotangent in base.cotangents.items():
        zeros = {name: cotangent if name == kept else torch.zeros_like(c) for name, c in base.cotangents.items()}
        collector.gradients(
            collector.vjp({kept: cotangent}),
            collector.vjp(zeros),
            when=f"when {kept} alone has a cotangent, from cotangents of zeros for the other outputs",
        )
    return collector.close("no output was left out")


@contract(order=210, elsewhere=True, torch_limits=True)
def hidden_infinities(collector: ComparisonCollector) -> list[CheckResult]:
    """A NaN or an infinity in the cotangent reaches every gradient entry that depends on it.

    A backward that clips, zeroes or replaces them hides a training run that diverges. It may, as it may refuse them:
    that is a limit.
    """
    for output, cotangent in collector.base.cotangents.items():
        draw = collector.context.generator("hidden_infinities", output)
        for index in torch.randperm(cotangent.numel(), generator=draw)[: constants.PROBED_ENTRIES].tolist():
            _probe(collector, output, index)
    return collector.close("no gradient depends on the outputs that were tried")


def _probe(collector: ComparisonCollector, output: str, index: int) -> None:
    base = collector.base

    def vjp(cotangents: dict[str, Tensor], value: float) -> dict[str, Tensor | None]:
        cotangents[output].view(-1)[index] = value
        return collector.vjp(cotangents)

    row = vjp({name: torch.zeros_like(c) for name, c in base.cotangents.items()}, 1.0)
    for bad in (float("nan"), float("inf")):
        try:
            found = vjp({name: c.clone() for name, c in base.cotangents.items()}, bad)
        except SubjectError as error:
            collector.limit(f"with {bad} in one entry of the cotangent of {output}: {error}")
            continue
        for name, dependence in row.items():
            gradient = found[name]
            if dependence is None or gradient is None or gradient.shape != dependence.shape:
                continue
            # Strictly more, so that nothing depends where everything is zero.
            depends = dependence.abs() > constants.DEPENDENCE * largest_entry(dependence)
            hidden, total = int((depends & torch.isfinite(gradient)).sum()), int(depends.sum())
            if hidden:
                entries = f"{hidden} of the {total} entries that depend on it"
                of = f"the gradient of {name}"
                collector.limit(f"{bad} in one entry of the cotangent of {output} is hidden in {entries} in {of}")
            elif total:
                collector.agreed()
