"""The right rule for something else: another cotangent, another value of an operand, or a known wrong rule.

The cotangent is ignored, replaced or read in the wrong order; a weight is flipped or transposed, x overwritten, a
factor left out; the operation that was recognized has one of its usual faults.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    COMPOUND,
    FITTED,
    HALF_STEP,
    OTHER_COTANGENT,
    PLAIN,
    SPECIFIC,
    TIE_BREAK,
)
from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment
from nn_from_scratch.verify.diagnosis.families.operation import gradient_of
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

Variants = Iterator[tuple[str, str, Tensor, float]]
"""Other values of a tensor: (kind, claim, value, complexity)."""


@experiment("cotangent", simplest=PLAIN)
def ignored(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The gradient is the true one for a cotangent of ones, or for its sum or mean everywhere."""
    cotangents, for_ones = problem.context.cotangents, problem.context.numeric_for_ones
    if cotangents and all(bool((g == 1).all()) for g in cotangents.values()):
        return
    if for_ones is not None:
        for_ones = plain(for_ones)
    elif cotangents:
        for_ones = probes.true_gradient({name: torch.ones_like(g) for name, g in cotangents.items()})
    if for_ones is None:
        return
    claim = "is right only for a cotangent of ones: the cotangent is ignored"
    yield Explanation("cotangent-ignored", claim, PLAIN, problem.known(for_ones))
    g = problem.cotangent
    if problem.unary is not None and g is not None and g.shape == problem.numeric.shape:
        (output,) = cotangents
        derivative = probes.true_gradient({output: torch.ones_like(g)}, {problem.unary[0]: g})
        if derivative is not None:
            claim = "is the derivative at the cotangent, where it should be the one at the input times the cotangent"
            yield Explanation("mask-from-cotangent", claim, SPECIFIC, problem.known(derivative))
    if problem.cotangent is not None:
        for word, factor in (("sum", problem.cotangent.sum()), ("mean", problem.cotangent.mean())):
            claim = f"uses the {word} of the cotangent in place of each of its entries"
            yield Explanation("cotangent-reduced", claim, SPECIFIC, problem.known(factor * for_ones))


