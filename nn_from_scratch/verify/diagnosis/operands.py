"""The right rule for a wrong operand: a weight flipped or transposed, x overwritten, a factor left out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["wrong_operand"]


def wrong_operand(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """What the true gradient would be if one tensor had another value."""
    context = problem.context
    if not problem.same_shape or not context.cotangents:
        return
    for name, tensor in context.tensors.items():
        if not tensor.dtype.is_floating_point:
            continue
        for kind, claim, other, complexity in _variants(problem, name, tensor):
            gradient = probes.true_gradient(context.cotangents, {name: other})
            if gradient is not None and gradient.shape == problem.numeric.shape:
                yield Explanation(
                    kind,
                    "operand",
                    claim,
                    complexity,
                    problem.truth.replaced(gradient),
                    details={"operand": name},
                )


def _variants(problem: Problem, name: str, tensor: Tensor) -> Iterator[tuple[str, str, Tensor, float]]:
    """Other values of one tensor: (kind, claim, value, complexity)."""
    outputs = list(problem.context.outputs.values())
    if len(outputs) == 1 and outputs[0].shape == tensor.shape and name == problem.context.name:
        yield (
            "operand-overwritten",
            f"is the one at {name!r} = the output: {name!r} was overwritten, or the derivative is evaluated "
            "at the output",
            outputs[0],
            3.5,
        )
    if name == problem.context.name:
        return
    for other, replacement in problem.context.tensors.items():
        if other != name and replacement.shape == tensor.shape and replacement.dtype.is_floating_point:
            yield "operand-mistaken", f"uses {other!r} where it should use {name!r}", replacement, 4
    if tensor.dim() >= 3 and tensor.shape[-1] == tensor.shape[-2] > 1:
        words = f"uses {name!r} with its last two axes exchanged"
        yield "operand-transposed", words, tensor.transpose(-1, -2), 4.5
    square = tensor.dim() >= 2 and tensor.shape[0] == tensor.shape[1] > 1
    spatial = tuple(axis for axis in range(2, tensor.dim()) if tensor.shape[axis] > 1)
    if spatial:
        yield "operand-flipped", f"uses {name!r} flipped along its spatial axes", tensor.flip(spatial), 4
    if square:
        turned = tensor.transpose(0, 1)
        words = "transposed" if tensor.dim() == 2 else "with its first two axes exchanged"
        yield "operand-transposed", f"uses {name!r} {words}", turned, 4
        if spatial:
            yield (
                "operand-transposed",
                f"uses {name!r} {words} and flipped along its spatial axes",
                turned.flip(spatial),
                4.5,
            )
    for axis in spatial if len(spatial) > 1 else ():
        yield "operand-flipped", f"uses {name!r} flipped along its axis {axis}", tensor.flip(axis), 4.5
    yield (
        "operand-missing",
        f"lacks the factor {name!r}, or uses ones in its place",
        torch.ones_like(tensor),
        4.5,
    )
    yield "operand-zero", f"is what it would be if {name!r} was zero", torch.zeros_like(tensor), 4.5
    yield "operand-clamped", f"uses only the positive entries of {name!r}", tensor.clamp(min=0), 4.5
    yield "operand-magnitude", f"uses the magnitude of {name!r}", tensor.abs(), 4.5
    for axis in range(tensor.dim()):
        if tensor.shape[axis] > 1:
            yield (
                "operand-rolled",
                f"uses {name!r} rolled by one along its axis {axis}",
                tensor.roll(1, axis),
                5,
            )
            yield (
                "operand-rolled",
                f"uses {name!r} rolled by minus one along its axis {axis}",
                tensor.roll(-1, axis),
                5,
            )
