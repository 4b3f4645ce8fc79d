"""Backward passes that are meant as the derivative of another function: straight-through estimators and their kind.

A declared surrogate g takes the place of the forward wherever a gradient is compared with differences of values. The
backward stays the subject's own, and so does the forward in every check that is about the forward.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Values, starting_values
from nn_from_scratch.verify.subjects.recognition import as_subject, plain_name
from nn_from_scratch.verify.subjects.structure import with_leaves


class SurrogateRun:
    """A forward pass whose outputs are those of the surrogate, and whose backward is the subject's."""

    def __init__(self, run: Run, outputs: Mapping[str, Tensor]) -> None:
        self.run = run
        self.outputs = outputs

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return self.run.handed

    def backward(self, cotangents: Cotangents) -> Gradients:
        return self.run.backward(cotangents)

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        return self.run.backward_onto(cotangents, held)

    def release(self) -> None:
        self.run.release()


class SurrogateSubject:
    """A subject whose values are those of its surrogate.

    Args:
        subject: Whose backward it is.
        surrogate: The function that the backward is meant to be the derivative of, as a subject; its inputs are those
            of `subject`, in the same order.

    Raises:
        SubjectError: The surrogate raises, or gives outputs of other shapes.
    """

    def __init__(self, subject: Subject, surrogate: Subject) -> None:
        self._subject, self._surrogate = subject, surrogate
        self.name, self.form, self.target, self.notes = subject.name, subject.form, subject.target, subject.notes
        self.operands, self.traits = subject.operands, subject.traits
        self._inputs = dict(zip(_inputs(surrogate), _inputs(subject), strict=True))
        own, others = subject.forward(starting_values(subject)), surrogate.forward({}).values()
        shapes, expected = _shapes(others), _shapes(own.values())
        if shapes != expected:
            raise SubjectError(f"it gives {shapes}, which should be {expected}, as {self.name} does")
        self._outputs = tuple(own)

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        handed = {own: values[name] for own, name in self._inputs.items() if name in values}
        outputs = self._surrogate.forward(handed).values()
        return dict(zip(self._outputs, outputs, strict=True))

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> SurrogateRun:
        earlier = beside.run if isinstance(beside, SurrogateRun) else beside
        return SurrogateRun(self._subject.run(values, beside=earlier, frozen=frozen), self.forward(values))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        own = [run.run if isinstance(run, SurrogateRun) else run for run in runs]
        return self._subject.backward_together(own, cotangents)

    def rebuilt(self, target: object) -> SurrogateSubject:
        return SurrogateSubject(self._subject.rebuilt(target), self._surrogate)


def with_surrogate(
    subject: Subject, surrogate: Callable[..., Any], inputs: Sequence[object], keywords: Mapping[str, object] | None
) -> SurrogateSubject:
    """The subject with the values of a surrogate.

    Args:
        surrogate: A function of the same inputs, on tensors, that gives outputs of the same shapes.
        inputs: What the subject is called with.
        keywords: What it is called with by name.

    Raises:
        ArgumentError: The subject has parameters, which no function of its inputs is differentiated by, or the
            surrogate raises or gives outputs of other shapes.
    """
    parameters = [op.name for op in subject.operands if op.role == "parameter" and op.differentiable]
    if parameters:
        raise ArgumentError(
            f"surrogate is a function of the inputs, but {subject.name} has parameters too ({', '.join(parameters)}): "
            "verify a function that takes them as inputs."
        )
    try:
        found = as_subject(
            surrogate,
            *(with_leaves(tree, "", _as_tensor) for tree in inputs),
            form="autograd",
            keywords=with_leaves(dict(keywords), "", _as_tensor) if keywords else None,
            name=plain_name(surrogate),
        )
        return SurrogateSubject(subject, found)
    except SubjectError as error:
        raise ArgumentError(f"surrogate cannot be used: {error}.") from error


def surrogate_note(surrogate: object) -> str:
    """What a report says where a surrogate was declared."""
    name = plain_name(surrogate)
    which = "" if name == "<lambda>" else f", {name}"
    return f"the gradient is verified as the derivative of the declared surrogate{which}, not as that of the forward"


def _inputs(subject: Subject) -> list[str]:
    return [operand.name for operand in subject.operands if operand.role == "input"]


def _as_tensor(name: str, leaf: object) -> object:
    return torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf


def _shapes(outputs: Collection[Tensor]) -> str:
    return "outputs of shapes " + ", ".join(str(list(y.shape)) for y in outputs)
