"""Which dimension of which input counts samples, found by what the forward does with fewer of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import is_finite, largest_entry
from nn_from_scratch.verify.contracts.collector import ComparisonCollector
from nn_from_scratch.verify.protocol import Values

#: What an output does with samples: they lie along one of its axes, or it is their sum or mean.
Relation = int | Literal["sum", "mean"]
_REDUCTIONS: tuple[Literal["sum", "mean"], ...] = ("sum", "mean")


@dataclass(frozen=True)
class Batch:
    """Inputs that share a dimension of samples, each of which the forward treats alone.

    Attributes:
        dimensions: for each such input the dimension that counts samples.
        size: the number of samples.
        relations: what each output does with them.
    """

    dimensions: Mapping[str, int]
    size: int
    relations: Mapping[str, Relation]

    def select(self, values: Values, samples: slice | Tensor) -> dict[str, Tensor]:
        """The values of some samples; those of other operands stay."""
        return {n: rows(x, samples, self.dimensions[n]) if n in self.dimensions else x for n, x in values.items()}

    def outputs_of(self, outputs: Mapping[str, Tensor], samples: slice | Tensor) -> dict[str, Tensor]:
        """The part of each output that belongs to some samples, where these lie along an axis."""
        axes = {name: axis for name, axis in self.relations.items() if isinstance(axis, int)}
        return {name: self._part(outputs[name], samples, axis) for name, axis in axes.items()}

    def cotangents_of(self, cotangents: Mapping[str, Tensor], samples: slice | Tensor) -> dict[str, Tensor]:
        """The cotangents with which some samples alone have their part of the gradient of the whole batch."""
        found = {}
        for name, cotangent in cotangents.items():
            relation = self.relations[name]
            if isinstance(relation, int):
                found[name] = self._part(cotangent, samples, relation)
            else:
                count = len(range(self.size)[samples]) if isinstance(samples, slice) else len(samples)
                found[name] = cotangent * (count / self.size if relation == "mean" else 1.0)
        return found

    def holds_nearby(self, collector: ComparisonCollector, values: Values) -> bool:
        """Whether the outputs are related to the samples in the same way at values close by."""
        moved = dict(values)
        for operand in collector.differentiable:
            x = values[operand.name]
            step = collector.context.signed(x.shape, "nearby samples", operand.name, dtype=x.dtype, device=x.device)
            moved[operand.name] = x * (1 + constants.DISTANCE_OF_RELATIONS * step)
        try:
            outputs = collector.subject.forward(moved)
            return _relations(collector, self.dimensions, self.size, moved, outputs) == self.relations
        except (SubjectError, _MixedSamples):
            return False

    def makes_up(self, collector: ComparisonCollector, more: Values) -> bool:
        """Whether the outputs for twice as many samples are made up of those for each half."""
        subject = collector.subject
        double = Batch(self.dimensions, 2 * self.size, self.relations)
        try:
            whole = subject.forward(more)
            behind = subject.forward(double.select(more, slice(self.size, 2 * self.size)))
        except SubjectError:
            return False
        for name, y in whole.items():
            relation, half = self.relations.get(name), collector.base.outputs[name]
            if relation is None or name not in behind or behind[name].shape != half.shape:
                return False
            if isinstance(relation, int):
                expected = torch.cat([half, behind[name]], relation)
            else:
                expected = (half + behind[name]) / (2 if relation == "mean" else 1)
            if not equal_outputs(collector, name, y, expected):
                return False
        return True

    def _part(self, y: Tensor, samples: slice | Tensor, axis: int) -> Tensor:
        """A sample may have several entries along the axis, which lie side by side."""
        each = y.shape[axis] // self.size
        which = torch.arange(self.size)[samples] if isinstance(samples, slice) else samples
        entries = (which[:, None] * each + torch.arange(each)).flatten()
        return y.index_select(axis, entries.to(y.device))


class _MixedSamples(Exception):  # noqa: N818  it says what a forward does, and is no error
    """The outputs have one part for each sample, which depends on the others."""


def rows(x: Tensor, samples: slice | Tensor, dimension: int) -> Tensor:
    """Some entries along a dimension."""
    if isinstance(samples, slice):
        return x[(slice(None),) * dimension + (samples,)]
    return x.index_select(dimension, samples.to(x.device))


def find_batch(collector: ComparisonCollector) -> Batch | None:
    """The batch of a subject; None if its forward treats no dimension as independent samples.

    Tried are dimension 0 of the first differentiable input, and of some and all that have its size there; with the
    option `batch`, what that names. Where the first one alone can be cut and the outputs mix its samples, nothing else
    is tried: statistics for as many channels as there are samples must not be cut, and not every kernel looks at
    sizes that do not fit. A hypothesis holds if the outputs of the first sample and of the others, and of
    all in reverse order, make up those of all. A single sample gets a second one for that.
    """
    for dimensions in _hypotheses(collector):
        values = collector.base.values
        sizes = {values[name].shape[dimension] for name, dimension in dimensions.items()}
        if len(sizes) != 1 or sizes == {0}:
            continue
        (size,) = sizes
        try:
            if size == 1:
                relations = _relations_of_two(collector, dimensions)
            else:
                relations = _relations(collector, dimensions, size, values, collector.base.outputs)
        except _MixedSamples:
            return None
        except (SubjectError, IndexError):
            continue
        if relations:
            return Batch(dimensions, size, relations)
    return None


def stated_batch(collector: ComparisonCollector) -> dict[str, int] | None:
    """What the option `batch` says: the dimension that counts samples, by input; None where it is not given.

    Raises:
        ArgumentError: it names something else than inputs, or a dimension that an input does not have.
    """
    given = collector.context.option("batch", None)
    if given is None:
        return None
    if isinstance(given, Mapping):
        named = dict(given)
    else:
        named = dict.fromkeys([given] if isinstance(given, str) else given, 0)
    known = {operand.name: operand.value.dim() for operand in collector.inputs}
    for name, dimension in named.items():
        if name not in known:
            raise ArgumentError(f"batch={given!r} names {name!r}, which should be among the inputs {', '.join(known)}.")
        if not isinstance(dimension, int) or not 0 <= dimension < known[name]:
            raise ArgumentError(
                f"batch={given!r} says dimension {dimension!r} of {name}, which should be one of its {known[name]}."
            )
    return named


def more_samples(collector: ComparisonCollector, dimensions: Mapping[str, int]) -> dict[str, Tensor] | None:
    """The values with as many other samples behind the given ones; None if the forward is finite at no others."""
    values = collector.base.values
    other = _other_values(collector, dimensions)
    if other is None:
        return None
    return {n: torch.cat([x, other[n]], dimensions[n]) if n in dimensions else x for n, x in values.items()}


def _other_values(collector: ComparisonCollector, names: Collection[str]) -> dict[str, Tensor] | None:
    """Other values of some inputs, at which the forward is finite too; None if it is not.

    Each entry is smaller by a factor of its own: in another order they would be the same numbers, in which coincidences
    pass for a rule.
    """
    values, context = collector.base.values, collector.context
    differentiable = {operand.name for operand in collector.differentiable}

    def shrunk(name: str, x: Tensor) -> Tensor:
        u = torch.rand(x.shape, generator=context.generator("other samples", name), dtype=torch.float64)
        return x * (1 + u).to(x) / 2 if name in differentiable else x

    other = {name: shrunk(name, values[name]) for name in names}
    try:
        outputs = collector.subject.forward({**values, **other})
    except SubjectError:
        return None
    return {**values, **other} if is_finite(outputs) else None


def stacked_inputs(collector: ComparisonCollector) -> Iterator[dict[str, Tensor]]:
    """Inputs of one dimension more, two deep, of which the forward makes the outputs for each of the two stacked.

    The inputs that are stacked have the shape of the first differentiable one. The new dimension stands behind the
    first one, or in front of a single one.
    """
    base = collector.base
    first = next((operand for operand in collector.inputs if operand.differentiable and operand.value.dim()), None)
    if first is None or any(not o.value.is_floating_point() for o in collector.inputs):
        return  # integers may say places in what would be stacked
    shape = first.value.shape
    axis = min(len(shape) - 1, 1)
    same = [operand.name for operand in collector.inputs if operand.value.shape == shape]
    for names in (same, [first.name]) if len(same) > 1 else (same,):
        other = _other_values(collector, names)
        if other is None:
            continue
        stacked = {name: torch.stack([base.values[name], other[name]], dim=axis) for name in names}
        try:
            whole = collector.subject.forward({**base.values, **stacked})
            beside = collector.subject.forward({**base.values, **{name: other[name] for name in names}})
        except SubjectError:
            continue
        if all(
            name in whole and _is_stack(collector, name, whole[name], y, beside.get(name))
            for name, y in base.outputs.items()
        ):
            yield stacked
            return


def _is_stack(collector: ComparisonCollector, name: str, whole: Tensor, one: Tensor, two: Tensor | None) -> bool:
    """Whether an output is that of two inputs stacked along an axis, or their sum or mean."""
    if two is None or one.shape != two.shape or one.dtype != two.dtype or not _tells(collector, name, one, two):
        return False
    if whole.shape == one.shape:
        total = one + two if one.is_floating_point() else one
        return any(equal_outputs(collector, name, whole, each) for each in (total, total / 2))
    axes = (axis for axis in range(one.dim() + 1) if whole.shape == (*one.shape[:axis], 2, *one.shape[axis:]))
    return any(equal_outputs(collector, name, whole, torch.stack([one, two], axis)) for axis in axes)


def _hypotheses(collector: ComparisonCollector) -> Iterator[dict[str, int]]:
    stated = stated_batch(collector)
    if stated is not None:
        if stated:
            yield stated
        return
    inputs = [operand for operand in collector.inputs if operand.value.dim()]
    first = next((operand for operand in inputs if operand.differentiable), None)
    if first is None:
        return
    others = [o for o in inputs if o is not first and o.value.shape[0] == first.value.shape[0]][
        : constants.MOST_SHARING
    ]
    some = [chosen for count in range(len(others) + 1) for chosen in itertools.combinations(others, count)]
    # Few statistics and weights, but integers together with what they say places in.
    some.sort(key=lambda chosen: sum(1 if o.value.is_floating_point() else -1 for o in chosen))
    for chosen in some:
        yield dict.fromkeys((first.name, *(operand.name for operand in chosen)), 0)


def _relations_of_two(collector: ComparisonCollector, dimensions: Mapping[str, int]) -> dict[str, Relation] | None:
    values = more_samples(collector, dimensions)
    if values is None:
        return None
    outputs = collector.subject.forward(values)
    return _relations(collector, dimensions, 2, values, outputs) if is_finite(outputs) else None


def _relations(
    collector: ComparisonCollector,
    dimensions: Mapping[str, int],
    size: int,
    values: Values,
    outputs: Mapping[str, Tensor],
) -> dict[str, Relation] | None:
    """What each output does with the samples; None if one of them depends on them in another way."""

    def forward(samples: slice | Tensor) -> Mapping[str, Tensor]:
        chosen = {n: rows(x, samples, dimensions[n]) if n in dimensions else x for n, x in values.items()}
        return collector.subject.forward(chosen)

    first, rest = forward(slice(0, 1)), forward(slice(1, size))
    relations: dict[str, Relation] = {}
    for name, y in outputs.items():
        if name not in first or name not in rest:
            return None
        relation = _relation(collector, name, y, first[name], rest[name], size)
        if relation is None:
            return None
        relations[name] = relation
    backwards = torch.arange(size - 1, -1, -1)
    expected = {**outputs, **Batch(dimensions, size, relations).outputs_of(outputs, backwards)}
    found = forward(backwards)
    return relations if all(equal_outputs(collector, name, found[name], y) for name, y in expected.items()) else None


def _relation(
    collector: ComparisonCollector, name: str, y: Tensor, first: Tensor, rest: Tensor, size: int
) -> Relation | None:
    if not first.dim() == rest.dim() == y.dim():
        return None
    axes = [axis for axis in range(y.dim()) if y.shape[axis] != first.shape[axis]]
    if len(axes) == 1 and y.shape[axes[0]] == size * first.shape[axes[0]]:
        if first.dtype == rest.dtype == y.dtype and _joined_shape(first, rest, axes[0]) == y.shape:
            if not equal_outputs(collector, name, torch.cat([first, rest], axes[0]), y):
                raise _MixedSamples
            tells = _tells(collector, name, first, rest.narrow(axes[0], 0, first.shape[axes[0]]))
            return axes[0] if tells else None
        return None
    if axes or rest.shape != y.shape or not y.is_floating_point():
        return None
    if size == 2 and equal_outputs(collector, name, first, rest):
        return None  # the mean of two equal values is either of them
    for how in _REDUCTIONS:
        total = first + rest if how == "sum" else (first + (size - 1) * rest) / size
        tells = all(
            _tells(collector, name, one, other)
            for one, other in (((first, 0.0), (rest, 0.0)) if how == "sum" else ((first, rest),))
        )
        if tells and equal_outputs(collector, name, total, y):
            return how
    return None


def _tells(collector: ComparisonCollector, name: str, one: Tensor, other: Tensor | float) -> bool:
    """Whether two outputs are apart by far more than rounding: equal or vanishing ones fit every relation."""
    if not one.is_floating_point():
        return True
    return largest_entry(one - other) > constants.TELLING * collector.base.output_allowed(name)


def _joined_shape(first: Tensor, rest: Tensor, axis: int) -> tuple[int, ...]:
    return (*rest.shape[:axis], first.shape[axis] + rest.shape[axis], *rest.shape[axis + 1 :])


def equal_outputs(collector: ComparisonCollector, name: str, found: Tensor, expected: Tensor) -> bool:
    """Equality up to the baseline's rounding, which for a sum is that of as many terms."""
    if found.shape != expected.shape:
        return False
    if not expected.is_floating_point():
        return bool(torch.equal(found, expected))
    apart = (found.double() - expected.double()).nan_to_num(nan=math.inf)
    return largest_entry(apart) <= constants.COMBINED * collector.base.output_allowed(name)
