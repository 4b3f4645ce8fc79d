"""The cotangent is ignored, replaced, read in the wrong order, or only a part of it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.context import Cotangents
from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.hypotheses.calls import term_faults
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

__all__ = ["ignored", "independent", "one_output", "one_slice", "replaced"]


def _only_ones(cotangents: Cotangents) -> bool:
    """Whether the cotangent cannot show that it is ignored."""
    return all(bool((g == 1).all()) for g in cotangents.values())


def ignored(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The gradient is the true one for a cotangent of ones, or for its sum or mean everywhere."""
    context = problem.context
    cotangents = context.cotangents
    if cotangents and _only_ones(cotangents):
        return
    if context.numeric_for_ones is not None:
        for_ones: Tensor | None = plain(context.numeric_for_ones)
    elif cotangents:
        for_ones = probes.true_gradient({name: torch.ones_like(g) for name, g in cotangents.items()})
    else:
        return
    if for_ones is None:
        return
    yield Explanation(
        "cotangent-ignored",
        "cotangent",
        "is right only for a cotangent of ones: the cotangent is ignored",
        2,
        problem.known(for_ones),
    )
    g = context.only_cotangent
    if g is None or g.is_complex():
        return
    total, mean = float(plain(g).sum()), float(plain(g).mean())
    for word, factor in (("sum", total), ("mean", mean)):
        yield Explanation(
            "cotangent-reduced",
            "cotangent",
            f"uses the {word} of the cotangent in place of each of its entries",
            3,
            problem.known(factor * for_ones),
        )


def independent(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The subject gives the same for another cotangent, whatever that gradient may be."""
    other = problem.context.gradient_for_other_cotangent
    if other is not None:
        second: Tensor | None = plain(other)
    elif problem.context.cotangents:
        turned = {name: -0.5 * g for name, g in problem.context.cotangents.items()}
        second = probes.subjects_gradient(turned)
    else:
        return
    if second is None or second.shape != problem.analytic.shape or not problem.analytic.any():
        return
    if bool(((second - problem.analytic).abs() <= problem.truth.allowed.min()).all()):
        yield Explanation(
            "cotangent-ignored",
            "cotangent",
            "does not depend on the cotangent: it is the same for another one",
            5,
            None,
            scalable=False,
        )


def replaced(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The gradient is right for a cotangent that was made from the given one."""
    g = problem.context.only_cotangent
    if g is None or g.is_complex():
        return
    name = next(iter(problem.context.cotangents))
    for kind, claim, other, complexity in _variants(g):
        if other.shape == g.shape and not torch.equal(other, g):
            gradient = probes.true_gradient({name: other})
            if gradient is not None:
                yield Explanation(kind, "cotangent", claim, complexity, problem.known(gradient))


def _variants(g: Tensor) -> Iterator[tuple[str, str, Tensor, float]]:
    """Cotangents that a backward may use in place of g: (kind, claim, cotangent, complexity)."""
    dense = torch.empty(g.shape).stride()
    if g.stride() != dense and g.untyped_storage().nbytes() >= (g.storage_offset() + g.numel()) * g.element_size():
        memory = torch.as_strided(g, g.shape, dense, g.storage_offset())
        yield "cotangent-strides", "reads the cotangent as if it was contiguous, and it is not", memory, 2.5
    yield "cotangent-magnitude", "uses the magnitude of the cotangent", g.abs(), 3.5
    yield "cotangent-sign", "uses only the sign of the cotangent", g.sign(), 3.5
    yield "cotangent-squared", "uses the cotangent twice: its square stands in its place", g * g, 3.5
    yield "cotangent-clamped", "uses only the positive entries of the cotangent", g.clamp(min=0), 3.5
    if g.dim() == 2 and g.shape[0] == g.shape[1] > 1:
        yield "cotangent-transposed", "uses the cotangent transposed", g.T, 4
    if g.dim() == 4 and g.shape[2] == g.shape[3] > 1:
        yield (
            "cotangent-transposed",
            "uses the cotangent with height and width exchanged",
            g.transpose(2, 3),
            4,
        )
    for axis in range(g.dim()):
        if g.shape[axis] > 1:
            yield "cotangent-flipped", f"uses the cotangent flipped along its axis {axis}", g.flip(axis), 4.5


def one_slice(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Only the first or last sample or position contributes, or it is missing: `=` for `+=` in a loop."""
    g = problem.context.only_cotangent
    if g is None or not problem.same_shape:
        return
    name = next(iter(problem.context.cotangents))
    for axis in range(g.dim()):
        if g.shape[axis] < 2:
            continue
        label = (
            "sample"
            if axis == 0 and g.shape[0] == problem.context.batch_size
            else f"place along axis {axis} of the output"
        )
        for word, index in (("last", g.shape[axis] - 1), ("first", 0)):
            part = torch.zeros_like(g)
            part.select(axis, index).copy_(g.select(axis, index))
            gradient = probes.true_gradient({name: part})
            if gradient is None:
                continue
            cause = ": the others are overwritten, not added" if word == "last" else ""
            for kind, claim, value in (
                ("one-slice-only", f"has the contribution of the {word} {label} alone{cause}", gradient),
                (
                    "slice-missing",
                    f"lacks the contribution of the {word} {label}",
                    problem.numeric - gradient,
                ),
            ):
                yield Explanation(kind, "terms", claim, 4, problem.truth.replaced(value))


def one_output(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Of several outputs, one is detached, or alone counted."""
    cotangents = problem.context.cotangents
    if len(cotangents) < 2 or not problem.same_shape:
        return
    parts: dict[str, Tensor] = {}
    for name in cotangents:
        only: Mapping[str, Tensor] = {key: g if key == name else torch.zeros_like(g) for key, g in cotangents.items()}
        gradient = probes.true_gradient(only)
        if gradient is not None:
            parts[f"the output {name!r}"] = gradient
    yield from term_faults(problem, parts)