@experiment("cotangent", simplest=FITTED, scalable=False, any_shape=True)
def independent(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The subject gives the same for another cotangent, whatever that gradient may be."""
    second = problem.context.gradient_for_other_cotangent
    if second is not None:
        second = plain(second)
    elif problem.context.cotangents:
        second = probes.subject_gradient({name: OTHER_COTANGENT * g for name, g in problem.context.cotangents.items()})
    if second is None or second.shape != problem.analytic.shape or not problem.analytic.any():
        return
    if ((second - problem.analytic).abs() <= problem.truth.allowed.min()).all():
        claim = "does not depend on the cotangent: it is the same for another one"
        yield Explanation("cotangent-ignored", claim, FITTED, None)


@experiment("cotangent", simplest=PLAIN + HALF_STEP)
def replaced(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The gradient is right for a cotangent that was made from the given one."""
    g = problem.context.only_cotangent
    if g is None or g.is_complex():
        return
    name = next(iter(problem.context.cotangents))
    for kind, claim, other, complexity in _cotangents(problem, g):
        if not torch.equal(other, g):
            gradient = probes.true_gradient({name: other})
            if gradient is not None:
                yield Explanation(kind, claim, complexity, problem.known(gradient))


def _cotangents(problem: Problem, g: Tensor) -> Variants:
    """What a backward may use in place of g."""
    dense, rare = torch.empty(g.shape).stride(), SPECIFIC + HALF_STEP
    if g.stride() != dense and g.untyped_storage().nbytes() >= (g.storage_offset() + g.numel()) * g.element_size():
        memory = torch.as_strided(g, g.shape, dense, g.storage_offset())
        claim = "reads the cotangent as if it was contiguous, and it is not"
        yield "cotangent-strides", claim, memory, PLAIN + HALF_STEP
    yield "cotangent-magnitude", "uses the magnitude of the cotangent", g.abs(), rare
    yield "cotangent-sign", "uses only the sign of the cotangent", g.sign(), rare
    yield "cotangent-squared", "uses the cotangent twice: its square stands in its place", g * g, rare
    yield "cotangent-clamped", "uses only the positive entries of the cotangent", g.clamp(min=0), rare
    if g.dim() == 2 and g.shape[0] == g.shape[1] > 1:
        yield "cotangent-transposed", "uses the cotangent transposed", g.T, COMPOUND
    if g.dim() == 4 and g.shape[2] == g.shape[3] > 1:
        claim = "uses the cotangent with its last two axes exchanged"
        yield "cotangent-transposed", claim, g.transpose(2, 3), COMPOUND
    yield from _one_of_each_block(problem, g)
    # Of a square matrix both are the same.
    if g.dim() > 1 and min(g.shape[:2]) > 1 and not (g.dim() == 2 and g.shape[0] == g.shape[1]):
        claim = "uses the cotangent reshaped where its first two axes should be exchanged"
        yield "cotangent-reshaped", claim, _reshaped(g), COMPOUND
    for axis in range(g.dim()):
        if g.shape[axis] > 1:
            claim = f"uses the cotangent flipped along its axis {axis}"
            yield "cotangent-flipped", claim, g.flip(axis), COMPOUND + HALF_STEP
        if g.shape[axis] > 2 and g.shape[axis] % 2 == 0:
            claim = f"uses the cotangent with its halves along its axis {axis} exchanged"
            yield "cotangent-rolled", claim, g.roll(g.shape[axis] // 2, axis), COMPOUND + HALF_STEP


def _one_of_each_block(problem: Problem, g: Tensor) -> Variants:
    """One entry of each block of the cotangent, where the output has a block for each entry: upsampling, repetition."""
    shape = problem.numeric.shape
    if g.dim() != len(shape):
        return
    steps = [wide // n if n and wide % n == 0 else 0 for wide, n in zip(g.shape, shape, strict=True)]
    blocks = [(axis, step) for axis, step in enumerate(steps) if step > 1]
    if not blocks or 0 in steps:
        return
    size = "×".join(str(step) for _, step in blocks)
    mixed = g
    for axis, step in blocks:
        # Entry i of block h is read at i·H + h, where it stands at h·s + i.
        parts = mixed.unflatten(axis, (step, -1))  # type: ignore[no-untyped-call]
        mixed = parts.transpose(axis, axis + 1).flatten(axis, axis + 1)
    claim = f"sums the cotangent over entries that lie apart, where it should sum over blocks of {size} neighbors"
    yield "blocks-interleaved", claim, mixed, SPECIFIC
    for word, last in (("first", False), ("last", True)):
        kept = torch.zeros_like(g)
        index = tuple(slice(step - 1 if last else 0, None, step) for step in steps)
        kept[index] = g[index]
        claim = (
            f"uses the {word} entry alone of each block of {size} entries of the cotangent, where it should sum them"
        )
        yield "cotangent-subsampled", claim, kept, SPECIFIC


@experiment("terms", simplest=COMPOUND)
def one_slice(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Only the first or last sample or position contributes, or it is missing: `=` for `+=` in a loop."""
    g = problem.context.only_cotangent
    if g is None:
        return
    name = next(iter(problem.context.cotangents))
    for label, word, chosen in _slices(problem, g):
        part = torch.zeros_like(g)
        part[chosen] = g[chosen]
        gradient = probes.true_gradient({name: part})
        if gradient is None:
            continue
        cause = ": the others are overwritten, not added" if word == "last" else ""
        claim = f"has the contribution of the {word} {label} alone{cause}"
        yield Explanation("one-slice-only", claim, COMPOUND, problem.truth.replaced(gradient))
        claim = f"lacks the contribution of the {word} {label}"
        yield Explanation("slice-missing", claim, COMPOUND, problem.truth.replaced(problem.numeric - gradient))


def _slices(problem: Problem, g: Tensor) -> Iterator[tuple[str, str, tuple[int | slice, ...]]]:
    """The first and the last place along each axis of the output, and along those that a loop over windows has."""
    long = [axis for axis, size in enumerate(g.shape) if size > 1]
    spatial = tuple(axis for axis in long if axis >= 2)
    sets: list[tuple[int, ...]] = [(axis,) for axis in long]
    if len(spatial) > 1:
        sets.append(spatial)
    if spatial and 0 in long:
        sets.append((0, *spatial))
    for axes in sets:
        of_batch = axes == (0,) and g.shape[0] == problem.context.batch_size
        label = "sample" if of_batch else f"place along {_axes_words(axes)} of the output"
        for word, place in (("last", -1), ("first", 0)):
            yield label, word, tuple(place if axis in axes else slice(None) for axis in range(g.dim()))


def _axes_words(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else "the axes " + ", ".join(map(str, axes[:-1])) + f" and {axes[-1]}"


@experiment("operand", simplest=SPECIFIC + HALF_STEP)
def wrong_operand(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """What the true gradient would be if one tensor had another value."""
    context = problem.context
    for name, tensor in context.tensors.items() if context.cotangents else ():
        for kind, claim, other, complexity in _operands(problem, name, tensor) if tensor.is_floating_point() else ():
            gradient = probes.true_gradient(context.cotangents, {name: other})
            if gradient is not None and gradient.shape == problem.numeric.shape:
                prediction = problem.truth.replaced(gradient)
                yield Explanation(kind, claim, complexity, prediction, details={"operand": name})


def _operands(problem: Problem, name: str, tensor: Tensor) -> Variants:
    """What a backward may use in place of one tensor."""
    if name == problem.context.name:
        outputs = list(problem.context.outputs.values())
        if len(outputs) == 1 and outputs[0].shape == tensor.shape:
            claim = (
                f"is the one at {name!r} = the output: {name!r} was overwritten, or the derivative is evaluated at the "
                "output"
            )
            yield "operand-overwritten", claim, outputs[0], SPECIFIC + HALF_STEP
        g = problem.context.only_cotangent
        if g is not None and g.shape == tensor.shape and g.dtype == tensor.dtype:
            claim = "takes the derivative, or the mask, from the cotangent, where it should be taken from the input"
            yield "mask-from-cotangent", claim, g, SPECIFIC + HALF_STEP
        return
    rare = COMPOUND + HALF_STEP
    for other, replacement in problem.context.tensors.items():
        if other != name and replacement.shape == tensor.shape and replacement.is_floating_point():
            yield "operand-mistaken", f"uses {other!r} where it should use {name!r}", replacement, COMPOUND
    if tensor.dim() > 2 and tensor.shape[-1] == tensor.shape[-2] > 1:
        claim = f"uses {name!r} with its last two axes exchanged"
        yield "operand-transposed", claim, tensor.transpose(-1, -2), rare
    spatial = tuple(axis for axis in range(2, tensor.dim()) if tensor.shape[axis] > 1)
    if spatial:
        yield "operand-flipped", f"uses {name!r} flipped along {_axes_words(spatial)}", tensor.flip(spatial), COMPOUND
    if tensor.dim() > 1 and tensor.shape[0] == tensor.shape[1] > 1:
        turned = tensor.transpose(0, 1)
        claim = f"uses {name!r} {'transposed' if tensor.dim() == 2 else 'with its first two axes exchanged'}"
        yield "operand-transposed", claim, turned, COMPOUND
        if spatial:
            yield "operand-transposed", f"{claim} and flipped along {_axes_words(spatial)}", turned.flip(spatial), rare
    for axes, scrambled in _scrambled(tensor):
        claim = f"uses {name!r} reshaped where {axes} should be exchanged"
        yield "operand-reshaped", claim, scrambled, rare
    for axis in spatial if len(spatial) > 1 else ():
        yield "operand-flipped", f"uses {name!r} flipped along its axis {axis}", tensor.flip(axis), rare
    yield "operand-missing", f"lacks the factor {name!r}, or uses ones in its place", torch.ones_like(tensor), rare
    yield "operand-zero", f"is what it would be if {name!r} was zero", torch.zeros_like(tensor), rare
    yield "operand-clamped", f"uses only the positive entries of {name!r}", tensor.clamp(min=0), rare
    yield "operand-magnitude", f"uses the magnitude of {name!r}", tensor.abs(), rare
    for axis, size in enumerate(tensor.shape):
        for word, step in (("one", 1), ("minus one", -1)) if size > 1 else ():
            claim = f"uses {name!r} rolled by {word} along its axis {axis}"
            yield "operand-rolled", claim, tensor.roll(step, axis), FITTED


def _scrambled(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor that a backward brought into another shape by `reshape`, seen in its own shape."""
    if tensor.dim() < 2:
        return
    if 1 < tensor.shape[0] < tensor.numel():
        # Read as (rest, first) in memory order, where (first, rest) should be transposed.
        rest = "its two axes" if tensor.dim() == 2 else "the first axis and the rest"
        yield rest, tensor.reshape(-1, tensor.shape[0]).T.reshape(tensor.shape)
    if tensor.dim() > 2:
        if 1 < tensor.shape[1] < tensor.numel():
            yield "its first two axes", _reshaped(tensor)
        if min(tensor.shape[-2:]) > 1:
            turned = tensor.reshape(*tensor.shape[:-2], tensor.shape[-1], tensor.shape[-2])
            yield "its last two axes", turned.transpose(-1, -2)


def _reshaped(tensor: Tensor) -> Tensor:
    """A tensor (A, B, ...) that was read as (B, A, ...) in memory order, seen as (A, B, ...) again."""
    return tensor.reshape(tensor.shape[1], tensor.shape[0], *tensor.shape[2:]).transpose(0, 1)


@experiment("known-fault", simplest=SPECIFIC - TIE_BREAK)
def known_faults(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Of every operation that the subject was recognized as, every known fault."""
    for operation in probes.operations:
        for fault in operation.faults:
            gradient = gradient_of(fault.surrogate, problem.context)
            if gradient is not None and gradient.shape == problem.numeric.shape:
                prediction, details = problem.truth.replaced(gradient), {"operation": operation.label}
                yield Explanation(
                    fault.kind, fault.claim, fault.complexity + operation.rank, prediction, details=details
                )
